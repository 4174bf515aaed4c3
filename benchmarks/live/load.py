"""The load: calls that come when they come (open loop), whatever becomes of those before them.

A call's time counts from the moment at which it should have left, so that neither a slow server nor a slow generator
hides what a caller would have felt (no coordinated omission). A caller hangs up at its deadline. What the generator
itself was late by, how many calls had to wait for a connection and what share of a core it took are told beside the
figures, and `honest` says whether they may be believed.

`python -m benchmarks.live.load ORDER.json`: a process of its own; see `Order`.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvloop

from benchmarks.live.connections import BROKEN, Connection, Pool, Target

NS = 1_000_000_000
MOST_CONNECTIONS = 1024
LATE_P99_S = 0.01
MOST_CPU_SHARE = 0.8
OUTCOMES = ("ok", "late", "shed", "failed", "broken")
"""In time; not by the deadline; refused (429, 503); another status than 2xx; no answer at all."""
_PENDING = 255


@dataclass(frozen=True)
class Order:
    """The orders of the process: `arrivals` is a file of native 64-bit integers, nanoseconds from the start."""

    targets: tuple[Target, ...]
    arrivals: str
    deadline_s: float
    start_at: float
    """Epoch seconds."""
    scored_from_s: float
    """Calls that come sooner count as warm-up."""
    result: str
    each: str = ""
    """A folder for every call's latency, and another file for what became of it, by target; empty: they are dropped."""


@dataclass
class Tally:
    """What became of the calls to one target: by number, nanoseconds."""

    calls: int
    latency: array[int] = field(init=False)
    lateness: array[int] = field(init=False)
    """From when a call should have left to when it did; the time for which it waited for a connection included."""
    outcome: bytearray = field(init=False)

    def __post_init__(self) -> None:
        self.latency = array("q", bytes(8 * self.calls))
        self.lateness = array("q", bytes(8 * self.calls))
        self.outcome = bytearray([_PENDING]) * self.calls


class Call:
    """One call on its way."""

    __slots__ = ("_connection", "_intended_s", "_load", "_number", "_timer")

    def __init__(self, load: Load, number: int, intended_s: float, deadline_s: float) -> None:
        self._load, self._number, self._intended_s = load, number, intended_s
        self._connection: Connection | None = None
        self._timer = load.loop.call_at(intended_s + deadline_s, self._given_up)
        load.pool.call(self, self._carried)

    def _carried(self, connection: Connection) -> None:
        self._connection = connection

    def sent(self) -> None:
        late_s = self._load.loop.time() - self._intended_s
        self._load.tally.lateness[self._number] = max(0, round(late_s * NS))

    def answered(self, status: int) -> None:
        self._timer.cancel()
        self._end(_outcome(status))

    def _given_up(self) -> None:
        if self._connection is None:
            self._load.pool.withdraw(self)
            self.sent()
        else:
            self._connection.abort()
        self._end(OUTCOMES.index("late"))

    def _end(self, outcome: int) -> None:
        self._load.tally.latency[self._number] = round((self._load.loop.time() - self._intended_s) * NS)
        self._load.tally.outcome[self._number] = outcome
        self._load.one_less()


def _outcome(status: int) -> int:
    if status == BROKEN:
        return OUTCOMES.index("broken")
    if status in (429, 503):
        return OUTCOMES.index("shed")
    return OUTCOMES.index("ok" if 200 <= status < 300 else "failed")


class Load:
    """The calls to one target."""

    def __init__(self, target: Target, calls: int) -> None:
        self.loop = asyncio.get_running_loop()
        self.target = target
        self.pool = Pool(target, MOST_CONNECTIONS)
        self.tally = Tally(calls)
        self.over = asyncio.Event()
        self._open = calls

    def one_less(self) -> None:
        """Record the outcome of one more call."""
        self._open -= 1
        if not self._open:
            self.over.set()


