"""One deployment's scaling law at work: what it was told, what it remembers, what it says.

A mind is told samples in whatever order and number they come. A few of the last seconds are one observation.
Many, as after a restart or a gap, are the past: the law is taken through it in steps of `PAST_STEP_S`, without acting,
until it stands where it would have stood. So nothing of a mind needs to be kept on disk.
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
"""Figures older than this are none."""
PAST_STEP_S = 2.0
STOOD_S, STOOD_KEPT = 300.0, 7
"""How often it is kept how things stood, and how many times of these: half an hour and a bit."""
AT_A_MINUTE_S = 10.0
"""How things stand is kept no later than so much after a minute has begun: what is played from there on has its windows
when the traffic has its minutes. Of what is long past, agents remember sums of ten seconds."""
_LIVE_S = 6.0
"""News that span no more than this are one observation."""


class ScalerTerms(NamedTuple):
    """What a law is made from."""

    scaling: Scaling
    objective: Objective
    service: ServiceSpec
    tuned: Mapping[str, float] = MappingProxyType({})
    """What the tuner has set, by the names of `kaon.laws.tune.scaling`."""


class ScalerSnapshot(NamedTuple):
    """How things stood at one time: the replicas that were ready, and what the law remembered."""

    at_s: float
    ready: int
    state: ScaleState


def stands(at_s: float, last_s: float) -> bool:
    """Whether it is to be kept how things stand at `at_s`, where that was done at `last_s`."""
    return at_s // STOOD_S > last_s // STOOD_S and at_s % MINUTE_S < AT_A_MINUTE_S


class ScalerSession:
    """A law, its state, and how far it has heard."""

    def __init__(self, terms: ScalerTerms) -> None:
        self.terms = terms
        self.count = 0
        """How many of the ring's samples were heard: see `TrafficRing.news`."""
        self.seen = Observation(at_s=0.0, span_s=1.0)
        self.held = 0
        self.decision: ScalingDecision | None = None
        self._past: list[list[Sample]] = []
        self._law = self._made()
        self._state: ScaleState = self._law.begin()
        self.stood: deque[ScalerSnapshot] = deque(maxlen=STOOD_KEPT)
        """Of the last half hour, whether it was lived or relived; oldest first."""

    @property
    def law(self) -> Scale:
        """The law as it is now."""
        return self._law

    @property
    def state(self) -> ScaleState:
        """What the law remembers; it changes by being replaced."""
        return self._state

    def adapt(self, terms: ScalerTerms) -> None:
        """Use new terms from now on; what was learnt stays."""
        self.terms = terms
        self._law = self._made()

    @property
    def behind(self) -> bool:
        """Whether there is a past that the law was not taken through yet."""
        return bool(self._past)

    def recall(self, minutes: Sequence[Sample]) -> None:
        """Know the idle gaps of earlier days, of which the ring knows nothing."""
        busy = [(minute.at_s - minute.span_s, minute.at_s) for minute in minutes if minute.arrivals]
        self._state = self._law.recalls(self._state, keep_alive.recall(busy))

    def hear(self, news: Sequence[Sample], now: float, most: int) -> Observation | None:
        """Take new samples in; the observation of the last moments, or None when there is nothing new.

        Of a past no more than the last `most` steps are kept.
        """
        if not news:
            return None
        newest = max(sample.at_s for sample in news)
        if newest - min(sample.at_s for sample in news) > _LIVE_S or self._past or newest < now - STALE_S:
            in_order = sorted(news, key=lambda sample: sample.at_s)
            steps = groupby(in_order, key=lambda sample: int(sample.at_s / PAST_STEP_S))
            self._past = [*self._past, *(list(step) for _, step in steps)][-most:]
            return None
        return self._observed(news, newest)

    def relive(self, steps: int) -> int:
        """Take the law through so many steps of its past at most; how many it were."""
        taken, self._past = self._past[:steps], self._past[steps:]
        for samples in taken:
            newest = max(sample.at_s for sample in samples)
            self._step(self._observed(samples, newest))
        return len(taken)

    def decide(
        self, heard: Observation | None, now: float, wanted: int, ready: int, starting: int
    ) -> ScalingDecision | None:
        """What the law says now, where `wanted` replicas are; None while it is taken through its past."""
        if self.behind:
            return None
        if heard is None:
            if now - self.seen.at_s < STALE_S and self.decision is not None:
                return self.decision  # the figures of this moment are under way
            heard = Observation(at_s=max(now, self.seen.at_s), span_s=1.0)
        self._state = self._law.stands(self._state, wanted)
        self._step(heard.model_copy(update={"ready": ready, "starting": starting}))
        return self.decision

    @property
    def informed(self) -> bool:
        """Whether what the law was told last are figures."""
        return self.seen.arrivals is not None and not self.behind

    def figures(self) -> dict[str, float | int | str | None]:
        """The numbers behind the last decision."""
        seen = self.seen
        rps = None if seen.arrivals is None else seen.arrivals / seen.span_s
        found: dict[str, float | int | str | None] = {"rps": rps}
        found |= {"in_flight": seen.in_flight, "queued": seen.queued, "held": self.held}
        found |= {"ready": seen.ready, "starting": seen.starting}
        found |= self._law.figures(self._state)
        return {name: round(value, 4) if isinstance(value, float) else value for name, value in found.items()}

    def _observed(self, samples: Sequence[Sample], newest: float) -> Observation:
        self.held = sum(sample.held for sample in samples if sample.at_s == newest)
        seen = observation(samples, max(newest, self.seen.at_s + 1e-3), 1.0, self.terms.objective)
        inside = max(self.held, seen.in_flight or 0)  # who is held is inside, wherever it was counted
        return seen.model_copy(update={"in_flight": inside}) if self.held else seen

    def _step(self, seen: Observation) -> None:
        self.seen = seen
        if stands(seen.at_s, self.stood[-1].at_s if self.stood else 0.0):
            self.stood.append(ScalerSnapshot(seen.at_s, seen.ready, self._state))
        self._state, self.decision = self._law.step(self._state, choice.bounds(self.terms.scaling), seen)

    def _made(self) -> Scale:
        scaling, objective, service, tuned = self.terms
        law = choice.law(scaling, objective, choice.max_batch(service), at_once=choice.at_once(service))
        return applied(law, tuned)
