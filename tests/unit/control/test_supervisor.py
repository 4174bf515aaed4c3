"""No error of one controller, of one key or of one row ends the others' work."""

from __future__ import annotations

import asyncio
import io
import itertools
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager

import pytest
import structlog
from tests.waiting import turns

from kaon import log
from kaon.clock import FakeClock
from kaon.control import Controllers
from kaon.control.loop import RESYNC_S, Again, ReconcileLoop
from kaon.control.supervisor import RETRY, Supervisor
from kaon.errors import Conflict, KaonError, NotFound, Unavailable, UnreadableRow
from kaon.store.failures import Failures
from kaon.store.memory import MemoryStore
from kaon.store.port import Change
from kaon.store.snapshot import Snapshot
from kaon.store.vault import Vault
from kaon.types.names import DeploymentKey
from kaon.types.workspace import WorkspaceSpec

ERRORS = [
    *(ValueError("bad"), KeyError("key"), RecursionError(), ZeroDivisionError(), AssertionError(), MemoryError()),
    *(Conflict("met"), NotFound("gone"), Unavailable("away"), UnreadableRow("odd"), KaonError(), OSError(28, "full")),
    *(TimeoutError(), StopAsyncIteration(), ExceptionGroup("several", [ValueError("one")])),
]
PLACES = ["reconcile", "keys", "affected"]


@pytest.fixture(autouse=True)
def lines() -> io.StringIO:
    """What is logged, one JSON object a line, as the server does."""
    written = io.StringIO()
    log.configure(stream=written)
    structlog.configure(cache_logger_on_first_use=False)
    return written


class Poisoned:
    """A reconciler of workspaces that raises `error` in `place` for everything that has to do with `bad`."""

    name = "poisoned"

    def __init__(self, snapshot: Snapshot, place: str, error: Exception) -> None:
        self.looks: list[str] = []
        self.asked = 0
        self._snapshot = snapshot
        self._place, self._error = place, error

    async def keys(self) -> Collection[DeploymentKey]:
        self.asked += 1
        self._raise("keys", here=True)
        return [("", w.name) for w in self._snapshot.list("workspace")]

    async def affected(self, changes: Sequence[Change]) -> Collection[DeploymentKey]:
        self._raise("affected", here=any(change.name == "bad" for change in changes))
        return [("", change.name) for change in changes]

    async def reconcile(self, key: DeploymentKey) -> Again | None:
        self._raise("reconcile", here=key[1] == "bad")
        self.looks.append(key[1])
        return None

    def _raise(self, place: str, *, here: bool) -> None:
        if here and place == self._place:
            raise self._error


@asynccontextmanager
async def running(
    reconciler: Poisoned, snapshot: Snapshot, supervisor: Supervisor, clock: FakeClock
) -> AsyncIterator[None]:
    loop = ReconcileLoop(reconciler, snapshot, clock, supervisor=supervisor)
    tasks = [asyncio.create_task(loop.run()), asyncio.create_task(snapshot.run())]
    await turns()
    try:
        yield
        assert not any(task.done() for task in tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize("error", ERRORS, ids=repr)
@pytest.mark.parametrize("place", PLACES)
async def test_what_one_key_raises_delays_no_other(place: str, error: Exception) -> None:
    store, clock = MemoryStore(), FakeClock()
    snapshot, supervisor = Snapshot(store), Supervisor(clock, jitter=lambda: 0.0)
    reconciler = Poisoned(snapshot, place, error)
    async with running(reconciler, snapshot, supervisor, clock):
        for name in ("good", "bad", "well"):
            await store.create("workspace", "", name, WorkspaceSpec())
        await turns()
        assert {"good", "well"} <= set(reconciler.looks)
        await store.create("workspace", "", "late", WorkspaceSpec())
        await turns()
        assert "late" in reconciler.looks
        assert supervisor.failures.total["poisoned"] >= 1
        asked = reconciler.asked
        await clock.advance(RESYNC_S + RETRY.cap_s)
        await turns()
        assert reconciler.asked > asked
    failing = place == "reconcile" and not isinstance(error, Unavailable)
    assert bool(supervisor.failures.of(("", "bad"))) is failing
    assert supervisor.failures.of(("", "good")) == ()


async def test_a_loop_that_fails_waits_longer_each_time_and_goes_on() -> None:
    clock, began = FakeClock(), []
    supervisor = Supervisor(clock, jitter=lambda: 0.0)

    async def work() -> None:
        began.append(clock.monotonic())
        if len(began) < 12:
            raise ValueError("not yet")
        await asyncio.Event().wait()

    running = asyncio.create_task(supervisor.keep("odd", work))
    for _ in range(40):
        await clock.advance(RETRY.cap_s / 4)
        await turns()
    running.cancel()
    waits = [after - before for before, after in itertools.pairwise(began)]
    assert len(began) == 12
    assert waits == sorted(waits)
    assert max(waits) <= RETRY.cap_s * 1.25 + 0.1
    assert supervisor.failures.total["odd"] == 11


async def test_a_failure_is_kept_until_the_key_is_reconciled_again() -> None:
    failures, changed = Failures(), []
    failures.changed = changed.append
    key = ("default", "web")
    failures.note("scaling", key, ValueError("a secret may be in here"))
    failures.note("scaling", key, ValueError("a secret may be in here"))
    failures.note("tuning", key, UnreadableRow("The artifact is odd.", hint="Delete it."))
    assert changed == [key, key]
    assert [f.condition for f in failures.of(key)] == ["ReconcileFailed", "Unreadable"]
    assert failures.of(key)[0].reason == "scaling: ValueError; see server/server.log."
    assert failures.of(key, besides="scaling")[0].reason == "The artifact is odd. Delete it."
    assert failures.failing() == {"scaling": 1, "tuning": 1}
    failures.settle("scaling", key)
    failures.settle("tuning", key)
    failures.settle("tuning", key)
    assert failures.of(key) == ()
    assert len(changed) == 4
    assert failures.total == {"scaling": 2, "tuning": 1}


@pytest.mark.parametrize("ticker", ["scaling", "tuning", "advising", "minutes"])
async def test_a_ticker_that_raises_is_called_again_and_ends_nothing(
    ticker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, clock = MemoryStore(), FakeClock()
    await store.create("workspace", "", "default", WorkspaceSpec())
    controllers = Controllers(store, Vault(b"k" * 32), clock)
    asked = 0

    async def tick() -> None:
        nonlocal asked
        asked += 1
        raise RuntimeError("a bug")

    monkeypatch.setattr(getattr(controllers, ticker), "tick", tick)
    task = asyncio.create_task(controllers.run())
    for _ in range(20):
        await turns()
        await clock.advance(RETRY.cap_s)
    await turns()
    assert not task.done()
    assert asked >= 3
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
