"""Runs a scaling law on a simulated deployment, and measures the outcome."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from kaon.laws import loss
from kaon.laws.scaling import Bounds, ScalingDecision, ScalingLaw
from kaon.sim import memory
from kaon.sim.engine import NS, SimulatedDeployment, Truth, deployment
from kaon.types.objective import Objective
from kaon.types.observation import Observation
from kaon.types.traffic import LATENCY_BOUNDS_S, LatencyCounts


@dataclass(frozen=True, slots=True)
class SimulationSetting:
    """The settings of a run except for law and traffic. `stale_s`: the age of figures when the law gets them."""

    truth: Truth = field(default_factory=Truth)
    objective: Objective = field(default_factory=Objective)
    bounds: Bounds = field(default_factory=lambda: Bounds(1, 200))
    first_replicas: int = 1
    tick_s: float = 2.0
    stale_s: float = 2.0
    scored_from_s: float = 0.0
    window_s: float = 60.0
    slots: int = 512
    compiled: bool | None = None


@dataclass(frozen=True, slots=True)
class SimulationOutcome:
    """The outcome of a run, over the scored part."""

    windows: tuple[loss.LossInputs, ...]
    latency_p50_s: float
    latency_p90_s: float
    latency_p99_s: float
    events: int
    replicas: tuple[int, ...]
    """Paid ones, at each tick."""
    latency: LatencyCounts = field(default_factory=dict)
    """Counts in the coarse buckets in which a platform counts latencies, for comparison with them."""

    @property
    def whole(self) -> loss.LossInputs:
        """All windows as one."""
        total = self.windows[0]
        for window in self.windows[1:]:
            total = loss.merge(total, window)
        return total

    @property
    def attainment(self) -> float:
        """The share of calls answered well before their deadline."""
        return self.whole.well / max(self.whole.arrivals, 1)

    @property
    def replica_seconds(self) -> float:
        """Paid replica-seconds, starting and draining replicas included."""
        return self.whole.paid_s

    def worst(self, windows: int) -> float:
        """The lowest attainment of so many consecutive windows."""
        shares = []
        for i in range(max(1, len(self.windows) - windows + 1)):
            part = self.windows[i : i + windows]
            calls = sum(w.arrivals for w in part)
            if calls:
                shares.append(sum(w.well for w in part) / calls)
        return min(shares, default=1.0)

    def mean_loss(self, objective: Objective, reference_s: float) -> float:
        """The mean loss of the windows, which are minutes; the price of misses follows the error budget."""
        price, total = loss.Price(), 0.0
        windows = loss.merged(list(self.windows))
        for window in windows:
            result = loss.loss(objective, window, reference_s, price.value)
            total += result.total
            price = price.after(objective, result.completed, 60.0)
        return total / len(windows)


class Session:
    """A run of a law, tick by tick. `law` may be replaced between two ticks by one with the same kind of state.

    `state`, `clock_s` (the law's clock at the start) and `ready` (replicas that serve already) continue another run.
    """

    def __init__(
        self,
        law: ScalingLaw,
        setting: SimulationSetting,
        arrivals_ns: Any,
        seed: int = 0,
        *,
        state: Any = None,
        clock_s: float = 0.0,
        ready: int = 0,
    ) -> None:
        self.law, self.setting, self.clock_s = law, setting, clock_s
        self.state = law.begin() if state is None else state
        self.tick = 0
        self.replicas: list[int] = []
        self._arrivals = arrivals_ns
        self._late: deque[Observation] = deque()
        self._paid: list[tuple[int, int, int]] = []
        self._per_window = round(setting.window_s / setting.tick_s)
        self._first = round(setting.scored_from_s / setting.tick_s)
        self.world = deployment(
            setting.truth,
            setting.objective,
            arrivals_ns,
            seed=seed,
            slots=setting.slots,
            window_s=setting.window_s,
            scored_from_s=setting.scored_from_s,
            compiled=setting.compiled,
        )
        if ready:
            self.world.add_ready(ready)
        self.world.scale(max(setting.first_replicas, ready))

    def step(self) -> tuple[Observation, ScalingDecision] | None:
        """One tick; returns the observation for the law and its decision, None while no observation is old enough."""
        setting = self.setting
        if self.tick >= self._first and (self.tick - self._first) % self._per_window == 0:
            self._paid.append(_paid(self.world))
        self.tick += 1
        self.world.advance(self.tick * setting.tick_s)
        self._late.append(self.world.observe())
        self.replicas.append(int(self.world.world.counts[memory.ALIVE]))
        fresh = self._late[-1]
        if fresh.at_s - self._late[0].at_s < setting.stale_s:
            return None
        now = {"ready": fresh.ready, "starting": fresh.starting, "at_s": fresh.at_s + self.clock_s}
        observation = self._late.popleft().model_copy(update=now)
        self.state, decision = self.law.step(self.state, setting.bounds, observation)
        self.world.scale(decision.replicas)
        return observation, decision

    def windows(self) -> tuple[loss.LossInputs, ...]:
        """The scored windows that are over; calls in flight are not yet in them."""
        return _windows(self.world, self.setting, self._arrivals, self._paid)

    def finish(self) -> SimulationOutcome:
        """The outcome, after the last calls are answered."""
        self._paid.append(_paid(self.world))
        self.world.advance(self.tick * self.setting.tick_s + 2 * self.setting.objective.patience_s)
        return _outcome(self.world, self.windows(), self.replicas)


def run(
    law: ScalingLaw,
    setting: SimulationSetting,
    arrivals_ns: Any,
    seed: int = 0,
    watch: Callable[[Observation, int, str], None] | None = None,
) -> SimulationOutcome:
    """Let `law` scale a deployment whose calls arrive at `arrivals_ns`; returns the outcome.

    The law gets each observation `stale_s` late; the counts of replicas are current. `watch` is called with each
    observation, the replicas decided on and the reason.
    """
    session = Session(law, setting, arrivals_ns, seed)
    end_s = int(arrivals_ns[-1]) / NS if len(arrivals_ns) else 0.0
    for _ in range(int(end_s / setting.tick_s) + 1):
        result = session.step()
        if result is not None and watch is not None:
            watch(result[0], result[1].replicas, result[1].reason)
    return session.finish()


def _paid(world: SimulatedDeployment) -> tuple[int, int, int]:
    counts = world.world.counts
    return int(counts[memory.ALIVE_NS]), int(counts[memory.READY_NS]), int(counts[memory.BUSY])


def _outcome(
    world: SimulatedDeployment, windows: tuple[loss.LossInputs, ...], replicas: list[int]
) -> SimulationOutcome:
    w = world.world
    step_s = int(w.counts[memory.BUCKET]) / NS
    histogram = [int(x) for x in w.scores[: memory.BUCKETS]]
    p50, p90, p99 = (_quantile(histogram, q) * step_s for q in (0.5, 0.9, 0.99))
    latency = _in_buckets(histogram, step_s)
    return SimulationOutcome(windows, p50, p90, p99, int(w.counts[memory.EVENTS]), tuple(replicas), latency)


def _in_buckets(histogram: list[int], step_s: float) -> LatencyCounts:
    found: LatencyCounts = {}
    for place, count in enumerate(histogram):
        if count:
            bucket = bisect_left(LATENCY_BOUNDS_S, (place + 0.5) * step_s)
            found[bucket] = found.get(bucket, 0) + count
    return found


def _windows(
    world: SimulatedDeployment, setting: SimulationSetting, arrivals_ns: Any, paid: Sequence[tuple[int, int, int]]
) -> tuple[loss.LossInputs, ...]:
    w = world.world
    width = round(setting.window_s * NS)
    first = round(setting.scored_from_s / setting.window_s)
    count = min((len(w.scores) - memory.BUCKETS) // 2, max(0, len(paid) - 1))
    places = _places(arrivals_ns, [(first + i) * width for i in range(count + 1)])
    windows = []
    for i in range(count):
        before, after = paid[i], paid[i + 1]
        windows.append(
            loss.LossInputs(
                arrivals=places[i + 1] - places[i],
                well=int(w.scores[memory.BUCKETS + 2 * i]),
                latency_losses=int(w.scores[memory.BUCKETS + 2 * i + 1]) / memory.PPM,
                busy_s=(after[2] - before[2]) / NS,
                ready_s=(after[1] - before[1]) / NS,
                paid_s=(after[0] - before[0]) / NS,
            )
        )
    return tuple(windows)


def _places(arrivals_ns: Any, edges: list[int]) -> list[int]:
    return [bisect_left(arrivals_ns, edge) for edge in edges]


def _quantile(histogram: list[int], share: float) -> float:
    total, so_far = sum(histogram), 0
    for bucket, count in enumerate(histogram):
        so_far += count
        if so_far >= share * total:
            return bucket + 0.5
    return 0.0
