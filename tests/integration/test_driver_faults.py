"""Faults of the process driver: every end has a reason, and nothing waits without end."""

import asyncio
import contextlib
import gzip
import io
import shutil
import signal
import tarfile
import tempfile
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest
from tests.figures import at_least
from tests.waiting import until

from kaon import processes
from kaon.agent.observe.probes import ControlSockets
from kaon.build import archive
from kaon.build.limits import DEFAULT_LIMITS
from kaon.drivers.fake import Behaviour
from kaon.drivers.port import Driver, Workload
from kaon.drivers.process import preparation
from kaon.drivers.process.capacity import Machine, free_gpus, gpu_variables, this_machine
from kaon.drivers.process.driver import RUNTIME
from kaon.drivers.process.places import Places
from kaon.drivers.process.preparation import AT_ONCE, ArtifactPreparer, Preparation
from kaon.drivers.process.workers import Workers
from kaon.errors import Unavailable
from kaon.testing.drivers import ended, observed, running, sample_workload, with_launch, with_spec
from kaon.testing.places import ProcessPlace, pack_files
from kaon.types.key import Access
from kaon.types.replica import Phase

from .test_process_driver import ask, ask_for_too_much


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[ProcessPlace]:
    run_dir = Path(tempfile.mkdtemp(prefix="kaon-"))
    place = ProcessPlace(tmp_path, run_dir)
    yield place
    await place.close()
    shutil.rmtree(run_dir)


# Installing


