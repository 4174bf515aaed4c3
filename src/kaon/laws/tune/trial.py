"""The twin's promise, tried on the real service.

A replica's own knob is tried on a *canary*, a few replicas beside the others, window against window. A pool's knob
changes how all work together, so it is tried by *switchback*: blocks of five minutes in the order A B B A, which
cancels a steady drift; what begins a block after a change is still the other side's doing, and is dropped. Where the
minutes before the trial were watched, with the values that were in force then, they are the first A.

Most of what a window's loss does is the load's doing, and the twin knows the load. So it is played with the
same parameters over the same window and taken off (a control variate): what is left is what the twin did not know.
The estimate of the gain is the prediction plus that, and is right whatever the twin promised: a promise without a
gain shows as a surprise of the same size.

A promise is no evidence. It only says which gain is asked about: the test (Wald's sequential one, looked at after
every window) compares "the gain is as promised" with "there is none", by live windows alone. A move without a gain
is promoted in one case of twenty at most, however much the twin promised; one that does harm never but by a
freak. So a promise that is small against what live windows waver by takes long, and may end undecided.

Missed calls come in bursts, and their price in the loss is most of what live windows waver by. So where it is known,
the test is about the loss without it, which is steady; and missed calls are what they are, a constraint: what is
tried must not miss more than the objective allows, or than what is in force misses.

What somebody wants to try, and the twin does not promise anything of, is looked at again and again without a rate
to compare with: it must be surer.
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
"""Of each side, before anything is decided."""
MOST_WINDOWS = {Reach.REPLICA: 16, Reach.POOL: 9}
"""Of each side, a quarter of an hour: two turns have nine. What is undecided after them is decided by `LIKELIER`."""
SETTLE_S = 30.0
"""What begins a turn is still the doing of what was in force before it."""
CANARY_SHARE = 0.1
MOST_BEFORE = 10
"""Windows before a trial that stand for its first A."""
UNFORESEEN = 3.0
"""Times what was promised, and surely more than that: so much is no gain of what is tried, but minutes before the trial
that were not like those in it. They do not count then."""
FALSE_PROMOTION, FALSE_REJECTION = 0.05, 0.1
PROMOTED = math.log((1 - FALSE_REJECTION) / FALSE_PROMOTION)
REJECTED = math.log(FALSE_REJECTION / (1 - FALSE_PROMOTION))
"""Wald's bounds for the logarithm of the likelihood ratio (1945)."""
LIKELIER = math.log(4)
"""Where his test is cut short: the gain must be four times as likely to be as promised as to be none."""
SURE = 1.645
"""Standard errors at which something is believed: 95 %."""
SURE_UNPROMISED = 2.5
"""The same where it is asked again and again: twenty looks at pure chance would pass 1.645 one time in four, and this
in thirty."""


@dataclass(frozen=True, slots=True)
class TrialWindow:
    """A minute of one side: its loss, its calls, and what the twin makes of the same minute; None: it was not asked.

    `plain` is the loss without the price of missed calls, `missed` how many these were, `plain_twin` the twin's plain
    loss. Where they are not known, the loss is judged as a whole.
    """

    loss: float
    calls: int
    twin: float | None = None
    plain: float | None = None
    plain_twin: float | None = None
    missed: float | None = None


