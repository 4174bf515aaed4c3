"""A service called within this process, with the same validation and JSON as over the network.

Its coroutines run on one event loop per instance, in a thread of its own: what a service makes on its loop
(connections, locks) stays on that loop. As in a replica, handlers run in copies of the context in which the instance
was made, and sync ones with `concurrency=1` one at a time, but in the caller's thread.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Generator, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from contextvars import Context, copy_context
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic_core import to_json

from kaon import context
from kaon.errors import BadAnswer, ConfigError, DependencyFailed, InvalidInput, ItemError, KaonError, NotFound
from kaon.sdk.endpoint import Endpoint
from kaon.sdk.link import Read
from kaon.sdk.request import Request
from kaon.sdk.response import Response
from kaon.sdk.service import Service
from kaon.sdk.signature import JSON, SSE
from kaon.types.media import File
from kaon.types.service import EndpointKind
from kaon.types.wire import json_of, pairs_of, text_of

T = TypeVar("T")
_END = object()


class _OnLoop:
    """Runs coroutines of an instance on a loop in a thread of its own."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = threading.Lock()

    def stop(self) -> None:
        """End the loop."""
        with self._lock:
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._loop.stop)
                self._loop = None

    def _each(self, source: Any) -> Iterator[Any]:
        async def following() -> Any:
            return await anext(source, _END)

        try:
            while (item := self._run(following())) is not _END:
                yield item
        finally:
            if isinstance(source, AsyncGenerator):
                self._run(source.aclose())

    def _finish(self, result: Any) -> Any:
        return self._run(result) if asyncio.iscoroutine(result) else result

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=_run_loop, args=[self._loop], daemon=True).start()
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()


class InProcess(_OnLoop):
    """A link to an instance in this process. `start` and `stop` run the service's hooks."""

    def __init__(self, service: Service, instance: Any) -> None:
        super().__init__()
        self._instance = instance
        self._service = service
        self._endpoints = {e.spec.name: e for e in service.endpoints}
        self._one_at_a_time = threading.RLock()
        self._new_context = context.copies(copy_context())

    def start(self) -> None:
        """Run the service's start hooks."""
        for name in self._service.on_start:
            self._finish(getattr(self._instance, name)())

    def stop(self) -> None:
        """Run its stop hooks, and end its loop."""
        for name in self._service.on_stop:
            self._finish(getattr(self._instance, name)())
        super().stop()

    def call(self, endpoint: str, arguments: Mapping[str, Any], body: Any, read: Read | None) -> Any:
        """The answer, or an iterator of a stream's items."""
        found = self._find(endpoint)
        given = _arguments(found, arguments, body)
        own = self._context()
        if found.is_generator:
            return self._items(found, own, found.function(self._instance, **given), read or plain_value)
        turn = self._one_at_a_time if found.spec.concurrency == 1 and not found.is_async else nullcontext()
        with turn, _own_errors():
            result = own.run(lambda: self._finish(found.function(self._instance, **given)))
        if found.signature.returns_stream and isinstance(result, AsyncIterator | Iterator):
            return self._items(found, own, result, read or plain_value)
        return _answer(found, given, result, read or plain_value)

    def acall(self, endpoint: str, arguments: Mapping[str, Any], body: Any, read: Read | None) -> LocalReply:
        """The same for coroutines."""
        found = self._endpoints.get(endpoint)
        raw = found is not None and bool(found.spec.media_type)
        return LocalReply(lambda: self.call(endpoint, arguments, body, read), raw)

    def _find(self, name: str) -> Endpoint:
        found = self._endpoints.get(name)
        if found is None:
            names = ", ".join(sorted(self._endpoints)) or "none"
            raise NotFound(f"`{self._service.name}` has no endpoint `{name}`.", hint=f"Its endpoints: {names}.")
        if found.spec.kind is EndpointKind.WEBSOCKET:
            raise ConfigError(f"`{name}` is a websocket, which a handle cannot call.", hint="Use a WebSocket client.")
        return found

    def _context(self) -> Context:
        """A context for one call: the instance's, with the current request id and deadline."""
        own = self._new_context()
        own.run(context.enter, context.request_id.get(), context.deadline.get())
        return own

    def _items(self, endpoint: Endpoint, own: Context, source: Any, read: Read) -> Iterator[Any]:
        signature, raw = endpoint.signature.items or endpoint.signature, bool(endpoint.spec.media_type)
        items = iter(self._each(source) if isinstance(source, AsyncIterator) else source)
        try:
            while (item := self._following(own, items)) is not _END:
                yield signature.to_bytes(item) if raw else read(SSE, signature.to_json(item))
        finally:
            if isinstance(items, Generator):
                own.run(items.close)

    def _following(self, own: Context, items: Iterator[Any]) -> Any:
        with _own_errors():
            return own.run(next, items, _END)