async def test_a_manifest_of_another_version_is_the_reason_of_the_end(
    place: ProcessPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver, workload = place.driver(), sample_workload(place.artifact)
    folder = Places(place.home / "agent", place.run_dir).artifact(place.artifact)
    folder.mkdir(parents=True)
    (folder / archive.MANIFEST).write_text('{"from": "the future"}')
    await driver.start(workload)
    observation = await observed(driver, workload.spec.id, ended)
    assert observation.reason.startswith("The artifact was made by another version of Kaon")


async def test_a_launch_file_that_cannot_be_written_is_the_reason_of_the_end(place: ProcessPlace) -> None:
    driver, workload = place.driver(), sample_workload(place.artifact)
    folder = Places(place.home / "agent", place.run_dir).replica(workload.spec.id)
    folder.parent.mkdir(parents=True)
    folder.write_text("in the way")
    await driver.start(workload)
    observation = await observed(driver, workload.spec.id, ended)
    assert observation.reason.startswith("It cannot be started: ")
    folder.unlink()
    await driver.start(workload)
    await observed(driver, workload.spec.id, running)


async def test_an_error_that_nobody_thought_of_is_the_reason_of_the_end(
    place: ProcessPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> int:
        raise ZeroDivisionError("by nought")

    monkeypatch.setattr(processes, "spawn", broken)
    driver, workload = place.driver(), sample_workload(place.artifact)
    await driver.start(workload)
    assert (await observed(driver, workload.spec.id, ended)).reason == "It cannot be started: by nought."


class Hanging:
    """Installs that wait until they are let go, whatever the artifact."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.go = threading.Event()
        self.begun = 0
        self._lock = threading.Lock()
        monkeypatch.setattr(preparation.archive, "extract", self._extract)

    def _extract(self, file: Path, target: Path, *_: object, digest: str) -> object:
        with self._lock:
            self.begun += 1
        assert file.exists(), "what is queued is still there when its turn comes"
        self.go.wait()
        return archive.read_manifest(file, digest=digest)


async def test_installs_that_hang_do_not_hold_up_the_memory_watch(
    place: ProcessPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver, hungry = place.driver(), sample_workload(place.artifact)
    limited = hungry.spec.resources.model_copy(update={"memory_bytes": 16 * 2**20})
    hungry = with_spec(hungry, {"resources": limited})
    await driver.start(hungry)
    await observed(driver, hungry.spec.id, running)
    await ask(driver, hungry.spec.id)
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2))
    hanging = Hanging(monkeypatch)
    try:
        for number in range(2 * AT_ONCE):
            digest, _ = pack_files(place.home, "echo:Echo", {"echo.py": b"n = %d\n" % number})
            await driver.start(sample_workload(digest, ordinal=number + 1))
        await until(lambda: hanging.begun == AT_ONCE)
        await ask_for_too_much(driver, hungry.spec.id)
        observation = await observed(driver, hungry.spec.id, ended)
        assert "its limit is 16 MiB" in observation.reason
        assert hanging.begun == AT_ONCE, "no more at once than that"
    finally:
        hanging.go.set()


async def test_downloads_are_kept_until_they_are_unpacked_and_no_longer(
    place: ProcessPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    hanging = Hanging(monkeypatch)
    count = 3 * AT_ONCE
    made = [pack_files(place.home, "echo:Echo", {"echo.py": b"n = %d\n" % n}) for n in range(count)]
    files = dict(made)

    async def fetch(digest: str) -> Path:
        place.fetched.append(digest)
        return files[digest]

    place.fetch = fetch  # type: ignore[method-assign]
    driver = place.driver()
    for number, digest in enumerate(files):
        await driver.start(sample_workload(digest, ordinal=number))
    await until(lambda: len(place.fetched) == count and hanging.begun == AT_ONCE)
    assert all(file.exists() for file in files.values())
    hanging.go.set()
    await until(lambda: not any(file.exists() for file in files.values()))
    assert hanging.begun == count


async def test_an_install_that_hangs_is_given_up_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hanging = Hanging(monkeypatch)
    place = ProcessPlace(tmp_path, tmp_path / "run")
    places = Places(tmp_path / "agent", tmp_path / "run")
    artifacts = ArtifactPreparer(place.fetch, Workers("install", 1), DEFAULT_LIMITS)
    done: list[str] = []
    with pytest.raises(Unavailable, match=r"not installed within 0 minutes\. It was unpacking the artifact\."):
        await Preparation(places, [artifacts], within_s=0.5).prepare(place.artifact, done.append)
    assert done == ["fetching the artifact", "unpacking the artifact"]
    hanging.go.set()


async def test_bytes_that_are_no_artifact_are_fetched_anew_by_the_next_start(place: ProcessPlace) -> None:
    good = place.file
    out = io.BytesIO()
    with gzip.open(out, "wb") as packed, tarfile.open(fileobj=packed, mode="w"):
        pass
    place.file = place.home / "broken"
    place.file.write_bytes(out.getvalue()[:-3])
    driver, workload = place.driver(), sample_workload(place.artifact)
    await driver.start(workload)
    assert (await observed(driver, workload.spec.id, ended)).reason
    place.file = good
    await driver.start(workload)
    await observed(driver, workload.spec.id, running)


# Ending


async def test_a_replica_whose_children_do_not_end_is_seen_as_ended_and_they_are_told(
    place: ProcessPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver, workload = place.driver(), sample_workload(place.artifact, Behaviour(ends_after_s=0.2))
    await driver.start(workload)
    await observed(driver, workload.spec.id, running)

    async def stuck(*_: object, **__: object) -> None:
        raise Unavailable("Processes [7] do not end, even when killed.")

    with monkeypatch.context() as patched:
        patched.setattr(processes, "stop", stuck)
        observation = await observed(driver, workload.spec.id, ended)
        assert (observation.exit_code, observation.reason[-43:]) == (1, "Processes [7] do not end, even when killed.")
        await driver.start(workload)
        again = await observed(driver, workload.spec.id, lambda s: ended(s) and s.exit_code is None)
        assert again.reason == "Processes [7] do not end, even when killed."
        with pytest.raises(Unavailable):
            await driver.stop(workload.spec.id, 0)
    await driver.start(workload)
    await observed(driver, workload.spec.id, running)


async def test_what_an_earlier_agent_left_and_cannot_be_taken_over_does_not_stop_a_new_one(
    place: ProcessPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, workload = place.driver(), sample_workload(place.artifact)
    await first.start(workload)
    await observed(first, workload.spec.id, running)
    await first.close()
    launch = Places(place.home / "agent", place.run_dir).launch_file(workload.spec.id)
    launch.write_text('{"from": "the future"}')

    async def stuck(*_: object, **__: object) -> None:
        raise Unavailable("Processes [7] do not end, even when killed.")

    with monkeypatch.context() as patched:
        patched.setattr(processes, "stop", stuck)
        assert (await place.driver().observe()).replicas == {}
    assert (await place.driver().observe()).replicas == {}


# Replicas that are busy, and those that crash, with the real runtime


RISKY = b"""
import ctypes
import os
import time

import kaon

@kaon.service
class Risky:
    @kaon.endpoint(timeout_s=300)
    async def blocks(self, gate: str) -> str:
        while not os.path.exists(gate):
            time.sleep(0.01)
        return "done"

    @kaon.endpoint
    def harmless(self) -> str:
        raise ValueError("an old and harmless error")

    @kaon.endpoint
    def crashes(self) -> int:
        return self.inner()

    def inner(self) -> int:
        return ctypes.string_at(0)[0]
"""


async def risky(place: ProcessPlace) -> tuple[Driver, str, httpx2.AsyncClient]:
    """A driver with the real runtime, a replica of `Risky` that is ready, and a client of its service socket."""
    digest, place.file = pack_files(place.home, "risky:Risky", {"risky.py": RISKY})
    driver = place.driver(RUNTIME)
    workload = with_launch(sample_workload(digest), {"access": Access(public=True)})
    await driver.start(workload)
    observation = await observed(driver, workload.spec.id, running)
    sockets = ControlSockets()

    async def ready() -> bool:
        with contextlib.suppress(Unavailable):
            return (await sockets.health(observation.control_address or "")).phase == Phase.READY
        return False

    await until(ready)
    sockets.let_go(observation.control_address or "")
    transport = httpx2.AsyncHTTPTransport(uds=(observation.service_address or "").removeprefix("unix:"), verify=False)
    return driver, workload.spec.id, httpx2.AsyncClient(transport=transport, base_url="http://replica", timeout=60)


async def test_of_a_replica_that_answers_nothing_its_calls_and_its_stacks_are_known(
    place: ProcessPlace, tmp_path: Path
) -> None:
    driver, replica, client = await risky(place)
    async with client:
        body, name = {"gate": str(tmp_path / "gate")}, {"x-request-id": "the-one"}
        call = asyncio.create_task(client.post("/blocks", json=body, headers=name))
        noted = await until(lambda: driver.flights(replica))
        assert [flight.request_id for flight in noted] == ["the-one"]
        assert 0 < noted[0].left_s <= 300
        at_least("seconds left of a call that has just begun", noted[0].left_s, 200)
        await driver.show_stacks(replica)
        async for line in driver.logs(replica, tail=1000, follow=True):
            if line.text.endswith(" in blocks"):
                break
        (tmp_path / "gate").touch()
        assert (await call).json() == "done"

        async def is_over() -> bool:
            return await driver.flights(replica) == ()

        await until(is_over, "the call is no longer noted")


async def test_a_native_crash_is_told_by_its_own_place_and_names_the_request(place: ProcessPlace) -> None:
    driver, replica, client = await risky(place)
    async with client:
        assert (await client.post("/harmless", json={})).status_code == 500
        with pytest.raises(httpx2.TransportError):
            await client.post("/crashes", json={}, headers={"x-request-id": "the-one"})
    observation = await observed(driver, replica, ended)
    assert observation.exit_code == -signal.SIGSEGV
    assert observation.reason.startswith("It was killed by SIGSEGV: Segmentation fault in string_at (__init__.py:")
    assert ", called by inner (risky.py:" in observation.reason
    assert observation.last_lines[0] == "Fatal Python error: Segmentation fault"
    assert observation.blamed == ("the-one",)


# GPUs


def gpus(folder: Path, count: int) -> Path:
    for name in [*(f"nvidia{number}" for number in range(count)), "nvidiactl", "nvidia-uvm", "null"]:
        (folder / name).touch()
    return folder


def with_gpus(place: ProcessPlace, ordinal: int, count: int, **env: str) -> Workload:
    workload = sample_workload(place.artifact, ordinal=ordinal)
    wanted = workload.spec.resources.model_copy(update={"gpus": count})
    return with_spec(workload, {"resources": wanted, "env": {**workload.spec.env, **env}})


async def visible(driver: Driver, workload: Workload) -> str:
    await observed(driver, workload.spec.id, running)
    environ = (await ask(driver, workload.spec.id))["environ"]
    assert isinstance(environ, dict)
    return str(environ["CUDA_VISIBLE_DEVICES"])


async def test_each_replica_has_its_gpus_alone_and_what_ended_gives_them_back(
    place: ProcessPlace, tmp_path: Path
) -> None:
    devices = tmp_path / "dev"
    devices.mkdir()
    driver = place.driver(devices=gpus(devices, 3))
    one, two, none = (with_gpus(place, number, count) for number, count in enumerate((1, 2, 0)))
    for workload in (one, two, none):
        await driver.start(workload)
    assert [await visible(driver, workload) for workload in (one, two, none)] == ["0", "1,2", ""]
    more = with_gpus(place, 4, 1)
    with pytest.raises(Unavailable, match="No GPUs left: 1 wanted, 0 of 3 GPUs are free here"):
        await driver.start(more)
    await driver.stop(one.spec.id, 10)
    await driver.start(more)
    assert await visible(driver, more) == "0"


async def test_a_new_agent_knows_which_gpus_are_taken(place: ProcessPlace, tmp_path: Path) -> None:
    devices = tmp_path / "dev"
    devices.mkdir()
    first, workload = place.driver(devices=gpus(devices, 2)), with_gpus(place, 0, 1)
    await first.start(workload)
    assert await visible(first, workload) == "0"
    await first.close()
    second, other = place.driver(devices=devices), with_gpus(place, 1, 1)
    await second.start(other)
    assert await visible(second, other) == "1"


async def test_without_a_gpu_there_is_no_capacity_and_the_reason_says_so(place: ProcessPlace, tmp_path: Path) -> None:
    driver = place.driver(devices=tmp_path)
    with pytest.raises(Unavailable, match="this machine has no GPU"):
        await driver.start(with_gpus(place, 0, 1))
    assert (await driver.observe()).replicas == {}


async def test_a_deployment_cannot_name_gpus_that_are_not_its_own(place: ProcessPlace, tmp_path: Path) -> None:
    driver = place.driver(devices=tmp_path)
    workload = with_gpus(place, 0, 0, CUDA_VISIBLE_DEVICES="0")
    await driver.start(workload)
    assert await visible(driver, workload) == ""
    launch = Places(place.home / "agent", place.run_dir).launch_file(workload.spec.id)
    assert "CUDA_VISIBLE_DEVICES" not in launch.read_text()


@pytest.mark.parametrize(
    ("count", "visible", "found"),
    [
        (2, None, ("0", "1")),
        (2, "1", ("1",)),
        (2, "GPU-a, GPU-b", ("GPU-a", "GPU-b")),
        (2, "", ()),
        (2, "-1", ()),
        (2, "0,-1,1", ("0",)),
        (2, "0,0", ("0",)),
        (0, "0", ()),
        (0, None, ()),
    ],
)
def test_the_gpus_are_those_that_the_platform_itself_may_see(
    tmp_path: Path, count: int, visible: str | None, found: tuple[str, ...]
) -> None:
    environment = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    assert this_machine(gpus(tmp_path, count), environment).gpus == found


def test_gpus_are_given_out_in_order_and_never_twice() -> None:
    machine = Machine(cpus=1, memory_bytes=1, gpus=("0", "1", "2"))
    assert free_gpus(machine, {"0"}, 2) == ("1", "2")
    assert free_gpus(machine, (), 0) == ()
    assert gpu_variables(("1", "2"))["CUDA_VISIBLE_DEVICES"] == "1,2"
    assert gpu_variables(())["CUDA_VISIBLE_DEVICES"] == ""
