"""What all scaling laws share: what bounds them, what they answer, and the form that they have.

A law is a value (its parameters) with `begin`, which gives its first state, and `step`, which takes state,
bounds and an observation and gives the next state and a decision. It never reads a clock and never acts,
so that the simulator, the tests and production run the same code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from kaon.types.observation import Observation

DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Floor:
    """At least `replicas` between two times of the day (UTC, seconds after midnight); may span midnight."""

    replicas: int
    from_s: float
    until_s: float

    def holds(self, at_s: float) -> bool:
        """Whether the floor is in force at `at_s`, epoch seconds."""
        time = at_s % DAY_S
        if self.from_s <= self.until_s:
            return self.from_s <= time < self.until_s
        return time >= self.from_s or time < self.until_s


@dataclass(frozen=True, slots=True)
class Bounds:
    """Between how many replicas a law may choose."""

    min: int = 1
    max: int = 1000
    floors: tuple[Floor, ...] = ()

    def clip(self, replicas: int, at_s: float) -> int:
        """The nearest allowed number."""
        floor = max([self.min, *(f.replicas for f in self.floors if f.holds(at_s))])
        return min(max(replicas, floor), self.max)


@dataclass(frozen=True, slots=True)
class Decision:
    """How many replicas there should be, starting ones included, and why."""

    replicas: int
    reason: str


class Law(Protocol):
    """A scaling law with its parameters."""

    def begin(self) -> Any:
        """The state before anything was seen."""

    def step(self, state: Any, bounds: Bounds, seen: Observation) -> tuple[Any, Decision]:
        """The next state, and the decision."""
