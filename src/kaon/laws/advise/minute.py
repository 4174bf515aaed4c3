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
"""Fewer in a minute say nothing of shares and quantiles."""
_MOST_ASKED = 4.0
"""Who is refused comes again: no more than this times the calls that were served is taken for demand."""


@dataclass(frozen=True, slots=True)
class AdviceTerms:
    """A deployment as it should be, and what the tuner has found for it."""

    workspace: str
    deployment: str
    objective: Objective = field(default_factory=Objective)
    least: int = 1
    most: int = 1
    largest_batch: int = 1
    """Rows, the most that any of its handlers takes; 1: there is no batching."""
    memory_limit_bytes: int | None = None
    revision: int | None = None
    """The one that serves."""
    mode: TuningMode = TuningMode.RECOMMEND
    tuned: KnobValues = field(default_factory=dict)
    recommended: Recommendation | None = None
    knobs: Mapping[str, KnobState] = field(default_factory=dict)
    """Those that may be tried, by name; empty where the tuner has not said yet."""

    def command(self, text: str) -> str:
        """A command about this deployment that works as it stands; `text` has NAME where the name goes."""
        apart = "" if self.workspace == DEFAULT_WORKSPACE else f" -w {self.workspace}"
        return f"kaon {text.replace('NAME', self.deployment)}{apart}"


@dataclass(frozen=True, slots=True)
class AdviceMinute:
    """A minute."""

    terms: AdviceTerms
    window: Window
    waited: int | None = None
    """Of the calls that came, those that were held until a replica had started."""
    batches: Batches = field(default_factory=Batches)

    @property
    def enough(self) -> bool:
        """Whether there were calls enough for shares and quantiles to mean something."""
        return self.window.arrivals is not None and self.window.arrivals >= LEAST_CALLS

    def code(self, name: str) -> int:
        """Answers of a class."""
        return (self.window.codes or {}).get(name, 0)

    @property
    def demand(self) -> float | None:
        """Replicas that would be busy all the time; None: not known.

        Where all are busy, what was refused is counted at what the others cost.
        """
        busy, answers = self.window.busy, sum((self.window.codes or {}).values())
        if busy is None or not self.window.ready:
            return None
        served = answers - self.code("shed")
        crowded = served > 0 and busy > self.terms.objective.utilisation[1]
        return self.window.ready * busy * (min(_MOST_ASKED, answers / served) if crowded else 1.0)

    @property
    def needed(self) -> int | None:
        """Replicas that would be busy in the middle of the objective's band, at least one; None: not known."""
        demand, (low, high) = self.demand, self.terms.objective.utilisation
        return None if demand is None else max(1, math.ceil(demand / ((low + high) / 2) - 1e-9))


class FindingText(NamedTuple):
    """What a rule says."""

    evidence: str
    gain: str
    command: str


def share(value: float) -> str:
    """In per cent, to three digits; what is nearly all is not all."""
    if 0.99 < value < 1:
        return f"{min(100 * value, 99.99):.2f} %"
    return f"{100 * value:.3g} %" if value < 0.1 else f"{100 * value:.0f} %"


def replicas(count: int) -> str:
    """With the noun."""
    return f"{count} replica{'' if count == 1 else 's'}"


def duration(seconds: float) -> str:
    """In milliseconds or seconds."""
    return f"{1000 * seconds:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"
