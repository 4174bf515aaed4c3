"""Handles: how one service calls another.

`kaon.use("cleaner")` or `kaon.use(Cleaner)` costs nothing; who answers is decided at each call:

1. what `kaon.local(...)` has put in the place of that name, as tests do;
2. on the platform (`KAON_EDGE_URL` is set), the deployment of that name, over the network, with the service's own key,
   the request's id and whatever is left of its deadline; the key opens what the service declares (`uses=`), so a handle
   of anything else is refused;
3. for a handle made from a class, an instance of it in this process, with its settings from the environment.

The first and third go through the same validation and JSON as the network does, so that a test finds what production
would. A handle made from a class answers the types that the class declares; one made from a name plain values.

**The rule of calling.** `handle.clean(text="a")` is a plain call: it returns when the answer is there, and a stream is
an iterator. `handle.aio.clean(text="a")` is for coroutines: `await` it, or go through a stream with `async for`. A
plain call on a thread that runs an event loop would stop that loop for everybody, and is refused.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from kaon.errors import ConfigError, InvalidInput
from kaon.sdk.link import Read, Reference, Reply, ServiceLink, target_of
from kaon.sdk.local import InProcess
from kaon.sdk.service import Service, construct, service_of
from kaon.sdk.setting import deployment_variables

_stand_ins: dict[str, InProcess] = {}
_own: dict[type, InProcess] = {}
_remote: dict[str, ServiceLink] = {}
_lock = threading.RLock()
_network: Callable[[str], ServiceLink] | None = None
_allowed: frozenset[str] | None = None


def plug(network: Callable[[str], ServiceLink]) -> None:
    """Say how a deployment is reached by its name; `kaon` itself does, with the client."""
    global _network
    _network = network


def allow(names: Collection[str] | None) -> None:
    """Let this process reach the deployments of these names over the network and no others; None: all.

    The runtime says here what the service declares. Who enforces it is the platform: its key opens nothing else.
    """
    global _allowed
    _allowed = None if names is None else frozenset(names)


def use(target: str | type) -> Handle:
    """A handle of another service, by its deployment's name or by its class; see this module's page for the rules.

    Raises ConfigError in a service that does not declare that it uses the other one.
    """
    handle = Handle(target)
    if os.environ.get("KAON_EDGE_URL"):
        _check_declared(target_of(handle))
    return handle


def _check_declared(name: str) -> None:
    if _allowed is not None and name not in _allowed and name not in _stand_ins:
        raise ConfigError(
            f"This service calls `{name}` without saying so.",
            hint=f'Declare it: @kaon.service(uses=("{name}",)), or `kaon.use("{name}")` in the class\'s body.',
        )


@contextmanager
def local(**instances: Any) -> Iterator[None]:
    """Let instances of services answer in the place of deployments, in this process: `kaon.local(cleaner=Cleaner())`.

    An underscore in a name stands for a dash. Start hooks run on the way in, stop hooks on the way out.
    """
    links = {name.replace("_", "-"): InProcess(service_of(i), i) for name, i in instances.items()}
    with ExitStack() as stack:
        for link in links.values():
            link.start()
            stack.callback(link.stop)
        before = dict(_stand_ins)
        _stand_ins.update(links)
        try:
            yield
        finally:
            _stand_ins.clear()
            _stand_ins.update(before)


class Handle(Reference):
    """Another service: its endpoints are methods. `aio` has the same for coroutines."""

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
            return _link(self._name, self._service).call(endpoint, *_said(self._service, endpoint, args, kwargs))

        return call

    def __repr__(self) -> str:
        return f"kaon.use({self._name!r})"


class AsyncHandle:
    """A handle whose calls are awaited."""

    def __init__(self, handle: Handle) -> None:
        self._handle = handle

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """A plain call of the endpoint that is called `aio`."""
        return self._handle.__getattr__("aio")(*args, **kwargs)

    def __getattr__(self, endpoint: str) -> Callable[..., Reply]:
        if endpoint.startswith("_"):
            raise AttributeError(endpoint)
        service, name = self._handle._service, self._handle._name

        def call(*args: Any, **kwargs: Any) -> Reply:
            return _link(name, service).acall(endpoint, *_said(service, endpoint, args, kwargs))

        return call


def _link(name: str, service: Service | None) -> ServiceLink:
    if name in _stand_ins:
        return _stand_ins[name]
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
        f"Nobody answers for `{name}` here.",
        hint=f"In a test, say `with kaon.local({name.replace('-', '_')}=...)`; elsewhere set KAON_EDGE_URL.",
    )


def _said(
    service: Service | None, endpoint: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Mapping[str, Any], Any, Read | None]:
    """Arguments by name, body, and how to read the answer."""
    found = next((e for e in service.endpoints if e.spec.name == endpoint), None) if service else None
    if found is None:
        if len(args) > 1:
            raise InvalidInput(f"`{endpoint}` was given {len(args)} values without names.", hint="Name its parameters.")
        return kwargs, args[0] if args else None, None
    try:
        given = dict(inspect.signature(found.function).bind(None, *args, **kwargs).arguments)
    except TypeError as error:
        raise InvalidInput(f"`{endpoint}` cannot be called like this: {error}.") from None
    given.pop(next(iter(inspect.signature(found.function).parameters)))
    body = given.pop(found.signature.sole, None) if found.signature.sole else None
    return given, body, found.signature.from_answer


def _refuse_on_a_loop(name: str, endpoint: str) -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise ConfigError(
        f"A plain call of `{name}.{endpoint}` would stop this thread's event loop.",
        hint=f"In a coroutine, write `await handle.aio.{endpoint}(...)`.",
    )
