"""Hours of a tuner's life in minutes: a control plane of whose seconds several pass in one of the clock.

The tuner has times in seconds: looks every 10 s, windows of a minute, blocks of five, an epoch every five minutes, half
an hour of traffic before the first. To play hours of that within minutes none of these is touched. Instead its part of
the control plane is given a clock of its own seconds, of which `times` pass in one of the machine's, and all traffic
is told it in these: when it came, what it took, how long starts and batches were. To the tuner, the scaling law and
the twin alike it is a service `times` as slow with a `times`th of the calls per second, for hours; and the
machine plays exactly that service. Everything but the control plane's tuner, scaling and memory of traffic (replicas,
edge, agent, rollouts) lives in the machine's own time.
"""

from __future__ import annotations

import asyncio
import functools
import json
import math
import time
from dataclasses import dataclass, field
from pathlib import Path

from kaon.store.traffic import TrafficRing
from kaon.types.objective import Objective
from kaon.types.observation import Batches
from kaon.types.traffic import LATENCY_BOUNDS_S, ColdStart, LatencyCounts, Sample, Side, Traffic


@dataclass(frozen=True)
class Pace:
    """`times` seconds pass here in one of the machine's, from `since` (epoch seconds) on."""

    times: float
    since: float = field(default_factory=time.time)

    def here(self, at_s: float) -> float:
        """A moment of the machine's time, as it is called here; both epoch seconds."""
        return self.since + (at_s - self.since) * self.times


@dataclass(frozen=True)
class QuickClock:
    """`kaon.clock.Clock` at a pace."""

    pace: Pace

    def now(self) -> float:
        return self.pace.here(time.time())

    def monotonic(self) -> float:
        return time.monotonic() * self.pace.times

    async def sleep(self, delay_s: float) -> None:
        await asyncio.sleep(delay_s / self.pace.times)


class QuickRing(TrafficRing):
    """A ring that holds what agents send in seconds of a pace. What came is also noted, as it came, in a file."""

    def __init__(self, pace: Pace, notes: Path) -> None:
        super().__init__()
        self._pace = pace
        self._notes = notes
        self._taken: dict[str, tuple[float, float]] = {}

    def add(self, traffic: Traffic, now_s: float | None = None) -> float:
        pace = self._pace
        self._note(traffic)
        told = Traffic(
            cloud=traffic.cloud,
            after_s=pace.here(traffic.after_s) if traffic.after_s else 0.0,
            samples=tuple(sample(one, pace) for one in traffic.samples),
        )
        until = super().add(told, None if now_s is None else pace.here(now_s))
        for one in traffic.samples:
            if pace.here(one.at_s) == until:
                self._taken[traffic.cloud] = until, one.at_s
        at, real = self._taken.get(traffic.cloud, (0.0, 0.0))
        return real if at == until else 0.0

    def _note(self, traffic: Traffic) -> None:
        rows = []
        for one in traffic.samples:
            row = {"deployment": one.deployment, "at_s": one.at_s, "span_s": one.span_s, "busy_s": one.busy_s}
            rows.append(json.dumps(row | {"ready": one.ready, "starting": one.starting}) + "\n")
        with self._notes.open("a") as out:
            out.write("".join(rows))


def sample(told: Sample, pace: Pace) -> Sample:
    """The same counts in seconds of a pace."""
    times = pace.times
    return told.model_copy(
        update={
            "at_s": pace.here(told.at_s),
            "span_s": told.span_s * times,
            "latency": None if told.latency is None else histogram(told.latency, times),
            "queue_s": None if told.queue_s is None else told.queue_s * times,
            "busy_s": None if told.busy_s is None else told.busy_s * times,
            "batches": batches(told.batches, times),
            "starts": tuple(_start(one, times) for one in told.starts),
            "sides": tuple(_side(one, times) for one in told.sides),
        }
    )


def batches(told: Batches, times: float) -> Batches:
    """Batches that took `times` as long."""
    return told.model_copy(
        update={
            "seconds": told.seconds * times,
            "rows_seconds": told.rows_seconds * times,
            "seconds_squared": told.seconds_squared * times**2,
        }
    )


def histogram(told: LatencyCounts, times: float) -> LatencyCounts:
    """Latencies `times` as long. A bucket is a quarter of a doubling, so for powers of its root none is split."""
    moved: LatencyCounts = {}
    for bucket, count in told.items():
        place = _moved(times)[bucket]
        moved[place] = moved.get(place, 0) + count
    return moved


@functools.cache
def _moved(times: float) -> tuple[int, ...]:
    """For each bucket the one whose upper bound is nearest to `times` its own."""
    last = len(LATENCY_BOUNDS_S)
    logs = [math.log(bound) for bound in LATENCY_BOUNDS_S]
    wanted = [log + math.log(times) for log in logs]
    nearest = [min(range(last), key=lambda i: abs(logs[i] - x)) for x in wanted]
    return (*(last if x > logs[-1] + 0.1 else i for i, x in zip(nearest, wanted, strict=True)), last)


def objective(told: Objective, times: float) -> Objective:
    """The same objective in seconds of a pace."""
    return told.model_copy(update={"latency_s": told.latency_s * times, "deadline_s": told.patience_s * times})


def _start(told: ColdStart, times: float) -> ColdStart:
    parts = {name: getattr(told, name) * times for name in ("install_s", "start_s", "load_s")}
    return told.model_copy(update=parts)


def _side(told: Side, times: float) -> Side:
    return told.model_copy(
        update={
            "latency": histogram(told.latency, times),
            "busy_s": told.busy_s * times,
            "ready_s": told.ready_s * times,
            "batches": batches(told.batches, times),
        }
    )
