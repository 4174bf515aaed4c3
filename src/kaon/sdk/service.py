"""`@kaon.service`: a plain class that Kaon can serve.

The class is unchanged: tests can construct and call it like any other. Its description is compiled once, where the
class is defined, into `cls.__kaon_service__`, so that mistakes are found at import.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, get_args, overload

from pydantic import ValidationError

from kaon.errors import ConfigError
from kaon.sdk import openapi
from kaon.sdk.endpoint import MARK, Endpoint, compile_endpoint, out_of_bounds
from kaon.sdk.folder import DATABASE_FILE, data_dir
from kaon.sdk.link import Reference, target_of
from kaon.sdk.method import is_method, mark_of, method_of
from kaon.sdk.setting import Setting, compile_settings, read_settings
from kaon.types.objective import Objective
from kaon.types.service import DATABASE_VARIABLE, EventLoopName, Resources, ServiceSpec, StateKind

T = TypeVar("T")
C = TypeVar("C", bound=type)
F = TypeVar("F", bound=Callable[..., Any])

HOOK = "__kaon_hook__"
JOB = "__kaon_job__"
"""The attribute of a function that is a job; see `kaon.sdk.job`."""
_NAME = re.compile(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?")
_NAME_HINT = "A name is 1 to 40 lower-case letters, digits and dashes."
_MOUNT = re.compile(r"(/[A-Za-z0-9._~-]+)+")


@dataclass(frozen=True)
class Service:
    """A marked class, compiled."""

    cls: type
    name: str
    entry: str
    summary: str
    endpoints: tuple[Endpoint, ...]
    mounts: Mapping[str, Any]
    """Path -> ASGI or WSGI app, or a function of the instance or without arguments that makes one; see `mounted`."""
    settings: tuple[Setting, ...]
    resources: Resources
    objective: Objective
    requirements: tuple[str, ...]
    on_start: tuple[str, ...]
    """Names of the methods to call before the first request, in order; sync or async."""
    on_stop: tuple[str, ...]
    description: str = ""
    loop: EventLoopName = "uvloop"
    state: StateKind = ""
    uses: tuple[str, ...] = ()
    """Names of the deployments that it calls."""

    def spec(self) -> ServiceSpec:
        """Its part of an artifact's manifest. Raises ConfigError for values that a manifest does not allow."""
        try:
            return self._spec()
        except ValidationError as error:
            raise out_of_bounds(self.cls.__name__, error) from None

    def _spec(self) -> ServiceSpec:
        return ServiceSpec(
            name=self.name,
            entry=self.entry,
            summary=self.summary,
            endpoints=tuple(e.spec for e in self.endpoints),
            mounts=tuple(self.mounts),
            settings=tuple(s.spec for s in self.settings),
            resources=self.resources,
            objective=self.objective,
            loop=self.loop,
            state=self.state,
            requirements=self.requirements,
            uses=self.uses,
            openapi=self.openapi(),
        )

    def openapi(self, server: str = "/", apps: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Its OpenAPI document; `server` is the URL or path under which callers see it, `apps` are the mounted apps."""
        mounts = [mount_of(path, app) for path, app in (self.mounts if apps is None else apps).items()]
        about = {"summary": self.summary, "description": self.description}
        return openapi.document(self.name, self.endpoints, **about, server=server, mounts=mounts)

    def mounted(self, instance: Any) -> dict[str, Any]:
        """Path -> ASGI or WSGI app, with factories called."""
        return {path: _app(app, instance) for path, app in self.mounts.items()}


@overload
def service(cls: C, /) -> C: ...
@overload
def service(
    *,
    name: str | None = None,
    requirements: Sequence[str] = (),
    resources: Resources | None = None,
    objective: Objective | None = None,
    mounts: Mapping[str, Any] | None = None,
    loop: EventLoopName = "uvloop",
    state: StateKind = "",
    uses: Sequence[str | type] = (),
    allow_pickle: bool = False,
) -> Callable[[C], C]: ...
def service(
    cls: C | None = None,
    /,
    *,
    name: str | None = None,
    requirements: Sequence[str] = (),
    resources: Resources | None = None,
    objective: Objective | None = None,
    mounts: Mapping[str, Any] | None = None,
    loop: EventLoopName = "uvloop",
    state: StateKind = "",
    uses: Sequence[str | type] = (),
    allow_pickle: bool = False,
) -> C | Callable[[C], C]:
    """Mark a class as a service.

    Args:
        name: Its name; by default the class's own in kebab case.
        requirements: Packages that it needs, as pip writes them.
        resources: What one replica may use.
        objective: Its target for latency and availability, used for scaling.
        mounts: Path -> ASGI app (FastAPI, Starlette) or WSGI app (Flask, Django), or a function that makes one, of the
            instance or without arguments.
        loop: The event loop of its coroutines: `uvloop`, the faster one, or `asyncio`, the standard library's, for
            libraries that patch it, such as nest_asyncio.
        state: What it keeps between calls and restarts: "disk", files in `kaon.data_dir()`, or "database", which the
            setting `DATABASE_URL` names, by default SQLite in that folder. A folder is on one machine, so at most one
            replica runs at once.
        uses: The services that it calls, by the names of their deployments or by their classes. Handles in the class's
            body and in its constructor's defaults are included. Its key is valid for these only.
        allow_pickle: Whether pickles (.pkl, .joblib, .pt ...) are packed with it. Loading one runs the code in it; only
            the service itself does that, never Kaon.

    Raises ConfigError for an invalid class.
    """
    frame = inspect.currentframe()
    names = dict(frame.f_back.f_locals) if frame is not None and frame.f_back is not None else {}

    def put(marked: C) -> C:
        if not isinstance(allow_pickle, bool):
            raise ConfigError("allow_pickle is not True or False.", hint="Write it as allow_pickle=True.")
        if not isinstance(marked, type):
            raise ConfigError("`@kaon.service` is not on a class.", hint="Put it above `class`.")
        lines = (inspect.cleandoc(marked.__doc__ or "")).split("\n", 1)
        compiled = Service(
            cls=marked,
            name=_named(marked, name),
            entry=f"{marked.__module__}:{marked.__qualname__}",
            summary=lines[0].strip(),
            endpoints=_endpoints(marked, {**names, marked.__name__: marked}),
            mounts=dict(mounts or {}),
            settings=compile_settings(marked, names),
            resources=resources or Resources(),
            objective=_objective(marked, objective),
            requirements=tuple(requirements),
            on_start=_hooks(marked, "start"),
            on_stop=_hooks(marked, "stop"),
            description=lines[1].strip() if len(lines) > 1 else "",
            loop=_loop(marked, loop),
            state=_state(marked, state),
            uses=_uses(marked, uses),
        )
        _check_paths(compiled)
        marked.__kaon_service__ = compiled  # type: ignore[attr-defined]
        return marked

    return put if cls is None else put(cls)


def on_start(method: F) -> F:
    """Mark a method, sync or async, to be called once before the first request."""
    return _hook(method, "start")


def on_stop(method: F) -> F:
    """Mark a method, sync or async, to be called once after the last request."""
    return _hook(method, "stop")


def service_of(cls: Any) -> Service:
    """The description of a marked class or its instance. Raises ConfigError for other classes."""
    kind = cls if isinstance(cls, type) else type(cls)
    found = kind.__dict__.get("__kaon_service__")
    if isinstance(found, Service):
        return found
    raise ConfigError(
        f"`{getattr(kind, '__name__', kind)}` is not a service.", hint="Put `@kaon.service` above the class."
    )


def construct(service: Service, environ: Mapping[str, str]) -> Any:
    """An instance with its settings read from `environ`.

    Raises ConfigError that lists all missing and wrong settings, or what the constructor raises.
    """
    if service.state == "database" and DATABASE_VARIABLE not in environ:
        environ = {**environ, DATABASE_VARIABLE: f"sqlite:///{data_dir() / DATABASE_FILE}"}
    return service.cls(**read_settings(service.name, service.settings, environ))


def _state(cls: type, state: StateKind) -> StateKind:
    if state not in get_args(StateKind):
        raise ConfigError(
            f"`{cls.__name__}` has state={state!r}.", hint='It is "disk" or "database"; leave it out for none.'
        )
    return state


def _hook(method: F, when: str) -> F:
    if not inspect.isfunction(method):
        raise ConfigError(f"`@kaon.on_{when}` is not on a method.", hint="Put it above `def`.")
    setattr(method, HOOK, when)
    return method


def _methods(cls: type) -> dict[str, Any]:
    """Attributes of the class in order of definition, bases first, overridden ones replaced."""
    found: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        found.update(vars(base))
    return found


def _endpoints(cls: type, names: Mapping[str, Any]) -> tuple[Endpoint, ...]:
    found = ((name, m, mark_of(m, MARK)) for name, m in _methods(cls).items() if is_method(m))
    return tuple(compile_endpoint(method_of(m, name), mark, names) for name, m, mark in found if mark is not None)


def _hooks(cls: type, when: str) -> tuple[str, ...]:
    return tuple(name for name, method in _methods(cls).items() if getattr(method, HOOK, None) == when)


def default_name(cls: str) -> str:
    """The default name of a service by its class: kebab case."""
    kebab = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", cls.replace("_", "-"))
    return kebab.strip("-").lower()


def _named(cls: type, given: str | None) -> str:
    return valid_name(cls.__name__, given if given is not None else default_name(cls.__name__), "service")


def valid_name(owner: str, name: Any, decorator: str) -> str:
    """`name`, if a service or a job can have it. Raises ConfigError."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigError(
            f"The name {name!r} of `{owner}` is not valid.",
            hint=f"{_NAME_HINT} Set one with @kaon.{decorator}(name=...).",
        )
    return name


