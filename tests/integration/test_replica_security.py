"""S1 of a replica: every kind of endpoint x every kind of key, on the real process, by HTTP, SSE and WebSocket."""

from __future__ import annotations

import asyncio
import base64
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
import websockets
from tests.waiting import eventually, until
from websockets.exceptions import InvalidStatus

from kaon.errors import PROBLEM_JSON
from kaon.types.key import Access, Grant, key_hash
from kaon.types.launch import Launch

SERVICES = Path(__file__).parent / "services"
JSON: dict[str, Any] = {"json": {"text": "x"}}
HTTP: dict[str, tuple[str, str, dict[str, Any]]] = {
    "root": ("GET", "/?user=1", {}),
    "plain": ("POST", "/instant", JSON),
    "plain, chunked": ("POST", "/instant", {"chunks": b'{"text": "x"}'}),
    "plain, escaped path": ("POST", "/inst%61nt", JSON),
    "plain, by HEAD": ("HEAD", "/?user=1", {}),
    "in a thread": ("POST", "/threaded", JSON),
    "batched": ("POST", "/batched", {"json": {"texts": ["x"]}}),
    "form": ("POST", "/upload", {"files": {"file": ("a.txt", b"x")}}),
    "server-sent events": ("POST", "/tokens", JSON | {"headers": {"accept": "text/event-stream"}}),
    "lines": ("POST", "/slow-tokens", JSON | {"headers": {"accept": "application/x-ndjson"}}),
    "mounted app": ("GET", "/inner/page", {}),
    "document": ("GET", "/openapi.json", {}),
    "nothing there": ("GET", "/nothing", {}),
    "other verb": ("DELETE", "/instant", {}),
    "broken body": ("POST", "/instant", {"content": b"{", "headers": {"content-type": "application/json"}}),
    "socket by http": ("GET", "/chat", {}),
}
SOCKETS = ["/chat", "/inner/talk", "/nothing"]
GOOD, REVOKED, EXPIRED, BRIEF = "kaon_good_key", "kaon_revoked_key", "kaon_expired_key", "kaon_brief_key"


def ways() -> dict[str, tuple[dict[str, str], str]]:
    """Name -> headers and query of a caller that must not come in."""
    basic = base64.b64encode(f"user:{GOOD}".encode()).decode()
    return {
        "no key": ({}, ""),
        "empty": ({"authorization": ""}, ""),
        "scheme alone": ({"authorization": "Bearer"}, ""),
        "no scheme": ({"authorization": GOOD}, ""),
        "basic": ({"authorization": f"Basic {basic}"}, ""),
        "garbage": ({"authorization": "Bearer ' OR 1=1 --"}, ""),
        "unknown": ({"authorization": "Bearer kaon_of_another_deployment"}, ""),
        "its hash": ({"authorization": f"Bearer {key_hash(GOOD)}"}, ""),
        "its beginning": ({"authorization": f"Bearer {GOOD[:-1]}"}, ""),
        "more than it": ({"authorization": f"Bearer {GOOD}x"}, ""),
        "expired": ({"authorization": f"Bearer {EXPIRED}"}, ""),
        "revoked": ({"authorization": f"Bearer {REVOKED}"}, ""),
        "cookie": ({"cookie": f"key={GOOD}; authorization=Bearer {GOOD}"}, ""),
        "own header": ({"x-api-key": GOOD, "x-kaon-key": GOOD}, ""),
        "from the edge": ({"x-forwarded-for": "127.0.0.1", "x-request-id": "abc", "x-envoy-internal": "true"}, ""),
        "query": ({}, f"key={GOOD}&access_token={GOOD}&authorization=Bearer%20{GOOD}"),
        "very long": ({"authorization": "Bearer " + "k" * 4000}, ""),
    }


def grants(*keys: str) -> tuple[Grant, ...]:
    ends = {EXPIRED: time.time() - 1}
    return tuple(Grant(hash=key_hash(k), key=k[5:-4], expires_at=ends.get(k)) for k in keys)


@dataclass
class Running:
    """A replica of its own process."""

    launch: Launch
    folder: Path

    @property
    def service(self) -> str:
        return self.launch.service_address.removeprefix("unix:")

    @property
    def control(self) -> httpx2.Client:
        path = self.launch.control_address.removeprefix("unix:")
        return httpx2.Client(
            transport=httpx2.HTTPTransport(uds=path, verify=False), base_url="http://replica", timeout=60
        )

    def client(self, headers: dict[str, str] | None = None) -> httpx2.AsyncClient:
        transport = httpx2.AsyncHTTPTransport(uds=self.service, verify=False)
        return httpx2.AsyncClient(transport=transport, base_url="http://replica", headers=headers, timeout=60)

    def put_access(self, access: Access) -> None:
        with self.control as control:
            assert control.put("/access", content=access.model_dump_json()).status_code == 204

    async def calls(self) -> int:
        """How many calls reached the service's code."""
        async with self.client({"authorization": f"Bearer {GOOD}"}) as client:
            return int((await client.get("/count")).json())


