"""The process driver on real processes: what the contract suite cannot ask of every place."""

import asyncio
import json
import os
import shutil
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path

import pytest
from tests.waiting import WITHIN_S, turns, until

from kaon import process_locks
from kaon.agent.observe.probes import ControlSockets
from kaon.build.environments import Environments
from kaon.clock import FakeClock
from kaon.drivers.fake import Behaviour
from kaon.drivers.port import Driver, Stage, Workload
from kaon.drivers.process import ProcessDriver, logs
from kaon.drivers.process.capacity import CPU_OVERCOMMIT, Demand, Machine, check_room
from kaon.drivers.process.driver import RUNTIME
from kaon.drivers.process.places import Places
from kaon.drivers.process.pruning import KEEP, prune
from kaon.errors import NotFound, PlaceFull, Unavailable, WorkloadRefused
from kaon.testing.drivers import ended, observed, running, sample_workload, with_launch, with_secrets, with_spec
from kaon.testing.places import ProcessPlace, pack_files
from kaon.types.dataset import DatasetUse, DatasetVersionRef
from kaon.types.key import Access
from kaon.types.knobs import Knobs
from kaon.types.launch import EXIT_CONFIG
from kaon.types.replica import WorkloadKind

SECRET = 'hunter2 "quoted"\nsecond line'


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[ProcessPlace]:
    run_dir = Path(tempfile.mkdtemp(prefix="kaon-"))
    place = ProcessPlace(tmp_path, run_dir)
    yield place
    await place.close()
    shutil.rmtree(run_dir)


def with_memory(workload: Workload, memory_bytes: int) -> Workload:
    resources = workload.spec.resources.model_copy(update={"memory_bytes": memory_bytes})
    return with_spec(workload, {"resources": resources})


