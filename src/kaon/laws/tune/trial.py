"""The trial of a move on the real service: its order, its measurement, and its verdict.

A replica's own knob is tried on a *canary*, a few replicas besides the others, window against window. A pool's knob
changes how all replicas work together, so it is tried by *switchback*: blocks of five minutes in the order A B B A,
which cancels a steady drift; the start of a block after a change is still affected by the other side, and is dropped.
Where the minutes before the trial were watched, with the values that were in force then, they are the first A.

Most of the variation of a window's loss comes from the load, which the twin knows. So the twin replays the same window
with the same parameters, and its loss is subtracted (a control variate). The estimate of the gain is the prediction
plus the difference that remains; it is unbiased for any prediction: a prediction without a gain shows as a difference
of the same size.

A prediction is no evidence. It only defines the tested gain: the test (Wald's sequential one, evaluated after every
window) compares "the gain is as predicted" with "there is none", by live windows alone. A move without a gain is
promoted with a probability of at most one in twenty, for any prediction; a harmful one hardly ever. So a prediction
that is small compared to the variation of live windows takes long, and may end undecided.

Missed calls come in bursts, and their price is most of the variation of live windows. So where it is known, the test is
about the loss without it; missed calls are a constraint: the tried values must not miss more than the objective allows,
or than the values in force miss.

A requested trial without a predicted gain has no rate to compare with, and is evaluated again and again: it needs a
higher certainty.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev, variance

from kaon.laws import loss
from kaon.laws.tune.knobs import KnobValues, Reach
from kaon.laws.tune.spsa import winsorised

BLOCK_S = 300.0
WINDOW_S = 60.0
_ORDER = (False, True, True, False)
LEAST_WINDOWS = 5
LEAST_CALLS = 500
"""Least calls of each side for a verdict."""
MOST_WINDOWS = {Reach.REPLICA: 16, Reach.POOL: 9}
"""Windows of each side, a quarter of an hour (two turns have nine), after which `LIKELIER` decides."""
SETTLE_S = 30.0
"""The first seconds of a turn are still affected by the values before it."""
CANARY_SHARE = 0.1
MOST_BEFORE = 10
"""Most windows before a trial that are its first A."""
UNFORESEEN = 3.0
"""Times the predicted gain: a gain that is certainly larger shows that the minutes before the trial are not comparable
with those in it. They do not count then."""
FALSE_PROMOTION, FALSE_REJECTION = 0.05, 0.1
PROMOTED = math.log((1 - FALSE_REJECTION) / FALSE_PROMOTION)
REJECTED = math.log(FALSE_REJECTION / (1 - FALSE_PROMOTION))
"""Wald's bounds for the logarithm of the likelihood ratio (1945)."""
LIKELIER = math.log(4)
"""For a test that is cut short: the predicted gain must be four times as likely as none."""
SURE = 1.645
"""Standard errors for a certainty of 95 %."""
SURE_UNPROMISED = 2.5
"""The same for repeated evaluation: in twenty evaluations pure chance would pass 1.645 one time in four, and this one
time in thirty."""


@dataclass(frozen=True, slots=True)
class TrialWindow:
    """A minute of one side: its loss, its calls, and the twin's loss of the same minute; None: it is unknown.

    `plain` is the loss without the price of missed calls, `missed` their number, `plain_twin` the twin's plain loss.
    Where these are unknown, the whole loss is judged.
    """

    loss: float
    calls: int
    twin: float | None = None
    plain: float | None = None
    plain_twin: float | None = None
    missed: float | None = None


