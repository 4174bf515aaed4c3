"""`kaon.Client` and `kaon.AsyncClient`: a deployment's endpoints as methods.

Both hold a `RemoteDeployment`, which knows what to say, and carry its messages over HTTP.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator, Mapping
from contextlib import (
    AbstractContextManager,
    ExitStack,
    aclosing,
    asynccontextmanager,
    contextmanager,
    nullcontext,
    suppress,
)
from typing import Any, Self

import httpx2

from kaon.client import address
from kaon.client.deployment import ClientCall, Read, RemoteDeployment, value_of
from kaon.client.events import EventReader
from kaon.client.exchange import CallFailure, HttpRequest, HttpResponse, Outcome, RetryWait, error_of
from kaon.client.method import EndpointMethod
from kaon.client.operation import SSE, Operation
from kaon.clock import SystemClock
from kaon.errors import InvalidInput, KaonError, calling
from kaon.types.hosts import uses_tls

_CONNECT_S = 10.0
_LOOPBACK: dict[str, Any] = {"all://127.0.0.1": None, "all://localhost": None, "all://[::1]": None}
"""Hosts that no proxy of the environment stands before."""


class Client:
    """Calls a deployment: `kaon.Client("recommendation").recommend(user_id=1)`.

    Every endpoint is a method that takes the endpoint's parameters by name (a body that is one model also by position)
    and returns Python values, or a `kaon.File`. Where a file is needed, it takes a path, an open file or bytes. A
    stream is an iterator (of bytes, where it has a media type). `dir(client)`, signatures and docstrings come from the
    deployment's OpenAPI document.

    A call that could not be sent is retried, one of an idempotent endpoint also when the deployment refused it for
    now, and one that broke off after it was sent only when its endpoint has `retry=True`: within the timeout and a
    budget of one retry for each five calls.

    Endpoints can have names of the client's methods: `close()` closes the connections and `close(account=3)` calls the
    endpoint, `call(number=7)` the endpoint `call`; `call("close")` calls one without parameters.

    Args:
        target: The deployment's URL, or its name: in a replica on its platform, elsewhere in the context in use
            (`kaon config`), as for the command line.
        key: API key; default: `KAON_KEY`, else the key of the context.
        timeout_s: Seconds for a call with all its retries; for a stream, from item to item. Default: that of the
            endpoint, or 60.

    Methods raise the `KaonError` that the deployment answered, `Unavailable` when it cannot be reached and
    `DeadlineExceeded` when the time is up.
    """

    def __init__(self, target: str, key: str | None = None, *, timeout_s: float | None = None) -> None:
        where = address.find(target, key)
        self._deployment = RemoteDeployment(where.url, where.key, timeout_s, SystemClock(), random.random)
        self._http = httpx2.Client(mounts=_LOOPBACK, limits=_limits(), verify=uses_tls(where.url))

    def call(self, endpoint: Any = "call", /, *body: Any, **arguments: Any) -> Any:
        """Call an endpoint by its name, as its method would; without a name, the endpoint that is called `call`."""
        return self._send(_named(endpoint, body, arguments), value_of)

    def _send(self, call: ClientCall, read: Read) -> Any:
        with calling(self._deployment.name):
            operation = self._drive(self._deployment.find(call))
            if operation.kind == "stream":
                request = self._deployment.stream(operation, call)
                if operation.answers_once:
                    return self._either(operation, request, read)
                return self._pieces(request) if operation.media_type else self._items(request, read)
            response = self._drive(self._deployment.call(operation, call))
            return read(response.media_type, response.content)

    def _operation(self, endpoint: str) -> Operation:
        """What the deployment's document says of an endpoint. Raises KaonError."""
        operation: Operation = self._drive(self._deployment.find(ClientCall(endpoint, {})))
        return operation

    def close(self, *body: Any, **arguments: Any) -> Any:
        """Close the connections; with anything to say, call the endpoint that is called `close`."""
        if body or arguments:
            return self.call("close", *body, **arguments)
        return self._http.close()

    def __getattr__(self, name: str) -> EndpointMethod:
        if name.startswith("_"):
            raise AttributeError(name)
        return EndpointMethod(name, self.call, lambda: self._operations().get(name))

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._operations()]

    def _operations(self) -> Mapping[str, Operation]:
        """The operations of the deployment's document; none when it cannot be fetched."""
        with suppress(KaonError):
            return self._deployment.loaded() or self._drive(self._deployment.load())
        return {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def _drive(self, conversation: Generator[HttpRequest | RetryWait, Outcome | None, Any]) -> Any:
        outcome: Outcome | None = None
        while True:
            try:
                step = conversation.send(outcome)
            except StopIteration as end:
                return end.value
            if isinstance(step, RetryWait):
                time.sleep(step.delay_s)
                outcome = None
            else:
                outcome = self._exchange(step)

    def _exchange(self, request: HttpRequest) -> Outcome:
        try:
            return _response(self._http.send(_built(self._http, request)))
        except httpx2.HTTPError as error:
            return _failure(error, request)

    def _either(self, operation: Operation, request: HttpRequest, read: Read) -> Any:
        """The answer, or an iterator of a stream's items: the deployment decides."""
        with ExitStack() as stack:
            response = stack.enter_context(self._opened(request))
            if not _is_stream(response, operation):
                response.read()
                whole = _response(response)
                return read(whole.media_type, whole.content)
            rest = nullcontext(response)
            items = self._pieces(request, rest) if operation.media_type else self._items(request, read, rest)
            return _closing(items, stack.pop_all())

    def _items(
        self, request: HttpRequest, read: Read, opened: AbstractContextManager[httpx2.Response] | None = None
    ) -> Iterator[Any]:
        reader = EventReader()
        with opened or self._opened(request) as response:
            try:
                for chunk in response.iter_bytes():
                    for event in reader.feed(chunk):
                        yield self._deployment.item(event, read)
            except httpx2.HTTPError as error:
                raise _error(error, request) from None

    def _pieces(
        self, request: HttpRequest, opened: AbstractContextManager[httpx2.Response] | None = None
    ) -> Iterator[bytes]:
        with opened or self._opened(request) as response:
            try:
                yield from response.iter_bytes()
            except httpx2.HTTPError as error:
                raise _error(error, request) from None

    @contextmanager
    def _opened(self, request: HttpRequest) -> Iterator[httpx2.Response]:
        with calling(self._deployment.name):
            try:
                response = self._http.send(_built(self._http, request), stream=True)
            except httpx2.HTTPError as error:
                raise _error(error, request) from None
            try:
                if response.status_code >= 300:
                    response.read()
                    raise error_of(_response(response))
                yield response
            finally:
                response.close()


class AsyncReply:
    """An answer on its way: `await` it for the value, or go through a stream with `async for`."""

    def __init__(self, client: AsyncClient, call: ClientCall, read: Read) -> None:
        self._client, self._call, self._read = client, call, read

    def __await__(self) -> Generator[Any, None, Any]:
        with calling(self._client._deployment.name):
            return (yield from self._client._value(self._call, self._read).__await__())

    async def __aiter__(self) -> AsyncIterator[Any]:
        with calling(self._client._deployment.name):
            async with aclosing(self._client._items(self._call, self._read)) as items:
                async for item in items:
                    yield item


class AsyncClient:
    """`Client` for coroutines: `await client.recommend(user_id=1)`, `async for token in client.complete(...)`.

    Takes the same arguments and raises the same errors.
    """

    def __init__(self, target: str, key: str | None = None, *, timeout_s: float | None = None) -> None:
        where = address.find(target, key)
        self._deployment = RemoteDeployment(where.url, where.key, timeout_s, SystemClock(), random.random)
        self._http = httpx2.AsyncClient(mounts=_LOOPBACK, limits=_limits(), verify=uses_tls(where.url))

    def call(self, endpoint: Any = "call", /, *body: Any, **arguments: Any) -> AsyncReply:
        """Call an endpoint by its name, as its method would; without a name, the endpoint that is called `call`."""
        return self._send(_named(endpoint, body, arguments), value_of)

    def _send(self, call: ClientCall, read: Read) -> AsyncReply:
        return AsyncReply(self, call, read)

    def aclose(self, *body: Any, **arguments: Any) -> Any:
        """Close the connections; with anything to say, call the endpoint that is called `aclose`."""
        return self.call("aclose", *body, **arguments) if body or arguments else self._http.aclose()

    def __getattr__(self, name: str) -> EndpointMethod:
        if name.startswith("_"):
            raise AttributeError(name)
        return EndpointMethod(name, self.call, lambda: self._deployment.loaded().get(name))

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._deployment.loaded()]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def _value(self, call: ClientCall, read: Read) -> Any:
        operation = await self._drive(self._deployment.find(call))
        if operation.kind == "stream":
            if operation.answers_once:
                return await self._either(operation, call, read)
            items = [item async for item in self._items(call, read)]
            return b"".join(items) if operation.media_type else items
        response = await self._drive(self._deployment.call(operation, call))
        return read(response.media_type, response.content)

    async def _either(self, operation: Operation, call: ClientCall, read: Read) -> Any:
        """The answer, or all items of a stream: the deployment decides."""
        request = self._deployment.stream(operation, call)
        async with self._opened(request) as response:
            if _is_stream(response, operation):
                items = [item async for item in self._events(response, request, operation, read)]
                return b"".join(items) if operation.media_type else items
            await response.aread()
            whole = _response(response)
        return read(whole.media_type, whole.content)

    async def _items(self, call: ClientCall, read: Read) -> AsyncGenerator[Any, None]:
        operation = await self._drive(self._deployment.find(call))
        request = self._deployment.stream(operation, call)
        async with self._opened(request) as response:
            if operation.answers_once and not _is_stream(response, operation):
                raise InvalidInput(f"`{operation.name}` answered once, without a stream.", hint="Use `await`.")
            async for item in self._events(response, request, operation, read):
                yield item

    async def _events(
        self, response: httpx2.Response, request: HttpRequest, operation: Operation, read: Read
    ) -> AsyncIterator[Any]:
        reader = EventReader()
        try:
            async for chunk in response.aiter_bytes():
                if operation.media_type:
                    yield chunk
                    continue
                for event in reader.feed(chunk):
                    yield self._deployment.item(event, read)
        except httpx2.HTTPError as error:
            raise _error(error, request) from None

    async def _drive(self, conversation: Generator[HttpRequest | RetryWait, Outcome | None, Any]) -> Any:
        outcome: Outcome | None = None
        while True:
            try:
                step = conversation.send(outcome)
            except StopIteration as end:
                return end.value
            if isinstance(step, RetryWait):
                await asyncio.sleep(step.delay_s)
                outcome = None
            else:
                outcome = await self._exchange(step)

    async def _exchange(self, request: HttpRequest) -> Outcome:
        try:
            return _response(await self._http.send(_built(self._http, request)))
        except httpx2.HTTPError as error:
            return _failure(error, request)

    @asynccontextmanager
    async def _opened(self, request: HttpRequest) -> AsyncIterator[httpx2.Response]:
        try:
            response = await self._http.send(_built(self._http, request), stream=True)
        except httpx2.HTTPError as error:
            raise _error(error, request) from None
        try:
            if response.status_code >= 300:
                await response.aread()
                raise error_of(_response(response))
            yield response
        finally:
            await response.aclose()