class Fake(_OnLoop):
    """A link to any object with methods, in place of a service. Answers go through JSON, as those of a service."""

    def __init__(self, name: str, instance: Any) -> None:
        super().__init__()
        self._name = name
        self._instance = instance

    def start(self) -> None:
        """Does nothing: a fake has no hooks."""

    def call(self, endpoint: str, arguments: Mapping[str, Any], body: Any, read: Read | None) -> Any:
        """What the method of that name returns, or an iterator over the items of an iterator."""
        method = getattr(self._instance, endpoint, None)
        if not callable(method):
            kind = type(self._instance).__name__
            raise NotFound(f"{kind}, the fake of `{self._name}`, has no method `{endpoint}`.", hint="Add it.")
        result = self._finish(method(**arguments) if body is None else method(body, **arguments))
        if isinstance(result, AsyncIterator):
            result = self._each(result)
        if isinstance(result, Iterator):
            return (_faked(item, SSE, read or plain_value) for item in result)
        return _faked(result, JSON, read or plain_value)

    def acall(self, endpoint: str, arguments: Mapping[str, Any], body: Any, read: Read | None) -> LocalReply:
        """The same for coroutines."""
        return LocalReply(lambda: self.call(endpoint, arguments, body, read))


def _faked(value: Any, media_type: str, read: Read) -> Any:
    if isinstance(value, File):
        return read(value.media_type, bytes(value.content))
    if isinstance(value, bytes):
        return value
    return read(media_type, to_json(value, by_alias=True))


@contextmanager
def _own_errors() -> Iterator[None]:
    """Raise DependencyFailed for an error of a call that the handler has made, as its caller gets it from a replica."""
    try:
        yield
    except KaonError as error:
        if error.dependency:
            raise DependencyFailed.of(error) from error
        raise


@dataclass(frozen=True, slots=True)
class LocalReply:
    """A pending answer of this process; the call runs in a thread, off the caller's loop."""

    call: Callable[[], Any]
    raw: bool = False
    """Whether it is a stream of bytes."""

    def __await__(self) -> Generator[Any, None, Any]:
        return self._value().__await__()

    async def __aiter__(self) -> AsyncIterator[Any]:
        items = await asyncio.to_thread(self.call)
        if not isinstance(items, Generator):
            raise InvalidInput("This endpoint is not a stream.", hint="Use `await`.")
        try:
            while (item := await asyncio.to_thread(next, items, _END)) is not _END:
                yield item
        finally:
            await asyncio.to_thread(items.close)

    async def _value(self) -> Any:
        value = await asyncio.to_thread(self.call)
        if not isinstance(value, Generator):
            return value
        items = await asyncio.to_thread(list, value)
        return b"".join(items) if self.raw else items


def plain_value(media_type: str, content: bytes) -> Any:
    """Plain Python values from JSON, a `File` from anything else."""
    return json.loads(content) if media_type in (JSON, SSE) else File(content, media_type=media_type)


def _run_loop(loop: asyncio.AbstractEventLoop) -> None:
    try:
        loop.run_forever()
    finally:
        loop.close()


def _arguments(endpoint: Endpoint, arguments: Mapping[str, Any], body: Any) -> dict[str, Any]:
    """The handler's arguments, parsed as from a client's request."""
    given = _parsed(endpoint, arguments, body)
    signature = endpoint.signature
    if signature.request is not None:
        given[signature.request] = Request(endpoint.spec.method, endpoint.spec.path)
    if signature.response is not None:
        given[signature.response] = Response()  # ignored: a handle returns the value only
    return given


def _parsed(endpoint: Endpoint, arguments: Mapping[str, Any], body: Any) -> dict[str, Any]:
    signature, rest = endpoint.signature, dict(arguments)
    path = {name: text_of(rest[name]) for name in endpoint.path_names if name in rest}
    rest = {name: value for name, value in rest.items() if name not in path or name in endpoint.shared_names}
    missing = [name for name in endpoint.path_names if name not in path]
    if missing:
        raise InvalidInput(f"`{endpoint.spec.name}` needs {missing[0]}.")
    if all(p.where != "body" for p in signature.parameters):
        pairs = [pair for name, value in rest.items() for pair in pairs_of(name, value)]
        return signature.from_query(pairs, path, strict=True)
    if body is None:
        body = endpoint.body_of(rest)
    elif signature.whole_body is None and not isinstance(body, Mapping):
        body = {p.name: body for p in signature.parameters if p.where == "body"}
    return signature.from_json(json_of(body), path)


def _answer(endpoint: Endpoint, given: Mapping[str, Any], result: Any, read: Read) -> Any:
    if endpoint.spec.batch is not None:
        _check_rows(endpoint, given, result)
    return read(*endpoint.signature.to_body(result))


def _check_rows(endpoint: Endpoint, given: Mapping[str, Any], result: Any) -> None:
    rows = endpoint.signature.rows(given)
    if not hasattr(result, "__len__") or len(result) != rows:
        raise BadAnswer(f"`{endpoint.signature.owner}` must return {rows} results, one for each row.")
    if isinstance(result, (list, tuple)):
        for item in result:
            if isinstance(item, ItemError):
                raise item
