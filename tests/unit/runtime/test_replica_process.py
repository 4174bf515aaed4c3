"""A replica as drivers start it: a process with a launch file, sockets, secrets on standard input, and signals."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.figures import Stopwatch, at_most
from tests.unit.runtime.replica_process import Process
from tests.waiting import eventually
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import unix_connect

from kaon.types.launch import EXIT_CONFIG

SERVICE = """
import asyncio, os, sys, threading, time
from collections.abc import AsyncIterator
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
import kaon

async def hear(socket: kaon.WebSocket) -> None:
    await socket.accept()
    async for text in socket.iter_text():
        await socket.send_text(text)
    print("heard out")

@kaon.service(mounts={"/ui": Starlette(routes=[WebSocketRoute("/hear", hear)])})
class Work:
    def __init__(self, token: str = "", needed: str = "given") -> None:
        self.token = token
        self.made_in_main = threading.current_thread() is threading.main_thread()
        print("constructed with", token)
        if os.environ.get("LOAD_GATE"):
            while not os.path.exists(os.environ["LOAD_GATE"]):
                time.sleep(0.005)

    @kaon.on_start
    async def warm(self) -> None:
        self.loop = asyncio.get_running_loop()

    @kaon.on_stop
    def bye(self) -> None:
        print("bye")

    @kaon.endpoint
    async def echo(self, text: str, wait_s: float = 0.0) -> str:
        assert asyncio.get_running_loop() is self.loop
        await asyncio.sleep(wait_s)
        return text

    @kaon.endpoint(method="GET")
    def told(self) -> list[str | bool]:
        return [self.token, self.made_in_main, os.environ.get("PLAIN", ""), str(kaon.data_dir())]

    @kaon.endpoint(method="GET")
    async def slow_stream(self) -> AsyncIterator[int]:
        for number in range(5):
            yield number
            await asyncio.sleep(0.1)

    @kaon.endpoint
    async def hear(self, socket: kaon.WebSocket) -> None:
        await hear(socket)

    @kaon.endpoint
    async def fails(self) -> int:
        raise ValueError(f"the token is {self.token}")

@kaon.service
class Broken:
    def __init__(self) -> None:
        raise RuntimeError("no device")

    @kaon.endpoint
    def echo(self, text: str) -> str:
        return text

@kaon.service
class Caller:
    def __init__(self) -> None:
        self.other = kaon.use("other")

    @kaon.endpoint
    def echo(self, text: str) -> str:
        return text

@kaon.service
class Strict:
    def __init__(self, endpoint_url: str) -> None: ...

    @kaon.endpoint
    def echo(self, text: str) -> str:
        return text