async def ask(driver: Driver, replica: str, target: str = "/") -> dict[str, object]:
    """The stand-in's answer on its service socket."""
    address = (await driver.observe()).replicas[replica].service_address or ""

    async def connected() -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        try:
            return await asyncio.open_unix_connection(address.removeprefix("unix:"))
        except (FileNotFoundError, ConnectionRefusedError):
            return None

    reader, writer = await until(connected, f"{replica} listens")
    writer.write(f"GET {target} HTTP/1.1\r\n\r\n".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length:")[2].split()[0])
    body = await reader.readexactly(length)
    writer.close()
    answered: dict[str, object] = json.loads(body)
    return answered


async def ask_for_too_much(driver: Driver, replica: str) -> None:
    """Have a replica use 100 MB of memory; it may be killed before it has answered."""
    with suppress(asyncio.IncompleteReadError, ConnectionError):
        await ask(driver, replica, "/?use_bytes=100000000")


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


async def test_a_replica_gets_its_secrets_and_none_of_the_platforms_settings(
    place: ProcessPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAON_SECRET_KEY", "the platform's own")
    driver, workload = place.driver(), sample_workload(place.artifact)
    await driver.start(with_secrets(workload, {"PASSWORD": SECRET}))
    await observed(driver, workload.spec.id, running)
    answered = await ask(driver, workload.spec.id)
    assert answered["secrets"] == {"PASSWORD": SECRET}
    environ = answered["environ"]
    assert isinstance(environ, dict)
    assert {name for name in environ if name.startswith("KAON_")} <= {"KAON_DATA_DIR", "KAON_EDGE_URL"}
    assert environ["HOME"] == str(place.home / "agent/volumes/default/contract")


class Datasets:
    """Folders of versions; the first fetch fails."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pruned: list[set[str]] = []
        self.fault: Exception | None = None

    async def materialize(self, ref: DatasetVersionRef, progress: Callable[[str], None]) -> Path:
        progress(f"fetching {ref.text}")
        if self.fault:
            raise self.fault
        return self.folder / ref.text

    async def prune(self, used: set[str], keep: int) -> None:
        self.pruned.append(used)


MODEL = DatasetUse(
    name="user-model", version=DatasetVersionRef(dataset="shop", number=3, manifest=f"sha256:{'d' * 64}")
)


async def test_a_replica_finds_its_datasets_by_variables(place: ProcessPlace, tmp_path: Path) -> None:
    datasets = Datasets(tmp_path)
    driver, workload = place.driver(datasets=datasets), sample_workload(place.artifact)
    workload = with_launch(with_spec(workload, {"datasets": (MODEL,)}), {"datasets": (MODEL,)})
    await driver.start(workload)
    await observed(driver, workload.spec.id, running)
    environ = (await ask(driver, workload.spec.id))["environ"]
    assert isinstance(environ, dict)
    assert environ["USER_MODEL"] == f"shop@3:{tmp_path}/shop@3"


async def test_a_replica_that_runs_alone_starts_when_the_other_has_ended(place: ProcessPlace) -> None:
    driver = place.driver()
    first, second = (
        with_spec(sample_workload(place.artifact, ordinal=n), {"alone": True, "deployment_uid": "u"}) for n in (0, 1)
    )
    await driver.start(first)
    await observed(driver, first.spec.id, running)
    for each in (driver, place.driver()):  # the next agent knows it too
        with pytest.raises(PlaceFull, match="has not ended yet"):
            await each.start(second)
    await driver.stop(first.spec.id, 0)
    await driver.start(second)
    await observed(driver, second.spec.id, running)


async def test_a_dataset_that_cannot_be_had_is_the_reason_of_the_end(place: ProcessPlace, tmp_path: Path) -> None:
    datasets = Datasets(tmp_path)
    datasets.fault = Unavailable("The disk is full.")
    driver, workload = place.driver(datasets=datasets), sample_workload(place.artifact)
    await driver.start(with_spec(workload, {"datasets": (MODEL,)}))
    found = await observed(driver, workload.spec.id, ended)
    assert "The disk is full." in found.reason
    with pytest.raises(WorkloadRefused):
        await place.driver().start(with_spec(workload, {"datasets": (MODEL,)}))


async def test_secrets_are_in_no_file_and_not_in_proc(place: ProcessPlace) -> None:
    driver, workload = place.driver(), sample_workload(place.artifact)
    await driver.start(with_secrets(workload, {"PASSWORD": "correct horse battery"}))
    sighting = await observed(driver, workload.spec.id, running)
    await ask(driver, workload.spec.id)  # it has read its standard input by now
    proc = Path(f"/proc/{sighting.pid}")
    files = [*place.home.rglob("*"), *place.run_dir.rglob("*"), proc / "environ", proc / "cmdline"]
    assert [f for f in files if f.is_file() and b"correct horse" in f.read_bytes()] == []
    launch_file = place.home / "agent/replicas" / workload.spec.id / "launch.json"
    assert launch_file.stat().st_mode & 0o777 == 0o600


async def test_replicas_of_one_artifact_share_its_preparation(place: ProcessPlace) -> None:
    driver = place.driver()
    workloads = [sample_workload(place.artifact, ordinal=n) for n in range(4)]
    await asyncio.gather(*(driver.start(workload) for workload in workloads))
    stages = {sighting.stage for sighting in (await driver.observe()).replicas.values()}
    assert stages == {Stage.INSTALLING}
    for workload in workloads:
        await observed(driver, workload.spec.id, running)
    assert place.fetched == [place.artifact]


async def test_an_artifact_that_cannot_be_had_is_the_reason_of_the_end(place: ProcessPlace) -> None:
    async def nowhere(digest: str) -> Path:
        raise NotFound(f"There is no artifact {digest[:14]}.")

    place.fetch = nowhere  # type: ignore[method-assign]
    driver, workload = place.driver(), sample_workload(place.artifact)
    await driver.start(workload)
    sighting = await observed(driver, workload.spec.id, ended)
    assert sighting.reason.startswith("There is no artifact sha256:")
    assert sighting.exit_code is None


async def test_bytes_that_are_not_those_of_the_digest_are_not_run(place: ProcessPlace) -> None:
    _, place.file = pack_files(place.home, "echo:Echo", {"echo.py": b"print('another')\n"})
    driver, workload = place.driver(), sample_workload(place.artifact)
    await driver.start(workload)
    sighting = await observed(driver, workload.spec.id, ended)
    assert "digest" in sighting.reason
    assert sighting.pid is None


async def test_a_stop_while_it_installs_ends_the_start(place: ProcessPlace) -> None:
    requested, may_go_on = asyncio.Event(), asyncio.Event()

    async def slow(digest: str) -> Path:
        requested.set()
        await may_go_on.wait()
        return place.file

    place.fetch = slow  # type: ignore[method-assign]
    driver, workload = place.driver(), sample_workload(place.artifact)
    await driver.start(workload)
    await requested.wait()
    await driver.stop(workload.spec.id, 30)
    may_go_on.set()
    assert ended((await driver.observe()).replicas[workload.spec.id])
    again = sample_workload(place.artifact, ordinal=1)
    await driver.start(again)
    await observed(driver, again.spec.id, running)
    assert ended((await driver.observe()).replicas[workload.spec.id]), (
        "the one that was stopped did not come up after all"
    )


async def test_a_replica_over_its_memory_is_killed_and_the_figures_are_the_reason(place: ProcessPlace) -> None:
    driver = place.driver()
    workload = with_memory(sample_workload(place.artifact), 16 * 2**20)
    await driver.start(workload)
    await observed(driver, workload.spec.id, running)
    await ask(driver, workload.spec.id)
    await ask_for_too_much(driver, workload.spec.id)
    sighting = await observed(driver, workload.spec.id, ended)
    assert "MiB of memory, its limit is 16 MiB" in sighting.reason


def test_machines_are_promised_only_so_often() -> None:
    machine = Machine(cpus=2, memory_bytes=4 * 2**30)
    check_room(machine, [Demand(cpus=1)] * int(2 * CPU_OVERCOMMIT - 1), Demand(cpus=1))
    with pytest.raises(Unavailable, match="No CPUs left"):
        check_room(machine, [Demand(cpus=1)] * int(2 * CPU_OVERCOMMIT), Demand(cpus=1))
    check_room(machine, [Demand(cpus=1, memory_bytes=3 * 2**30)], Demand(cpus=1, memory_bytes=2**30))
    with pytest.raises(Unavailable, match="No memory left"):
        check_room(machine, [Demand(cpus=1, memory_bytes=3 * 2**30)], Demand(cpus=1, memory_bytes=2**30 + 1))


async def test_a_replica_that_does_not_fit_is_refused_at_once(place: ProcessPlace) -> None:
    driver = place.driver()
    workload = with_memory(sample_workload(place.artifact), 2**50)
    with pytest.raises(Unavailable):
        await driver.start(workload)
    assert (await driver.observe()).replicas == {}


async def test_a_crash_takes_along_what_the_replica_started(place: ProcessPlace) -> None:
    driver, workload = place.driver(), sample_workload(place.artifact)
    await driver.start(workload)
    sighting = await observed(driver, workload.spec.id, running)
    child = int(str((await ask(driver, workload.spec.id, "/?fork=1"))["child"]))
    assert sighting.pid
    os.kill(sighting.pid, signal.SIGKILL)
    sighting = await observed(driver, workload.spec.id, ended)
    assert sighting.exit_code == -signal.SIGKILL
    assert sighting.reason == "It was killed by SIGKILL."
    assert not runs(child)


async def test_what_died_while_no_driver_watched_is_seen_with_its_code_and_its_last_lines(place: ProcessPlace) -> None:
    first, workload = place.driver(), sample_workload(place.artifact, Behaviour(lines=("farewell",)))
    await first.start(workload)
    sighting = await observed(first, workload.spec.id, running)
    await ask(first, workload.spec.id)
    await first.close()
    assert sighting.pid
    os.kill(sighting.pid, signal.SIGKILL)
    await until(lambda: not runs(sighting.pid or 0))
    [adopted] = (await place.driver().observe()).replicas.values()
    assert (adopted.stage, adopted.exit_code) == (Stage.EXITED, -signal.SIGKILL)
    assert adopted.last_lines == ("farewell",)
    [again] = (await place.driver().observe()).replicas.values()
    assert again == adopted


@pytest.mark.parametrize("code", [0, 3, EXIT_CONFIG])
async def test_a_job_that_ends_while_no_driver_watches_keeps_its_exit_code(place: ProcessPlace, code: int) -> None:
    behaviour = Behaviour(ends_after_s=0.3, exit_code=code, flights={"one": 60.0})
    first, workload = place.driver(), sample_workload(place.artifact, behaviour)
    await first.start(workload)
    await observed(first, workload.spec.id, running)
    await first.close()
    lock = place.run_dir / "replicas" / workload.spec.id / "lock"
    await until(lambda: not process_locks.is_held(lock))
    [adopted] = (await place.driver().observe()).replicas.values()
    assert (adopted.stage, adopted.exit_code) == (Stage.EXITED, code)
    assert adopted.blamed == (("one",) if code else ())


async def test_an_exit_that_nobody_wrote_down_is_unknown(place: ProcessPlace) -> None:
    first, workload = place.driver(), sample_workload(place.artifact)
    await first.start(workload)
    sighting = await observed(first, workload.spec.id, running)
    await ask(first, workload.spec.id)
    await first.close()
    places = Places(place.home / "agent", place.run_dir)
    parent = process_locks.leader(places.log_lock(workload.spec.id))
    assert parent
    assert sighting.pid
    os.kill(parent, signal.SIGKILL)
    await until(lambda: not process_locks.is_held(places.log_lock(workload.spec.id)))
    os.kill(sighting.pid, signal.SIGKILL)
    await until(lambda: not process_locks.is_held(places.lock(workload.spec.id)))
    [adopted] = (await place.driver().observe()).replicas.values()
    assert (adopted.stage, adopted.exit_code) == (Stage.EXITED, None)
    assert adopted.reason == "It ended while no agent ran; its exit code is unknown."


async def test_a_replica_of_the_release_before_is_found_again(place: ProcessPlace) -> None:
    """Its parent was the agent, and its launch file has no kinds and tokens."""
    first, workload = place.driver(), sample_workload(place.artifact)
    await first.start(workload)
    sighting = await observed(first, workload.spec.id, running)
    await first.close()
    places = Places(place.home / "agent", place.run_dir)
    launch = json.loads(places.launch_file(workload.spec.id).read_text())
    for name in ("kind", "control_token"):
        del launch[name]
    places.launch_file(workload.spec.id).write_text(json.dumps(launch))
    places.lock(workload.spec.id).write_text("")  # no hint
    [found] = (await place.driver().observe()).replicas.values()
    assert (found.stage, found.pid, found.control_address) == (Stage.STARTING, sighting.pid, sighting.control_address)


async def test_a_process_with_a_lock_but_no_launch_file_is_ended(place: ProcessPlace) -> None:
    first, workload = place.driver(), sample_workload(place.artifact)
    await first.start(workload)
    sighting = await observed(first, workload.spec.id, running)
    await first.close()
    (place.home / "agent/replicas" / workload.spec.id / "launch.json").unlink()
    assert (await place.driver().observe()).replicas == {}
    assert sighting.pid
    await until(lambda: not (place.run_dir / "replicas" / workload.spec.id).exists())
    assert not runs(sighting.pid)


GREETER = b"""
import kaon

@kaon.service
class Greeter:
    def __init__(self, greeting: str) -> None:
        self.greeting = greeting

    @kaon.endpoint
    def greet(self, name: str) -> str:
        return f"{self.greeting} {name}"
"""


def greeter(place: ProcessPlace, env: dict[str, str]) -> tuple[ProcessDriver, Workload]:
    """A driver with the real runtime, and what it takes to start a real service that wants GREETING."""
    digest, place.file = pack_files(place.home, "greeter:Greeter", {"greeter.py": GREETER})
    workload = sample_workload(digest)
    return place.driver(RUNTIME), with_spec(workload, {"env": env})


async def test_a_real_service_gets_ready_takes_its_access_list_and_knobs_and_drains(place: ProcessPlace) -> None:
    driver, workload = greeter(place, {"GREETING": "hello"})
    await driver.start(with_launch(workload, {"knobs": Knobs(concurrency=4)}))
    sighting = await observed(driver, workload.spec.id, running)
    sockets, address = ControlSockets(lambda _: workload.launch.control_token), sighting.control_address or ""

    async def ready() -> bool:
        return await phase(sockets, address) == "Ready"

    await until(ready)
    await sockets.admit(address, Access(public=True))
    assert (await sockets.health(address)).access == Access(public=True).named().version
    assert (await sockets.health(address)).knobs == Knobs(concurrency=4).named().version, "as it was started"
    await sockets.tune(address, Knobs(concurrency=2))
    assert (await sockets.health(address)).knobs == Knobs(concurrency=2).named().version
    await driver.stop(workload.spec.id, 10)
    sighting = (await driver.observe()).replicas[workload.spec.id]
    assert (sighting.exit_code, sighting.reason) == (0, "It was stopped.")
    sockets.let_go(address)


async def phase(sockets: ControlSockets, address: str) -> str:
    try:
        return (await sockets.health(address)).phase
    except Unavailable:
        return ""


async def test_a_real_service_without_its_setting_ends_with_a_reason_that_names_it(place: ProcessPlace) -> None:
    driver, workload = greeter(place, {})
    await driver.start(workload)
    sighting = await observed(driver, workload.spec.id, ended)
    assert sighting.exit_code == EXIT_CONFIG
    assert "GREETING" in sighting.reason


BROKEN = b"""
import kaon

@kaon.service
class Broken:
    def __init__(self) -> None:
        raise OSError('no model')

    @kaon.endpoint
    def f(self) -> int: ...
"""


async def test_what_a_service_raises_in_its_constructor_is_the_reason_and_the_traceback_its_last_words(
    place: ProcessPlace,
) -> None:
    digest, place.file = pack_files(place.home, "broken:Broken", {"broken.py": BROKEN})
    driver, workload = place.driver(RUNTIME), sample_workload(digest)
    await driver.start(workload)
    sighting = await observed(driver, workload.spec.id, ended)
    assert sighting.reason == "It ended with exit code 1: OSError: no model"
    assert sighting.last_lines[-1] == "OSError: no model"
    assert any("raise OSError('no model')" in line for line in sighting.last_lines)


async def test_log_lines_carry_no_escape_sequences_and_no_secrets(place: ProcessPlace) -> None:
    lines = (
        "\x1b[31mred\x1b[0m",
        "the key is sesame-open-up",
        '{"event": "x", "timestamp": "2026-01-02T03:04:05Z"}',
        "y",
    )
    driver, workload = place.driver(), sample_workload(place.artifact, Behaviour(lines=lines))
    await driver.start(with_secrets(workload, {"KEY": "sesame-open-up"}))
    answered = []
    async for line in driver.logs(workload.spec.id, tail=10, follow=True):
        answered.append(line)
        if len(answered) == 4:
            break
    assert [line.text for line in answered[:2]] == ["red", "the key is ******"]
    assert answered[2].at == 1767323045.0
    assert all(line.at for line in answered)


def test_every_line_of_a_file_has_a_time() -> None:
    first, second = (json.dumps({"timestamp": f"1970-01-01T00:00:{second}Z", "event": "x"}) for second in (10, 20))
    lines = logs.timed(["loading", first, "a print", second, "another"], 99)
    assert [line.at for line in lines] == [10, 10, 10, 20, 20]
    assert [line.at for line in logs.timed(["loading", "still loading"], 99)] == [99, 99], "before the first log line"
    assert list(logs.timed([], 99)) == []


async def test_of_a_long_log_only_the_end_is_read(place: ProcessPlace) -> None:
    log_file = place.home / "agent/replicas/0123456789ab/replica.log"
    log_file.parent.mkdir(parents=True)
    with log_file.open("wb") as file:
        file.truncate(2**40)  # a hole: to read it all would take hours
        file.seek(0, os.SEEK_END)
        file.write(b"\n" + b"a line of a log that is quite long\n" * 100)
    line = await anext(place.driver().logs("0123456789ab", tail=100, follow=False))
    assert line.text.startswith("a line")


async def test_following_a_log_survives_its_rotation(tmp_path: Path) -> None:
    log_file, clock = tmp_path / "replica.log", FakeClock()
    log_file.write_bytes(b"one\ntwo\nunfini")
    following = logs.follow(log_file, 2, clock, on=True)
    assert [(await anext(following)).text, (await anext(following)).text] == ["one", "two"]
    with log_file.open("ab") as file:
        file.write(b"shed\nlast of the old\n")
    log_file.rename(tmp_path / "replica.log.1")
    log_file.write_bytes(b"first of the new\n")
    texts = [(await anext(following)).text for _ in range(3)]
    assert texts == ["unfinished", "last of the old", "first of the new"]
    waiting = asyncio.ensure_future(anext(following))
    await turns()
    with log_file.open("ab") as file:
        file.write(b"later\n")
    await clock.advance(1)
    later = await waiting
    assert (later.text, later.at <= clock.now()) == ("later", True), "a print has the time at which it comes"
    await following.aclose()


def test_the_tail_reaches_back_into_rotated_files(tmp_path: Path) -> None:
    for number, name in enumerate(("replica.log.2", "replica.log.1", "replica.log")):
        (tmp_path / name).write_text("".join(f"{number}-{line}\n" for line in range(10)))
    lines, file = logs.tail(tmp_path / "replica.log", 15)
    assert file is not None
    file.close()
    assert lines == [b"1-%d" % n for n in range(5, 10)] + [b"2-%d" % n for n in range(10)]


def test_pruning_keeps_what_is_used_and_the_last_few(tmp_path: Path) -> None:
    places = Places(tmp_path, tmp_path / "run")
    digests = [f"sha256:{n:064x}" for n in range(KEEP.unpacked + 3)]
    for age, digest in enumerate(digests):
        places.artifact(digest).mkdir(parents=True)
        os.utime(places.artifact(digest), (1000 - age, 1000 - age))
    old, recent, running_one = (places.replica(f"{n:012x}") for n in range(3))
    for folder in (old, recent, running_one):
        folder.mkdir(parents=True)
        (folder / "replica.log").touch()
    (running_one / "launch.json").touch()
    now = time.time()
    for folder in (old, running_one):
        os.utime(folder / "replica.log", (now - KEEP.logs_s - 60, now - KEEP.logs_s - 60))
        os.utime(folder, (0, 0))
    if (launch := running_one / "launch.json").exists():
        os.utime(launch, (0, 0))
    prune(places, Environments(places.environments), {digests[-1]}, now, KEEP)
    assert {d for d in digests if places.artifact(d).exists()} == {*digests[: KEEP.unpacked], digests[-1]}
    assert not old.exists()
    assert recent.exists()
    assert running_one.exists()


CRASH = (
    "an earlier line",
    "Fatal Python error: Segmentation fault",
    "",
    "Thread 0x00007f01 (most recent call first):",
    *(f'  File "/python/threading.py", line {n} in wait' for n in range(30)),
    "",
    "Current thread 0x00007f02 (most recent call first):",
    '  File "/code/work.py", line 9 in inner',
    '  File "/code/work.py", line 5 in predict',
    "",
    "Extension modules: numpy (total: 1)",
)


def test_of_a_crash_in_native_code_the_error_and_its_stack_are_told() -> None:
    excerpt = logs.excerpt(CRASH, 20)
    assert excerpt == (CRASH[1], *CRASH[-5:-2])
    assert logs.crash_site(excerpt) == "Segmentation fault in inner (work.py:9), called by predict (work.py:5)"
    assert logs.excerpt(CRASH[:1], 20) == CRASH[:1]
    assert logs.crash_site(CRASH[:1]) == ""


async def test_the_reason_of_a_native_crash_names_its_place(place: ProcessPlace) -> None:
    driver, workload = place.driver(), sample_workload(place.artifact, Behaviour(lines=CRASH))
    await driver.start(workload)
    sighting = await observed(driver, workload.spec.id, running)
    await ask(driver, workload.spec.id)
    assert sighting.pid
    os.kill(sighting.pid, signal.SIGSEGV)
    sighting = await observed(driver, workload.spec.id, ended)
    site = "Segmentation fault in inner (work.py:9), called by predict (work.py:5)"
    assert sighting.reason == f"It was killed by SIGSEGV: {site}."


async def test_a_secret_reaches_no_log_file_whoever_writes_it(place: ProcessPlace) -> None:
    lines = ("plain hunter2-hunter2", '{"event": "structured hunter2-hunter2"}')
    driver, workload = place.driver(), sample_workload(place.artifact, Behaviour(lines=lines))
    await driver.start(with_secrets(workload, {"KEY": "hunter2-hunter2"}))
    sighting = await observed(driver, workload.spec.id, running)
    await ask(driver, workload.spec.id)
    assert sighting.pid
    os.kill(sighting.pid, signal.SIGKILL)
    await observed(driver, workload.spec.id, ended)
    written = (place.home / "agent/replicas" / workload.spec.id / "replica.log").read_text()
    assert written == "plain ******\n" + '{"event": "structured ******"}\n'


async def test_the_keeper_of_a_log_is_started_again_and_nothing_is_lost(place: ProcessPlace) -> None:
    driver, workload = place.driver(), sample_workload(place.artifact, Behaviour(lines=("before",)))
    await driver.start(workload)
    await observed(driver, workload.spec.id, running)
    log_file = place.home / "agent/replicas" / workload.spec.id / "replica.log"
    await until(lambda: log_file.exists() and log_file.read_text() == "before\n")
    places = Places(place.home / "agent", place.run_dir)
    first = process_locks.leader(places.log_lock(workload.spec.id))
    assert first
    os.kill(first, signal.SIGKILL)
    with places.log_pipe(workload.spec.id).open("wb") as pipe:
        pipe.write(b"while nobody read\n")
    await until(lambda: log_file.read_text() == "before\nwhile nobody read\n")
    await driver.stop(workload.spec.id, 5)
    assert not process_locks.is_held(places.log_lock(workload.spec.id))


ESCAPES = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
here = sys.argv[sys.argv.index("--launch") + 1]
started = [
    subprocess.Popen(["sleep", "600"]),
    subprocess.Popen(["sleep", "600"], start_new_session=True, env={}),  # nothing connects it to the job
    subprocess.Popen(["sh", "-c", "trap '' TERM; setsid sleep 600 & setsid setsid sleep 600 & exec sleep 600"]),
]
if os.fork() == 0:
    os.setsid()
    if os.fork():
        os._exit(0)
    os.closerange(0, 100)
    time.sleep(600)
print("started", flush=True)
while not os.path.exists({gate!r}):
    time.sleep(0.01)
"""


def descendants(pid: int) -> set[int]:
    """All processes below one."""
    parents = {}
    for name in filter(str.isdecimal, os.listdir("/proc")):
        with suppress(OSError):
            parents[int(name)] = int(Path(f"/proc/{name}/stat").read_text().rsplit(")", 1)[1].split()[1])
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found


@pytest.mark.parametrize("stopped", [False, True])
async def test_nothing_that_a_job_started_outlives_it(place: ProcessPlace, stopped: bool) -> None:
    script, gate = place.home / "escapes.py", place.home / "gate"
    script.write_text(ESCAPES.replace("{gate!r}", repr(str(gate))))
    driver = place.driver(runtime=(str(script),))
    job = with_spec(sample_workload(place.artifact), {"kind": WorkloadKind.JOB})
    await driver.start(job)
    sighting = await observed(driver, job.spec.id, running)
    async with asyncio.timeout(WITHIN_S):
        async for line in driver.logs(job.spec.id, tail=1, follow=True):
            assert line.text == "started"
            break
    keeper = process_locks.leader(place.run_dir / "replicas" / job.spec.id / "log.lock")
    assert keeper is not None
    await until(lambda: len(descendants(keeper) - {keeper}) >= 6, "all that the job starts")
    processes_of_job = descendants(keeper) - {keeper}
    if stopped:
        await driver.stop(job.spec.id, 0.2)
    else:
        gate.touch()
    found = await observed(driver, job.spec.id, ended)
    assert found.exit_code == (-signal.SIGKILL if stopped else 0), sighting
    assert {pid for pid in processes_of_job if runs(pid)} == set()


async def test_all_of_a_job_is_asked_to_end(place: ProcessPlace) -> None:
    script = place.home / "shell.py"
    script.write_text("import os; os.execvp('sh', ['sh', '-c', 'echo begun; sleep 600; echo over'])\n")
    driver = place.driver(runtime=(str(script),))
    job = with_spec(sample_workload(place.artifact), {"kind": WorkloadKind.JOB})
    await driver.start(job)
    async with asyncio.timeout(WITHIN_S):
        async for _ in driver.logs(job.spec.id, tail=1, follow=True):
            break
    await driver.stop(job.spec.id, 20)
    assert (await observed(driver, job.spec.id, ended)).exit_code == -signal.SIGTERM


async def test_a_job_that_an_agent_was_about_to_start_has_not_begun(place: ProcessPlace) -> None:
    job = with_spec(sample_workload(place.artifact, Behaviour(ends_after_s=0.1)), {"kind": WorkloadKind.JOB})
    driver = place.driver()
    await driver.start(job)
    await observed(driver, job.spec.id, ended)
    folder, sockets = place.home / "agent/replicas" / job.spec.id, place.run_dir / "replicas" / job.spec.id
    for name in ("exit.json", "ended.json"):
        (folder / name).unlink()
    os.truncate(sockets / "lock", 0)  # as it is before the process begins
    assert (await place.driver().observe()).replicas == {}


async def test_an_exit_that_nobody_recorded_is_an_end(place: ProcessPlace) -> None:
    job = with_spec(sample_workload(place.artifact, Behaviour(ends_after_s=0.1)), {"kind": WorkloadKind.JOB})
    driver = place.driver()
    await driver.start(job)
    await observed(driver, job.spec.id, ended)
    folder = place.home / "agent/replicas" / job.spec.id
    for name in ("exit.json", "ended.json"):
        (folder / name).unlink()
    shutil.rmtree(place.run_dir / "replicas" / job.spec.id)  # as after a restart of the machine
    found = (await place.driver().observe()).replicas[job.spec.id]
    assert (found.stage, found.exit_code) == (Stage.EXITED, None)