def _closing(items: Iterator[Any], stack: ExitStack) -> Iterator[Any]:
    with stack:
        yield from items


def _is_stream(response: httpx2.Response, operation: Operation) -> bool:
    """Whether a response is the endpoint's stream, and not its one answer."""
    media_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    return media_type == (operation.media_type.partition(";")[0].strip().lower() or SSE)


def _built(http: httpx2.Client | httpx2.AsyncClient, request: HttpRequest) -> httpx2.Request:
    timeout = httpx2.Timeout(request.timeout_s, connect=min(request.timeout_s, _CONNECT_S))
    try:
        return http.build_request(
            request.method, request.url, headers=request.headers, content=request.content or None, timeout=timeout
        )
    except (httpx2.InvalidURL, UnicodeEncodeError, ValueError):
        raise InvalidInput(f"{request.url!r} cannot be called.", hint="Check the deployment's URL.") from None


def _response(response: httpx2.Response) -> HttpResponse:
    headers = {name.lower(): value for name, value in response.headers.items()}
    return HttpResponse(response.status_code, headers, response.content)


def _failure(error: httpx2.HTTPError, request: HttpRequest) -> CallFailure:
    at = request.url.partition("?")[0]
    if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout):
        return CallFailure(f"{at} cannot be reached.", sent=False)
    if isinstance(error, httpx2.TimeoutException):
        return CallFailure(f"{at} did not answer within {request.timeout_s:.3g} s.", timed_out=True)
    return CallFailure(f"The connection to {at} broke before the whole answer had come.")


def _error(error: httpx2.HTTPError, request: HttpRequest) -> KaonError:
    return error_of(_failure(error, request))


def _limits() -> httpx2.Limits:
    return httpx2.Limits(max_connections=None, max_keepalive_connections=64, keepalive_expiry=4.0)


def _named(endpoint: Any, body: tuple[Any, ...], arguments: dict[str, Any]) -> ClientCall:
    """A call of the endpoint of that name; a value in its place is the body of the endpoint that is called `call`."""
    if not isinstance(endpoint, str):
        endpoint, body = "call", (endpoint, *body)
    return ClientCall(endpoint, arguments, _sole(endpoint, body))


def _sole(endpoint: str, body: tuple[Any, ...]) -> Any:
    if len(body) > 1:
        raise InvalidInput(f"`{endpoint}` was given {len(body)} values without names.", hint="Name its parameters.")
    return body[0] if body else None
