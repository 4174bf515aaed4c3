"""The twin's promise, tried on the real service.

A replica's own knob is tried on a *canary*, a few replicas beside the others, window against window. A pool's knob
changes how all work together, so it is tried by *switchback*: blocks of five minutes in the order A B B A, which
cancels a steady drift; what begins a block is still the other side's doing, and is dropped.

Most of what a window's loss does is the load's doing, and the twin knows the load. So it is played with the
same parameters over the same window and taken off (a control variate): what is left is what the twin did not know.
The estimate of the gain is the prediction plus that.

Even so an hour of live traffic says less of a gain of 5 % than the twin does, which compares the same calls. So the
test is Bayesian, and may be looked at after every window: the twin's promise is the prior, with a doubt as large
as `DOUBT` of it, and live windows add to it or take from it. A move whose promise they do not bear out is dropped.

What somebody wants to try, and the twin does not promise anything of, has no prior: it must prove itself by live
windows alone, and since they are looked at again and again, by more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from statistics import fmean, stdev

from kaon.laws.tune.knobs import Reach, Values
from kaon.laws.tune.spsa import winsorised

BLOCK_S = 300.0
WINDOW_S = 60.0
_ORDER = (False, True, True, False)
LEAST_WINDOWS = 5
LEAST_CALLS = 500
"""Of each side, before anything is decided."""
MOST_WINDOWS = 24
"""Of each side; a trial that is undecided after these failed."""
CANARY_SHARE = 0.1
DOUBT = 0.6
"""Standard deviation of the true gain around a promise, as a share of it: a fifth of all promises may be less than half
true."""
SURE = 1.645
"""Standard deviations above zero at which a gain is believed: 95 %."""
SURE_UNPROMISED = 2.5
"""The same without a promise: twenty looks at pure chance would pass 1.645 one time in four, and this in thirty."""


@dataclass(frozen=True, slots=True)
class Window:
    """A minute of one side: its loss, its calls, and what the twin makes of the same minute; None: it was not asked."""

    loss: float
    calls: int
    twin: float | None = None

    @property
    def unknown(self) -> float:
        """What the twin did not foresee."""
        return self.loss - (self.twin if self.twin is not None else 0.0)


@dataclass(frozen=True, slots=True)
class Trial:
    """A move that is being tried. `predicted` is the gain that the twin promises, `loss` what is in force costs.

    A promise that is no gain is none.
    """

    reach: Reach
    before: Values
    after: Values
    predicted: float
    loss: float
    began_s: float
    settle_s: float = 30.0
    force: tuple[Window, ...] = ()
    tried: tuple[Window, ...] = ()

    def trying(self, at_s: float) -> bool:
        """Whether the whole pool runs with the new values at `at_s`; on a canary it never does."""
        if self.reach is Reach.REPLICA:
            return False
        return _ORDER[int((at_s - self.began_s) // BLOCK_S) % len(_ORDER)]

    def counts(self, at_s: float) -> bool:
        """Whether the window that ends at `at_s` is all one side's: of one block, after it has settled."""
        if self.reach is Reach.REPLICA:
            return at_s - WINDOW_S >= self.began_s + self.settle_s
        within = (at_s - 1e-6 - self.began_s) % BLOCK_S
        return within - WINDOW_S >= self.settle_s - 1e-6

    def seen(self, at_s: float, window: Window, beside: Window | None = None) -> Trial:
        """With one more window that ends at `at_s`; `beside` is the canary's, on a canary."""
        if not self.counts(at_s):
            return self
        if self.reach is Reach.REPLICA:
            if beside is None:
                return self
            return replace(self, force=(*self.force, window), tried=(*self.tried, beside))
        if self.trying(at_s - 1e-6):
            return replace(self, tried=(*self.tried, window))
        return replace(self, force=(*self.force, window))

    @property
    def gains(self) -> tuple[float, ...]:
        """What each pair of windows says of the gain."""
        pairs = list(zip(self.force, self.tried, strict=False))
        known = all(a.twin is not None and b.twin is not None for a, b in pairs)
        if not known:
            return tuple(a.loss - b.loss for a, b in pairs)
        return tuple(self.predicted + a.unknown - b.unknown for a, b in pairs)

    @property
    def realised(self) -> float | None:
        """The gain as measured; None before the second pair."""
        gains = self.gains
        return fmean(winsorised(gains)) if len(gains) > 1 else None


@dataclass(frozen=True, slots=True)
class Finding:
    """How a trial ended: promoted or not, and why."""

    promoted: bool
    realised: float
    reason: str


def belief(gains: tuple[float, ...], predicted: float) -> tuple[float, float]:
    """Mean and standard deviation of the gain, by the promise and the live windows (normal with normal prior; without
    a promise by the windows alone)."""
    clipped = winsorised(gains)
    if predicted <= 0:
        return fmean(clipped), max(stdev(clipped) / math.sqrt(len(clipped)), 1e-9)
    doubt = DOUBT * predicted
    live = max(stdev(clipped) / math.sqrt(len(clipped)), 1e-3 * doubt)
    weight, live_weight = 1 / doubt**2, 1 / live**2
    mean = (weight * predicted + live_weight * fmean(clipped)) / (weight + live_weight)
    return mean, 1 / math.sqrt(weight + live_weight)


def judge(trial: Trial) -> Finding | None:
    """How the trial ended; None: it goes on."""
    gains = trial.gains
    calls = min(sum(w.calls for w in trial.force), sum(w.calls for w in trial.tried))
    if len(gains) < LEAST_WINDOWS or calls < LEAST_CALLS:
        return None
    mean, deviation = belief(gains, trial.predicted)
    realised = fmean(winsorised(gains))
    found = f"live {realised:.4f} in {len(gains)} windows, promised {trial.predicted:.4f}"
    told = f"{found}: {mean:.4f} +- {deviation:.4f}"
    if mean >= (SURE if trial.predicted > 0 else SURE_UNPROMISED) * deviation:
        return Finding(True, realised, told)
    if mean <= 0:
        return Finding(False, realised, f"worse: {told}")
    if len(gains) >= MOST_WINDOWS:
        return Finding(False, realised, f"undecided: {told}")
    return None


def canaries(replicas: int) -> int:
    """How many replicas try a knob of theirs: a tenth, at least one; none where there is no other beside it."""
    return 0 if replicas < 2 else max(1, int(CANARY_SHARE * replicas))
