"""A law at work on a simulated deployment, and what came of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from kaon.laws import loss
from kaon.laws.scaling import Bounds, Law
from kaon.sim import memory
from kaon.sim.engine import NS, Deployment, Truth, deployment
from kaon.types.objective import Objective
from kaon.types.observation import Observation


@dataclass(frozen=True, slots=True)
class Setting:
    """Everything of a run but law and traffic. `stale_s` is how old figures are when the law gets them."""

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
class Outcome:
    """What came of a run, over the scored part."""

    windows: tuple[loss.Seen, ...]
    latency_p50_s: float
    latency_p90_s: float
    latency_p99_s: float
    events: int
    replicas: tuple[int, ...]
    """Paid ones, at each tick."""

    @property
    def whole(self) -> loss.Seen:
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
        """What was paid for: starting and draining replicas included."""
        return self.whole.paid_s

    def worst(self, windows: int) -> float:
        """The lowest attainment of so many windows on end."""
        shares = []
        for i in range(max(1, len(self.windows) - windows + 1)):
            part = self.windows[i : i + windows]
            calls = sum(w.arrivals for w in part)
            if calls:
                shares.append(sum(w.well for w in part) / calls)
        return min(shares, default=1.0)

    def mean_loss(self, objective: Objective, reference_s: float) -> float:
        """The mean of the windows' losses, with the price of misses as it goes."""
        price, burns, total = loss.LEAST_PRICE, 0.0, 0.0
        windows = loss.merged(list(self.windows))
        for window in windows:
            result = loss.loss(objective, window, reference_s, price)
            total += result.total
            burn = (1 - result.completed) / (1 - objective.completion)
            burns += (burn - burns) / 30
            price = loss.next_price(price, burns)
        return total / len(windows)


def run(
    law: Law,
    setting: Setting,
    arrivals_ns: Any,
    seed: int = 0,
    watch: Callable[[Observation, int, str], None] | None = None,
) -> Outcome:
    """Let `law` scale a deployment to which calls come at `arrivals_ns`, and judge it.

    The law gets each observation `stale_s` late; replica counts, which the controller itself knows, are fresh.
    """
    world = deployment(
        setting.truth,
        setting.objective,
        arrivals_ns,
        seed=seed,
        slots=setting.slots,
        window_s=setting.window_s,
        scored_from_s=setting.scored_from_s,
        compiled=setting.compiled,
    )
    end_s = int(arrivals_ns[-1]) / NS if len(arrivals_ns) else 0.0
    state = law.begin()
    late: deque[Observation] = deque()
    paid: list[tuple[int, int, int]] = []
    replicas: list[int] = []
    world.scale(setting.first_replicas)
    ticks = int(end_s / setting.tick_s) + 1
    per_window = round(setting.window_s / setting.tick_s)
    first = round(setting.scored_from_s / setting.tick_s)
    for tick in range(1, ticks + 1):
        if tick - 1 >= first and (tick - 1 - first) % per_window == 0:
            paid.append(_paid(world))
        world.advance(tick * setting.tick_s)
        late.append(world.observe())
        replicas.append(int(world.world.counts[memory.ALIVE]))
        if late[-1].at_s - late[0].at_s < setting.stale_s:
            continue
        fresh = late[-1]
        seen = late.popleft().model_copy(update={"ready": fresh.ready, "starting": fresh.starting, "at_s": fresh.at_s})
        state, decision = law.step(state, setting.bounds, seen)
        world.scale(decision.replicas)
        if watch is not None:
            watch(seen, decision.replicas, decision.reason)
    paid.append(_paid(world))
    world.advance(ticks * setting.tick_s + 2 * setting.objective.patience_s)
    return _outcome(world, setting, arrivals_ns, paid, replicas)


def _paid(world: Deployment) -> tuple[int, int, int]:
    counts = world.world.counts
    return int(counts[memory.ALIVE_NS]), int(counts[memory.READY_NS]), int(counts[memory.BUSY])


def _outcome(
    world: Deployment, setting: Setting, arrivals_ns: Any, paid: Sequence[tuple[int, int, int]], replicas: list[int]
) -> Outcome:
    w = world.world
    count = (len(w.scores) - memory.BUCKETS) // 2
    width = round(setting.window_s * NS)
    first = round(setting.scored_from_s / setting.window_s)
    edges = [(first + i) * width for i in range(count + 1)]
    places = _places(arrivals_ns, edges)
    windows = []
    for i in range(min(count, len(paid) - 1)):
        before, after = paid[i], paid[i + 1]
        windows.append(
            loss.Seen(
                arrivals=places[i + 1] - places[i],
                well=int(w.scores[memory.BUCKETS + 2 * i]),
                latency_losses=int(w.scores[memory.BUCKETS + 2 * i + 1]) / memory.PPM,
                busy_s=(after[2] - before[2]) / NS,
                ready_s=(after[1] - before[1]) / NS,
                paid_s=(after[0] - before[0]) / NS,
            )
        )
    step_s = int(w.counts[memory.BUCKET]) / NS
    p50, p90, p99 = (_quantile(w.scores[: memory.BUCKETS], q) * step_s for q in (0.5, 0.9, 0.99))
    return Outcome(tuple(windows), p50, p90, p99, int(w.counts[memory.EVENTS]), tuple(replicas))


def _places(arrivals_ns: Any, edges: list[int]) -> list[int]:
    from bisect import bisect_left

    return [bisect_left(arrivals_ns, edge) for edge in edges]


def _quantile(histogram: Any, share: float) -> float:
    total = sum(int(x) for x in histogram)
    seen = 0
    for bucket, count in enumerate(histogram):
        seen += int(count)
        if seen >= share * total:
            return bucket + 0.5
    return 0.0
