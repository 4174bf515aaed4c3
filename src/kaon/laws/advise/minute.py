"""What a deployment is judged by: a minute of its traffic, and what of its spec and status the rules go by."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from kaon.types.knobs import KnobValues
from kaon.types.objective import Objective
from kaon.types.observation import Batches
from kaon.types.tuning import KnobState, Recommendation, TuningMode
from kaon.types.window import Window
from kaon.types.workspace import DEFAULT_WORKSPACE

LEAST_CALLS = 50
"""Least calls of a minute for shares and quantiles."""
_MOST_RETRIES = 4.0
"""Refused callers try again: the demand is at most so many times the served calls."""


@dataclass(frozen=True, slots=True)
class AdviceTerms:
    """The parts of a deployment's spec and status that rules read."""

    workspace: str
    deployment: str
    objective: Objective = field(default_factory=Objective)
    least: int = 1
    most: int = 1
    largest_batch: int = 1
    """Most rows of a batch of its handlers; 1: there is no batching."""
    memory_limit_bytes: int | None = None
    revision: int | None = None
    """The serving one."""
    mode: TuningMode = TuningMode.RECOMMEND
    tuned: KnobValues = field(default_factory=dict)
    recommended: Recommendation | None = None
    knobs: Mapping[str, KnobState] = field(default_factory=dict)
    """By name; empty until the tuner has reported them."""

    def command(self, text: str) -> str:
        """The complete command; `text` has NAME in the place of the deployment's name."""
        workspace = "" if self.workspace == DEFAULT_WORKSPACE else f" -w {self.workspace}"
        return f"kaon {text.replace('NAME', self.deployment)}{workspace}"


@dataclass(frozen=True, slots=True)
class AdviceMinute:
    """A minute of a deployment."""

    terms: AdviceTerms
    window: Window
    waited: int | None = None
    """Calls that were held until a replica had started."""
    batches: Batches = field(default_factory=Batches)

    @property
    def enough(self) -> bool:
        """Whether there were enough calls for shares and quantiles."""
        return self.window.arrivals is not None and self.window.arrivals >= LEAST_CALLS

    def code(self, name: str) -> int:
        """Number of answers of a class."""
        return (self.window.codes or {}).get(name, 0)

    @property
    def demand(self) -> float | None:
        """Replicas that would be busy all the time; None: unknown.

        Where all are busy, refused calls count with the cost of the served ones.
        """
        busy, answers = self.window.busy, sum((self.window.codes or {}).values())
        if busy is None or not self.window.ready:
            return None
        served = answers - self.code("shed")
        crowded = served > 0 and busy > self.terms.objective.utilisation[1]
        return self.window.ready * busy * (min(_MOST_RETRIES, answers / served) if crowded else 1.0)

    @property
    def needed(self) -> int | None:
        """Replicas that would be busy in the middle of the objective's band, at least one; None: unknown."""
        demand, (low, high) = self.demand, self.terms.objective.utilisation
        return None if demand is None else max(1, math.ceil(demand / ((low + high) / 2) - 1e-9))


class FindingText(NamedTuple):
    """A finding of a rule."""

    evidence: str
    gain: str
    command: str


def share(value: float) -> str:
    """In per cent, to three digits; less than all is never shown as 100 %."""
    if 0.99 < value < 1:
        return f"{min(100 * value, 99.99):.2f} %"
    return f"{100 * value:.3g} %" if value < 0.1 else f"{100 * value:.0f} %"


def replicas(count: int) -> str:
    """The number with its noun."""
    return f"{count} replica{'' if count == 1 else 's'}"


def duration(seconds: float) -> str:
    """In milliseconds or seconds."""
    return f"{1000 * seconds:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"
