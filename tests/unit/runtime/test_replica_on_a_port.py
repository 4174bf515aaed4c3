"""Mounted apps, streams, keys and clients of a replica that is a process of its own."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest
from tests.waiting import eventually

import kaon
from kaon.errors import KaonError, Unavailable
from kaon.types.key import Access, Grant, key_hash
from kaon.types.launch import Launch

SERVICE = """
import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

import kaon

@asynccontextmanager
async def lifespan(app):
    print("up", flush=True)
    yield {"model": "loaded"}
    print("down", flush=True)

@asynccontextmanager
async def broken(app):
    raise RuntimeError("no model at /models/7")
    yield

async def state(request):
    return JSONResponse(request.state.model)

@kaon.service(mounts={"/ui": Starlette(routes=[Route("/state", state)], lifespan=lifespan)})
class Good:
    @kaon.endpoint
    def write(self) -> str:
        return "written"

    @kaon.endpoint(method="GET", media_type="audio/wav")
    def speak(self, fail_at: int = -1) -> Iterator[bytes]:
        for number, piece in enumerate([b"RIFF", b"\\x00\\xff", b"end"]):
            if number == fail_at:
                raise RuntimeError("no")
            yield piece

    @kaon.endpoint(method="GET")
    async def ticks(self) -> AsyncIterator[int]:
        while True:
            yield 1
            await asyncio.sleep(0.01)

@kaon.service(mounts={"/ui": Starlette(lifespan=broken)})
class Bad:
    @kaon.endpoint
    def write(self) -> str:
        return "written"
"""
KEY = "kaon_testing"
OPEN = Access(grants=(Grant(hash=key_hash(KEY), key="tester"),))
BOUND_S = 60.0


class Process:
    """A started replica on a port of this machine."""

    def __init__(self, folder: Path, entry: str) -> None:
        (folder / "mounting.py").write_text(SERVICE)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        launch = Launch(
            id="0123456789ab",
            name="work-1-0",
            workspace="default",
            deployment="work",
            revision=1,
            entry=f"mounting:{entry}",
            code_dir=str(folder),
            service_address=f"127.0.0.1:{self.port}",
            control_address=f"unix:{folder}/c",
            access=OPEN,
        )
        (folder / "launch.json").write_text(launch.model_dump_json())
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "kaon.runtime", "--launch", str(folder / "launch.json")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        transport = httpx2.HTTPTransport(uds=f"{folder}/c", verify=False)
        self.control = httpx2.Client(transport=transport, base_url="http://replica", timeout=BOUND_S)
        self.client = httpx2.Client(
            base_url=f"http://127.0.0.1:{self.port}", headers={"authorization": f"Bearer {KEY}"}, timeout=BOUND_S
        )

    def ready(self) -> None:
        eventually(lambda: self.popen.poll() is not None or self.control.get("/ready").status_code == 200)
        assert self.popen.poll() is None

    def end(self) -> str:
        """All that it said."""
        self.popen.terminate()
        return self.popen.communicate(timeout=BOUND_S)[0]


Start = Callable[[str], Process]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[Process] = []

    def begin(entry: str) -> Process:
        started.append(Process(tmp_path, entry))
        return started[-1]

    yield begin
    for process in started:
        process.popen.kill()
        process.popen.communicate()
        process.client.close()
        process.control.close()


def test_the_lifespan_of_a_mounted_app_surrounds_the_replicas_life(start: Start) -> None:
    process = start("Good")
    process.ready()
    assert process.client.get("/ui/state").json() == "loaded"
    said = process.end()
    assert said.index("up\n") < said.index("down\n")
    assert process.popen.returncode == 0


def test_a_startup_that_fails_ends_the_replica_with_the_reason(start: Start) -> None:
    process = start("Bad")
    said = process.popen.communicate(timeout=BOUND_S)[0]
    assert process.popen.returncode == 1
    assert "the app mounted at /ui did not start" in said
    assert "no model at /models/7" in said


def test_pages_of_other_sites_cannot_write_through_a_port(start: Start) -> None:
    process = start("Good")
    process.ready()
    assert process.client.post("/write").json() == "written"
    assert process.client.post("/write", headers={"origin": "http://localhost:3000"}).status_code == 200
    assert process.client.post("/write", headers={"origin": "https://evil.example"}).status_code == 403
    assert process.client.post("/write", headers={"host": f"evil.example:{process.port}"}).status_code == 403


def test_a_stream_ends_when_its_key_is_revoked(start: Start) -> None:
    process = start("Good")
    process.ready()
    with process.client.stream("GET", "/ticks") as answer:
        pieces = answer.iter_bytes()
        assert next(pieces)
        assert process.control.put("/access", content=Access().model_dump_json()).status_code == 204
        assert b"unauthenticated" in b"".join(pieces)


async def test_clients_give_the_bytes_of_a_raw_stream(start: Start) -> None:
    process = start("Good")
    process.ready()
    url = f"http://127.0.0.1:{process.port}"
    whole = b"RIFF\x00\xffend"
    with kaon.Client(url, KEY) as client:
        assert b"".join(client.speak()) == whole
        with pytest.raises(KaonError, match="failed while it handled"):
            list(client.speak(fail_at=0))
        pieces = client.speak(fail_at=2)
        assert next(pieces).startswith(b"RIFF")
        with pytest.raises(Unavailable, match="broke"):
            list(pieces)
    async with kaon.AsyncClient(url, KEY) as client:
        assert await client.speak() == whole
        assert b"".join([piece async for piece in client.speak()]) == whole
