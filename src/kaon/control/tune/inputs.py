"""What a tuner sees of its deployment: sums over the last minute, minutes with their loss, the price of a miss, and the
past that its twin plays. What comes is added up at once, so that a look costs a few additions.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from itertools import groupby
from statistics import fmean

from kaon.control.scaler import ScalerSnapshot, stands
from kaon.laws.loss import LEAST_CALLS, Price
from kaon.laws.traffic import MINUTE_S, merge, minute, parts
from kaon.laws.tune import guard, live
from kaon.laws.tune.guard import TrialArm
from kaon.laws.tune.past import Past
from kaon.types.objective import Objective
from kaon.types.traffic import Sample
from kaon.types.tuning import LossPoint

SETTLED_S = 5.0
"""After its end, when a minute is taken as over: samples are under way for a second or two."""
STALE_S = 30.0
"""Figures older than this are none."""
HALF_HOUR = 30
"""Minutes."""
_CLIMB = 6
WHOLE_S = 50.0
"""What must have been seen of a minute before it says how many calls a minute brings. Seen for five seconds, one of
1500 calls would be one of 125: the quietest of ten, and a climb to the next."""
CHARTED = 120
"""Minutes whose loss is kept."""


class TunerInputs:
    """Times are epoch seconds."""

    def __init__(self, objective: Objective) -> None:
        self.objective = objective
        self._past: Past | None = None
        self.price = Price()
        self.minutes: deque[Sample] = deque(maxlen=HALF_HOUR)
        """The last half hour in which anybody called."""
        self.losses: deque[LossPoint] = deque(maxlen=CHARTED)
        self.controls: deque[TrialArm] = deque(maxlen=HALF_HOUR)
        """What was answered in minutes without anything tried."""
        self._arrived: deque[int] = deque(maxlen=guard.CALM)
        self._chart_s: float | None = None
        self._charted: list[Sample] = []
        """The first half hour: what a call cost then is the unit of cost in the chart."""
        self._few: Sample | None = None
        """Minutes of too few calls for a loss, which count with the next."""
        self.heard_s = 0.0
        """The end of the newest sample."""
        self._after_s = 0.0
        """The end of the last minute that was taken."""
        self._open: dict[float, list[Sample]] = {}
        self._last: deque[Sample] = deque()

    @property
    def past(self) -> Past:
        """What its twin plays: half a megabyte, so not before anybody has called."""
        if self._past is None:
            self._past = Past()
        return self._past

    def recall(self, minutes: Iterable[Sample]) -> None:
        """Know minutes of the last hours, from the store: before anything is heard."""
        in_order = sorted(minutes, key=lambda minute: minute.at_s)
        for at_s, group in groupby(in_order, key=lambda minute: minute.at_s):
            self._take(merge(list(group)))
            self._after_s = at_s

    def hear(self, samples: Sequence[Sample], *, lawless: bool, tried: bool = False) -> None:
        """Add up what agents counted; `lawless`: no scaling law keeps how things stood; `tried`: something is being
        tried, so that what was counted before it began must be told apart from what came after."""
        in_order = sorted(samples, key=lambda sample: sample.at_s)
        for sample in in_order:
            if self._past is None and not sample.arrivals:
                continue
            self.past.sample(sample, self.objective)
            if lawless and stands(sample.at_s, self._stood_s()):
                self.past.snapshot(sample.at_s, sample.ready, None)
        for end_s, group in groupby(in_order, key=lambda sample: (sample.at_s // MINUTE_S + 1) * MINUTE_S):
            whole = merge(list(group))
            if end_s > self._after_s:
                self._open.setdefault(end_s, []).append(whole)
            self._last += [] if tried else [whole]
            self.heard_s = max(self.heard_s, whole.at_s)
        self._last += in_order if tried else []

    def stand(self, stood: Iterable[ScalerSnapshot]) -> None:
        """Know how things stood."""
        for one in stood if self._past is not None else ():
            if one.at_s > self._stood_s():
                self.past.snapshot(*one)

    def knows_s(self, now: float) -> float:
        """For how long it knows how things stood."""
        return now - self._past.snapshots[0].at_s if self._past is not None and self._past.snapshots else 0.0

    def fresh(self, now: float, tried: bool) -> list[Sample]:
        """The minutes that are over and were not told before, oldest first. What comes later of one is left out.

        `tried`: whether anything is being tried.
        """
        over = sorted(end_s for end_s in self._open if end_s <= now - SETTLED_S)
        found = [minute(self._open.pop(end_s), end_s) for end_s in over]
        for whole in found:
            self._take(whole, tried)
        self._after_s = max(over, default=self._after_s)
        return found

    def last(self, now: float, since_s: float = 0.0) -> Sample | None:
        """The last minute, as far as it began after `since_s`; None when nothing is known of it."""
        found = [sample for sample in self._recent(now) if sample.at_s - sample.span_s >= since_s - 1e-6]
        return merge(found) if found else None

    def calls(self, now: float) -> int | None:
        """Arrivals of the last minute; None: nobody knows."""
        told = [sample.arrivals for sample in self._recent(now) if sample.arrivals is not None]
        return sum(told) if told and self.heard_s >= now - STALE_S else None

    @property
    def calmest(self) -> int | None:
        """Arrivals of the quietest of the last ten minutes that were seen as a whole; None: of none is that known."""
        return min(self._arrived, default=None)

    def shed(self, now: float) -> int:
        """Calls of the last minute that were shed."""
        return sum((sample.codes or {}).get("shed", 0) for sample in self._recent(now))

    @property
    def burn(self) -> float | None:
        """How many times as fast as it lasts the error budget goes, over half an hour; None: nobody knows."""
        return self.price.burn if self.minutes else None

    @property
    def climbing(self) -> bool:
        """Whether the load climbs."""
        told = [minute.arrivals or 0 for minute in self.minutes if minute.span_s >= WHOLE_S]
        return guard.climbing(told[-_CLIMB:])

    def burnt(self, whole: Sample) -> float:
        """The same in one minute."""
        found = parts(whole, self.objective)
        return 0.0 if found is None else (1 - found.completed) / (1 - self.objective.completion)

    def loss(self) -> float:
        """What a minute of the last half hour costs, in the mean."""
        told = [point.loss.total for point in list(self.losses)[-HALF_HOUR:] if point.loss and not point.tried]
        return fmean(told) if told else 1.0

    def unit_s(self) -> float:
        """What a call should cost, replica-seconds, by the last half hour."""
        return (live.reference_s(merge(list(self.minutes)), self.objective) if self.minutes else None) or 1.0

    def ground(self) -> tuple[tuple[str, float], ...]:
        """What should stay as it is: the cost of a batch, over two minutes, and the rate."""
        newest = list(self.minutes)[-2:]
        batch_s = live.batch_s(merge(newest).batches) if newest else None
        if batch_s is None:
            return ()
        return ("what a batch costs", batch_s), ("the rate of calls", float(newest[-1].arrivals or 0))

    def _take(self, whole: Sample, tried: bool = False) -> None:
        """Count a minute."""
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

    def _stood_s(self) -> float:
        return self.past.snapshots[-1].at_s if self.past.snapshots else 0.0
