"""The common parts of all scaling laws: bounds, decisions, and the protocol of a law.

A law is a value (its parameters) with `begin`, which gives its first state, and `step`, which takes state,
bounds and an observation and gives the next state and a decision. It never reads a clock and never acts,
so that the simulator, the tests and production run the same code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from kaon.types.deployment import Floor
from kaon.types.observation import Observation


@dataclass(frozen=True, slots=True)
class Bounds:
    """The allowed numbers of replicas."""

    min: int = 1
    max: int = 1000
    floors: tuple[Floor, ...] = ()

    def clip(self, replicas: int, at_s: float) -> int:
        """The nearest allowed number."""
        floor = max([self.min, *(f.replicas for f in self.floors if f.holds(at_s))])
        return min(max(replicas, floor), self.max)


@dataclass(frozen=True, slots=True)
class ScalingDecision:
    """The desired number of replicas, starting ones included, and its reason."""

    replicas: int
    reason: str


class ScalingLaw(Protocol):
    """A scaling law with its parameters."""

    def begin(self) -> Any:
        """The state before the first observation."""

    def step(self, state: Any, bounds: Bounds, observed: Observation) -> tuple[Any, ScalingDecision]:
        """The next state, and the decision."""
