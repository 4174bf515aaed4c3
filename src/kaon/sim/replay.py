"""Replays a trace with a deployment's scaling law on the simulator, and sums the result up in a few figures."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kaon.laws import choice
from kaon.sim import trace
from kaon.sim.engine import Truth, available
from kaon.sim.run import SimulationOutcome, SimulationSetting, run
from kaon.sim.trace import Trace
from kaon.types.deployment import Scaling
from kaon.types.objective import Objective

MOST_CALLS = {True: 20_000_000, False: 3_000_000}
"""Calls that can be replayed in a few minutes, compiled and plain."""
TICK_S = 2.0
_WINDOW_S = 60.0
_WORST_WINDOWS = 5
_LEARNING_S, _STARTS = 60.0, 3.0
"""The least lead-in of a replay: a time, plus so many durations of a start."""


@dataclass(frozen=True, slots=True)
class ReplayedService:
    """The speed of a replica: a batch of n calls, at most `max_batch`, takes n `row_s` + `call_s`; a start
    `start_s`."""

    row_s: float
    call_s: float
    max_batch: int
    start_s: float

    @property
    def serves_rps(self) -> float:
        """Calls per second that a replica serves in full batches."""
        return self.max_batch / (self.max_batch * self.row_s + self.call_s)


@dataclass(frozen=True, slots=True)
class ReplayOptions:
    """How a deployment's spec wants it scaled."""

    scaling: Scaling
    objective: Objective


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """The result of a replay. `load` and `replicas` are series of equal steps of `TICK_S`."""

    calls: int
    span_s: float
    attainment: float
    p50_s: float
    p90_s: float
    p99_s: float
    worst_5min: float
    replica_seconds: float
    most_replicas: int
    load: tuple[float, ...]
    replicas: tuple[int, ...]


def replay(
    options: ReplayOptions,
    service: ReplayedService,
    traffic: Trace,
    *,
    seed: int = 0,
    compiled: bool | None = None,
    on_progress: Callable[[float], None] = lambda share: None,
) -> ReplayResult:
    """Replay `traffic` with the scaling law of `options`.

    Its first minute is repeated before it, for as long as some starts take, and not counted, so that the law and its
    replicas have settled when it begins. Pure but for `on_progress`, which is called with the share that is done. The
    same arguments give the same result.
    """
    compiled = available() if compiled is None else compiled
    times, lead_s = _led(trace.calls(traffic, seed), traffic, service)
    law = choice.law(options.scaling, options.objective, service.max_batch, start_s=service.start_s)
    bounds = choice.bounds(options.scaling)
    first_rps = bisect_left(times, round(_WINDOW_S * trace.NS)) / _WINDOW_S
    setting = SimulationSetting(
        truth=_truth(service),
        objective=options.objective,
        bounds=bounds,
        first_replicas=bounds.clip(math.ceil(1.2 * first_rps / service.serves_rps), 0.0),
        tick_s=TICK_S,
        scored_from_s=lead_s,
        window_s=_WINDOW_S,
        slots=max(64, 2 * bounds.clip(bounds.max, 0.0)),
        compiled=compiled,
    )
    outcome = run(
        law, setting, times, seed, lambda now, *_: on_progress(min(1.0, now.at_s / (lead_s + traffic.span_s)))
    )
    return _answer(outcome, times[bisect_left(times, round(lead_s * trace.NS)) :], lead_s, traffic)


def _led(times: list[int], traffic: Trace, service: ReplayedService) -> tuple[list[int], float]:
    """`times` after enough repetitions of its first minute, and how long these are, seconds."""
    minute = round(min(_WINDOW_S, traffic.span_s) * trace.NS)
    first = times[: bisect_left(times, minute)]
    lead = round(_WINDOW_S * math.ceil((_LEARNING_S + _STARTS * service.start_s) / _WINDOW_S)) * trace.NS
    repeated = [at + begin for begin in range(0, lead, minute) for at in first if at + begin < lead]
    return [*repeated, *(at + lead for at in times)], lead / trace.NS


def _truth(service: ReplayedService) -> Truth:
    return Truth(
        a=service.row_s,
        b=service.call_s,
        max_batch=service.max_batch,
        start_s=service.start_s,
        start_p95_s=1.25 * service.start_s,
    )


def _answer(outcome: SimulationOutcome, times: Sequence[int], lead_s: float, traffic: Trace) -> ReplayResult:
    replicas = outcome.replicas[round(lead_s / TICK_S) :]
    load = [0] * len(replicas)
    for at in times:
        load[min(int((at / trace.NS - lead_s) / TICK_S), len(load) - 1)] += 1
    return ReplayResult(
        calls=len(times),
        span_s=traffic.span_s,
        attainment=outcome.attainment,
        p50_s=outcome.latency_p50_s,
        p90_s=outcome.latency_p90_s,
        p99_s=outcome.latency_p99_s,
        worst_5min=outcome.worst(_WORST_WINDOWS),
        replica_seconds=outcome.replica_seconds,
        most_replicas=max(replicas, default=0),
        load=tuple(calls / TICK_S for calls in load),
        replicas=replicas,
    )
