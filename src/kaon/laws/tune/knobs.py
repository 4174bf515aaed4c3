"""Knobs: the parameters that the tuner may change, and the unit cube in which it changes them.

A step of the same size should have about the same effect everywhere. So each knob has a shape that maps its value
to [0, 1]: times and factors by logarithm, whole numbers by logarithm and rounding, shares by their odds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from kaon.types.knobs import KnobValues
from kaon.types.tuning import Reach

__all__ = ["CubePoint", "Knob", "KnobShape", "KnobValues", "Reach", "Space"]

MOST_KNOBS = 8
"""With more dimensions perturbations show less."""

CubePoint = tuple[float, ...]
"""`KnobValues` in the unit cube."""


class KnobShape(StrEnum):
    """The mapping of a value to [0, 1]."""

    LOG = "log"
    WHOLE = "whole"
    """A whole number of at least 1, by its logarithm."""
    SHARE = "share"
    """Between 0 and 1, by its log-odds."""


@dataclass(frozen=True, slots=True)
class Knob:
    """A parameter between `low` and `high`.

    One move changes it by `slew` of its range at most; a whole number always by one.
    """

    name: str
    shape: KnobShape
    low: float
    high: float
    reach: Reach = Reach.POOL
    slew: float = 0.25

    def __post_init__(self) -> None:
        if not 0 < self.low < self.high or (self.shape is KnobShape.SHARE and self.high >= 1):
            raise ValueError(f"knob {self.name}: ({self.low}, {self.high}) is no range of shape {self.shape}")

    def place(self, value: float) -> float:
        """The place of `value` in [0, 1]; values outside the bounds have the nearest place."""
        low, high = self._carried(self.low), self._carried(self.high)
        return (self._carried(min(max(value, self.low), self.high)) - low) / (high - low)

    def value(self, place: float) -> float:
        """The value at a place, within the bounds; a whole number for that shape."""
        low, high = self._carried(self.low), self._carried(self.high)
        x = low + min(max(place, 0.0), 1.0) * (high - low)
        value = 1 / (1 + math.exp(-x)) if self.shape is KnobShape.SHARE else math.exp(x)
        if self.shape is KnobShape.WHOLE:
            value = float(round(value))
        return min(max(value, self.low), self.high)

    def _carried(self, value: float) -> float:
        return math.log(value / (1 - value)) if self.shape is KnobShape.SHARE else math.log(value)


@dataclass(frozen=True, slots=True)
class Space:
    """The knobs of a deployment."""

    knobs: tuple[Knob, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.knobs) <= MOST_KNOBS:
            raise ValueError(f"{len(self.knobs)} knobs; between 1 and {MOST_KNOBS} can be tuned together")

    def below(self, highest: Mapping[str, float]) -> Space:
        """The space with these upper bounds of the named knobs; a range keeps room for a move of one."""
        tops = {knob.name: min(knob.high, max(highest.get(knob.name, knob.high), knob.low + 1)) for knob in self.knobs}
        return Space(tuple(replace(knob, high=tops[knob.name]) for knob in self.knobs))

    def point(self, values: Mapping[str, float]) -> CubePoint:
        """The point of `values`. KeyError when one is missing."""
        return tuple(knob.place(values[knob.name]) for knob in self.knobs)

    def values(self, point: CubePoint) -> KnobValues:
        """The values at a point."""
        return {knob.name: knob.value(z) for knob, z in zip(self.knobs, point, strict=True)}

    def moved(self, force: Mapping[str, float], aim: CubePoint) -> KnobValues:
        """The values nearest to `aim` that one move from `force` may reach, by bounds and slew."""
        return {knob.name: _moved(knob, force[knob.name], z) for knob, z in zip(self.knobs, aim, strict=True)}

    def allows(self, before: Mapping[str, float], after: Mapping[str, float]) -> bool:
        """Whether one move may lead from `before` to `after`: within bounds and slew, of every knob and no other."""
        if after.keys() != {knob.name for knob in self.knobs}:
            return False
        near = self.moved(before, self.point(after))
        return all(math.isclose(after[name], value, rel_tol=1e-6) for name, value in near.items())

    def reach(self, before: Mapping[str, float], after: Mapping[str, float]) -> Reach:
        """How a move is tried: on a canary only if every knob that it changes is a replica's own."""
        changed = [k for k in self.knobs if before[k.name] != after[k.name]]
        return Reach.REPLICA if all(k.reach is Reach.REPLICA for k in changed) else Reach.POOL


def _moved(knob: Knob, start: float, aim: float) -> float:
    at = knob.place(start)
    if knob.shape is KnobShape.WHOLE:
        return min(max(knob.value(aim), _furthest(knob, start, -1)), _furthest(knob, start, 1))
    value = knob.value(min(max(aim, at - knob.slew), at + knob.slew))
    # Rounding in the logarithm would change the last bit of an unchanged value, which would be a move.
    unchanged = math.isclose(value, start, rel_tol=1e-9) and knob.low <= start <= knob.high
    return start if unchanged else value


def _furthest(knob: Knob, start: float, side: int) -> float:
    """The last whole number within the slew, up (1) or down (-1), but at least the next one."""
    at = knob.place(start)
    value = knob.value(at + side * knob.slew)
    if abs(knob.place(value) - at) > knob.slew:
        value -= side  # rounding exceeded the slew
    nearest = min(max(start, knob.low), knob.high)
    steps = max(side * (value - nearest), 1)
    return min(max(nearest + side * steps, knob.low), knob.high)
