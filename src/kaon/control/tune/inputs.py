"""The inputs of a tuner: sums over the last minute, minutes with their loss, the price of a miss, and the past that its
twin replays. Samples are added up as they come, so that a tick costs a few additions.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from itertools import groupby
from statistics import fmean

from kaon.control.scaler import ScalerSnapshot, snapshot_due
from kaon.laws.loss import LEAST_CALLS, Price
from kaon.laws.traffic import MINUTE_S, merge, minute, parts
from kaon.laws.tune import guard, live
from kaon.laws.tune.guard import TrialArm
from kaon.laws.tune.past import Past
from kaon.types.objective import Objective
from kaon.types.traffic import Sample
from kaon.types.tuning import LossPoint

SETTLED_S = 5.0
"""A minute is complete so long after its end: samples arrive a second or two late."""
STALE_S = 30.0
"""Older figures are not used."""
HALF_HOUR = 30
"""Minutes."""
_CLIMB = 6
WHOLE_S = 50.0
"""Least covered part of a minute whose number of calls counts. A minute with 1500 calls that is covered for five
seconds would count as one with 125, and the next one as a climb."""
CHARTED = 120
"""Minutes whose loss is kept."""


class TunerInputs:
    """The inputs of one deployment's tuner. Times are epoch seconds."""

    def __init__(self, objective: Objective) -> None:
        self.objective = objective
        self._past: Past | None = None
        self.price = Price()
        self.minutes: deque[Sample] = deque(maxlen=HALF_HOUR)
        """The last half hour of minutes with calls."""
        self.losses: deque[LossPoint] = deque(maxlen=CHARTED)
        self.controls: deque[TrialArm] = deque(maxlen=HALF_HOUR)
        """Minutes without a trial."""
        self._arrived: deque[int] = deque(maxlen=guard.CALM)
        self._chart_s: float | None = None
        self._charted: list[Sample] = []
        """The first half hour: its cost of a call is the unit of cost in the chart."""
        self._few: Sample | None = None
        """Minutes with too few calls for a loss, which are added to the next."""
        self.newest_s = 0.0
        """The end of the newest sample."""
        self._after_s = 0.0
        """The end of the last minute that was added."""
        self._open: dict[float, list[Sample]] = {}
        self._last: deque[Sample] = deque()

    @property
    def past(self) -> Past:
        """The past for the twin: half a megabyte, so it is made when the first call arrives."""
        if self._past is None:
            self._past = Past()
        return self._past

    def load_history(self, minutes: Iterable[Sample]) -> None:
        """Add minutes of the last hours from the store, before any samples."""
        in_order = sorted(minutes, key=lambda minute: minute.at_s)
        for at_s, group in groupby(in_order, key=lambda minute: minute.at_s):
            self._add_minute(merge(list(group)))
            self._after_s = at_s

    def add_samples(self, samples: Sequence[Sample], *, unscaled: bool, tried: bool = False) -> None:
        """Add samples of agents. `unscaled`: no scaling law makes snapshots; `tried`: a trial runs, so that samples
        from before it must stay apart from later ones."""
        in_order = sorted(samples, key=lambda sample: sample.at_s)
        for sample in in_order:
            if self._past is None and not sample.arrivals:
                continue
            self.past.sample(sample, self.objective)
            if unscaled and snapshot_due(sample.at_s, self._last_snapshot_s()):
                self.past.snapshot(sample.at_s, sample.ready, None)
        for end_s, group in groupby(in_order, key=lambda sample: (sample.at_s // MINUTE_S + 1) * MINUTE_S):
            whole = merge(list(group))
            if end_s > self._after_s:
                self._open.setdefault(end_s, []).append(whole)
            self._last += [] if tried else [whole]
            self.newest_s = max(self.newest_s, whole.at_s)
        self._last += in_order if tried else []

    def add_snapshots(self, snapshots: Iterable[ScalerSnapshot]) -> None:
        """Add those that are new."""
        for one in snapshots if self._past is not None else ():
            if one.at_s > self._last_snapshot_s():
                self.past.snapshot(*one)

    def covered_s(self, now: float) -> float:
        """The time since the oldest snapshot."""
        return now - self._past.snapshots[0].at_s if self._past is not None and self._past.snapshots else 0.0

    def new_minutes(self, now: float, tried: bool) -> list[Sample]:
        """The minutes that are complete since the last call, oldest first. Samples that arrive later are ignored.

        `tried`: whether a trial runs.
        """
        over = sorted(end_s for end_s in self._open if end_s <= now - SETTLED_S)
        minutes = [minute(self._open.pop(end_s), end_s) for end_s in over]
        for whole in minutes:
            self._add_minute(whole, tried)
        self._after_s = max(over, default=self._after_s)
        return minutes

    def last(self, now: float, since_s: float = 0.0) -> Sample | None:
        """The last minute, without samples that began before `since_s`; None: there are no samples."""
        found = [sample for sample in self._recent(now) if sample.at_s - sample.span_s >= since_s - 1e-6]
        return merge(found) if found else None

    def calls(self, now: float) -> int | None:
        """Arrivals of the last minute; None: unknown."""
        arrivals = [sample.arrivals for sample in self._recent(now) if sample.arrivals is not None]
        return sum(arrivals) if arrivals and self.newest_s >= now - STALE_S else None

    @property
    def calmest(self) -> int | None:
        """Arrivals of the quietest of the last ten complete minutes; None: there are none."""
        return min(self._arrived, default=None)

    def shed(self, now: float) -> int:
        """Calls of the last minute that were shed."""
        return sum((sample.codes or {}).get("shed", 0) for sample in self._recent(now))

    @property
    def burn(self) -> float | None:
        """The burn rate of the error budget over half an hour; None: unknown."""
        return self.price.burn if self.minutes else None

    @property
    def climbing(self) -> bool:
        """Whether the load climbs."""
        arrivals = [minute.arrivals or 0 for minute in self.minutes if minute.span_s >= WHOLE_S]
        return guard.climbing(arrivals[-_CLIMB:])

    def burn_of(self, whole: Sample) -> float:
        """The burn rate of one minute."""
        found = parts(whole, self.objective)
        return 0.0 if found is None else (1 - found.completed) / (1 - self.objective.completion)

    def loss(self) -> float:
        """The mean loss of a minute of the last half hour."""
        losses = [point.loss.total for point in list(self.losses)[-HALF_HOUR:] if point.loss and not point.tried]
        return fmean(losses) if losses else 1.0

    def unit_s(self) -> float:
        """The reference cost of a call, replica-seconds, by the last half hour."""
        return (live.reference_s(merge(list(self.minutes)), self.objective) if self.minutes else None) or 1.0

    def ground(self) -> tuple[tuple[str, float], ...]:
        """The figures that are watched for drift: the cost of a batch, over two minutes, and the rate of calls."""
        newest = list(self.minutes)[-2:]
        batch_s = live.batch_s(merge(newest).batches) if newest else None
        if batch_s is None:
            return ()
        return ("the cost of a batch", batch_s), ("the rate of calls", float(newest[-1].arrivals or 0))

    def _add_minute(self, whole: Sample, tried: bool = False) -> None:
        if whole.span_s >= WHOLE_S:
            self._arrived.append(whole.arrivals or 0)
        if len(self._charted) < HALF_HOUR and whole.busy_s:
            self._charted.append(whole.model_copy(update={"latency": None, "sides": (), "starts": ()}))
            self._chart_s = live.reference_s(merge(self._charted), self.objective)
        joined = whole if self._few is None else merge([self._few, whole])
        found = parts(joined, self.objective, self.price.value, self._chart_s)
        few = found is None or sum((joined.codes or {}).values()) < LEAST_CALLS
        self._few = joined if few else None
        self.losses.append(LossPoint(at_s=whole.at_s, loss=None if few else found, tried=tried))
        if found is not None and not few:
            self.price = self.price.after(self.objective, found.completed, joined.span_s)
        if sum((whole.codes or {}).values()):
            self.minutes.append(whole)
            if not tried:
                self.controls.append(live.arm(whole))

    def _recent(self, now: float) -> deque[Sample]:
        while self._last and self._last[0].at_s <= now - MINUTE_S:
            self._last.popleft()
        return self._last

    def _last_snapshot_s(self) -> float:
        return self.past.snapshots[-1].at_s if self.past.snapshots else 0.0
