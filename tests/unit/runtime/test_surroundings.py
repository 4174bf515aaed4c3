"""A service's surroundings: environment, context, logging, and its log when it crashes."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.unit.runtime.replica_process import Process

from kaon.runtime.logs import read_only
from kaon.types.launch import PASSED_ON, STACKS_SIGNAL, Launch

START = Callable[..., Process]

CONTEXT = """
import asyncio, contextvars, decimal
from collections.abc import AsyncIterator, Iterator
import kaon

imported = contextvars.ContextVar("imported", default="no")
made = contextvars.ContextVar("made", default="no")
begun = contextvars.ContextVar("begun", default="no")
imported.set("yes")
decimal.getcontext().rounding = decimal.ROUND_HALF_UP

def seen() -> str:
    rounded = decimal.Decimal("2.5").quantize(decimal.Decimal("1"))
    answer = f"{imported.get()} {made.get()} {begun.get()} {rounded}"
    imported.set("changed by a call")
    decimal.getcontext().rounding = decimal.ROUND_DOWN
    return answer

async def app(scope, receive, send):
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": seen().encode()})

@kaon.service(mounts={"/app": app})
class Work:
    def __init__(self) -> None:
        made.set("yes")

    @kaon.on_start
    async def begin(self) -> None:
        begun.set("yes")

    @kaon.endpoint(method="GET")
    def threaded(self) -> str:
        return seen()

    @kaon.endpoint(method="GET", concurrency=1)
    def main(self) -> str:
        return seen()

    @kaon.endpoint(method="GET")
    async def coroutine(self) -> str:
        return seen()

    @kaon.endpoint(method="GET")
    async def waiting(self) -> str:
        await asyncio.sleep(0.001)
        return seen()

    @kaon.endpoint(batch=kaon.Batch(max_size=4))
    def batched(self, items: list[int]) -> list[str]:
        return [seen()] * len(items)

    @kaon.endpoint(batch=kaon.Batch(max_size=4))
    async def batched_async(self, items: list[int]) -> list[str]:
        return [seen()] * len(items)

    @kaon.endpoint(method="GET")
    def stream(self) -> Iterator[str]:
        yield seen()

    @kaon.endpoint(method="GET")
    async def stream_async(self) -> AsyncIterator[str]:
        yield seen()
"""


def test_every_kind_of_handler_runs_in_a_copy_of_the_context_of_its_class(start_replica: START) -> None:
    client = start_replica(CONTEXT).ready().client
    for _ in range(2):  # the second time as the first: no call sees what another one has set
        for path in ("/threaded", "/main", "/coroutine", "/waiting"):
            assert client.get(path).json() == "yes yes yes 3", path
        for path in ("/batched", "/batched-async"):
            assert client.post(path, json={"items": [1]}).json() == ["yes yes yes 3"], path
        for path in ("/stream", "/stream-async"):
            assert client.get(path).text == 'data: "yes yes yes 3"\n\n', path
        assert client.get("/app").text == "yes yes yes 3"


SETTINGS = """
import datetime, os
import kaon

os.environ["FROM_MODULE"] = "set by the module"

@kaon.service
class Work:
    def __init__(
        self, path: str = "weights", lang: str = "de", home: str = "h", user: str = "u", from_module: str = "",
        given: str = "", secret: str = "",
    ) -> None:
        self.told = [path, lang, home, user, from_module, given, secret]

    @kaon.endpoint(method="GET")
    def settings(self) -> list[str]:
        return self.told

    @kaon.endpoint(method="GET")
    def zone(self) -> str:
        return datetime.datetime.now().astimezone().strftime("%z")
"""


def test_settings_read_what_was_set_for_the_service_and_nothing_else(start_replica: START) -> None:
    process = start_replica(
        SETTINGS,
        environ={"USER": "somebody", "LANG": "C.UTF-8"},
        env={"GIVEN": "a variable"},
        secrets={"SECRET": "a secret"},
    ).ready()
    told = ["weights", "de", "h", "u", "set by the module", "a variable", "a secret"]
    assert process.client.get("/settings").json() == told


def test_a_name_that_every_process_has_is_read_when_the_deployment_sets_it(start_replica: START) -> None:
    process = start_replica(SETTINGS, env={"LANG": "C.UTF-8"}, secrets={"USER": "me"}).ready()
    assert process.client.get("/settings").json()[:4] == ["weights", "C.UTF-8", "h", "me"]


@pytest.mark.parametrize("given", [{"env": {"TZ": "Asia/Tokyo"}}, {"secrets": {"TZ": "Asia/Tokyo"}}])
def test_the_time_zone_is_obeyed(start_replica: START, given: dict[str, Any]) -> None:
    assert start_replica(SETTINGS, **given).ready().client.get("/zone").json() == "+0900"


def test_a_secret_that_comes_too_late_is_reported(start_replica: START) -> None:
    process = start_replica(SETTINGS, secrets={"PYTHONHASHSEED": "12345678"}).ready()
    process.popen.send_signal(signal.SIGTERM)
    assert "PYTHONHASHSEED is a secret: it is read when a process starts" in process.end()[2]


def _launch(**fields: Any) -> Launch:
    place = {"code_dir": "/code", "service_address": "unix:/s", "control_address": "unix:/c"}
    names = {"id": "1", "name": "n", "workspace": "w", "deployment": "d", "revision": 1, "entry": "m:C"}
    return Launch.model_validate({**names, **place, **fields})


def test_the_platforms_variables_win_and_thread_counts_give_way() -> None:
    env = {"KAON_DATA_DIR": "/mine", "OMP_NUM_THREADS": "7", "HOME": "/here"}
    told = _launch(env=env, data_dir="/data", cpus=2.5).environment({"HOME": "/base", "PATH": "/bin"})
    assert (told["KAON_DATA_DIR"], told["HOME"], told["PATH"]) == ("/data", "/here", "/bin")
    assert (told["OMP_NUM_THREADS"], told["MKL_NUM_THREADS"]) == ("7", "3")
    assert "KAON_EDGE_URL" not in told


def test_nothing_of_the_platform_is_passed_on() -> None:
    assert not [name for name in PASSED_ON if name.startswith(("KAON", "PYTHON", "PG"))]


LOGGING = """
import logging, logging.config, os
import kaon