@dataclass(frozen=True, slots=True)
class Trial:
    """A move that is being tried. `predicted` is the gain that the twin promises, `loss` what is in force costs.

    A promise that is no gain is none. `plain` is what of the promise is no matter of missed calls.
    """

    reach: Reach
    before: KnobValues
    after: KnobValues
    predicted: float
    loss: float
    began_s: float
    settle_s: float = SETTLE_S
    led_in: int = 0
    """With so many windows from before the trial `force` begins."""
    plain: float | None = None
    allowed: float = 0.01
    """The share of calls that may be missed, by the objective."""
    force: tuple[TrialWindow, ...] = ()
    tried: tuple[TrialWindow, ...] = ()

    def trying(self, at_s: float) -> bool:
        """Whether the whole pool runs with the new values at `at_s`; on a canary it never does."""
        if self.reach is Reach.REPLICA:
            return False
        return self._side(int((at_s - self.began_s) // BLOCK_S))

    def _side(self, block: int) -> bool:
        return _ORDER[(block + (self.led_in > 0)) % len(_ORDER)]

    def counts(self, at_s: float) -> bool:
        """Whether the window that ends at `at_s` is all one side's: of one block, after it has settled."""
        if self.reach is Reach.REPLICA:
            return at_s - WINDOW_S >= self.began_s + self.settle_s
        passed = at_s - 1e-6 - self.began_s
        block = int(passed // BLOCK_S)
        before = self._side(block - 1) if block else False
        if self._side(block) == before:
            return True
        return passed % BLOCK_S - WINDOW_S >= self.settle_s - 1e-6

    def seen(self, at_s: float, window: TrialWindow, beside: TrialWindow | None = None) -> Trial:
        """With one more window that ends at `at_s`; `beside` is the canary's, on a canary. Windows of too few calls for
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
        """The gain of the whole loss and its standard error, by live windows alone; None before there are two windows
        of each side."""
        return self._measured([_whole(w) for w in self.force], [_whole(w) for w in self.tried], self.predicted)

    @property
    def measured_plain(self) -> tuple[float, float] | None:
        """The same without the price of missed calls; None as well where that is not known of all windows."""
        windows = (*self.force, *self.tried)
        if self.plain is None or self.plain <= 0 or any(w.plain is None or w.missed is None for w in windows):
            return None
        return self._measured([_plain(w) for w in self.force], [_plain(w) for w in self.tried], self.plain)

    @property
    def tested(self) -> tuple[tuple[float, float] | None, float]:
        """What the test is about, the loss without the price of missed calls where that is known: the gain as measured
        with its standard error, and the gain that was promised."""
        plain = self.measured_plain
        return (self.measured, self.predicted) if plain is None else (plain, self.plain or 0.0)

    def _measured(self, force: list[TrialLoss], tried: list[TrialLoss], promised: float) -> tuple[float, float] | None:
        """Those of a canary came at the same time as those beside them, and are compared pair by pair, with no need of
        the twin; a switchback's came at other times, and are compared by their means."""
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
        """Whether what is tried misses more calls than are allowed, and more than what is in force: surely (95 %), not
        (False), or perhaps (None)."""
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
    """How a trial ended: promoted or not, and why."""

    promoted: bool
    realised: float
    reason: str


def weighed(gain: float, error: float, promised: float, windows: int) -> float:
    """The logarithm of how much likelier a measured `gain` is if the true one is as `promised` than if there is none.

    The error is itself estimated from so many `windows`; Student's variance instead of the normal one stands for that.
    """
    wide = error**2 * (windows - 1) / max(windows - 3, 1)
    return (gain * promised - promised**2 / 2) / max(wide, 1e-6 * promised**2)


def judge(trial: Trial) -> TrialEstimate | None:
    """How the trial ended; None: it goes on."""
    trial = _alike(trial)
    windows = min(len(trial.force), len(trial.tried))
    calls = min(sum(w.calls for w in trial.force), sum(w.calls for w in trial.tried))
    whole, plain, (found, promised) = trial.measured, trial.measured_plain, trial.tested
    if whole is None or found is None or windows < LEAST_WINDOWS or calls < LEAST_CALLS:
        return None
    overspent = False if plain is None else trial.overspent()
    gain, error = found
    told = f"live {gain:.4f} +- {error:.4f} in {windows} windows, promised {promised:.4f}"
    if plain is not None:
        told += f" without misses; with them {whole[0]:.4f} +- {whole[1]:.4f} of {trial.predicted:.4f}"
    sure = gain >= SURE_UNPROMISED * error
    weight = weighed(gain, error, promised, windows) if promised > 0 else 0.0
    worse = gain <= 0 if promised <= 0 else not sure and weight <= REJECTED
    if overspent or worse:
        return TrialEstimate(False, whole[0], f"{'misses too many calls' if overspent else 'no gain'}: {told}")
    if overspent is False and (sure or weight >= PROMOTED):
        # What it brought, misses at their promised price: a few windows cannot tell that one.
        return TrialEstimate(True, gain + trial.predicted - promised, told)
    if windows < MOST_WINDOWS[trial.reach]:
        return None
    if overspent is False and weight >= LIKELIER:
        return TrialEstimate(True, gain + trial.predicted - promised, f"likelier than none: {told}")
    return TrialEstimate(False, whole[0], f"undecided: {told}")


def _alike(trial: Trial) -> Trial:
    """The trial without the minutes before it where these were not like those in it, as a gain tells that is far beyond
    what was promised."""
    found, promised = trial.tested
    if not trial.led_in or found is None or promised <= 0:
        return trial
    gain, error = found
    unforeseen = gain >= UNFORESEEN * promised and gain - promised >= SURE_UNPROMISED * error
    return replace(trial, force=trial.force[trial.led_in :]) if unforeseen else trial


def undisturbed(schedule: Sequence[tuple[float, KnobValues]], force: KnobValues, from_s: float, until_s: float) -> bool:
    """Whether the pool went by `force` from `SETTLE_S` before `from_s` until `until_s`; `schedule` says what it went by
    from when on, the oldest first. Of what was before that nobody knows."""
    if not schedule or schedule[0][0] > from_s - SETTLE_S:
        return False
    spans = zip(schedule, [*(at_s for at_s, _ in schedule[1:]), math.inf], strict=True)
    return all(values == force for (at_s, values), end_s in spans if at_s < until_s and end_s > from_s - SETTLE_S)


def canaries(replicas: int) -> int:
    """How many replicas try a knob of theirs: a tenth, at least one; none where there is no other beside it."""
    return 0 if replicas < 2 else max(1, int(CANARY_SHARE * replicas))
