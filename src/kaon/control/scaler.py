"""The running scaling law of one deployment: its observations, its state, its decisions.

A session takes samples in any order and number. Those of the last few seconds are one observation. A longer span, as
after a restart or a gap, is replayed through the law in steps of `PAST_STEP_S`, without acting, which gives the state
that it would have had. So no part of a session needs to be stored.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from itertools import groupby
from types import MappingProxyType
from typing import NamedTuple

from kaon.laws import choice, keep_alive
from kaon.laws.scale import Scale, ScaleState
from kaon.laws.scaling import ScalingDecision
from kaon.laws.traffic import MINUTE_S, observation
from kaon.laws.tune.scaling import applied
from kaon.types.deployment import Scaling
from kaon.types.objective import Objective
from kaon.types.observation import Observation
from kaon.types.service import ServiceSpec
from kaon.types.traffic import Sample

STALE_S = 10.0
"""Older figures are not used."""
PAST_STEP_S = 2.0
SNAPSHOT_S, SNAPSHOTS = 300.0, 7
"""Interval of snapshots, and how many are kept: a little more than half an hour."""
AT_A_MINUTE_S = 10.0
"""A snapshot is taken at most so long after the start of a minute, so that the windows of a replay from it agree with
the minutes of the traffic. Of older traffic, agents keep sums of ten seconds."""
_LIVE_S = 6.0
"""Samples that span no more than this are one observation."""


class ScalerTerms(NamedTuple):
    """The parameters of a law."""

    scaling: Scaling
    objective: Objective
    service: ServiceSpec
    tuned: Mapping[str, float] = MappingProxyType({})
    """Values set by the tuner, by the names in `kaon.laws.tune.scaling`."""


class ScalerSnapshot(NamedTuple):
    """The ready replicas and the state of the law at one time."""

    at_s: float
    ready: int
    state: ScaleState


def snapshot_due(at_s: float, last_s: float) -> bool:
    """Whether a snapshot is due at `at_s` when the last one was taken at `last_s`."""
    return at_s // SNAPSHOT_S > last_s // SNAPSHOT_S and at_s % MINUTE_S < AT_A_MINUTE_S


class ScalerSession:
    """A law, its state, and its position in the traffic."""

    def __init__(self, terms: ScalerTerms) -> None:
        self.terms = terms
        self.count = 0
        """The number of samples taken from the ring: see `TrafficRing.news`."""
        self.observed = Observation(at_s=0.0, span_s=1.0)
        self.held = 0
        self.decision: ScalingDecision | None = None
        self._past: list[list[Sample]] = []
        self._law = self._new_law()
        self._state: ScaleState = self._law.begin()
        self.snapshots: deque[ScalerSnapshot] = deque(maxlen=SNAPSHOTS)
        """Of the last half hour, live or replayed; oldest first."""

    @property
    def law(self) -> Scale:
        """The current law."""
        return self._law

    @property
    def state(self) -> ScaleState:
        """The state of the law: immutable, replaced by each step."""
        return self._state

    def adapt(self, terms: ScalerTerms) -> None:
        """Use new terms from now on; the state stays."""
        self.terms = terms
        self._law = self._new_law()

    @property
    def has_backlog(self) -> bool:
        """Whether samples remain to be replayed."""
        return bool(self._past)

    def load_history(self, minutes: Sequence[Sample]) -> None:
        """Learn the idle gaps of earlier days, which the ring does not hold."""
        busy = [(minute.at_s - minute.span_s, minute.at_s) for minute in minutes if minute.arrivals]
        self._state = self._law.with_gaps(self._state, keep_alive.gaps_between(busy))

    def add_samples(self, samples: Sequence[Sample], now: float, most: int) -> Observation | None:
        """Take new samples in. Returns the observation of the last seconds; None: nothing is new, or it is replayed.

        At most the last `most` steps are replayed.
        """
        if not samples:
            return None
        newest = max(sample.at_s for sample in samples)
        if newest - min(sample.at_s for sample in samples) > _LIVE_S or self._past or newest < now - STALE_S:
            in_order = sorted(samples, key=lambda sample: sample.at_s)
            steps = groupby(in_order, key=lambda sample: int(sample.at_s / PAST_STEP_S))
            self._past = [*self._past, *(list(step) for _, step in steps)][-most:]
            return None
        return self._observation(samples, newest)

    def replay(self, steps: int) -> int:
        """Replay at most so many steps. Returns their number."""
        taken, self._past = self._past[:steps], self._past[steps:]
        for samples in taken:
            newest = max(sample.at_s for sample in samples)
            self._step(self._observation(samples, newest))
        return len(taken)

    def decide(
        self, observed: Observation | None, now: float, wanted: int, ready: int, starting: int
    ) -> ScalingDecision | None:
        """The law's decision while `wanted` replicas are desired; None during a replay."""
        if self.has_backlog:
            return None
        if observed is None:
            if now - self.observed.at_s < STALE_S and self.decision is not None:
                return self.decision  # the next figures are on their way
            observed = Observation(at_s=max(now, self.observed.at_s), span_s=1.0)
        self._state = self._law.with_replicas(self._state, wanted)
        self._step(observed.model_copy(update={"ready": ready, "starting": starting}))
        return self.decision

    @property
    def informed(self) -> bool:
        """Whether the last observation has figures."""
        return self.observed.arrivals is not None and not self.has_backlog

    def figures(self) -> dict[str, float | int | str | None]:
        """The figures behind the last decision."""
        observed = self.observed
        rps = None if observed.arrivals is None else observed.arrivals / observed.span_s
        figures: dict[str, float | int | str | None] = {"rps": rps}
        figures |= {"in_flight": observed.in_flight, "queued": observed.queued, "held": self.held}
        figures |= {"ready": observed.ready, "starting": observed.starting}
        figures |= self._law.figures(self._state)
        return {name: round(value, 4) if isinstance(value, float) else value for name, value in figures.items()}

    def _observation(self, samples: Sequence[Sample], newest: float) -> Observation:
        self.held = sum(sample.held for sample in samples if sample.at_s == newest)
        observed = observation(samples, max(newest, self.observed.at_s + 1e-3), 1.0, self.terms.objective)
        in_flight = max(self.held, observed.in_flight or 0)  # held calls are in flight, wherever they were counted
        return observed.model_copy(update={"in_flight": in_flight}) if self.held else observed

    def _step(self, observed: Observation) -> None:
        self.observed = observed
        if snapshot_due(observed.at_s, self.snapshots[-1].at_s if self.snapshots else 0.0):
            self.snapshots.append(ScalerSnapshot(observed.at_s, observed.ready, self._state))
        self._state, self.decision = self._law.step(self._state, choice.bounds(self.terms.scaling), observed)

    def _new_law(self) -> Scale:
        scaling, objective, service, tuned = self.terms
        law = choice.law(scaling, objective, choice.max_batch(service), at_once=choice.at_once(service))
        return applied(law, tuned)