how = os.environ["HOW"]
if how == "basicConfig":
    logging.basicConfig(level=logging.DEBUG, format="MINE %(levelname)s %(message)s")
elif how == "root handler":
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("MINE %(levelname)s %(message)s"))
    logging.getLogger().addHandler(handler)
    logging.getLogger().setLevel(logging.DEBUG)
elif how == "dictConfig":
    form = {"format": "MINE %(levelname)s %(message)s"}
    handlers = {"h": {"class": "logging.StreamHandler", "formatter": "f"}}
    root = {"level": "DEBUG", "handlers": ["h"]}
    logging.config.dictConfig({"version": 1, "formatters": {"f": form}, "handlers": handlers, "root": root})
elif how == "levels":
    logging.getLogger("mine").setLevel(logging.DEBUG)
elif how == "file":
    logging.getLogger().addHandler(logging.FileHandler(os.environ["FILE"]))

log = logging.getLogger("mine")

@kaon.service
class Work:
    @kaon.endpoint
    def talk(self) -> int:
        log.debug("a detail")
        log.info("a note")
        return 1

    @kaon.endpoint
    def fails(self) -> int:
        raise ValueError("our own fault")
"""


def _talk(start_replica: START, tmp_path: Path, how: str) -> list[str]:
    process = start_replica(LOGGING, environ={"HOW": how, "FILE": str(tmp_path / "own.log")}).ready()
    assert process.client.post("/talk", headers={"x-request-id": "talk-1"}).status_code == 200
    assert process.client.post("/fails", headers={"x-request-id": "fails-1"}).status_code == 500
    process.popen.send_signal(signal.SIGTERM)
    return process.end()[2].splitlines()


@pytest.mark.parametrize("how", ["basicConfig", "root handler", "dictConfig"])
def test_a_service_that_configures_logging_is_obeyed(start_replica: START, tmp_path: Path, how: str) -> None:
    lines = _talk(start_replica, tmp_path, how)
    mine = [line for line in lines if "a detail" in line or "a note" in line]
    assert mine == ["MINE DEBUG a detail", "MINE INFO a note"]
    told = [json.loads(line) for line in lines if line.startswith("{")]
    assert [entry["request_id"] for entry in told if "our own fault" in entry.get("exception", "")] == ["fails-1"]


@pytest.mark.parametrize(
    ("how", "seen"), [("nothing", ["a note"]), ("levels", ["a detail", "a note"]), ("file", ["a note"])]
)
def test_lines_are_json_with_their_request_id_by_default(
    start_replica: START, tmp_path: Path, how: str, seen: list[str]
) -> None:
    told = [json.loads(line) for line in _talk(start_replica, tmp_path, how)]
    mine = [entry for entry in told if entry["logger"] == "mine"]
    assert [entry["event"] for entry in mine] == seen
    assert {entry["request_id"] for entry in mine} == {"talk-1"}


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (PermissionError(errno.EACCES, "no", "cache.bin"), True),
        (PermissionError(errno.EACCES, "no", "/code/a/cache.bin"), True),
        (OSError(errno.EROFS, "no", "/code/cache.bin"), True),
        (PermissionError(errno.EACCES, "no", "/etc/shadow"), False),
        (FileNotFoundError(errno.ENOENT, "no", "cache.bin"), False),
        (ValueError("cache.bin"), False),
    ],
)
def test_a_write_into_the_code_has_a_hint_where_to_write(error: Exception, told: bool) -> None:
    assert ("kaon.data_dir()" in read_only(error, Path("/code"))) is told


CRASHES = """
import ctypes
import kaon

libc, mutex = ctypes.PyDLL(None), ctypes.create_string_buffer(64)

@kaon.service
class Work:
    def inner(self) -> int:
        return ctypes.string_at(0)[0]

    @kaon.endpoint
    def crash(self) -> int:
        return self.inner()

    @kaon.endpoint
    async def hold_the_interpreter(self) -> int:
        libc.pthread_mutex_lock(mutex)
        return libc.pthread_mutex_lock(mutex)
"""


def test_a_crash_in_native_code_tells_its_python_stack(start_replica: START) -> None:
    process = start_replica(CRASHES).ready()
    with contextlib.suppress(httpx2.TransportError):
        process.client.post("/crash")
    code, _, err = process.end()
    assert code == -signal.SIGSEGV
    assert "Fatal Python error: Segmentation fault" in err
    assert "in inner" in err


def test_stacks_are_shown_of_a_replica_that_holds_the_interpreter_forever(start_replica: START) -> None:
    process = start_replica(CRASHES).ready()
    with contextlib.suppress(httpx2.TransportError):
        process.client.post("/hold-the-interpreter", timeout=0.5)
    process.popen.send_signal(STACKS_SIGNAL)
    assert process.popen.stderr is not None
    told = b""
    while b"in hold_the_interpreter" not in told:
        told += os.read(process.popen.stderr.fileno(), 65_536)
    assert process.popen.poll() is None