async def play(
    targets: Sequence[Target],
    arrivals_ns: Sequence[int],
    deadline_s: float,
    start_at: float | None = None,
    scored_from_s: float = 0.0,
    each: str = "",
) -> dict[str, Any]:
    """Send every call to every target; what became of them, as JSON (see `summary`). `start_at`: epoch seconds.

    Into the folder `each`, unless empty, goes each call's latency, native 64-bit integers, nanoseconds, as
    NAME.latency, and its place in `OUTCOMES`, a byte, as NAME.outcome.
    """
    loop = asyncio.get_running_loop()
    loads = [Load(target, len(arrivals_ns)) for target in targets]
    wait_s = 0.05 if start_at is None else max(0.0, start_at - time.time())
    begin_s, number = loop.time() + wait_s, 0
    await asyncio.sleep(wait_s)
    cpu_before_s, began_s = time.process_time(), loop.time()
    while number < len(arrivals_ns):
        now_ns = round((loop.time() - begin_s) * NS)
        while number < len(arrivals_ns) and arrivals_ns[number] <= now_ns:
            for load in loads:
                Call(load, number, begin_s + arrivals_ns[number] / NS, deadline_s)
            number += 1
        if number < len(arrivals_ns):
            await asyncio.sleep(begin_s + arrivals_ns[number] / NS - loop.time())
    for load in loads if number else ():
        await load.over.wait()  # not longer than to the last one's deadline
    cpu_share = (time.process_time() - cpu_before_s) / (loop.time() - began_s)
    for load in loads:
        await load.pool.close()
        if each:
            Path(each, f"{load.target.name}.latency").write_bytes(load.tally.latency.tobytes())
            Path(each, f"{load.target.name}.outcome").write_bytes(bytes(load.tally.outcome))
    return {load.target.name: summary(load, arrivals_ns, cpu_share, scored_from_s) for load in loads}


def summary(load: Load, arrivals_ns: Sequence[int], cpu_share: float, scored_from_s: float) -> dict[str, Any]:
    """All figures of one target: of the whole, of the scored part, and second by second of arrival. Seconds."""
    tally = load.tally
    lateness = sorted(tally.lateness)
    late_p99_s = _quantile(lateness, 0.99)
    first = bisect_left(arrivals_ns, round(scored_from_s * NS))
    told: dict[str, Any] = {
        **_figures(tally, range(tally.calls)),
        "scored": _figures(tally, range(first, tally.calls)),
        "lateness_p50_s": _quantile(lateness, 0.5),
        "lateness_p99_s": late_p99_s,
        "lateness_max_s": lateness[-1] / NS if lateness else 0.0,
        "waited_for_a_connection": load.pool.waited,
        "connections": load.pool.opened,
        "cpu_share": round(cpu_share, 3),
        "honest": late_p99_s <= LATE_P99_S and cpu_share <= MOST_CPU_SHARE and not load.pool.waited,
    }
    seconds: list[list[int]] = [[] for _ in range(int(arrivals_ns[-1] // NS) + 1 if len(arrivals_ns) else 0)]
    for number, at_ns in enumerate(arrivals_ns):
        seconds[at_ns // NS].append(number)
    told["per_second"] = [_figures(tally, numbers) for numbers in seconds]
    return told


def _figures(tally: Tally, numbers: Sequence[int]) -> dict[str, Any]:
    """Outcomes of these calls, and quantiles over those answered or given up; what was refused or broke has none."""
    seen = Counter(tally.outcome[n] for n in numbers)
    counts = {name: seen[number] for number, name in enumerate(OUTCOMES)} | {"pending": seen[_PENDING]}
    timed = sorted(tally.latency[n] for n in numbers if tally.outcome[n] in (0, 1))
    return {"calls": len(numbers), **counts, **{f"p{round(100 * q)}_s": _quantile(timed, q) for q in (0.5, 0.9, 0.99)}}


def _quantile(ordered_ns: Sequence[int], q: float) -> float:
    if not ordered_ns:
        return 0.0
    return round(ordered_ns[min(int(q * len(ordered_ns)), len(ordered_ns) - 1)] / NS, 6)


def write(path: Path, arrivals_ns: Sequence[int]) -> None:
    """A file of arrivals."""
    path.write_bytes(array("q", (int(x) for x in arrivals_ns)).tobytes())


def read(path: Path) -> array[int]:
    """What `write` wrote."""
    arrivals = array("q")
    arrivals.frombytes(path.read_bytes())
    return arrivals


def main() -> None:
    said = json.loads(Path(sys.argv[1]).read_text())
    targets = tuple(Target(t["name"], t["url"], t["body"], tuple(map(tuple, t["headers"]))) for t in said["targets"])
    order = Order(**(said | {"targets": targets}))
    arrivals = read(Path(order.arrivals))
    gc.freeze()
    gc.disable()
    told = uvloop.run(play(order.targets, arrivals, order.deadline_s, order.start_at, order.scored_from_s, order.each))
    Path(order.result).write_text(json.dumps(told))


if __name__ == "__main__":
    main()
