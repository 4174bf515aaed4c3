"""The agent on real processes: it makes the world match its plan, whatever dies in between."""

import asyncio
import json
import os
import random
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.figures import Stopwatch, at_most
from tests.waiting import lasts, until

from kaon import process_locks, processes
from kaon.agent.agent import Agent
from kaon.agent.ports import AgentCall
from kaon.clock import SystemClock
from kaon.drivers.fake import CONFIG_ERROR, Behaviour
from kaon.drivers.process import ProcessDriver
from kaon.testing.places import pack_files
from kaon.types.key import Access, Grant
from kaon.types.knobs import Knobs, PlannedKnobs
from kaon.types.model import content_hash
from kaon.types.replica import Phase, ReplicaSpec, ReplicaStatus

from .world import Files, plan_of, process_driver, replica, text_of

WITHIN_S = 20.0
ROOT = Path(__file__).parents[3]


class World:
    """One cloud: its files, and the agent of this process."""

    def __init__(self, home: Path, run_dir: Path) -> None:
        self.files = Files(home)
        self.run_dir = run_dir
        self.artifact, _ = pack_files(home, "echo:Echo", {"echo.py": b"class Echo:\n    pass\n"})
        self._running: tuple[ProcessDriver, Agent, asyncio.Task[None]] | None = None

    async def start_agent(self) -> Agent:
        driver = process_driver(self.files, self.run_dir)
        state = self.files.home / "agent"
        agent = Agent("local", self.files, driver, self.files, SystemClock(), state, "http://127.0.0.1:1")
        self._running = (driver, agent, asyncio.create_task(agent.run()))
        return agent

    async def end_agent(self) -> None:
        """As SIGTERM does: replicas run on."""
        if self._running:
            driver, _, task = self._running
            self._running = None
            task.cancel()
            await asyncio.wait([task])
            await driver.close()

    async def close(self) -> None:
        await self.end_agent()
        for lock in self.run_dir.glob("replicas/*/lock"):
            await processes.stop(lock, 0)

    async def until(self, true: Callable[[], Any]) -> None:
        def look() -> Any:
            if self._running and self._running[2].done():
                self._running[2].result()
            return true()

        await until(look)

    async def agent_process(self) -> asyncio.subprocess.Process:
        """An agent in a process of its own, over the same files."""
        folders = str(self.files.home), str(self.run_dir)
        command = (sys.executable, "-m", "tests.integration.agent.world", *folders)
        return await asyncio.create_subprocess_exec(*command, cwd=ROOT)

    def status(self, name: str = "shop-1-0") -> ReplicaStatus | None:
        return next((s for s in self.files.reported().replicas if s.name == name), None)

    def ready(self) -> set[str]:
        return {s.name for s in self.files.reported().replicas if s.phase == Phase.READY}

    def behind_edge(self) -> set[str]:
        return {endpoint.replica for endpoint in self.files.endpoints()}

    def pids(self) -> dict[str, int]:
        """Replica -> pid, by the locks that are held."""
        locks = {lock.parent.name: process_locks.leader(lock) for lock in self.run_dir.glob("replicas/*/lock")}
        return {id_: pid for id_, pid in locks.items() if pid is not None}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    run_dir = Path(tempfile.mkdtemp(prefix="kaon-"))
    world = World(tmp_path, run_dir)
    yield world
    await world.close()
    shutil.rmtree(run_dir)


