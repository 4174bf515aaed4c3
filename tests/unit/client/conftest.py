"""A server that is as plain as can be: it serves a marked class by the SDK alone, on a free port of this machine."""

import contextlib
import inspect
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qsl

import pytest
import uvicorn

from kaon.client.deployment import forget_descriptions
from kaon.errors import KaonError, NotFound, Unauthenticated
from kaon.sdk.docs_page import docs_page
from kaon.sdk.service import service_of
from kaon.types.media import File


class App:
    """ASGI; keeps the requests that it saw, and fails the next ones as `failures` says."""

    def __init__(self, instance: Any, key: str = "") -> None:
        self.instance, self.key = instance, key
        self.service = service_of(instance)
        self.seen: list[tuple[str, str, dict[str, str]]] = []
        self.failures: list[tuple[int, dict[str, str], bytes]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        headers = {k.decode(): v.decode() for k, v in scope["headers"]}
        body = b""
        while (message := await receive())["type"] == "http.request":
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        path = scope["path"] or "/"
        if path not in ("/openapi.json", "/docs"):
            self.seen.append((scope["method"], path, headers))
            if self.failures:
                status, more, content = self.failures.pop(0)
                return await _send(send, status, more, content)
        try:
            status, more, content = await self.answer(scope["method"], path, scope["query_string"], headers, body)
        except KaonError as error:
            status, more, content = error.status, {"content-type": "application/problem+json"}, error.problem_json()
        if inspect.isasyncgen(content):
            return await _stream(send, content)
        await _send(send, status, more, content)

    async def answer(self, method: str, path: str, query: bytes, headers: dict[str, str], body: bytes) -> Any:
        if path == "/docs":
            return 200, dict(docs_page().headers), docs_page().html
        if self.key and headers.get("authorization") != f"Bearer {self.key}":
            raise Unauthenticated("This deployment needs a key.")
        if path == "/openapi.json":
            return 200, {"content-type": "application/json"}, json.dumps(self.service.openapi()).encode()
        endpoint, in_path = self.find(method, path)
        kind = headers.get("content-type", "")
        if all(p.where != "body" for p in endpoint.signature.parameters):
            given = endpoint.signature.from_query(parse_qsl(query.decode()), in_path)
        elif kind.startswith("multipart/form-data"):
            given = endpoint.signature.from_form(_parts(kind, body), in_path)
        elif kind.startswith("application/json"):
            given = endpoint.signature.from_json(body, in_path)
        else:
            given = endpoint.signature.from_raw(body, kind, in_path)
        result = endpoint.function(self.instance, **given)
        if endpoint.is_generator:
            return 200, {}, _events(endpoint, result)
        media_type, content = endpoint.signature.to_body(await result if endpoint.is_async else result)
        return 200, {"content-type": media_type}, content

    def find(self, method: str, path: str) -> Any:
        for endpoint in self.service.endpoints:
            want, got = endpoint.spec.path.split("/"), path.split("/")
            if endpoint.spec.method == method and len(want) == len(got):
                names = {w[1:-1]: g for w, g in zip(want, got, strict=True) if w.startswith("{")}
                if all(w.startswith("{") or w == g for w, g in zip(want, got, strict=True)):
                    return endpoint, names
        raise NotFound("There is no such endpoint.")


async def _events(endpoint: Any, items: Any) -> Any:
    try:
        if endpoint.is_async:
            async for item in items:
                yield b"data: " + endpoint.signature.to_json(item) + b"\n\n"
        else:
            for item in items:
                yield b"data: " + endpoint.signature.to_json(item) + b"\n\n"
    except KaonError as error:
        yield b"event: error\ndata: " + error.problem_json() + b"\n\n"


async def _stream(send: Any, chunks: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    async for chunk in chunks:
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def _send(send: Any, status: int, headers: dict[str, str], content: bytes) -> None:
    pairs = [(k.encode(), v.encode()) for k, v in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": content})


def _parts(kind: str, body: bytes) -> list[tuple[str, str | File]]:
    from email import message_from_bytes

    message = message_from_bytes(f"content-type: {kind}\r\n\r\n".encode() + body)
    parts: list[tuple[str, str | File]] = []
    for part in message.get_payload():
        name = part.get_param("name", header="content-disposition")
        content = part.get_payload(decode=True)
        file = part.get_filename()
        value = content.decode() if file is None else File(content, name=file, media_type=part.get_content_type())
        parts.append((name, value))
    return parts


@contextlib.contextmanager
def serve(app: Any) -> Iterator[str]:
    """The app's URL while it is served."""
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="critical", lifespan="off", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    ticks = threading.Event()
    for _ in range(1000):
        if server.started:
            break
        ticks.wait(0.01)
    else:
        raise TimeoutError("the server did not start")
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(10)


@pytest.fixture(autouse=True)
def _no_descriptions() -> None:
    """A port may be used again by another test's server."""
    forget_descriptions()


@pytest.fixture
def serving() -> Callable[[Any], contextlib.AbstractContextManager[str]]:
    """`with serving(app) as url`: the app's URL while it is served."""
    return serve


@pytest.fixture
def app_of() -> type[App]:
    """Makes the app that serves an instance of a marked class, with a key."""
    return App
