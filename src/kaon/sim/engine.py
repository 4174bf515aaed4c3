"""A simulated deployment: its true behaviour, its state, and what a controller observes and does.

numba is optional: with it the kernel is compiled, without it the same functions run as plain Python.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import NormalDist
from types import FunctionType, SimpleNamespace
from typing import Any

from kaon.laws.loss import latency_loss
from kaon.sim import events, kernel, memory
from kaon.sim.memory import SimulatedState
from kaon.types.objective import Objective
from kaon.types.observation import Batches, Observation

NS = 1_000_000_000
_FUNCTIONS: tuple[tuple[Any, tuple[str, ...]], ...] = (
    (events, ("scramble", "mix", "insert", "sweep", "push", "pop")),
    (
        kernel,
        ("account", "score", "hold", "enqueue", "lingers", "begin", "begin_any", "withdraw", "leave", "end", "route"),
    ),
    (kernel, ("become_ready", "fail", "start", "stop", "advance")),
)
"""What is compiled, callees first."""
_OPTIONS: dict[str, Any] = {"nogil": True, "_nrt": False}
"""Options of the compiler. The kernel allocates nothing: without reference counting (nrt) it is four times as fast. It
uses no Python objects, so it runs without the interpreter's lock."""
_EVENTS = 8
"""Entries of the heap for each replica, in addition to its lanes' batches; a living one has at most three."""
_FINE = 256
"""Buckets of the latency histogram per `latency_s`."""


@dataclass(frozen=True, slots=True)
class Truth:
    """How the simulated service and machines behave, which is hidden from scaling laws.

    A batch of n rows takes (a n^power + b) s, times a log-normal factor of `noise` (sigma), five times as long for a
    share of `stragglers`; a share of `slow` replicas takes 1.5 times as long. Starts are log-normal with median
    `start_s` and 0.95 quantile `start_p95_s`. `life_s` is the mean time to failure, exponential; None: no failures.
    With `retry` the calls of a failed replica are repeated.
    """

    a: float = 0.02
    b: float = 0.08
    power: float = 1.0
    max_batch: int = 8
    noise: float = 0.1
    stragglers: float = 0.0
    slow: float = 0.0
    start_s: float = 20.0
    start_p95_s: float = 25.0
    life_s: float | None = None
    retry: bool = True
    exponential: bool = False
    """Exponential batch times instead, for comparison with M/M/c."""
    shared_queue: bool = False
    """One queue for all replicas instead of one each, for the same comparison."""
    slots: int = 1
    """Batches, or calls, that a replica runs concurrently; each takes as long as if it were alone."""
    starts_s: tuple[float, ...] = ()
    """Observed durations of starts, instead of the log-normal ones."""
    max_wait_s: float = 0.0
    """How long an idle replica waits for a full batch; without effect on a shared queue."""
    rows_per_call: float = 1.0
    """Rows counted for a call in observations; `a` and `max_batch` are about calls nevertheless."""


def available() -> bool:
    """Whether numba is installed."""
    return importlib.util.find_spec("numba") is not None


@functools.cache
def machine(compiled: bool) -> Any:
    """The kernel's functions: as they are, or compiled (some seconds, once per process)."""
    if not compiled:
        return kernel
    import numba

    names: dict[str, Any] = vars(memory) | vars(events) | vars(kernel)
    sources = b"".join(Path(str(module.__file__)).read_bytes() for module in (memory, events, kernel))
    digest = hashlib.sha256(sources + repr(_OPTIONS).encode()).hexdigest()[:12]
    for module, functions in _FUNCTIONS:
        for name in functions:
            # The same code, in whose globals the called functions are the compiled ones. numba's cache depends on the
            # function's file and name only, so the name has the digest of everything that it uses.
            copy = FunctionType(getattr(module, name).__code__, names, name)
            copy.__qualname__ = f"{name}_{digest}"
            names[name] = numba.njit(cache=True, **_OPTIONS)(copy)
    return SimpleNamespace(**{name: names[name] for _, functions in _FUNCTIONS for name in functions})


def _table(quantile: Callable[[float], float], unit: int) -> list[int]:
    return [round(quantile((i + 0.5) / memory.TABLE) * unit) for i in range(memory.TABLE)]


def _spread(truth: Truth) -> list[int]:
    if truth.exponential:
        raw = [-math.log(1 - (i + 0.5) / memory.TABLE) for i in range(memory.TABLE)]
        return [round(x / (sum(raw) / len(raw)) * memory.PPM) for x in raw]
    normal = NormalDist()
    table = _table(lambda q: math.exp(truth.noise * normal.inv_cdf(q) - truth.noise**2 / 2), memory.PPM)
    late = round(truth.stragglers * memory.TABLE)
    # Stragglers are spread evenly over the quantiles.
    return [x * 5 if late and (i * late) % memory.TABLE < late else x for i, x in enumerate(table)]