async def ask(world: World, id_: str, target: str = "/") -> dict[str, Any]:
    reader, writer = await asyncio.open_unix_connection(str(world.run_dir / "replicas" / id_ / "service.sock"))
    writer.write(f"GET {target} HTTP/1.1\r\n\r\n".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    body = await reader.readexactly(int(head.lower().partition(b"content-length:")[2].split()[0]))
    writer.close()
    shown: dict[str, Any] = json.loads(body)
    return shown


async def test_what_the_plan_wants_runs_is_behind_the_edge_and_is_reported(world: World) -> None:
    await world.start_agent()
    plan = plan_of(*(replica(world.artifact, n) for n in range(2)))
    world.files.want(plan)
    await world.until(lambda: world.ready() == {"shop-1-0", "shop-1-1"})
    assert world.behind_edge() == {spec.id for spec in plan.replicas}
    report = world.files.reported()
    assert report.plan == content_hash(plan)
    assert {s.pid for s in report.replicas} == set(world.pids().values())


async def test_a_killed_replica_leaves_the_edge_at_once_and_comes_back(world: World) -> None:
    spec = replica(world.artifact)
    await world.start_agent()
    world.files.want(plan_of(spec))
    await world.until(lambda: world.behind_edge() == {spec.id})
    loop = asyncio.get_running_loop()
    os.kill(world.pids()[spec.id], signal.SIGKILL)
    killed_at = loop.time()
    await world.until(lambda: world.behind_edge() == set())
    at_most("seconds until the edge leaves out a killed replica", loop.time() - killed_at, 0.5)
    await world.until(lambda: world.behind_edge() == {spec.id})
    status = world.status()
    assert status
    assert (status.restarts, status.exit_code) == (1, -signal.SIGKILL)


async def test_a_crash_is_told_with_its_last_lines_and_a_config_error_as_such(world: World) -> None:
    crash = Behaviour(ends_after_s=0, exit_code=3, lines=("no such model",))
    await world.start_agent()
    world.files.want(plan_of(replica(world.artifact, 0, 1, crash), replica(world.artifact, 1, 1, CONFIG_ERROR)))
    await world.until(lambda: (s := world.status()) and s.phase == Phase.CRASHED)
    await world.until(lambda: (s := world.status("shop-1-1")) and s.phase == Phase.CONFIG_ERROR)
    crashed = world.status()
    assert crashed
    assert (crashed.exit_code, crashed.last_lines) == (3, ("no such model",))
    assert world.behind_edge() == set()


async def test_a_request_in_flight_is_answered_before_its_replica_is_stopped(world: World) -> None:
    spec = replica(world.artifact)
    await world.start_agent()
    world.files.want(plan_of(spec))
    await world.until(lambda: world.behind_edge() == {spec.id})
    asking = asyncio.create_task(ask(world, spec.id, "/?hold_s=1"))
    await world.until(lambda: (s := world.status()) and s.phase == Phase.READY)
    world.files.want(plan_of())
    await world.until(lambda: world.behind_edge() == set())
    assert (await asking)["id"] == spec.id
    await world.until(lambda: world.pids() == {})
    await world.until(lambda: world.files.reported().replicas == ())


async def test_a_frozen_replica_leaves_the_edge_and_comes_back(world: World) -> None:
    frozen, well = replica(world.artifact, 0), replica(world.artifact, 1)
    await world.start_agent()
    world.files.want(plan_of(frozen, well))
    await world.until(lambda: world.behind_edge() == {frozen.id, well.id})
    pid, watch = world.pids()[frozen.id], Stopwatch()
    os.kill(pid, signal.SIGSTOP)
    await world.until(lambda: world.behind_edge() == {well.id})
    at_most("seconds until it leaves", watch.seconds, 2.5)
    os.kill(pid, signal.SIGCONT)
    await world.until(lambda: world.behind_edge() == {frozen.id, well.id})
    assert world.pids()[frozen.id] == pid, "it was only slow"


@pytest.mark.slow
async def test_a_replica_frozen_for_ten_seconds_is_ended_and_started_anew(world: World) -> None:
    spec = replica(world.artifact)
    await world.start_agent()
    world.files.want(plan_of(spec))
    await world.until(lambda: world.behind_edge() == {spec.id})
    pid = world.pids()[spec.id]
    os.kill(pid, signal.SIGSTOP)
    await world.until(lambda: (s := world.status()) and s.phase == Phase.CRASHED)
    await world.until(lambda: world.behind_edge() == {spec.id})
    assert world.pids()[spec.id] != pid


async def test_a_revoked_key_is_told_to_running_replicas_at_once(world: World) -> None:
    spec = replica(world.artifact)
    await world.start_agent()
    world.files.want(plan_of(spec))
    await world.until(lambda: world.behind_edge() == {spec.id})
    closed = Access(grants=(Grant(hash="0" * 64, key="ci"),))
    world.files.want(plan_of(spec, access=closed))

    async def shown() -> bool:
        return (await ask(world, spec.id))["access"] == text_of(closed)

    pid = world.pids()[spec.id]
    await until(shown)
    assert world.pids()[spec.id] == pid, "the same process: it was not started again for it"


async def test_a_canary_is_told_its_knobs_and_a_replica_starts_with_those_in_force(world: World) -> None:
    specs = [replica(world.artifact, n) for n in range(2)]
    force, tried = Knobs(max_batch=8), Knobs(max_batch=2)
    planned = PlannedKnobs(force=force, trial=tried, replicas=(specs[0].id,))
    await world.start_agent()
    world.files.want(plan_of(*specs, knobs={"default/shop": planned}))
    await world.until(lambda: len(world.behind_edge()) == 2)
    pids = world.pids()

    async def knobs(*of: ReplicaSpec) -> set[object]:
        return {(await ask(world, spec.id))["knobs"] for spec in of}

    async def tries() -> bool:
        return await knobs(specs[0]) == {text_of(tried)}

    await until(tries)
    assert (await ask(world, specs[1].id))["knobs"] == text_of(force)
    world.files.want(plan_of(*specs))

    async def without() -> bool:
        return await knobs(*specs) == {text_of(Knobs())}

    await until(without)
    assert world.pids() == pids


async def test_a_new_agent_finds_everything_again_and_no_replica_leaves_the_edge_meanwhile(world: World) -> None:
    specs = [replica(world.artifact, n) for n in range(3)]
    await world.start_agent()
    world.files.want(plan_of(*specs))
    await world.until(lambda: len(world.behind_edge()) == 3)
    before = world.pids()
    await world.end_agent()
    assert world.pids() == before
    world.files.applied.clear()
    await world.start_agent()
    await world.until(lambda: world.files.applied)
    assert all(len(applied) == 3 for applied in world.files.applied)
    assert world.pids() == before


async def test_an_agent_alone_works_by_its_last_plan(world: World) -> None:
    spec = replica(world.artifact)
    await world.start_agent()
    world.files.want(plan_of(spec))
    await world.until(lambda: world.behind_edge() == {spec.id})
    await world.end_agent()
    world.files.away = True
    await world.start_agent()
    pid = world.pids()[spec.id]
    os.kill(pid, signal.SIGKILL)
    await world.until(lambda: world.pids().get(spec.id, pid) != pid)
    assert world.files.tried > 0, "it asked for a plan, and got none"


async def test_without_any_plan_nothing_that_runs_is_touched(world: World) -> None:
    spec = replica(world.artifact)
    await world.start_agent()
    world.files.want(plan_of(spec))
    await world.until(lambda: world.behind_edge() == {spec.id})
    before = world.pids()
    await world.end_agent()
    world.files.away = True
    (world.files.home / "agent/plan.json").write_text("{torn")
    world.files.applied.clear()
    await world.start_agent()
    tried = world.files.tried
    await world.until(lambda: world.files.tried >= tried + 4)
    assert world.pids() == before
    assert world.files.applied == []


async def test_what_runs_and_no_plan_names_is_stopped(world: World) -> None:
    kept, superfluous = replica(world.artifact, 0), replica(world.artifact, 1)
    await world.start_agent()
    world.files.want(plan_of(kept, superfluous))
    await world.until(lambda: len(world.behind_edge()) == 2)
    await world.end_agent()
    (world.files.home / "agent/plan.json").unlink()
    world.files.want(plan_of(kept))
    before = world.pids()[kept.id]
    await world.start_agent()
    await world.until(lambda: set(world.pids()) == {kept.id})
    assert world.pids()[kept.id] == before


async def test_logs_are_answered_with_the_last_lines_that_match(world: World) -> None:
    lines = tuple(f"line {n}" for n in range(20))
    spec = replica(world.artifact, 0, 1, Behaviour(lines=lines))
    await world.start_agent()
    world.files.want(plan_of(spec))
    await world.until(lambda: world.ready() == {"shop-1-0"})
    arguments = {"replicas": [spec.id], "tail": 5, "grep": "7"}
    for id_, asked in {"c1": arguments, "c2": {"replicas": ["../../secret"]}, "c3": {"tail": -1}}.items():
        world.files.calls.put_nowait(AgentCall(id=id_, call="logs", arguments=asked))
    world.files.calls.put_nowait(AgentCall(id="c4", call="shell", arguments={}))
    await world.until(lambda: len(world.files.answers) == 4 and world.files.answers["c1"])
    found = [json.loads(line) for line in world.files.answers["c1"]]
    assert all(line.pop("at") > 0 for line in found), "prints have times"
    assert found == [{"replica": spec.id, "text": text} for text in ("line 7", "line 17")]
    assert [world.files.answers[id_] for id_ in ("c2", "c3", "c4")] == [[], [], []]


async def test_following_logs_brings_new_lines_of_all_replicas(world: World) -> None:
    specs = [replica(world.artifact, n, 1, Behaviour(lines=(f"hello from {n}",))) for n in range(2)]
    await world.start_agent()
    world.files.want(plan_of(*specs))
    await world.until(lambda: len(world.ready()) == 2)
    arguments = {"replicas": [spec.id for spec in specs], "follow": True}
    world.files.calls.put_nowait(AgentCall(id="c1", call="logs", arguments=arguments))
    await world.until(lambda: len(world.files.answers.get("c1", [])) == 2)
    with (world.files.home / f"agent/replicas/{specs[1].id}/replica.log").open("a") as log:
        log.write("later\n")
    await world.until(lambda: len(world.files.answers["c1"]) == 3)
    last = json.loads(world.files.answers["c1"][2])
    assert (last["replica"], last["text"]) == (specs[1].id, "later")
    assert last["at"] > 0, "a line without a time has that of the line before"


async def test_secrets_of_adopted_replicas_do_not_show_in_their_logs(world: World) -> None:
    leak = Behaviour(lines=("the password is open-sesame-1",))
    spec = replica(world.artifact, 0, 1, leak).model_copy(update={"secrets": ("PASSWORD",)})
    world.files.want(plan_of(spec))
    earlier = await world.agent_process()
    await world.until(lambda: world.ready() == {"shop-1-0"})
    earlier.kill()
    await earlier.wait()
    world.files.secret_values = {"PASSWORD": "open-sesame-1"}
    world.files.asked_secrets.clear()
    await world.start_agent()
    await world.until(lambda: world.files.asked_secrets == [spec.id])
    world.files.calls.put_nowait(AgentCall(id="c1", call="logs", arguments={"replicas": [spec.id]}))
    await world.until(lambda: world.files.answers.get("c1"))
    assert json.loads(world.files.answers["c1"][0])["text"] == "the password is ******"


@pytest.mark.slow
async def test_an_agent_killed_ten_times_in_the_middle_of_its_work_leaves_no_orphans(world: World) -> None:
    chance = random.Random(4)
    for _ in range(10):
        wanted = chance.sample(range(6), chance.randint(0, 4))
        world.files.want(plan_of(*(replica(world.artifact, n) for n in sorted(wanted))))
        agent = await world.agent_process()
        await lasts(chance.uniform(0.3, 1.2))  # any moment of its work, or before it
        agent.kill()
        await agent.wait()
    final = [replica(world.artifact, n) for n in (1, 4)]
    world.files.want(plan_of(*final))
    await world.start_agent()
    await world.until(lambda: world.ready() == {"shop-1-1", "shop-1-4"})
    await world.until(lambda: set(world.pids()) == {spec.id for spec in final})
    await world.until(lambda: world.behind_edge() == {spec.id for spec in final})
    assert stand_ins(world) == set(world.pids().values()), "nothing runs that no lock tells of"
    await world.until(lambda: {p.name for p in world.run_dir.glob("replicas/*")} == {spec.id for spec in final})


def stand_ins(world: World) -> set[int]:
    """Processes of this world's replicas, by their command line."""
    mark = str(world.files.home).encode()
    found = set()
    for proc in Path("/proc").glob("[0-9]*"):
        try:
            line = (proc / "cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if mark in line and b"--launch" in line:
            found.add(int(proc.name))
    return found
