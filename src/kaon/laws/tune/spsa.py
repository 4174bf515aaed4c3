"""Simultaneous perturbation (Spall, 1992) with little noise: pairs, common random numbers, clipped differences.

A pair has the same random signs in both directions. Its two plays have the same calls and random numbers, so
their difference, block by block, is nearly only the effect. A block with a burst can still outweigh all others;
so differences are held within three median absolute deviations of their median. The step's size is the
trust region's; the gradient gives only directions, weighed by how steady each has been (RMS).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median

from kaon.laws.tune import randomness
from kaon.laws.tune.knobs import CubePoint

PAIRS = 4
LEAST_TRUST, MOST_TRUST = 0.02, 0.25
_FORGETTING = 0.8
_STREAM = 1


@dataclass(frozen=True, slots=True)
class Slope:
    """The faded squares of gradients, per knob, and their weight."""

    squares: CubePoint = ()
    weight: float = 0.0


def perturbations(seed: int, width: int) -> tuple[CubePoint, ...]:
    """The signs of each pair."""
    return tuple(tuple(float(randomness.sign(seed, _STREAM + p, i)) for i in range(width)) for p in range(PAIRS))


def winsorised(values: Sequence[float]) -> list[float]:
    """`values`, none further from their median than three median absolute deviations.

    The deviation is at least that of a normal distribution with the same mean deviation: where more than half
    of the blocks do not differ at all, the median deviation is zero and would wipe out the rest.
    """
    middle = median(values)
    spread = median(abs(v - middle) for v in values)
    reach = 3 * max(spread, fmean(abs(v - middle) for v in values))
    return [min(max(v, middle - reach), middle + reach) for v in values]


def gradient(signs: Sequence[CubePoint], differences: Sequence[float], width: float) -> CubePoint:
    """The mean over pairs of difference / (2 width) along their signs."""
    pairs = [(s, d / (2 * width)) for s, d in zip(signs, differences, strict=True)]
    return tuple(fmean(sign[i] * rise for sign, rise in pairs) for i in range(len(signs[0])))


def step(slope: Slope, found: CubePoint, trust: float) -> tuple[Slope, CubePoint]:
    """The next slope, and the move: down the gradient, at most `trust` along each knob."""
    before = slope.squares or (0.0,) * len(found)
    squares = tuple(_FORGETTING * s + (1 - _FORGETTING) * g * g for s, g in zip(before, found, strict=True))
    weight = _FORGETTING * slope.weight + 1 - _FORGETTING
    rms = [math.sqrt(s / weight) for s in squares]
    move = tuple(-trust * min(max(g / r, -1.0), 1.0) if r > 0 else 0.0 for g, r in zip(found, rms, strict=True))
    return Slope(squares, weight), move


def widened(trust: float, ratio: float) -> float:
    """The trust region after a move that brought `ratio` of what was predicted."""
    return min(1.5 * trust, MOST_TRUST) if ratio >= 0.5 else max(trust / 2, LEAST_TRUST)