def _starts(truth: Truth) -> list[int]:
    if truth.starts_s:
        starts_s = sorted(truth.starts_s)
        return _table(lambda q: starts_s[int(q * len(starts_s))], NS)
    sigma = math.log(truth.start_p95_s / truth.start_s) / 1.645 if truth.start_s > 0 else 0.0
    normal = NormalDist()
    return _table(lambda q: truth.start_s * math.exp(sigma * normal.inv_cdf(q)), NS)


@functools.cache
def _tables(truth: Truth) -> tuple[int, ...]:
    life_s = truth.life_s
    losses = [round(latency_loss((i + 0.5) / _FINE) * memory.PPM) for i in range(memory.BUCKETS)]
    service = [round((truth.a * n**truth.power + truth.b) * NS) if n else 0 for n in range(truth.max_batch + 1)]
    speeds = _table(lambda q: 1.5 if q > 1 - truth.slow else 1.0, memory.PPM)
    lives = [0] * memory.TABLE if life_s is None else _table(lambda q: -life_s * math.log(1 - q), NS)
    return tuple(_spread(truth) + _starts(truth) + speeds + lives + losses + service)


@dataclass(slots=True)
class SimulatedDeployment:
    """A simulated deployment at one moment. A controller uses `observe`, `scale` and `advance`."""

    world: SimulatedState
    compiled: bool
    _before: list[int] = field(default_factory=list)
    _rows_per_call: float = 1.0

    def advance(self, until_s: float) -> None:
        """Simulate until `until_s`."""
        machine(self.compiled).advance(self.world, round(until_s * NS))

    def counts(self) -> list[int]:
        """`SimulatedState.counts` as they are now."""
        counts = self.world.counts
        return counts.tolist() if self.compiled else list(counts)

    def observe(self) -> Observation:
        """What happened since the last observation."""
        now = self.counts()
        was, self._before = self._before, now

        def passed(i: int) -> int:
            return now[i] - was[i]

        ready, each = passed(memory.READY_EVENTS), self._rows_per_call
        return Observation.model_construct(
            at_s=now[memory.NOW] / NS,
            span_s=max(passed(memory.NOW), 1) / NS,
            arrivals=passed(memory.ARRIVED),
            answered=passed(memory.ANSWERED),
            missed=passed(memory.MISSED),
            in_flight=now[memory.IN_FLIGHT],
            queued=now[memory.QUEUED],
            busy_s=passed(memory.BUSY) / NS,
            batches=Batches.model_construct(
                count=passed(memory.BATCHES),
                rows=passed(memory.ROWS) * each,
                seconds=passed(memory.BUSY) / NS,
                rows_squared=passed(memory.ROWS_SQUARED) * each**2,
                rows_seconds=passed(memory.ROWS_BUSY) / NS * each,
                seconds_squared=passed(memory.BUSY_SQUARED) * (memory.TICK / NS) ** 2,
            ),
            began=passed(memory.ROWS),
            ready=now[memory.READY],
            starting=now[memory.COMING],
            cold_start_s=now[memory.START_SUM] / now[memory.STARTS] / NS if ready else None,
        )

    def scale(self, replicas: int) -> None:
        """Start or stop replicas until there are `replicas`, counting starting ones but not draining ones."""
        counts = self.world.counts
        missing = replicas - int(counts[memory.READY] + counts[memory.COMING])
        if missing > 0:
            machine(self.compiled).start(self.world, missing)
        elif missing < 0:
            machine(self.compiled).stop(self.world, -missing)

    def add_ready(self, replicas: int) -> None:
        """Add `replicas` that are ready at once, as if they had existed before the first call."""
        world = self.world
        quick = world.tables.copy() if self.compiled else list(world.tables)
        quick[memory.START_TIMES : memory.START_TIMES + memory.TABLE] = [0] * memory.TABLE
        self.world = world._replace(tables=quick)
        self.scale(int(world.counts[memory.READY] + world.counts[memory.COMING]) + replicas)
        self.advance((int(world.counts[memory.NOW]) + 1) / NS)
        self.world = world
        world.counts[memory.STARTS] = world.counts[memory.START_SUM] = 0
        self._before = self.counts()

    def change(self, truth: Truth) -> None:
        """Change the truth; batches and starts in progress end as they would have."""
        tables = _tables(truth)
        if len(tables) != len(self.world.tables):
            raise ValueError("max_batch cannot change during a run; use limit()")
        self._rows_per_call = truth.rows_per_call
        if self.compiled:
            import numpy as np

            self.world = self.world._replace(tables=np.array(tables, dtype=np.int64))
        else:
            self.world = self.world._replace(tables=tables)

    def limit(self, rows: int, slots: int | None = None, max_wait_s: float | None = None) -> None:
        """Limit the rows of later batches, the concurrent batches of a replica (at most the truth's), and how long an
        incomplete batch waits for more calls. None: unchanged."""
        counts, largest = self.world.counts, len(self.world.tables) - memory.SERVICE - 1
        counts[memory.MAX_BATCH] = min(max(rows, 1), largest)
        if slots is not None:
            counts[memory.SLOTS] = min(max(slots, 1), int(counts[memory.LANES]))
        if max_wait_s is not None:
            counts[memory.MAX_WAIT] = round(max_wait_s * NS)

    def branch(self) -> SimulatedDeployment:
        """An independent copy: a checkpoint."""
        fields = (x.copy() if hasattr(x, "copy") else x for x in self.world)
        return SimulatedDeployment(SimulatedState(*fields), self.compiled, list(self._before), self._rows_per_call)