"""

Start = Callable[..., Process]


@pytest.fixture
def start(start_replica: Callable[..., Process]) -> Start:
    return partial(start_replica, SERVICE)


def test_it_is_alive_before_the_class_is_constructed(start: Start, tmp_path: Path) -> None:
    process = start(environ={"LOAD_GATE": str(tmp_path / "gate")})
    eventually(lambda: process.health("/live") == 200)
    assert process.health("/ready") == 503
    loading = process.client.post("/echo", json={"text": "a"})
    assert (loading.status_code, loading.headers["retry-after"]) == (503, "1")
    (tmp_path / "gate").touch()
    process.ready()
    assert process.client.post("/echo", json={"text": "a"}).json() == "a"


def test_environment_secrets_data_and_hooks_reach_the_service(start: Start, tmp_path: Path) -> None:
    process = start(secrets={"TOKEN": "s3cret-value"}, env={"PLAIN": "shown"}).ready()
    assert process.client.get("/told").json() == ["s3cret-value", True, "shown", str(tmp_path / "data")]


def test_secrets_are_neither_in_proc_nor_in_log_records(start: Start) -> None:
    process = start(secrets={"TOKEN": "s3cret-value"}).ready()
    assert b"s3cret-value" not in Path(f"/proc/{process.popen.pid}/environ").read_bytes()
    assert process.client.post("/fails", json={}).status_code == 500
    process.popen.send_signal(signal.SIGTERM)
    lines = [line for line in process.end()[2].splitlines() if line.startswith("{")]
    failed = next(entry for entry in map(json.loads, lines) if entry["level"] == "error")
    assert failed["request_id"]
    assert "the token is ******" in failed["exception"]


def test_a_missing_setting_ends_it_with_78_and_plain_words(start: Start) -> None:
    code, _, err = start(entry="work:Strict").end()
    assert code == EXIT_CONFIG
    assert "ENDPOINT_URL (str) is missing" in err
    assert "Traceback" not in err


def test_a_service_that_calls_what_it_does_not_declare_ends_with_78_and_the_line_to_write(start: Start) -> None:
    code, _, err = start(entry="work:Caller", edge_url="http://edge.example").end()
    assert (code, 'uses=("other",)' in err, "Traceback" in err) == (EXIT_CONFIG, True, False), err


def test_an_artifact_of_an_older_kaon_may_call_what_it_likes(start: Start) -> None:
    process = start(entry="work:Caller", edge_url="http://edge.example", uses_any=True).ready()
    assert process.client.post("/echo", json={"text": "a"}).json() == "a"


@pytest.mark.parametrize(("entry", "expected"), [("nowhere:Work", "no module nowhere"), ("work:Nobody", "no class")])
def test_a_class_that_cannot_be_imported_ends_it_with_78(start: Start, entry: str, expected: str) -> None:
    code, _, err = start(entry=entry).end()
    assert (code, expected in err) == (EXIT_CONFIG, True), err


def test_a_constructor_that_fails_is_a_crash_with_its_traceback(start: Start) -> None:
    code, _, err = start(entry="work:Broken").end()
    assert code == 1
    assert "no device" in err


def test_sigterm_answers_what_is_in_flight_and_what_still_arrives(start: Start) -> None:
    process = start().ready()
    answers: list[Any] = []
    flying = threading.Thread(
        target=lambda: answers.append(process.client.post("/echo", json={"text": "in flight", "wait_s": 0.8}).json())
    )
    flying.start()
    eventually(lambda: process.control.get("/ready").json()["in_flight"] == 1)
    process.popen.send_signal(signal.SIGTERM)
    eventually(lambda: process.health() == 503)
    assert process.control.get("/ready").json()["phase"] == "Draining"
    late = process.client.post("/echo", json={"text": "late"})
    assert (late.json(), late.headers["connection"]) == ("late", "close")
    flying.join()
    assert answers == ["in flight"]
    code, out, err = process.end()
    assert (code, "bye" in out) == (0, True), err


def test_sigterm_lets_a_stream_come_to_its_end(start: Start) -> None:
    process = start(drain_s=60.0).ready()
    with process.client.stream("GET", "/slow-stream") as answer:
        lines = answer.iter_lines()
        assert next(lines) == "data: 0"
        process.popen.send_signal(signal.SIGTERM)
        assert [line for line in lines if line] == [f"data: {n}" for n in range(1, 5)]
    assert process.end()[0] == 0


@pytest.mark.parametrize("path", ["/hear", "/ui/hear"])
def test_a_websocket_goes_on_while_its_replica_drains_and_is_then_told_to_connect_again(
    start: Start, path: str
) -> None:
    process = start(drain_s=2.0).ready()
    with unix_connect(f"{process.folder}/s", f"ws://replica{path}") as socket:
        process.popen.send_signal(signal.SIGTERM)
        eventually(lambda: process.health() == 503)
        socket.send("still here")
        assert socket.recv() == "still here"
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1012
    code, out, err = process.end()
    assert (code, "heard out" in out) == (0, True), err


def test_drain_is_bounded_and_tells_those_it_leaves(start: Start) -> None:
    process = start(drain_s=0.5).ready()
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(process.client.post, "/echo", json={"text": "a", "wait_s": 600})
        eventually(lambda: process.control.get("/ready").json()["in_flight"] == 1)
        process.popen.send_signal(signal.SIGTERM)
        left = call.result()
    assert (left.status_code, left.json()["code"]) == (503, "unavailable")
    assert process.end()[0] == 0


def test_an_idle_replica_stops_by_a_signal(start: Start) -> None:
    process = start().ready()
    process.client.post("/echo", json={"text": "a"})
    watch = Stopwatch()
    process.popen.send_signal(signal.SIGTERM)
    assert process.end()[0] == 0
    at_most("seconds until it has stopped", watch.seconds, 3)


def test_sigterm_while_loading_ends_it_at_once(start: Start, tmp_path: Path) -> None:
    process = start(environ={"LOAD_GATE": str(tmp_path / "never")})
    eventually(lambda: process.health("/live") == 200)
    process.popen.send_signal(signal.SIGTERM)
    assert process.end()[0] == 0


def test_sockets_are_for_their_owner_only(start: Start, tmp_path: Path) -> None:
    start().ready()
    assert (tmp_path / "s").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "c").stat().st_mode & 0o777 == 0o600


def test_a_replica_is_small(start: Start) -> None:
    process = start().ready()
    process.client.post("/echo", json={"text": "a"})
    assert psutil.Process(process.popen.pid).memory_full_info().pss < 60 * 2**20


def test_a_replica_loads_nothing_that_it_does_not_need() -> None:
    heavy = [
        "fastapi",
        "sqlalchemy",
        "cryptography",
        "typer",
        "rich",
        "httpx2",
        "starlette",
        "numpy",
        "prometheus_client",
    ]
    code = f"import sys, kaon.runtime.service; print([m for m in {heavy!r} if m in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert loaded.strip() == "[]"


def test_a_bad_launch_file_is_reported(tmp_path: Path) -> None:
    (tmp_path / "launch.json").write_text('{"id": "x"}')
    ended = subprocess.run(
        [sys.executable, "-m", "kaon.runtime", "--launch", str(tmp_path / "launch.json")],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, "cannot be launched" in ended.stderr) == (EXIT_CONFIG, True)
