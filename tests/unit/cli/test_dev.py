"""`kaon dev`: what it serves, where, and what happens when files change."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import websockets
from hypothesis import given
from hypothesis import strategies as st
from tests.waiting import eventually, until

from kaon.cli.dev.access_log import AccessRecord, access_line
from kaon.cli.dev.chosen import chosen_services
from kaon.cli.dev.proxy import Hop, Proxy
from kaon.cli.dev.routing import below_name, find_route
from kaon.cli.shared.text import width
from kaon.errors import InvalidInput, NotFound

Run = Any

CLEANING = """
import kaon

@kaon.service
class Cleaner:
    @kaon.endpoint
    def clean(self, text: str) -> str:
        return text.strip()
"""
COUNTING = """
import kaon
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route


async def page(request):
    return PlainTextResponse(str(request.url_for("page")))


@kaon.service(mounts={"/ui": Starlette(routes=[Route("/page", page, name="page")])})
class Counter:
    cleaner = kaon.use("cleaner")

    @kaon.endpoint(method="GET")
    def count(self, text: str) -> int:
        print("counting")
        return len(self.cleaner.clean(text=text))

    @kaon.endpoint
    async def echo(self, socket: kaon.WebSocket) -> None:
        await socket.accept()
        async for text in socket.iter_text():
            await socket.send_text(text)
"""


class TestRouting:
    @pytest.mark.parametrize(
        ("target", "names", "service", "rest"),
        [
            (b"/shop/buy?x=/shop", ("shop", "stock"), "shop", b"/buy?x=/shop"),
            (b"/shop", ("shop", "stock"), "shop", b"/"),
            (b"/shop?x=1", ("shop", "stock"), "shop", b"/?x=1"),
            (b"/shop//a", ("shop", "stock"), "shop", b"//a"),
            (b"/shop/buy", ("shop",), "shop", b"/buy"),
            (b"/buy", ("shop",), "shop", b"/buy"),
            (b"/", ("shop",), "shop", b"/"),
            (b"/shop", ("shop",), "shop", b"/shop"),
            (b"/shop/", ("shop",), "shop", b"/shop/"),
        ],
    )
    def test_a_path_leads_to_a_service(self, target: bytes, names: tuple[str, ...], service: str, rest: bytes) -> None:
        route = find_route(target, names)
        assert (route.service, route.target) == (service, rest)

    def test_another_name_is_refused_with_the_near_one(self) -> None:
        with pytest.raises(NotFound) as caught:
            find_route(b"/shp/buy", ("shop", "stock"))
        assert caught.value.hint == "Did you mean shop? Services: /shop, /stock"

    @given(st.binary(max_size=20))
    def test_no_path_is_an_error_of_the_program(self, target: bytes) -> None:
        assert find_route(target, ("shop",)).service == "shop"
        assert below_name(target, ("shop",)) is None or target.startswith((b"/shop", b"shop"))


class TestAccessLine:
    def test_it_has_time_method_path_status_and_duration(self) -> None:
        line = access_line(AccessRecord(1_700_000_000.25, "GET", "/shop/count", 200, 0.00312))
        assert line == "22:13:20.250  GET  /shop/count  200  3.1 ms"
        assert access_line(AccessRecord(0, "POST", "/x", 0, 2.5)) == "00:00:00.000  POST /x  gone  2500 ms"

    @given(st.text(), st.text(max_size=300), st.integers(0, 599), st.floats(0, 1000), st.integers(60, 200))
    def test_it_is_one_line_that_fits_whatever_is_called(
        self, method: str, path: str, status: int, took_s: float, columns: int
    ) -> None:
        line = access_line(AccessRecord(0, method[:7], path, status, took_s), columns=columns)
        assert "\n" not in line
        assert "\x1b" not in line
        assert width(line) <= max(columns, 100)
        assert line.endswith(" ms")

    def test_colours_change_no_text(self) -> None:
        access = AccessRecord(0, "GET", "/shop", 404, 0.01)
        assert re.sub(r"\x1b\[\d+m", "", access_line(access, coloured=True)) == access_line(access)


@asynccontextmanager
async def proxied(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any], tmp_path: Path
) -> AsyncIterator[tuple[str, list[AccessRecord]]]:
    """The address of a proxy in front of `serve`, and the calls that it reports."""
    calls: list[AccessRecord] = []

    async def find(target: bytes) -> Hop:
        if target.startswith(b"/gone"):
            return Hop(f"unix:{tmp_path}/nothing", target)
        if target.startswith(b"/refused"):
            raise NotFound("No such path.")
        return Hop(f"unix:{tmp_path}/s", target, b"/name")

    upstream = await asyncio.start_unix_server(serve, f"{tmp_path}/s")
    front = await asyncio.start_server(Proxy(find, calls.append).serve, "127.0.0.1", 0)
    async with upstream, front:
        yield f"127.0.0.1:{front.sockets[0].getsockname()[1]}", calls


async def head_of(reader: asyncio.StreamReader) -> bytes:
    return await reader.readuntil(b"\r\n\r\n")


async def answer_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers with the head of the request."""
    head = await head_of(reader)
    length = next((int(line.split(b":")[1]) for line in head.splitlines() if line.startswith(b"content-length")), 0)
    await reader.readexactly(length)
    writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%b" % (len(head), head))
    writer.close()