def deployment(
    truth: Truth,
    objective: Objective,
    arrivals_ns: Sequence[int],
    *,
    seed: int = 0,
    slots: int = 512,
    window_s: float = 60.0,
    scored_from_s: float = 0.0,
    compiled: bool | None = None,
) -> SimulatedDeployment:
    """A deployment without replicas whose calls arrive at `arrivals_ns` (sorted).

    `slots` bounds how many replicas can exist at once. Calls are scored in windows of `window_s` by arrival, from
    `scored_from_s` on, a multiple of it (else ValueError). `compiled`; None: if numba is installed.
    """
    compiled = available() if compiled is None else compiled
    if not 1 <= truth.slots <= memory.MOST_LANES:
        raise ValueError(f"a replica runs 1 to {memory.MOST_LANES} batches concurrently, not {truth.slots}")
    calls = len(arrivals_ns)
    width_ns = round(window_s * NS)
    first_window = round(scored_from_s * NS) // width_ns
    if first_window * width_ns != round(scored_from_s * NS):
        raise ValueError(f"scored_from_s ({scored_from_s}) is not a multiple of window_s ({window_s})")
    windows = max(1, (int(arrivals_ns[-1]) // width_ns if calls else 0) - first_window + 1)
    counts = [0] * memory.COUNTS
    counts[memory.SEED] = seed
    counts[memory.MAX_BATCH] = truth.max_batch
    counts[memory.DEADLINE] = round(objective.patience_s * NS)
    counts[memory.SHARED] = int(truth.shared_queue)
    counts[memory.RETRY] = int(truth.retry)
    counts[memory.BUCKET] = max(1, round(objective.latency_s * NS / _FINE))
    counts[memory.WINDOW] = width_ns
    counts[memory.FIRST_WINDOW] = first_window
    counts[memory.SLOTS] = counts[memory.LANES] = truth.slots
    counts[memory.MAX_WAIT] = round(truth.max_wait_s * NS)
    counts[memory.HELD_FIRST] = counts[memory.HELD_LAST] = -1
    counts[memory.FREE] = slots
    replicas = [0] * (slots * memory.WIDTH)
    for slot in range(slots):
        at = slot * memory.WIDTH
        replicas[at + memory.FIRST] = -1
        replicas[at + memory.UNUSED] = slots - 1 - slot
    lanes = [-1, 0, 0] * (slots * truth.slots)
    heap, scores = 2 * (_EVENTS + truth.slots) * slots, memory.BUCKETS + 2 * windows
    if compiled:
        world = _compiled_world(counts, truth, arrivals_ns, (replicas, lanes), (heap, scores))
    else:
        world = SimulatedState(
            counts=counts,
            tables=_tables(truth),
            arrivals=[int(x) for x in arrivals_ns],
            following=[-1] * calls,
            replicas=replicas,
            lanes=lanes,
            heap=[0] * heap,
            scores=[0] * scores,
        )
    return SimulatedDeployment(world, compiled, list(counts), truth.rows_per_call)


def _compiled_world(
    counts: list[int],
    truth: Truth,
    arrivals_ns: Sequence[int],
    machines: tuple[list[int], list[int]],
    rooms: tuple[int, int],
) -> SimulatedState:
    """The state on arrays; `arrivals` never changes, so that many states may share it."""
    import numpy as np

    return SimulatedState(
        counts=np.array(counts, dtype=np.int64),
        tables=np.array(_tables(truth), dtype=np.int64),
        arrivals=np.asarray(arrivals_ns, dtype=np.int64),
        following=np.full(len(arrivals_ns), -1, dtype=np.int64),
        replicas=np.array(machines[0], dtype=np.int64),
        lanes=np.array(machines[1], dtype=np.int64),
        heap=np.zeros(rooms[0], dtype=np.int64),
        scores=np.zeros(rooms[1], dtype=np.int64),
    )
