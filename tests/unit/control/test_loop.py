"""The loop that reconcilers run in, on a clock that is moved by hand."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager

from tests.waiting import turns

from kaon.clock import FakeClock
from kaon.control.loop import RESYNC_S, Again, KeyQueue, ReconcileLoop
from kaon.control.supervisor import Supervisor
from kaon.errors import Conflict, Unavailable
from kaon.store.memory import MemoryStore
from kaon.store.port import Change
from kaon.store.snapshot import Snapshot
from kaon.types.names import DeploymentKey
from kaon.types.workspace import WorkspaceSpec

Look = Callable[[DeploymentKey], Awaitable[Again | None]]


class Recorder:
    """A reconciler of workspaces that keeps what it was asked, and does what the test says."""

    name = "recorder"

    def __init__(self, store: MemoryStore, look: Look | None = None) -> None:
        self.looks: list[str] = []
        self._store = store
        self._look = look

    async def keys(self) -> Collection[DeploymentKey]:
        return [("", w.name) for w in await self._store.list_all("workspace")]

    async def affected(self, changes: Sequence[Change]) -> Collection[DeploymentKey]:
        return [("", change.name) for change in changes]

    async def reconcile(self, key: DeploymentKey) -> Again | None:
        self.looks.append(key[1])
        return await self._look(key) if self._look else None


@asynccontextmanager
async def running(recorder: Recorder, store: MemoryStore, clock: FakeClock) -> AsyncIterator[None]:
    snapshot = Snapshot(store)
    loop = ReconcileLoop(recorder, snapshot, clock, supervisor=Supervisor(clock, jitter=lambda: 0.0))
    tasks = [asyncio.create_task(snapshot.run()), asyncio.create_task(loop.run())]
    await turns()
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def make(store: MemoryStore, name: str) -> None:
    await store.create("workspace", "", name, WorkspaceSpec())


async def test_what_is_there_is_looked_at_first_and_then_what_changes() -> None:
    store, clock = MemoryStore(), FakeClock()
    await make(store, "old")
    recorder = Recorder(store)
    async with running(recorder, store, clock):
        assert recorder.looks == ["old"]
        await make(store, "new")
        await turns()
        assert recorder.looks == ["old", "new"]


async def test_everything_is_looked_at_again_now_and_then() -> None:
    store, clock = MemoryStore(), FakeClock()
    await make(store, "a")
    recorder = Recorder(store)
    async with running(recorder, store, clock):
        await clock.advance(RESYNC_S)
        await turns()
        assert recorder.looks == ["a", "a"]


async def test_a_key_that_fails_waits_longer_each_time_and_holds_up_no_other() -> None:
    store, clock = MemoryStore(), FakeClock()
    failed_at: list[float] = []

    async def look(key: DeploymentKey) -> Again | None:
        if key[1] == "bad":
            failed_at.append(clock.monotonic())
            raise RuntimeError("a bug") if len(failed_at) % 2 else Unavailable("away")
        return None

    recorder = Recorder(store, look)
    async with running(recorder, store, clock):
        await make(store, "bad")
        await turns()
        for _ in range(200):
            await clock.advance(0.1)
            await turns()
        waits = [round(b - a, 1) for a, b in itertools.pairwise(failed_at)]
        assert waits[:6] == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4]
        await make(store, "good")
        await turns()
        assert recorder.looks[-1] == "good"


async def test_a_conflict_is_looked_at_again_at_once() -> None:
    store, clock = MemoryStore(), FakeClock()
    outcomes = [Conflict("somebody was quicker"), Conflict("and again"), None]

    async def look(_: DeploymentKey) -> Again | None:
        if outcome := outcomes.pop(0):
            raise outcome
        return None

    recorder = Recorder(store, look)
    async with running(recorder, store, clock):
        await make(store, "a")
        await turns()
        assert recorder.looks == ["a"] * 3


async def test_a_key_that_wants_another_look_gets_it_in_time() -> None:
    store, clock = MemoryStore(), FakeClock()

    async def look(_: DeploymentKey) -> Again | None:
        return Again(5.0) if len(recorder.looks) == 1 else None

    recorder = Recorder(store, look)
    async with running(recorder, store, clock):
        await make(store, "a")
        await turns()
        await clock.advance(4.9)
        await turns()
        assert len(recorder.looks) == 1
        await clock.advance(0.2)
        await turns()
        assert len(recorder.looks) == 2


async def test_a_store_that_is_away_at_the_start_is_awaited() -> None:
    class Away(MemoryStore):
        away = True

        async def changes(self, after: int) -> list[Change]:
            if self.away:
                raise Unavailable("away")
            return await super().changes(after)

    store, clock = Away(), FakeClock()
    await make(store, "a")
    recorder = Recorder(store)
    async with running(recorder, store, clock):
        assert recorder.looks == []
        store.away = False
        await clock.advance(0.2)
        await turns()
        assert recorder.looks == ["a"]


async def test_a_key_is_never_looked_at_twice_at_once() -> None:
    store, clock = MemoryStore(), FakeClock()
    open_door = asyncio.Event()

    async def look(_: DeploymentKey) -> Again | None:
        await open_door.wait()
        return None

    recorder = Recorder(store, look)
    async with running(recorder, store, clock):
        await make(store, "a")
        await turns()
        found = await store.get("workspace", "", "a")
        for text in ("one", "two", "three"):
            found = await store.update_spec(found, WorkspaceSpec(description=text))
            await turns()
        assert recorder.looks == ["a"]
        open_door.set()
        await turns()
        assert recorder.looks == ["a", "a"]


async def test_a_queue_holds_a_key_once() -> None:
    queue = KeyQueue()
    for key in (("", "a"), ("", "b"), ("", "a")):
        queue.add(key)
    assert [await queue.take(), await queue.take()] == [("", "a"), ("", "b")]
    queue.add(("", "a"))
    queue.done(("", "a"))
    assert await queue.take() == ("", "a")