@pytest.fixture(scope="module")
def replica(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("r")
    launch = Launch(
        id="0123456789ab",
        name="kinds-1-0",
        workspace="default",
        deployment="kinds",
        revision=1,
        entry="kinds:Kinds",
        code_dir=str(SERVICES),
        service_address=f"unix:{folder / 's'}",
        control_address=f"unix:{folder / 'c'}",
        access=Access(grants=grants(GOOD, EXPIRED, REVOKED)),
    )
    (folder / "launch.json").write_text(launch.model_dump_json())
    with (folder / "out").open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "kaon.runtime", "--launch", str(folder / "launch.json")],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
        )
        try:
            running = Running(launch, folder)
            _wait_until_ready(running, process)
            yield running
        finally:
            process.terminate()
            process.wait(15)


def _wait_until_ready(running: Running, process: subprocess.Popen[bytes]) -> None:
    def ready() -> bool:
        if process.poll() is not None:
            return True
        with running.control as control:
            return bool(control.get("/ready").status_code == 200)

    eventually(ready)
    assert process.poll() is None, (running.folder / "out").read_text()


@pytest.fixture(autouse=True)
def revoked(replica: Running) -> None:
    """One key was good and is not any more."""
    replica.put_access(Access(grants=grants(GOOD, EXPIRED)))


async def send(client: httpx2.AsyncClient, case: str, query: str = "") -> httpx2.Response:
    method, path, options = HTTP[case]
    options = dict(options)
    if (chunks := options.pop("chunks", None)) is not None:
        options["content"] = _pieces(chunks)
        options["headers"] = {"content-type": "application/json"}
    if query:
        path += ("&" if "?" in path else "?") + query
    return await client.request(method, path, **options)


async def _pieces(data: bytes) -> AsyncIterator[bytes]:
    for byte in data:
        yield bytes([byte])


@pytest.mark.parametrize("case", HTTP)
async def test_whoever_has_no_good_key_reaches_nothing(replica: Running, case: str) -> None:
    before = await replica.calls()
    for name, (headers, query) in ways().items():
        async with replica.client(headers) as client:
            answer = await send(client, case, query)
        assert answer.status_code == 401, (name, answer.status_code, answer.text)
        assert answer.headers["content-type"] == PROBLEM_JSON
        assert b"touched" not in answer.content
        assert GOOD not in answer.text
    assert await replica.calls() == before


@pytest.mark.parametrize("case", HTTP)
async def test_a_good_key_opens_what_there_is(replica: Running, case: str) -> None:
    expected = {"nothing there": 404, "other verb": 405, "broken body": 400, "docs page": 200, "socket by http": 405}
    async with replica.client({"authorization": f"Bearer {GOOD}"}) as client:
        answer = await send(client, case)
    assert answer.status_code == expected.get(case, 200), answer.text


async def test_the_docs_page_opens_for_everybody_and_says_nothing_of_the_service(replica: Running) -> None:
    async with replica.client() as client:
        page = await client.get("/docs")
        other = await client.post("/docs")
    assert page.status_code == 200
    assert "script-src 'sha256-" in page.headers["content-security-policy"]
    assert not [word for word in ("kinds", "Kinds", "instant", "batched") if word in page.text]
    assert other.status_code == 401


@pytest.mark.parametrize("path", SOCKETS)
async def test_a_websocket_without_a_good_key_is_refused_at_the_handshake(replica: Running, path: str) -> None:
    before = await replica.calls()
    for name, (headers, query) in ways().items():
        with pytest.raises(InvalidStatus) as refused:
            async with websockets.unix_connect(
                replica.service, f"ws://replica{path}?{query}", additional_headers=headers
            ):
                pass
        assert refused.value.response.status_code in (401, 403), name
    assert await replica.calls() == before


@pytest.mark.parametrize("path", ["/chat", "/inner/talk"])
async def test_a_good_key_opens_a_websocket(replica: Running, path: str) -> None:
    headers = {"authorization": f"Bearer {GOOD}"}
    async with websockets.unix_connect(replica.service, f"ws://replica{path}", additional_headers=headers) as socket:
        assert await socket.recv() == "touched"


