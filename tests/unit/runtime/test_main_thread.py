"""Constructors, hooks and handlers with concurrency=1 share the main thread, and no signal is lost."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from tests.unit.runtime.replica_process import Process
from tests.waiting import eventually

START = Callable[..., Process]

PLACES = """
import asyncio, threading
from collections.abc import AsyncIterator, Iterator
import kaon

def here() -> str:
    return threading.current_thread().name

imported = here()

@kaon.service
class Work:
    def __init__(self) -> None:
        self.made = here()
        self.now = 0

    @kaon.on_start
    def begin(self) -> None:
        self.begun = here()

    @kaon.on_start
    async def begin_async(self) -> None:
        self.loop = asyncio.get_running_loop()

    @kaon.on_stop
    def stop(self) -> None:
        print("stopped in", here())

    @kaon.endpoint(method="GET")
    def start(self) -> list[str]:
        return [imported, self.made, self.begun]

    @kaon.endpoint(method="GET", concurrency=1)
    def one(self) -> str:
        return here()

    @kaon.endpoint(method="GET", concurrency=1)
    def stream(self) -> Iterator[str]:
        yield here()

    @kaon.endpoint(concurrency=1, batch=kaon.Batch(max_size=4))
    def batched(self, items: list[int]) -> list[str]:
        return [here() for _ in items]

    @kaon.endpoint(method="GET")
    def several(self) -> str:
        return here()

    @kaon.endpoint(method="GET")
    async def same_loop(self) -> bool:
        return asyncio.get_running_loop() is self.loop

    @kaon.endpoint(method="GET")
    async def program(self) -> str:
        process = await asyncio.create_subprocess_exec("echo", "ran", stdout=asyncio.subprocess.PIPE)
        return (await process.communicate())[0].decode().strip()

    @kaon.endpoint(method="GET", concurrency=1)
    def own_loop(self) -> int:
        async def seven() -> int:
            await asyncio.sleep(0)
            return 7
        return asyncio.run(seven())
"""


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_what_is_bound_to_a_thread_meets_one_thread(start_replica: START, loop: str) -> None:
    process = start_replica(PLACES, loop=loop).ready()
    get = process.client.get
    assert get("/start").json() == ["MainThread"] * 3
    assert get("/one").json() == "MainThread"
    assert get("/stream").text == 'data: "MainThread"\n\n'
    assert process.client.post("/batched", json={"items": [1]}).json() == ["MainThread"]
    assert get("/several").json() != "MainThread"
    assert get("/same-loop").json() is True
    assert get("/program").json() == "ran"
    assert get("/own-loop").json() == 7
    process.popen.send_signal(signal.SIGTERM)
    code, out, err = process.end()
    assert (code, "stopped in MainThread" in out) == (0, True), err


COUNTS = """
import threading, time
import kaon

@kaon.service
class Work:
    def __init__(self) -> None:
        self.now = self.most = 0

    def work(self) -> int:
        self.now += 1
        self.most = max(self.most, self.now)
        time.sleep(0.01)
        self.now -= 1
        return self.most

    @kaon.endpoint(method="GET", concurrency=1)
    def a(self) -> int:
        return self.work()

    @kaon.endpoint(method="GET", concurrency=1)
    def b(self) -> int:
        return self.work()
"""


def test_handlers_that_run_one_at_a_time_do_so_across_endpoints(start_replica: START) -> None:
    process = start_replica(COUNTS).ready()
    answers: list[int] = []

    def call(path: str) -> None:
        answers.extend(process.client.get(path).json() for _ in range(5))

    callers = [threading.Thread(target=call, args=(path,)) for path in ("/a", "/b") * 3]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert answers == [1] * 30


HANDLERS = """
import asyncio, ctypes, os, signal, threading
import kaon

libc, mutex = ctypes.CDLL(None), ctypes.create_string_buffer(64)

