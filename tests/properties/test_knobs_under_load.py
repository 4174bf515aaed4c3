"""Whatever knobs change while calls come, go and run: none is lost, none is answered twice, no limit is broken."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.waiting import turns, until

import kaon
from kaon.errors import TooManyRequests
from kaon.runtime.call import Call
from kaon.runtime.lane import Lane
from kaon.runtime.serving import lane_of
from kaon.runtime.steps import Stepper
from kaon.sdk.service import service_of
from kaon.types.key import Grant, Priority
from kaon.types.knobs import Knobs

MOST_ROWS, MOST_BATCHES, MOST_CALLS = 8, 3, 4


@kaon.service
class Slow:
    """Calls last until the test ends them."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.open: list[asyncio.Future[None]] = []

    async def _last(self, rows: int) -> None:
        self.begun.append(rows)
        self.open.append(asyncio.get_running_loop().create_future())
        await self.open[-1]

    @kaon.endpoint(batch=kaon.Batch(max_size=MOST_ROWS, max_wait_s=0.001), concurrency=MOST_BATCHES, timeout_s=None)
    async def batched(self, numbers: list[int]) -> list[int]:
        await self._last(len(numbers))
        return [2 * n for n in numbers]

    @kaon.endpoint(concurrency=MOST_CALLS, timeout_s=None)
    async def single(self, numbers: list[int]) -> list[int]:
        await self._last(1)
        return [2 * n for n in numbers]


@dataclass
class World:
    """A lane, its calls, and how often each has ended."""

    lane: Lane
    service: Slow
    calls: list[Call] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    work_s: float = 0.0
    looked_at: float = field(default_factory=time.monotonic)
    next_number: int = 0

    def call(self, rows: int, key: int) -> None:
        grant = Grant(hash=f"{key}" * 64, key=f"k{key}", priority=list(Priority)[key % 3])
        call = Call(self.lane, grant, "", None)
        call.arguments = {"numbers": list(range(self.next_number, self.next_number + rows))}
        self.next_number += rows
        index = len(self.calls)
        self.calls.append(call)
        self.ends.append(0)
        call.on_end = lambda _: self.ends.__setitem__(index, self.ends[index] + 1)
        try:
            self.lane.enter(call)
        except TooManyRequests as refused:  # it never came in
            self.ends[index] += 1
            call.ended, call.error = True, refused

    def finish(self, which: int) -> None:
        lasting = [gate for gate in self.service.open if not gate.done()]
        if lasting:
            lasting[which % len(lasting)].set_result(None)

    def cancel(self, which: int) -> None:
        if self.calls:
            self.calls[which % len(self.calls)].cancel()

    def look(self) -> None:
        """What must always hold."""
        lane, now = self.lane, time.monotonic()
        work_s = lane.work_s(now)
        assert lane.busy >= 0
        assert lane.queued >= 0
        assert lane.in_flight >= lane.queued
        assert max(self.ends, default=0) <= 1
        assert -1e-6 <= work_s - self.work_s <= now - self.looked_at + 1e-6
        share = lane.work_s(now + 1) - work_s  # if all stayed as it is for a second
        assert abs(share - min(1.0, lane.busy / lane.slots)) < 1e-6
        self.work_s, self.looked_at = work_s, now


KNOBS = st.builds(
    Knobs,
    max_batch=st.none() | st.integers(1, 2 * MOST_ROWS),
    concurrency=st.none() | st.integers(1, MOST_CALLS),
    max_wait_s=st.none() | st.sampled_from([0.0, 0.0005, 1.0]),
)
CALL = st.tuples(st.just("call"), st.integers(0, 3 * MOST_ROWS), st.integers(0, 3))
FINISH = st.tuples(st.just("finish"), st.integers(0, 5))
ACTION = st.one_of(
    CALL, CALL, FINISH, FINISH, st.tuples(st.just("tune"), KNOBS), st.tuples(st.just("cancel"), st.integers(0, 20))
)
BUSY = [("call", MOST_ROWS, 0)] * MOST_CALLS
"""Every slot is taken."""


async def played(endpoint: str, actions: list[tuple[object, ...]]) -> None:
    loop, service, instance = asyncio.get_running_loop(), service_of(Slow), Slow()
    stepper = Stepper(loop)
    chosen = next(one for one in service.endpoints if one.spec.name == endpoint)
    world = World(lane_of(chosen, instance, loop, stepper), instance)
    most_rows, most_slots = (MOST_ROWS, MOST_BATCHES) if endpoint == "batched" else (1, MOST_CALLS)
    limits = (most_rows, most_slots)
    for action in actions:
        begun, free = len(instance.begun), max(0, limits[1] - world.lane.busy)
        match action:
            case ("call", int(rows), int(key)):
                world.call(rows, key)
            case ("tune", Knobs() as knobs):
                limits = (
                    min(most_rows, knobs.max_batch or most_rows),
                    min(most_slots, knobs.concurrency or most_slots),
                )
                free = max(0, limits[1] - world.lane.busy)
                world.lane.tune(knobs)
            case ("finish", int(which)):
                world.finish(which)
                free += 1
            case ("cancel", int(which)):  # a batch without waiting callers is stopped
                world.cancel(which)
                free += 1
        for _ in range(4):
            await turns(1)
            world.look()
        new = instance.begun[begun:]
        assert all(rows <= limits[0] for rows in new), "no batch is larger than may be when it leaves"
        assert len(new) <= free, "nothing begins while more is busy than may be"
        assert world.lane.slots == limits[1]
    world.lane.tune(Knobs())

    def done() -> bool:
        world.finish(0)
        return not (world.lane.in_flight or world.lane.busy)

    await until(done)
    world.look()
    assert (world.lane.busy, world.lane.in_flight, world.lane.queued) == (0, 0, 0)
    assert world.ends == [1] * len(world.calls), "every call has ended, and once"
    for call in world.calls:
        if call.error is None:
            assert list(call.value) == [2 * n for n in call.arguments["numbers"]]
    world.lane.close()
    stepper.close()


@settings(max_examples=150, deadline=None)
@given(st.lists(ACTION, max_size=40))
@example([*BUSY, ("tune", Knobs(concurrency=1)), ("finish", 0), ("finish", 0)])
def test_batches_under_changing_knobs(actions: list[tuple[object, ...]]) -> None:
    asyncio.run(played("batched", actions))


@settings(max_examples=100, deadline=None)
@given(st.lists(ACTION, max_size=40))
@example([*BUSY, ("tune", Knobs(concurrency=1)), ("finish", 0), ("finish", 0)])
def test_single_calls_under_changing_knobs(actions: list[tuple[object, ...]]) -> None:
    asyncio.run(played("single", actions))