def _objective(cls: type, given: Objective | None) -> Objective:
    if given is not None and not isinstance(given, Objective):
        raise ConfigError(
            f"The objective of `{cls.__name__}` is {type(given).__name__}, not kaon.Objective.",
            hint="Write it like @kaon.service(objective=kaon.Objective(latency_s=0.2)).",
        )
    return given or Objective()


def _uses(cls: type, given: Any) -> tuple[str, ...]:
    """The names given, and those of handles in the class's body and its constructor's defaults, without repetition."""
    constructor = inspect.signature(cls.__init__).parameters.values()  # type: ignore[misc]
    values = [*_methods(cls).values(), *(parameter.default for parameter in constructor)]
    return used_names(cls.__name__, given, values)


def used_names(owner: str, given: Any, values: Iterable[Any]) -> tuple[str, ...]:
    """The names of deployments in `uses=`, and of the handles among `values`, without repetition."""
    if isinstance(given, str) or not all(isinstance(one, (str, type)) for one in given):
        raise ConfigError(f"`uses` of `{owner}` is {given!r}.", hint='Write it like uses=("cleaner",).')
    found = [one if isinstance(one, str) else service_of(one).name for one in given]
    found += [target_of(value) for value in values if isinstance(value, Reference)]
    if wrong := [name for name in found if not _NAME.fullmatch(name)]:
        raise ConfigError(f"`{owner}` uses {wrong[0]!r}, which is not a valid deployment name.", hint=_NAME_HINT)
    return tuple(dict.fromkeys(found))