@dataclass(frozen=True, slots=True)
class Trial:
    """A running trial. `predicted` is the gain that the twin predicts (0 or less: none), `loss` that of the values in
    force. `plain` is the part of the predicted gain that does not come from missed calls.
    """

    reach: Reach
    before: KnobValues
    after: KnobValues
    predicted: float
    loss: float
    began_s: float
    settle_s: float = SETTLE_S
    led_in: int = 0
    """The number of windows before the trial at the start of `force`."""
    plain: float | None = None
    allowed: float = 0.01
    """The allowed share of missed calls, by the objective."""
    force: tuple[TrialWindow, ...] = ()
    tried: tuple[TrialWindow, ...] = ()

    def trying(self, at_s: float) -> bool:
        """Whether the whole pool has the new values at `at_s`; never on a canary."""
        if self.reach is Reach.REPLICA:
            return False
        return self._side(int((at_s - self.began_s) // BLOCK_S))

    def _side(self, block: int) -> bool:
        return _ORDER[(block + (self.led_in > 0)) % len(_ORDER)]

    def counts(self, at_s: float) -> bool:
        """Whether the window that ends at `at_s` belongs to one side: to one block, after it has settled."""
        if self.reach is Reach.REPLICA:
            return at_s - WINDOW_S >= self.began_s + self.settle_s
        passed = at_s - 1e-6 - self.began_s
        block = int(passed // BLOCK_S)
        before = self._side(block - 1) if block else False
        if self._side(block) == before:
            return True
        return passed % BLOCK_S - WINDOW_S >= self.settle_s - 1e-6

    def with_window(self, at_s: float, window: TrialWindow, beside: TrialWindow | None = None) -> Trial:
        """The trial with one more window that ends at `at_s`; `beside` is the canary's. Windows with too few calls for
        a loss do not count."""
        if not self.counts(at_s) or min(window.calls, (beside or window).calls) < loss.LEAST_CALLS:
            return self
        if self.reach is Reach.REPLICA:
            if beside is None:
                return self
            return replace(self, force=(*self.force, window), tried=(*self.tried, beside))
        if self.trying(at_s - 1e-6):
            return replace(self, tried=(*self.tried, window))
        return replace(self, force=(*self.force, window))

    @property
    def realised(self) -> float | None:
        """The gain as measured; None before there are two windows of each side."""
        found = self.measured
        return None if found is None else found[0]

    @property
    def measured(self) -> tuple[float, float] | None:
        """The gain of the whole loss and its standard error, by live windows alone; None before two windows of each
        side."""
        return self._measured([_whole(w) for w in self.force], [_whole(w) for w in self.tried], self.predicted)

    @property
    def measured_plain(self) -> tuple[float, float] | None:
        """The same without the price of missed calls; None also where that is unknown for a window."""
        windows = (*self.force, *self.tried)
        if self.plain is None or self.plain <= 0 or any(w.plain is None or w.missed is None for w in windows):
            return None
        return self._measured([_plain(w) for w in self.force], [_plain(w) for w in self.tried], self.plain)

    @property
    def tested(self) -> tuple[tuple[float, float] | None, float]:
        """The measured gain with its standard error, and the predicted one, of the tested loss: that without the price
        of missed calls where it is known."""
        plain = self.measured_plain
        return (self.measured, self.predicted) if plain is None else (plain, self.plain or 0.0)

    def _measured(self, force: list[TrialLoss], tried: list[TrialLoss], promised: float) -> tuple[float, float] | None:
        """Windows of a canary have the same times as those besides, and are compared pair by pair, without the twin;
        those of a switchback have other times, and are compared by their means."""
        if min(len(force), len(tried)) < 2:
            return None
        foreseen = self.reach is Reach.POOL and all(twin is not None for _, twin in (*force, *tried))
        losses, others = ([x - (twin or 0.0) * foreseen for x, twin in side] for side in (force, tried))
        promised *= foreseen
        if self.reach is Reach.REPLICA:
            pairs = winsorised([a - b for a, b in zip(losses, others, strict=False)])
            return promised + fmean(pairs), stdev(pairs) / math.sqrt(len(pairs))
        losses, others = winsorised(losses), winsorised(others)
        squares = (len(losses) - 1) * variance(losses) + (len(others) - 1) * variance(others)
        pooled = squares / (len(losses) + len(others) - 2)
        return promised + fmean(losses) - fmean(others), math.sqrt(pooled * (1 / len(losses) + 1 / len(others)))

    def overspent(self) -> bool | None:
        """Whether the tried values miss more calls than allowed and than the values in force: True with a certainty of
        95 %, False, or None: perhaps."""
        usual = sum(w.missed or 0.0 for w in self.force) / max(sum(w.calls for w in self.force), 1)
        over = [(w.missed or 0.0) - max(self.allowed, usual) * w.calls for w in self.tried]
        if sum(over) <= 0:
            return False
        return True if fmean(over) > SURE * stdev(over) / math.sqrt(len(over)) else None


TrialLoss = tuple[float, float | None]
"""A window's loss, and the twin's."""


def _whole(window: TrialWindow) -> TrialLoss:
    return window.loss, window.twin


def _plain(window: TrialWindow) -> TrialLoss:
    return window.plain or 0.0, window.plain_twin


@dataclass(frozen=True, slots=True)
class TrialEstimate:
    """The verdict of a trial: whether the values are promoted, and the reason."""

    promoted: bool
    realised: float
    reason: str


def weighed(gain: float, error: float, promised: float, windows: int) -> float:
    """The log-likelihood ratio of a measured `gain` between a true gain as `promised` and none.

    The error is estimated from so many `windows`, so Student's variance is used instead of the normal one.
    """
    variance_ = error**2 * (windows - 1) / max(windows - 3, 1)
    return (gain * promised - promised**2 / 2) / max(variance_, 1e-6 * promised**2)


def judge(trial: Trial) -> TrialEstimate | None:
    """The verdict; None: the trial goes on."""
    trial = _without_unlike_lead_in(trial)
    windows = min(len(trial.force), len(trial.tried))
    calls = min(sum(w.calls for w in trial.force), sum(w.calls for w in trial.tried))
    whole, plain, (found, promised) = trial.measured, trial.measured_plain, trial.tested
    if whole is None or found is None or windows < LEAST_WINDOWS or calls < LEAST_CALLS:
        return None
    overspent = False if plain is None else trial.overspent()
    gain, error = found
    figures = f"live {gain:.4f} +- {error:.4f} in {windows} windows, promised {promised:.4f}"
    if plain is not None:
        figures += f" without misses; with them {whole[0]:.4f} +- {whole[1]:.4f} of {trial.predicted:.4f}"
    certain = gain >= SURE_UNPROMISED * error
    weight = weighed(gain, error, promised, windows) if promised > 0 else 0.0
    worse = gain <= 0 if promised <= 0 else not certain and weight <= REJECTED
    if overspent or worse:
        return TrialEstimate(False, whole[0], f"{'misses too many calls' if overspent else 'no gain'}: {figures}")
    if overspent is False and (certain or weight >= PROMOTED):
        # The gain with the predicted price of misses, which a few windows cannot show.
        return TrialEstimate(True, gain + trial.predicted - promised, figures)
    if windows < MOST_WINDOWS[trial.reach]:
        return None
    if overspent is False and weight >= LIKELIER:
        return TrialEstimate(True, gain + trial.predicted - promised, f"likelier than none: {figures}")
    return TrialEstimate(False, whole[0], f"undecided: {figures}")


def _without_unlike_lead_in(trial: Trial) -> Trial:
    """The trial without the minutes before it, if a gain far above the predicted one shows that they are not
    comparable."""
    found, promised = trial.tested
    if not trial.led_in or found is None or promised <= 0:
        return trial
    gain, error = found
    unforeseen = gain >= UNFORESEEN * promised and gain - promised >= SURE_UNPROMISED * error
    return replace(trial, force=trial.force[trial.led_in :]) if unforeseen else trial


def undisturbed(schedule: Sequence[tuple[float, KnobValues]], force: KnobValues, from_s: float, until_s: float) -> bool:
    """Whether the pool had the values `force` from `SETTLE_S` before `from_s` until `until_s`; `schedule` has its
    values, each with its start, oldest first. Earlier values are unknown."""
    if not schedule or schedule[0][0] > from_s - SETTLE_S:
        return False
    spans = zip(schedule, [*(at_s for at_s, _ in schedule[1:]), math.inf], strict=True)
    return all(values == force for (at_s, values), end_s in spans if at_s < until_s and end_s > from_s - SETTLE_S)


def canaries(replicas: int) -> int:
    """The number of canaries: a tenth of the replicas, at least one; none without another one to compare with."""
    return 0 if replicas < 2 else max(1, int(CANARY_SHARE * replicas))