async def test_a_key_is_good_from_the_next_request_on_and_bad_from_the_next_request_on(replica: Running) -> None:
    """Also on a connection that is open already, and for a header that was seen before."""
    async with replica.client({"authorization": f"Bearer {BRIEF}"}) as client:
        for _ in range(3):
            assert (await send(client, "plain")).status_code == 401
            replica.put_access(Access(grants=grants(GOOD, BRIEF)))
            assert (await send(client, "plain")).status_code == 200
            replica.put_access(Access(grants=grants(GOOD)))
        assert (await send(client, "plain")).status_code == 401


async def test_a_key_ends_at_its_expiry_without_anybody_saying_so(replica: Running) -> None:
    ends_at = time.time() + 1.0
    brief = Grant(hash=key_hash(BRIEF), key="brief", expires_at=ends_at)
    replica.put_access(Access(grants=(*grants(GOOD), brief)))
    async with replica.client({"authorization": f"Bearer {BRIEF}"}) as client:

        async def refused() -> bool:
            begun_at = time.time()
            good = (await send(client, "plain")).status_code == 200
            assert good or time.time() >= ends_at, "it ended too early"
            assert not good or begun_at < ends_at, "it was good after its end"
            return not good

        await until(refused)
        assert (await send(client, "server-sent events")).status_code == 401


async def test_each_of_pipelined_requests_needs_its_own_key(replica: Running) -> None:
    reader, writer = await asyncio.open_unix_connection(replica.service)
    body = b'{"text": "x"}'
    head = b"POST /instant HTTP/1.1\r\nhost: r\r\ncontent-type: application/json\r\ncontent-length: %d\r\n" % len(body)
    good = head + f"authorization: Bearer {GOOD}\r\n\r\n".encode() + body
    none = head + b"\r\n" + body
    last = none.replace(b"host: r\r\n", b"host: r\r\nconnection: close\r\n")
    writer.write(good + none + good + last)
    answer = await reader.read(-1)
    writer.close()
    lines = [line for line in answer.split(b"\r\n") if b"HTTP/1.1 " in line]
    statuses = [line[line.index(b"HTTP/1.1 ") + 9 :][:3] for line in lines]
    assert statuses == [b"200", b"401", b"200", b"401"]


async def test_a_public_deployment_answers_without_a_key_until_it_is_closed(replica: Running) -> None:
    replica.put_access(Access(public=True, grants=grants(GOOD)))
    async with replica.client() as client:
        assert (await send(client, "plain")).status_code == 200
        replica.put_access(Access(grants=grants(GOOD)))
        assert (await send(client, "plain")).status_code == 401


async def test_the_control_calls_are_not_on_the_callers_socket(replica: Running) -> None:
    for headers in ({}, {"authorization": f"Bearer {GOOD}"}):
        async with replica.client(headers) as client:
            for method, path in (("GET", "/live"), ("GET", "/ready"), ("GET", "/metrics"), ("PUT", "/access")):
                answer = await client.request(method, path, content=Access(public=True).model_dump_json())
                assert answer.status_code in (401, 404, 405), (method, path)
    async with replica.client() as client:
        assert (await send(client, "plain")).status_code == 401


def test_the_control_socket_serves_nothing_of_the_service_and_takes_nothing_but_access(replica: Running) -> None:
    with replica.control as control:
        for method, path in (("POST", "/instant"), ("GET", "/"), ("GET", "/openapi.json"), ("POST", "/access")):
            assert control.request(method, path, json={"text": "x"}).status_code == 404
        for body in (b"", b"{", b"[]", b'{"public": 1, "grants": 2}'):
            assert control.put("/access", content=body).status_code == 400
        expected = Access(grants=grants(GOOD, EXPIRED)).named().version
        health = control.get("/ready").json()
        assert health["access"] != Access(public=True).named().version
        assert len(health["access"]) == len(expected)


def test_both_sockets_are_for_their_owner_only(replica: Running) -> None:
    """The agent keeps them in a folder of mode 0700 besides."""
    for address in (replica.launch.service_address, replica.launch.control_address):
        mode = os.stat(address.removeprefix("unix:")).st_mode & 0o777
        assert mode & 0o077 == 0, oct(mode)


def test_no_key_is_in_the_replicas_log_or_environment(replica: Running) -> None:
    out = (replica.folder / "out").read_bytes()
    assert b"touched" not in out
    for key in (GOOD, REVOKED, EXPIRED, BRIEF):
        assert key.encode() not in out
    with replica.control as control:
        assert GOOD not in control.get("/metrics").text