def _loop(cls: type, given: Any) -> EventLoopName:
    if given not in get_args(EventLoopName):
        raise ConfigError(f"The loop of `{cls.__name__}` is {given!r}.", hint="Write loop='uvloop' or loop='asyncio'.")
    return given  # type: ignore[no-any-return]


def _check_paths(service: Service) -> None:
    has_jobs = any(hasattr(method, JOB) for method in _methods(service.cls).values())
    if not service.endpoints and not service.mounts and not has_jobs:
        raise ConfigError(
            f"`{service.cls.__name__}` has no endpoint.", hint="Put `@kaon.endpoint` above one of its methods."
        )
    paths: dict[tuple[str, str], str] = {}
    for endpoint in service.endpoints:
        shape = re.sub(r"\{\w+\}", "{}", endpoint.spec.path)
        other = paths.setdefault((endpoint.spec.method, shape), endpoint.spec.name)
        if other != endpoint.spec.name:
            raise ConfigError(
                f"`{other}` and `{endpoint.spec.name}` of `{service.cls.__name__}` both answer "
                f"{endpoint.spec.method} {endpoint.spec.path}.",
                hint="Change the path of one of them.",
            )
    for path in service.mounts:
        if not _MOUNT.fullmatch(path) or path in ("/docs", "/openapi.json"):
            raise ConfigError(f"`{service.cls.__name__}` mounts {path!r}.", hint="Write the path like '/ui'.")
        for endpoint in service.endpoints:
            if f"{endpoint.spec.path}/".startswith(f"{path}/"):
                raise ConfigError(
                    f"`{endpoint.spec.name}` is under {path}, where an app is mounted.", hint="Change one of the paths."
                )


def arguments_of(app: Any) -> int:
    """How many arguments a mounted callable needs: 3 an ASGI app, 2 a WSGI app, 1 or 0 a function that makes one."""
    call = app if inspect.isroutine(app) or inspect.isclass(app) else type(app).__call__
    required = [
        p for p in inspect.signature(call).parameters.values() if p.default is p.empty and p.kind is not p.VAR_KEYWORD
    ]
    return len(required) - (call is not app)


def mount_of(path: str, app: Any) -> dict[str, str]:
    """A mounted app for the service's document: its path, title, and own documents if it has them (FastAPI)."""
    found = {"path": path}
    if arguments_of(app) < 2:  # not made yet
        return found
    found["kind"] = "wsgi" if arguments_of(app) == 2 else "asgi"
    title = getattr(app, "title", None) or getattr(app, "name", None)  # of FastAPI, of Flask
    if isinstance(title, str):
        found["title"] = title
    for key in ("openapi", "docs"):
        value = getattr(app, f"{key}_url", None)
        if isinstance(value, str) and value:
            found[key] = f"{path}{value}"
    return found


def _app(app: Any, instance: Any) -> Any:
    match arguments_of(app):
        case 0:
            return app()
        case 1:
            return app(instance)
        case _:
            return app
