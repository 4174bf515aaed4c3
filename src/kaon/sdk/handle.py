"""Handles: how one service calls another.

`kaon.use("cleaner")` and `kaon.use(Cleaner)` connect to nothing; each call goes to the first of these:

1. the instance that `kaon.local(...)` has set for that name, as tests do;
2. on the platform (`KAON_EDGE_URL` is set), the deployment of that name, over the network, with the service's own key,
   the request id and the rest of the deadline; the key is valid for what the service declares (`uses=`), so a handle of
   anything else is refused;
3. for a handle made from a class, an instance of it in this process, with its settings from the environment.

The first and third use the same validation and JSON as the network, so that a test finds what production would. A
handle made from a class returns the types that the class declares; one made from a name plain values.

**Calling.** `handle.clean(text="a")` is a sync call: it returns the answer, or an iterator for a stream.
`handle.aio.clean(text="a")` is for coroutines: `await` it, or iterate over a stream with `async for`. A sync call in a
thread that runs an event loop would block that loop, and is refused.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, TypeVar

from kaon.errors import ConfigError, InvalidInput, NotFound, calling
from kaon.sdk.link import Read, Reference, Reply, ServiceLink, target_of
from kaon.sdk.local import Fake, InProcess
from kaon.sdk.service import Service, construct, service_of
from kaon.sdk.setting import deployment_variables
from kaon.types.service import EndpointKind

F = TypeVar("F", bound=Callable[..., Any])

_local_instances: dict[str, InProcess | Fake] = {}
_depth: list[None] = []
_own: dict[type, InProcess] = {}
_remote: dict[str, ServiceLink] = {}
_lock = threading.RLock()
_network: Callable[[str], ServiceLink] | None = None
_allowed: frozenset[str] | None = None


def plug(network: Callable[[str], ServiceLink]) -> None:
    """Set how a deployment is reached by its name; `kaon` sets the client."""
    global _network
    _network = network


def allow(names: Collection[str] | None) -> None:
    """Limit handles of this process to deployments of these names over the network; None: all.

    The runtime sets what the service declares. The platform enforces it: the service's key is valid for nothing else.
    """
    global _allowed
    _allowed = None if names is None else frozenset(names)


def use(target: str | type) -> Handle:
    """A handle of another service, by its deployment's name or its class; see this module for the rules.

    Raises ConfigError in a service that does not declare the other one.
    """
    handle = Handle(target)
    if os.environ.get("KAON_EDGE_URL"):
        _check_declared(target_of(handle))
    return handle


def _check_declared(name: str) -> None:
    if _allowed is not None and name not in _allowed and name not in _local_instances:
        raise ConfigError(
            f"This service calls `{name}` without declaring it.",
            hint=f'Declare it: @kaon.service(uses=("{name}",)), or `kaon.use("{name}")` in the class\'s body.',
        )


@contextmanager
def local(**instances: Any) -> Iterator[None]:
    """Replace deployments in this process, by instances of services or by fakes: `kaon.local(cleaner=Cleaner())`.

    A fake is any object with methods of the endpoints' names, sync or async. Jobs that are submitted within it run in
    this process.

    An underscore in a name stands for a dash. Start hooks run on the way in, stop hooks on the way out.
    """
    links = {name: _in_place_of(name, i) for name, i in ((n.replace("_", "-"), i) for n, i in instances.items())}
    with ExitStack() as stack:
        for link in links.values():
            link.start()
            stack.callback(link.stop)
        before = dict(_local_instances)
        _local_instances.update(links)
        _depth.append(None)
        try:
            yield
        finally:
            _depth.pop()
            _local_instances.clear()
            _local_instances.update(before)


def within_local() -> bool:
    """Whether this process is within `kaon.local(...)`: jobs run here then."""
    return bool(_depth)


def _in_place_of(name: str, instance: Any) -> InProcess | Fake:
    if isinstance(instance, type):
        raise ConfigError(f"`{instance.__name__}` is a class.", hint=f"Pass an instance: {name}={instance.__name__}().")
    if "__kaon_service__" in vars(type(instance)):
        return InProcess(service_of(instance), instance)
    return Fake(name, instance)


class Handle(Reference):
    """Another service; its endpoints are methods. `aio` has the same for coroutines."""

    def __init__(self, target: str | type) -> None:
        self._service = None if isinstance(target, str) else service_of(target)
        super().__init__(target if isinstance(target, str) else service_of(target).name)

    @property
    def aio(self) -> AsyncHandle:
        """The same service, for coroutines."""
        return AsyncHandle(self)

    def __getattr__(self, endpoint: str) -> Callable[..., Any]:
        if endpoint.startswith("_"):
            raise AttributeError(endpoint)

        def call(*args: Any, **kwargs: Any) -> Any:
            _refuse_on_a_loop(self._name, endpoint)
            with calling(self._name):
                _check_endpoint(self._service, endpoint)
                link = _link(self._name, self._service)
                answer = link.call(endpoint, *_arguments(self._service, endpoint, args, kwargs))
            return _marked(answer, self._name) if isinstance(answer, Iterator) else answer

        return _described(call, self._service, endpoint)

    def __dir__(self) -> list[str]:
        return ["aio", *_names(self._service)]

    def __repr__(self) -> str:
        return f"kaon.use({self._name!r})"


class AsyncHandle:
    """A handle whose calls are awaited."""

    def __init__(self, handle: Handle) -> None:
        self._handle = handle

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """A sync call of an endpoint with the name `aio`."""
        return self._handle.__getattr__("aio")(*args, **kwargs)

    def __getattr__(self, endpoint: str) -> Callable[..., Reply]:
        if endpoint.startswith("_"):
            raise AttributeError(endpoint)
        service, name = self._handle._service, self._handle._name

        def call(*args: Any, **kwargs: Any) -> Reply:
            with calling(name):
                _check_endpoint(service, endpoint)
                reply = _link(name, service).acall(endpoint, *_arguments(service, endpoint, args, kwargs))
            return _MarkedReply(reply, name)

        return _described(call, service, endpoint)

    def __dir__(self) -> list[str]:
        return _names(self._handle._service)


def _names(service: Service | None) -> list[str]:
    """The endpoints that a handle can call; none are known for a handle made from a name."""
    endpoints = service.endpoints if service is not None else ()
    return [e.spec.name for e in endpoints if e.spec.kind is not EndpointKind.WEBSOCKET]


def _check_endpoint(service: Service | None, endpoint: str) -> None:
    if service is not None and all(e.spec.name != endpoint for e in service.endpoints):
        near = get_close_matches(endpoint, _names(service), 1)
        names = ", ".join(_names(service)) or "none"
        hint = f"Did you mean `{near[0]}`?" if near else f"Its endpoints: {names}."
        raise NotFound(f"`{service.name}` has no endpoint `{endpoint}`.", hint=hint)


def _described(call: F, service: Service | None, endpoint: str) -> F:
    """`call` with the name, docstring and signature of the class's method."""
    call.__name__ = endpoint
    found = next((e for e in service.endpoints if e.spec.name == endpoint), None) if service else None
    if found is not None:
        signature = inspect.signature(found.function)
        call.__doc__ = found.function.__doc__
        parameters = list(signature.parameters.values())[1:]
        call.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return call