@kaon.service
class Work:
    def __init__(self) -> None:
        how = os.environ["HOW"]
        if how == "own handlers":
            signal.signal(signal.SIGTERM, lambda *_: print("the service's own handler"))
            signal.signal(signal.SIGUSR1, lambda *_: None)
        elif how == "ignored":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        elif how == "default":
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        elif how == "own wakeup":
            signal.set_wakeup_fd(-1)
        elif how == "own loop":
            import uvloop
            uvloop.run(asyncio.sleep(0))
        elif how == "native handler":
            ctypes.CDLL(None).signal(signal.SIGTERM, 1)
        elif how == "thread":
            threading.Thread(target=threading.Event().wait).start()

    @kaon.on_stop
    def stop(self) -> None:
        print("stopped")

    @kaon.endpoint(concurrency=1)
    def native(self) -> int:
        libc.pthread_mutex_lock(mutex)
        return int(libc.pthread_mutex_lock(mutex))  # until `free`, in one native call that no signal interrupts

    @kaon.endpoint
    def free(self) -> int:
        return int(libc.pthread_mutex_unlock(mutex))

    @kaon.endpoint
    async def echo(self, text: str) -> str:
        return text
"""


@pytest.mark.parametrize(
    "how", ["nothing", "own handlers", "ignored", "default", "own wakeup", "own loop", "native handler", "thread"]
)
def test_sigterm_drains_whatever_a_constructor_did_to_signals(start_replica: START, how: str) -> None:
    process = start_replica(HANDLERS, environ={"HOW": how}).ready()
    process.popen.send_signal(signal.SIGTERM)
    code, out, err = process.end()
    assert (code, out) == (0, "stopped\n"), err


def test_sigterm_reaches_the_loop_while_the_main_thread_is_in_native_code(start_replica: START) -> None:
    process = start_replica(HANDLERS, environ={"HOW": "nothing"}).ready()
    answers: list[Any] = []
    caller = threading.Thread(target=lambda: answers.append(process.client.post("/native").json()))
    caller.start()
    eventually(lambda: process.control.get("/ready").json()["in_flight"] == 1)
    process.popen.send_signal(signal.SIGTERM)
    eventually(lambda: process.control.get("/ready").json()["phase"] == "Draining")
    assert answers == []
    assert process.client.post("/free").json() == 0
    caller.join()
    assert answers == [0]
    assert process.end()[0] == 0


def test_a_handler_beyond_the_time_to_drain_does_not_keep_the_process(start_replica: START) -> None:
    process = start_replica(HANDLERS, environ={"HOW": "nothing"}, drain_s=0.5).ready()

    def call() -> None:
        with contextlib.suppress(httpx2.TransportError):
            process.client.post("/native")

    caller = threading.Thread(target=call)
    caller.start()
    eventually(lambda: process.control.get("/ready").json()["in_flight"] == 1)
    process.popen.send_signal(signal.SIGTERM)
    assert process.end()[0] == 0
    caller.join()


LATE = """
import time
import kaon

ran: list[str] = []

@kaon.service
class Work:
    @kaon.endpoint(concurrency=1)
    def slow(self, seconds: float) -> str:
        time.sleep(seconds)
        return "slow"

    @kaon.endpoint(concurrency=1)
    def noted(self, text: str) -> str:
        ran.append(text)
        return text

    @kaon.endpoint(method="GET")
    def ran(self) -> list[str]:
        return ran
"""


def test_a_call_that_timed_out_while_the_main_thread_was_busy_is_not_begun(start_replica: START) -> None:
    process = start_replica(LATE).ready()
    slow = threading.Thread(target=lambda: process.client.post("/slow", json={"seconds": 1.0}))
    slow.start()
    eventually(lambda: process.control.get("/ready").json()["in_flight"] == 1)
    late = process.client.post("/noted", json={"text": "late"}, headers={"x-request-timeout": "0.1"})
    assert late.status_code == 504
    slow.join()
    assert process.client.post("/noted", json={"text": "next"}).json() == "next"
    assert process.client.get("/ran").json() == ["next"]


LOOPS = """
import asyncio
import kaon

@kaon.service(loop="asyncio")
class Work:
    @kaon.endpoint(method="GET")
    async def loop(self) -> str:
        return type(asyncio.get_running_loop()).__module__
"""


@pytest.mark.parametrize(
    ("source", "told", "found"),
    [(LOOPS, None, "asyncio"), (LOOPS.replace('(loop="asyncio")', ""), None, "uvloop"), (LOOPS, "asyncio", "asyncio")],
)
def test_the_class_chooses_its_loop(start_replica: START, source: str, told: str | None, found: str) -> None:
    process = start_replica(source, loop=told).ready()
    assert process.client.get("/loop").json().partition(".")[0] == found
