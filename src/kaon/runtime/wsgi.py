"""Mounted WSGI apps (Flask, Django): each request runs in a thread of a bounded pool.

A request's body is read before a thread is taken, so that a slow upload holds none. A response is written as the app
yields it, with back-pressure. When the caller disconnects, the app's iterator is closed at its next chunk, which frees
its thread.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from contextvars import copy_context
from functools import partial
from typing import IO, Any
from urllib.parse import SplitResult, urlsplit
from wsgiref.util import FileWrapper

from kaon.errors import TooLarge, TooManyRequests, Unavailable
from kaon.runtime.asgi import AsgiScope, Message, Receive, Send
from kaon.runtime.bodies import pause_limited
from kaon.runtime.threads import Threads
from kaon.types.service import MAX_BODY_BYTES

THREADS = 16
"""Requests of one app that run at once."""
WAITING = 1024
"""Requests of one app that may wait for a thread."""
_IN_MEMORY_BYTES = 2**20


class WsgiApp:
    """A WSGI app as an ASGI app."""

    def __init__(self, app: Callable[..., Iterable[bytes]]) -> None:
        self.app = app
        self._slots = asyncio.Semaphore(THREADS)
        self._waiting = 0
        self._threads: Threads | None = None

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        match scope["type"]:
            case "http":
                await self._http(scope, pause_limited(receive), send)
            case "websocket":
                await send({"type": "websocket.close", "code": 1000})
            case other:
                raise NotImplementedError(f"a WSGI app has no {other}")

    def close(self) -> None:
        """End the idle threads."""
        if self._threads is not None:
            self._threads.close()

    async def _http(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES) as body:
            await _read(receive, body)
            await self._slot()
            loop = asyncio.get_running_loop()
            if self._threads is None:
                self._threads = Threads(loop, "wsgi")
            exchange = _Exchange(loop, send)
            ended: asyncio.Future[None] = loop.create_future()

            def done(_: Any, error: BaseException | None) -> None:
                self._slots.release()
                if ended.done():
                    return
                if error is None:
                    ended.set_result(None)
                else:
                    ended.set_exception(error if isinstance(error, Exception) else RuntimeError(repr(error)))

            work = partial(exchange.run, self.app, environ_of(scope, body))
            try:
                self._threads.run(partial(copy_context().run, work), done)
            except BaseException:
                self._slots.release()
                raise
            try:
                await ended
            finally:
                exchange.cancel()

    async def _slot(self) -> None:
        """Wait for a thread's slot. Raises TooManyRequests when too many requests wait."""
        if self._waiting >= WAITING:
            raise TooManyRequests("The mounted app is busy.", hint="Try again later.", retry_after_s=1.0)
        self._waiting += 1
        try:
            await self._slots.acquire()
        finally:
            self._waiting -= 1


class _Exchange:
    """One response, written by the app's thread through the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, send: Send) -> None:
        self._loop = loop
        self._send = send
        self._head: Message | None = None
        self._begun = False
        self._cancelled = False
        self._sending: Any = None

    def run(self, app: Callable[..., Iterable[bytes]], environ: dict[str, Any]) -> None:
        """Run the app, in its thread."""
        chunks = app(environ, self._start_response)
        try:
            for chunk in chunks:
                if chunk:
                    self._write(chunk)
            self._put({"type": "http.response.body", "body": b""})
        finally:
            if (close := getattr(chunks, "close", None)) is not None:
                close()

    def cancel(self) -> None:
        """Let the thread's next write fail. On the loop."""
        self._cancelled = True
        if self._sending is not None:
            self._sending.cancel()

    def _start_response(
        self, status: str, headers: Iterable[tuple[str, str]], exc_info: Any = None
    ) -> Callable[[bytes], None]:
        if self._begun and exc_info:
            raise exc_info[1].with_traceback(exc_info[2])
        fields = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        self._head = {"type": "http.response.start", "status": int(status.split(" ", 1)[0]), "headers": fields}
        return self._write

    def _write(self, chunk: bytes) -> None:
        self._put({"type": "http.response.body", "body": chunk, "more_body": True})

    def _put(self, message: Message) -> None:
        """Send the head before the first part of the body, then the message; returns when it is written."""
        if not self._begun:
            if self._head is None:
                raise RuntimeError("the app did not call start_response")
            self._begun = True
            self._wait(self._head)
        self._wait(message)

    def _wait(self, message: Message) -> None:
        if self._cancelled:
            raise ConnectionAbortedError("the caller disconnected")
        self._sending = asyncio.run_coroutine_threadsafe(self._sent(message), self._loop)
        self._sending.result()

    async def _sent(self, message: Message) -> None:
        await self._send(message)


async def _read(receive: Receive, body: IO[bytes]) -> None:
    """Copy the request's body to a file. Raises TooLarge, or Unavailable when the caller disconnects."""
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Unavailable("The caller disconnected.")
        body.write(message.get("body", b""))
        if body.tell() > MAX_BODY_BYTES:
            raise TooLarge(f"The body is larger than {MAX_BODY_BYTES} bytes.", hint="Send it in pieces.")
        more = message.get("more_body", False)
    body.seek(0)


def environ_of(scope: Mapping[str, Any], body: IO[bytes]) -> dict[str, Any]:
    """The WSGI environ (PEP 3333) of a request, with its whole body."""
    root, path = scope.get("root_path", ""), scope["path"]
    length = body.seek(0, 2)
    body.seek(0)
    fields = _variables(scope["headers"])
    host = urlsplit(f"//{fields.get('HTTP_HOST') or 'localhost'}")
    scheme = scope.get("scheme", "http")
    return {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": _native(root),
        "PATH_INFO": _native(path.removeprefix(root)),
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "SERVER_NAME": host.hostname or "localhost",
        "SERVER_PORT": _port(host) or ("443" if scheme == "https" else "80"),
        "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
        "REMOTE_ADDR": (scope.get("client") or ("", 0))[0],
        **fields,
        "CONTENT_LENGTH": str(length),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scheme,
        "wsgi.input": body,
        "wsgi.input_terminated": True,
        "wsgi.errors": sys.stderr,
        "wsgi.file_wrapper": FileWrapper,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }


def _variables(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Headers as variables, without names with underscores, which could pass for others, without `Proxy` (httpoxy), and
    without the transfer coding, which is undone."""
    found: dict[str, str] = {}
    for raw_name, raw_value in headers:
        name, value = raw_name.decode("latin-1").upper(), raw_value.decode("latin-1")
        if "_" in name or name in ("PROXY", "TRANSFER-ENCODING"):
            continue
        name = name.replace("-", "_")
        key = name if name in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{name}"
        separator = "; " if name == "COOKIE" else ","
        found[key] = f"{found[key]}{separator}{value}" if key in found else value
    return found


def _port(host: SplitResult) -> str:
    try:
        return str(host.port or "")
    except ValueError:
        return ""


def _native(text: str) -> str:
    """A text as WSGI has it: UTF-8 bytes, decoded as latin-1."""
    return text.encode().decode("latin-1")