def _marked(items: Iterator[Any], name: str) -> Iterator[Any]:
    """The items of a stream, with its errors marked as those of a call."""
    with calling(name):
        yield from items


@dataclass(frozen=True, slots=True)
class _MarkedReply:
    """A pending answer, with its errors marked as those of a call."""

    reply: Reply
    name: str

    def __await__(self) -> Generator[Any, None, Any]:
        with calling(self.name):
            return (yield from self.reply.__await__())

    async def __aiter__(self) -> AsyncIterator[Any]:
        items = aiter(self.reply)
        try:
            with calling(self.name):
                async for item in items:
                    yield item
        finally:
            if isinstance(items, AsyncGenerator):
                await items.aclose()


def _link(name: str, service: Service | None) -> ServiceLink:
    if name in _local_instances:
        return _local_instances[name]
    with _lock:
        if os.environ.get("KAON_EDGE_URL") and _network is not None:
            _check_declared(name)
            if name not in _remote:
                _remote[name] = _network(name)
            return _remote[name]
        if service is not None:
            if service.cls not in _own:
                _own[service.cls] = InProcess(service, construct(service, deployment_variables()))
                _own[service.cls].start()
            return _own[service.cls]
    raise ConfigError(
        f"There is no service `{name}` here.",
        hint=f"In a test, use `with kaon.local({name.replace('-', '_')}=...)`; elsewhere set KAON_EDGE_URL.",
    )


def _arguments(
    service: Service | None, endpoint: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Mapping[str, Any], Any, Read | None]:
    """Arguments by name, body, and the reader of the answer."""
    found = next((e for e in service.endpoints if e.spec.name == endpoint), None) if service else None
    if found is None:
        if len(args) > 1:
            raise InvalidInput(
                f"`{endpoint}` got {len(args)} positional arguments.", hint="Pass its parameters by name."
            )
        return kwargs, args[0] if args else None, None
    try:
        given = dict(inspect.signature(found.function).bind(None, *args, **kwargs).arguments)
    except TypeError as error:
        raise InvalidInput(f"`{endpoint}` cannot be called like this: {error}.") from None
    given.pop(next(iter(inspect.signature(found.function).parameters)))
    body = given.pop(found.signature.whole_body, None) if found.signature.whole_body else None
    return given, body, found.signature.from_answer


def _refuse_on_a_loop(name: str, endpoint: str) -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise ConfigError(
        f"A sync call of `{name}.{endpoint}` would block this thread's event loop.",
        hint=f"In a coroutine, use `await handle.aio.{endpoint}(...)`.",
    )
