"""Envoy as a process: killed, adopted, refusing files, its port taken."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from pathlib import Path

import pytest
from tests.figures import Stopwatch, at_most
from tests.waiting import turns, until

from kaon import process_locks
from kaon.clock import SystemClock
from kaon.edge import Edge, files
from kaon.edge.edge import LOG_MAX_BYTES, MAINTAIN_EVERY_S

from .world import World, route


def _kill(world: World) -> int:
    pid = process_locks.leader(world.edge.layout.lock)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    return pid


async def test_killed_under_load_it_is_back_and_only_calls_in_flight_fail(world: World) -> None:
    """QUALITY.md R2. A call that was begun after Envoy is back must succeed."""
    await world.serve(await world.replica())
    good = kills = 0
    away = False
    strays: list[int] = []
    done = asyncio.Event()

    async def client() -> None:
        nonlocal good, away
        while not done.is_set():
            before, begun_away = kills, away
            try:
                ok = (await world.client.get("/shop")).status_code == 200
            except Exception:  # whatever the client library makes of a cut connection
                ok = False
            if ok:
                good += 1
                away = away and before != kills  # what was begun after the kill is answered: it is back
            elif not begun_away and before == kills:
                strays.append(kills)
            await turns(1)

    clients = [asyncio.create_task(client()) for _ in range(4)]
    took: list[float] = []
    for _ in range(5):
        await until(lambda seen=good: good >= seen + 20, "it serves")
        watch, away, kills = Stopwatch(), True, kills + 1
        _kill(world)
        await until(lambda: not away, "it is back")  # noqa: B023
        took.append(watch.seconds)
    done.set()
    await asyncio.gather(*clients)
    assert not strays
    at_most("seconds until it is back", max(took), 1.0)


async def test_it_outlives_its_supervisor_and_a_new_one_adopts_it(world: World) -> None:
    replica, other = await world.replica("a"), await world.replica("b")
    await world.serve(replica)
    pid = process_locks.leader(world.edge.layout.lock)
    await world.leave()
    assert (await world.client.get("/shop")).status_code == 200

    world.edge = Edge(world.settings)
    world.supervise()
    assert (await world.edge.status()).running
    await world.serve(other)
    assert process_locks.leader(world.edge.layout.lock) == pid

    async def only_the_other() -> bool:
        before = len(replica.calls)
        for _ in range(5):
            assert (await world.client.get("/shop")).status_code == 200
        return len(replica.calls) == before

    await until(only_the_other)
    assert other.calls
    _kill(world)  # the new one restarts what the old one started

    async def another() -> bool:
        return process_locks.leader(world.edge.layout.lock) not in (None, pid)

    await until(another)


class Counting(SystemClock):
    """A clock that counts sleeps."""

    turns = 0

    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds)
        self.turns += seconds == MAINTAIN_EVERY_S


async def test_a_new_one_changes_nothing_before_it_is_told_what_to_do_though_a_replica_is_leaving(world: World) -> None:
    leaving = await world.leaving()
    await world.leave()

    clock = Counting()
    world.edge = Edge(world.settings, clock)
    world.supervise()

    async def tended() -> bool:
        assert (await world.client.get("/shop")).status_code == 200
        return clock.turns >= 3

    await until(tended)
    await leaving.is_let_go()
    assert (await world.client.get("/shop")).status_code == 200


async def test_equal_arguments_cost_nothing(world: World) -> None:
    replica = await world.replica()
    await world.serve(replica)
    stamps = {path: path.stat().st_mtime_ns for path in world.edge.layout.root.rglob("*.json")}
    for _ in range(3):
        await world.serve(replica)
    assert {path: path.stat().st_mtime_ns for path in world.edge.layout.root.rglob("*.json")} == stamps


@pytest.mark.parametrize("file", ["routes", "clusters", "listeners"])
async def test_a_file_that_envoy_refuses_changes_nothing_and_is_told_with_the_reason(world: World, file: str) -> None:
    await world.serve(await world.replica())
    path: Path = getattr(world.edge.layout, file)
    spoilt = path.with_name("spoilt")
    content = json.loads(path.read_text())
    content["resources"][0]["no_such_field"] = 1
    spoilt.write_text(json.dumps(content))
    spoilt.rename(path)

    async def reported() -> bool:
        return "no_such_field" in (await world.edge.status()).rejected

    # Only the edge writes here, so it does not notice a damaged file: it reports what Envoy reports.
    world.edge.configuration._versions[path] = "spoilt"
    await until(reported)
    assert (await world.client.get("/shop")).status_code == 200


async def test_a_refused_change_is_taken_back_so_that_a_restart_serves_too(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.serve(await world.replica())
    good = world.edge.layout.routes.read_text()
    from kaon.edge import resources

    make = resources.routes

    def spoilt(*args: object) -> dict[str, object]:
        document = make(*args)  # type: ignore[arg-type]
        document["version_info"] = "spoilt"
        document["resources"][0]["virtual_hosts"][0]["domains"] = []
        return document

    monkeypatch.setattr(resources, "routes", spoilt)
    await world.edge.apply((route("other"),), {})
    status = await world.edge.status()
    assert status.running
    assert "omain" in status.refused["default/other"]
    assert world.edge.layout.routes.read_text() == good
    monkeypatch.undo()
    _kill(world)

    async def serves() -> bool:
        try:
            return (await world.client.get("/shop")).status_code == 200
        except Exception:
            return False

    await until(serves)


async def test_a_taken_port_is_told_and_taken_over_once_it_is_free(world: World) -> None:
    await world.leave()
    await world.edge.stop()
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", world.settings.port))
        taken.listen()
        world.edge = Edge(world.settings)
        world.supervise()
        await world.serve(await world.replica())

        async def reported() -> bool:
            return "in use" in (await world.edge.status()).rejected

        await until(reported)

    async def serves() -> bool:
        try:
            return (await world.client.get("/shop")).status_code == 200
        except Exception:
            return False

    await until(serves)
    assert (await world.edge.status()).rejected == ""


async def test_the_admin_interface_is_a_private_socket_and_nothing_else(world: World) -> None:
    admin = world.edge.layout.admin_socket
    assert admin.stat().st_mode & 0o777 == 0o600
    assert admin.parent.stat().st_mode & 0o777 == 0o700
    pid = process_locks.leader(world.edge.layout.lock)
    inodes = {
        os.readlink(f"/proc/{pid}/fd/{fd}")[8:-1]
        for fd in os.listdir(f"/proc/{pid}/fd")
        if os.readlink(f"/proc/{pid}/fd/{fd}").startswith("socket:")
    }
    rows = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    listening = [row[1] for row in rows if row[3] == "0A" and row[9] in inodes]
    assert listening == [f"0100007F:{world.settings.port:04X}"]


async def test_its_log_is_begun_anew_when_it_is_long_and_is_read_on(world: World) -> None:
    log = world.edge.layout.log
    with log.open("ab") as file:
        file.truncate(LOG_MAX_BYTES + 1)
    files.rotate(log, LOG_MAX_BYTES)
    assert log.with_suffix(".log.1").stat().st_size > LOG_MAX_BYTES
    world.edge.layout.clusters.with_name("spoilt").write_text("{")
    world.edge.layout.clusters.with_name("spoilt").rename(world.edge.layout.clusters)

    async def reported() -> bool:
        return "clusters/edge.json" in world.edge.process.refusal() and log.stat().st_size < 2**16

    await until(reported)


async def test_idle_it_uses_little_memory(world: World) -> None:
    await world.serve(await world.replica())
    pid = process_locks.leader(world.edge.layout.lock)
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    pss_kb = next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
    assert pss_kb <= 75 * 1024
