"""However a service makes processes: they share neither signals nor sockets with the replica."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.unit.runtime.replica_process import Process
from tests.waiting import eventually

START = Callable[..., Process]

CHILDREN = """
import multiprocessing, os, subprocess, sys, time
from concurrent.futures import ProcessPoolExecutor
import kaon

kept = []

def link(fd: str) -> str:
    try:
        return os.readlink("/proc/self/fd/" + fd)
    except OSError:
        return ""

def told() -> dict[str, object]:
    kinds = ("socket:", "anon_inode:[eventpoll]")
    return {"sockets": [name for fd in os.listdir("/proc/self/fd") if (name := link(fd)).startswith(kinds)]}

def rest() -> None:
    time.sleep(600)

def write(file: str) -> None:
    import json
    with open(file + ".new", "w") as out:
        json.dump(told(), out)
    os.rename(file + ".new", file)
    rest()

@kaon.service
class Work:
    @kaon.endpoint
    def begin(self, how: str, file: str) -> int:
        return self._begin(how, file)

    @kaon.endpoint(concurrency=1)
    def begin_in_main(self, how: str, file: str) -> int:
        return self._begin(how, file)

    @kaon.endpoint
    async def begin_on_loop(self, how: str, file: str) -> int:
        return self._begin(how, file)

    def _begin(self, how: str, file: str) -> int:
        if how == "os.fork":
            pid = os.fork()
            if pid == 0:
                write(file)
            return pid
        if how == "pool":
            pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork"))
            kept.append(pool)
            pool.submit(write, file)
            return next(iter(pool._processes))
        if how == "subprocess":
            code = f"import sys; sys.path.insert(0, {os.path.dirname(__file__)!r}); import work; work.write({file!r})"
            child = subprocess.Popen([sys.executable, "-c", code])
        else:
            child = multiprocessing.get_context(how).Process(target=write, args=(file,), daemon=True)
            child.start()
        kept.append(child)
        return child.pid

    @kaon.endpoint
    def comes_back(self, code: int) -> int:
        pid = os.fork()
        if pid == 0:
            if code:
                raise SystemExit(code)
            return 0
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    @kaon.endpoint
    async def echo(self, text: str) -> str:
        return text
"""


def _begun(process: Process, place: str, how: str, file: Path) -> int:
    pid = process.client.post(place, json={"how": how, "file": str(file)}).json()
    assert isinstance(pid, int), pid
    eventually(file.exists)
    return pid


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(
    ("place", "how"),
    [
        *(("/begin", how) for how in ("os.fork", "fork", "forkserver", "spawn", "pool", "subprocess")),
        *(("/begin-in-main", how) for how in ("os.fork", "fork", "spawn", "pool")),
        ("/begin-on-loop", "fork"),
        ("/begin-on-loop", "subprocess"),
    ],
)
def test_a_signal_to_a_child_ends_the_child_alone(start_replica: START, tmp_path: Path, place: str, how: str) -> None:
    process = start_replica(CHILDREN).ready()
    child = _begun(process, place, how, tmp_path / "told")
    told = (tmp_path / "told").read_text()
    assert '"sockets": []' in told or how == "forkserver", told
    os.kill(child, signal.SIGTERM)
    eventually(lambda: not _runs(child))
    assert process.client.post("/echo", json={"text": "a"}).json() == "a"
    assert process.control.get("/ready").json()["phase"] == "Ready"
    process.popen.send_signal(signal.SIGTERM)
    assert process.end()[0] == 0


def test_children_hold_no_connection_of_a_caller(start_replica: START, tmp_path: Path) -> None:
    process = start_replica(CHILDREN).ready()
    child = _begun(process, "/begin", "fork", tmp_path / "told")
    process.popen.send_signal(signal.SIGKILL)
    process.popen.wait(10)
    try:
        assert _runs(child)
        refused = subprocess.run(
            ["curl", "-sS", "-m", "5", "--unix-socket", str(tmp_path / "s"), "http://replica/echo"],
            capture_output=True,
            check=False,
        )
        assert refused.returncode == 7, "nobody listens: the child did not keep the listening socket"
    finally:
        os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize("code", [0, 3])
def test_a_child_that_comes_back_from_its_handler_ends(start_replica: START, code: int) -> None:
    process = start_replica(CHILDREN).ready()
    assert process.client.post("/comes-back", json={"code": code}).json() == code
    assert process.client.post("/echo", json={"text": "a"}).json() == "a"
