"""The hidden truth, and a deployment that lives in it with knobs that may be moved.

No arm knows any of this. A batch's cost is not linear, one batch in a hundred takes five times as long, one
replica in ten is half as slow again, starts are log-normal with a long tail, and in mid-run all costs rise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from statistics import fmean
from typing import Any, cast

from benchmarks.autoscale.loads import Load
from kaon.laws import choice, loss
from kaon.laws.scale import Scale
from kaon.laws.scaling import Bounds, ScalingLaw
from kaon.laws.tune import scaling
from kaon.laws.tune.knobs import KnobValues, Space
from kaon.sim.engine import Truth
from kaon.sim.run import Session, SimulationOutcome, SimulationSetting
from kaon.sim.traffic import arrivals
from kaon.types.deployment import Scaling
from kaon.types.objective import Objective
from kaon.types.observation import Observation
from kaon.types.service import Batch, EndpointSpec, ServiceSpec

LARGEST, USUAL = 32, 8
"""Rows that the handlers take at most, and what somebody who has not measured would set."""
SERVICE = ServiceSpec(
    name="simulated",
    entry="simulated:Simulated",
    endpoints=(EndpointSpec(name="call", method="POST", path="/", batch=Batch(max_size=LARGEST)),),
)
TICK_S = 2.0


@dataclass(frozen=True)
class World:
    """A service, and how it really behaves: `before`, and from the middle on `after`."""

    objective: Objective
    before: Truth
    after: Truth
    scaling: Scaling
    first_replicas: int

    @property
    def reference_s(self) -> float:
        """What a call costs in a usual batch, replica-seconds."""
        return (self.before.a * USUAL + self.before.b) / USUAL

    @cached_property
    def bounds(self) -> Bounds:
        return choice.bounds(self.scaling)

    @cached_property
    def space(self) -> Space:
        """The knobs that can be tuned."""
        return cast(Space, scaling.space(SERVICE, self.scaling, self.objective))

    @cached_property
    def start(self) -> KnobValues:
        """Their values without tuning."""
        usual = scaling.values(Scale(self.objective, USUAL))
        return {knob.name: usual[knob.name] for knob in self.space.knobs}

    def law(self, values: KnobValues) -> Scale:
        """Kaon's law with the knobs in `values`."""
        return scaling.applied(Scale(self.objective, USUAL), values)


_BEFORE = Truth(
    a=0.02, b=0.08, power=1.1, max_batch=LARGEST, noise=0.15, stragglers=0.01, slow=0.1, start_s=18.0, start_p95_s=30.0
)
MANY = World(
    Objective(latency_s=1.0, deadline_s=1.5, completion=0.99),
    _BEFORE,
    replace(_BEFORE, a=0.022, b=0.1),
    Scaling(min=1, max=200),
    first_replicas=15,
)
"""Many calls, a dozen replicas in the mean: what the claim is about."""
OBJECTIVE, BEFORE, AFTER, REFERENCE_S = MANY.objective, MANY.before, MANY.after, MANY.reference_s
BOUNDS, SPACE, START = MANY.bounds, MANY.space, MANY.start
law = MANY.law


def largest(values: KnobValues) -> int:
    """The largest batch of `values`."""
    return int(values[scaling.MAX_BATCH])


@lru_cache(maxsize=4)
def calls(load: Load, seed: int) -> Any:
    """When calls come, ns."""
    return arrivals(load.rates, seed)


class Life:
    """A deployment in the hidden truth from the first call to the last; `each` is called after every tick."""

    def __init__(self, load: Load, seed: int, law: ScalingLaw, rows: int = USUAL, world: World = MANY) -> None:
        self.load, self.seed, self.world = load, seed, world
        self.calls = calls(load, seed)
        setting = SimulationSetting(world.before, world.objective, world.bounds, world.first_replicas, tick_s=TICK_S)
        self.session = Session(law, setting, self.calls, seed)
        self.session.world.limit(rows)

    @property
    def now_s(self) -> float:
        """The clock, which is also the law's."""
        return self.session.tick * TICK_S

    def set(self, values: KnobValues) -> None:
        """Put `values` of the knobs in force, at once."""
        self.session.law = self.world.law(values)
        self.session.world.limit(largest(values))

    def run(self, each: Callable[[Observation], None] | None = None) -> SimulationOutcome:
        """Live."""
        changes = round(self.load.span_s / 2 / TICK_S)
        for tick in range(round(self.load.span_s / TICK_S)):
            if tick == changes:
                self.session.world.change(self.world.after)
            result = self.session.step()
            if result is not None and each is not None:
                each(result[0])
        return self.session.finish()


@dataclass(frozen=True)
class Score:
    """What an arm came to: from the first second, and, `later`, after the day that others tune on."""

    loss: float
    attainment: float
    replica_seconds: float
    worst_burn_5min: float
    later_loss: float
    later_attainment: float
    later_replica_seconds: float
    p99_s: float
    losses: tuple[float | None, ...]
    """Of each minute; None where so few called that it counts with the next."""
    bad: tuple[bool, ...]
    """Windows in which the error budget burnt more than twice as fast as it lasts."""


def mean(losses: Sequence[float | None]) -> float:
    """Of those minutes that count."""
    return fmean(loss for loss in losses if loss is not None)


def score(outcome: SimulationOutcome, load: Load, world: World = MANY) -> Score:
    """The whole run, exploration included."""
    windows = outcome.windows
    budget = 1 - world.objective.completion
    losses: list[float | None] = []
    price = loss.Price()
    for window, joined in loss.joined(list(windows)):
        found = loss.loss(world.objective, window, world.reference_s, price.value)
        losses += [None] * (joined - 1) + [found.total]
        price = price.after(world.objective, found.completed, 60.0)
    first = int(load.scored_from_s // 60)
    later = replace(outcome, windows=windows[first:])
    return Score(
        mean(losses),
        outcome.attainment,
        outcome.replica_seconds,
        (1 - outcome.worst(5)) / budget,
        mean(losses[first:]),
        later.attainment,
        later.replica_seconds,
        outcome.latency_p99_s,
        tuple(None if x is None else round(x, 5) for x in losses),
        tuple(w.arrivals > 0 and (1 - w.well / w.arrivals) > 2 * budget for w in windows),
    )