class TestProxy:
    async def test_a_connection_has_many_calls(self, tmp_path: Path) -> None:
        async with proxied(answer_once, tmp_path) as (address, calls), httpx2.AsyncClient() as client:
            for path in ("/a?q=1", "/b"):
                answer = await client.post(f"http://{address}{path}", content=b"x" * 200_000)
                assert answer.text.startswith(f"POST {path} HTTP/1.1")
                assert "x-forwarded-prefix: /name" in answer.text
                assert "connection" not in answer.headers
        assert [(call.method, call.path, call.status) for call in calls] == [("POST", "/a", 200), ("POST", "/b", 200)]

    async def test_headers_of_an_edge_are_not_taken_from_callers(self, tmp_path: Path) -> None:
        forged = {"X-Forwarded-Prefix": "/forged", "X-Forwarded-For": "10.0.0.1", "X-Other": "kept"}
        async with proxied(answer_once, tmp_path) as (address, _), httpx2.AsyncClient() as client:
            text = (await client.get(f"http://{address}/", headers=forged)).text
        assert ("forged" in text, "10.0.0.1" in text, "kept" in text) == (False, False, True)

    async def test_a_stream_arrives_as_it_is_sent(self, tmp_path: Path) -> None:
        received = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await head_of(reader)
            writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n")
            await received.wait()  # the second part is sent when the first has arrived
            writer.write(b"3\r\ntwo\r\n0\r\n\r\n")
            writer.close()

        async with (
            proxied(serve, tmp_path) as (address, _),
            httpx2.AsyncClient() as client,
            client.stream("GET", f"http://{address}/") as answer,
        ):
            parts = []
            async for part in answer.aiter_raw():
                parts.append(part)
                received.set()
        assert parts == [b"one", b"two"]

    async def test_a_caller_who_disconnects_ends_the_call(self, tmp_path: Path) -> None:
        ended = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await head_of(reader)
            assert await reader.read() == b""
            ended.set()
            writer.close()

        async with proxied(serve, tmp_path) as (address, calls):
            host, _, port = address.partition(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            await writer.drain()
            writer.close()
            await asyncio.wait_for(ended.wait(), 30)
            await until(lambda: bool(calls))
        assert reader is not None

    async def test_an_answer_before_the_body_is_forwarded(self, tmp_path: Path) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await head_of(reader)
            writer.write(b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n")
            await writer.drain()
            await reader.read()
            writer.close()

        async with proxied(serve, tmp_path) as (address, calls):
            host, _, port = address.partition(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\nabc")
            assert (await reader.readline()).startswith(b"HTTP/1.1 413")
            await reader.read()  # the connection ends, since the rest of the body is not read
            writer.close()
        assert calls[0].status == 413

    @pytest.mark.parametrize(
        ("path", "status", "text"),
        [("/gone", 503, "does not run"), ("/refused", 404, "No such path"), ("/", 503, "ended")],
    )
    async def test_what_cannot_be_forwarded_is_answered_with_a_reason(
        self, tmp_path: Path, path: str, status: int, text: str
    ) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await head_of(reader)
            writer.close()

        async with proxied(serve, tmp_path) as (address, calls), httpx2.AsyncClient() as client:
            answer = await client.post(f"http://{address}{path}", content=b"x" * 1000)
        assert (answer.status_code, text in answer.json()["detail"]) == (status, True), answer.text
        assert [call.status for call in calls] == [status]

    async def test_an_answer_that_breaks_off_is_not_taken_for_a_whole_one(self, tmp_path: Path) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await head_of(reader)
            writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n")
            writer.close()

        async with proxied(serve, tmp_path) as (address, _), httpx2.AsyncClient() as client:
            with pytest.raises(httpx2.RemoteProtocolError):
                await client.get(f"http://{address}/")

    @pytest.mark.parametrize(
        "raw", [b"NOT HTTP\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nhost: x\r\n" + b"a: b\r\n" * 20_000]
    )
    async def test_what_is_not_http_is_refused(self, tmp_path: Path, raw: bytes) -> None:
        async with proxied(answer_once, tmp_path) as (address, _):
            host, _, port = address.partition(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(raw)
            assert (await reader.read()).startswith(b"HTTP/1.1 4")
            writer.close()

    async def test_a_client_of_http_1_0_is_answered(self, tmp_path: Path) -> None:
        async with proxied(answer_once, tmp_path) as (address, _):
            host, _, port = address.partition(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(b"GET /old HTTP/1.0\r\n\r\n")
            assert b"GET /old HTTP/1.1" in await reader.read()
            writer.close()


class TestChosen:
    def test_a_folder_has_the_deployments_of_its_kaon_yaml_and_all_other_services(self, project: Path) -> None:
        (project / "cleaning.py").write_text(CLEANING)
        (project / "kaon.yaml").write_text(
            "kind: deployment\nname: hello\nsource: greeter.py:Greeter\nspec: {template: {env: {GREETING: Hi}}}\n"
        )
        found = chosen_services("", project, {"MORE": "1"})
        assert [(s.name, s.target.entry, dict(s.env)) for s in found] == [
            ("hello", "greeter:Greeter", {"GREETING": "Hi", "MORE": "1"}),
            ("cleaner", "cleaning:Cleaner", {"MORE": "1"}),
        ]
        assert [s.name for s in chosen_services("greeter.py:Greeter", project, {})] == ["greeter"]

    def test_two_of_one_name_are_refused(self, project: Path) -> None:
        (project / "other.py").write_text((project / "greeter.py").read_text())
        with pytest.raises(InvalidInput) as caught:
            chosen_services("", project, {})
        assert [error["line"] for error in caught.value.errors] == ["greeter:Greeter", "other:Greeter"]

    def test_a_folder_without_one_is_told_how_to_make_one(self, run: Run, kaon_home: Path) -> None:
        said = run("dev")
        assert (said.code, "kaon init NAME" in said.err) == (3, True)


class Dev:
    """`kaon dev` in a folder."""

    def __init__(self, folder: Path, port: int, *arguments: str) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.output = folder.parent / "dev.txt"
        command = [sys.executable, "-m", "kaon.cli", "dev", *arguments, "--port", str(port)]
        with self.output.open("w") as file:
            self.process = subprocess.Popen(command, cwd=folder, stdout=file, stderr=subprocess.STDOUT)

    def get(self, path: str) -> Any:
        try:
            return httpx2.get(f"{self.url}{path}", timeout=60).text
        except httpx2.HTTPError:
            return None

    @property
    def text(self) -> str:
        return self.output.read_text()

    def end(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(60)


@contextmanager
def running(folder: Path, port: int, *arguments: str) -> Iterator[Dev]:
    dev = Dev(folder, port, *arguments)
    try:
        yield dev
    finally:
        if dev.process.poll() is None:
            dev.end()


def test_all_services_of_a_folder_call_each_other_and_bad_code_changes_nothing(
    project: Path, free_port: Callable[[], int]
) -> None:
    (project / "greeter.py").unlink()
    (project / "cleaning.py").write_text(CLEANING)
    (project / "counting.py").write_text(COUNTING)
    with running(project, free_port()) as dev:
        eventually(lambda: dev.get("/counter/count?text=%20abc%20") == "3")
        assert dev.get("/counter/ui/page") == f"{dev.url}/counter/ui/page"
        assert f"{dev.url}/counter/docs" in dev.text
        assert asyncio.run(_echoed(f"{dev.url.replace('http', 'ws')}/counter/echo")) == "hello"
        assert re.search(r"^\d\d:\d\d:\d\d\.\d{3}  counter           counting$", dev.text, re.MULTILINE), dev.text
        assert re.search(r"^\S+  GET  /counter/count  200  [\d.]+ ms$", dev.text, re.MULTILINE)
        assert re.search(r"^\S+  POST /cleaner/clean  200  [\d.]+ ms$", dev.text, re.MULTILINE)

        (project / "cleaning.py").write_text(CLEANING.replace("text.strip()", "nothing here"))
        eventually(lambda: "cleaner: the new code has an error, see above; the previous code still serves." in dev.text)
        assert dev.get("/counter/count?text=abc") == "3"
        (project / "cleaning.py").write_text("import no_such_module\n" + CLEANING)
        eventually(lambda: "needs the package no_such_module" in dev.text)
        assert dev.get("/counter/count?text=abc") == "3"
        (project / "cleaning.py").write_text(CLEANING.replace("text.strip()", "text.strip() + '!'"))
        eventually(lambda: dev.get("/counter/count?text=abc") == "4")
        assert dev.end() == 0
    assert "\x1b" not in dev.text


async def _echoed(url: str) -> str:
    async with websockets.connect(url) as connection:
        await connection.send("hello")
        return str(await connection.recv())


def test_one_service_is_at_the_root_too_and_reloads(project: Path, free_port: Callable[[], int]) -> None:
    with running(project, free_port(), "greeter.py:Greeter", "--env", "GREETING=Hi") as dev:

        def greeted(path: str) -> Any:
            return httpx2.post(f"{dev.url}{path}", json={"names": ["Ada"]}, timeout=60).json()

        eventually(lambda: dev.get("/docs") is not None)
        assert greeted("/greet") == greeted("/greeter/greet") == ["Hi, Ada!"]
        file = project / "greeter.py"
        file.write_text(file.read_text().replace("{name}!", "{name}?"))
        eventually(lambda: greeted("/greet") == ["Hi, Ada?"])
        assert dev.text.count("greeter.py changed.") == 1
        assert dev.end() == 0
    assert f"Greeter at {dev.url}/, without keys" in dev.text


def test_without_reload_it_ends_with_its_service(project: Path, free_port: Callable[[], int]) -> None:
    (project / "greeter.py").write_text("raise SystemExit(3)\nimport kaon\n@kaon.service\nclass Greeter: ...\n")
    with running(project, free_port(), "greeter.py:Greeter", "--no-reload") as dev:
        assert dev.process.wait(60) != 0


def test_a_call_of_a_service_that_is_not_here_goes_to_the_platform(
    project: Path, free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAON_PORT", str(free_port()))  # nothing listens there
    (project / "counting.py").write_text(COUNTING)
    (project / "greeter.py").unlink()
    with running(project, free_port()) as dev:
        eventually(lambda: "dependency-failed" in str(dev.get("/count?text=abc")))
        answer = json.loads(dev.get("/count?text=abc"))
        assert (answer["status"], answer["dependency"]["name"]) == (502, "cleaner")


def test_dev_on_a_port_that_is_taken_says_which_to_take(run: Run, project: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        said = run("dev", "greeter.py:Greeter", "--port", str(port))
    assert said.code == 5
    assert f"--port {port + 1}" in said.err
