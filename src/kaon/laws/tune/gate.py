"""The conditions for a trial of a candidate: certainly better, as complete, and no worse in a burst.

Both sides were played over the same blocks of 60 s with the same seeds, so blocks pair. The mean gain must be above
max(0, 1 % of the loss) together with its lower confidence bound; a mean over blocks of which one burst has all the gain
has no such bound.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from kaon.laws.tune.spsa import winsorised

BLOCK_S = 60.0
LEAST_BLOCKS = 20
LEAST_GAIN = 0.01
"""Of the loss."""
MOST_LOST = 0.001
"""Largest loss of completion: 0.1 points."""
RESERVE = 0.2
"""Completion counts up to this share of the error budget above its target: more is not required."""
SPOILT = 2.0
"""Times the allowed missed calls, above which a minute counts as spoilt."""
WORSE_BURST = 1.05
_BUSIEST = 5
_T95 = 1.73
"""Student's one-sided 95 % quantile at 19 degrees of freedom; with more it is a little less."""


@dataclass(frozen=True, slots=True)
class Block:
    """A played minute: its loss, arrivals, calls answered well, whether it is a part of the burst, and the price of
    missed calls in the loss."""

    loss: float
    arrivals: int
    well: int
    burst: bool = False
    price: float = 0.0

    @property
    def plain(self) -> float:
        """The loss without the price of missed calls."""
        return self.loss - self.price

    def spoilt(self, target: float) -> bool:
        """Whether it missed many more calls than allowed."""
        return self.arrivals - self.well > SPOILT * (1 - target) * self.arrivals


Played = tuple[Block, ...]
"""The replay of one point in the cube, block by block."""


@dataclass(frozen=True, slots=True)
class GateVerdict:
    """Whether a trial may begin; the mean gain and its lower bound, shares of the loss in force; the reason."""

    open: bool
    gain: float
    bound: float
    reason: str


def mean_loss(played: Sequence[Block]) -> float:
    """The mean over blocks; infinite when there are none."""
    return fmean(b.loss for b in played) if played else math.inf


def completed(played: Sequence[Block]) -> float:
    """The share of calls answered well."""
    arrivals = sum(b.arrivals for b in played)
    return sum(b.well for b in played) / arrivals if arrivals else 1.0


def bound(differences: Sequence[float]) -> tuple[float, float]:
    """The mean of paired differences, and its lower 95 % confidence bound, both after clipping."""
    clipped = winsorised(differences)
    mean = fmean(clipped)
    return mean, mean - _T95 * stdev(clipped) / math.sqrt(len(clipped))


def judge(force: Played, candidate: Played, target: float) -> GateVerdict:
    """Whether a trial of `candidate` against `force` may begin; `target` is that of completion."""
    if len(force) != len(candidate) or len(force) < LEAST_BLOCKS:
        return GateVerdict(False, 0.0, 0.0, f"{min(len(force), len(candidate))} blocks; {LEAST_BLOCKS} are needed")
    now = max(mean_loss(force), 1e-9)
    mean, least = bound([a.loss - b.loss for a, b in zip(force, candidate, strict=True)])
    raw = now - mean_loss(candidate)
    gain, least = min(mean, raw) / now, least / now
    counts = min(completed(force), target + RESERVE * (1 - target))
    lost = counts - completed(candidate)
    burst = _burst(force)
    burst_now, burst_then = (mean_loss([p[i] for i in burst]) for p in (force, candidate))
    figures = f"gain {100 * gain:.1f} %, at least {100 * least:.1f} %"
    if least <= LEAST_GAIN or gain <= LEAST_GAIN:
        return GateVerdict(False, gain, least, f"{figures}: not surely above {100 * LEAST_GAIN:g} %")
    spoilt_now, spoilt_then = (sum(b.spoilt(target) for b in p) for p in (force, candidate))
    if spoilt_then > spoilt_now:
        return GateVerdict(False, gain, least, f"would spoil {spoilt_then} minutes, not {spoilt_now}")
    if lost > MOST_LOST:
        return GateVerdict(False, gain, least, f"would lose {100 * lost:.2f} points of completion")
    if burst_then > WORSE_BURST * burst_now:
        return GateVerdict(False, gain, least, f"{100 * (burst_then / burst_now - 1):.0f} % worse in the burst")
    return GateVerdict(True, gain, least, figures)


def _burst(played: Played) -> list[int]:
    """The blocks of the burst: marked ones, or else the busiest. They are chosen by arrivals, not by loss: the
    costliest ones of the values in force would favour every candidate."""
    named = [i for i, block in enumerate(played) if block.burst]
    return named or sorted(range(len(played)), key=lambda i: -played[i].arrivals)[: max(_BUSIEST, len(played) // 12)]
