"""`@kaon.endpoint`: a method that is called over HTTP.

The mark is set on the function and read when the class is marked `@kaon.service`; the method itself is unchanged.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import EllipsisType
from typing import Any, TypeVar, overload

from pydantic import ValidationError

from kaon.errors import ConfigError, InvalidInput
from kaon.sdk import hints
from kaon.sdk.method import Method, is_method
from kaon.sdk.signature import Signature, compile_signature
from kaon.types.headers import is_media_type
from kaon.types.media import OCTET_STREAM
from kaon.types.service import MAX_BODY_BYTES, MAX_MESSAGE_BYTES, Batch, EndpointKind, EndpointSpec, WireProtocol
from kaon.types.wire import json_of, pairs_of, text_of

F = TypeVar("F", bound=Callable[..., Any])

MARK = "__kaon_endpoint__"
VERBS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"})
REPEATABLE = frozenset({"GET", "HEAD", "PUT", "DELETE"})
"""Idempotent methods (RFC 9110)."""
TIMEOUT_S = 60.0

_PATH = re.compile(r"/|(/([A-Za-z0-9._~-]+|\{[A-Za-z_][A-Za-z0-9_]*\}))+")
_PATH_NAME = re.compile(r"\{(\w+)\}")
_OPENAI_PATH = re.compile(
    r"/v1/(chat/completions|completions|embeddings|models|responses|moderations|images|audio)(/.*)?"
)
_TAKEN = frozenset({"/openapi.json", "/docs"})


@dataclass(frozen=True, slots=True)
class EndpointMark:
    """The arguments of `@kaon.endpoint(...)`."""

    path: str | None = None
    method: str = "POST"
    timeout_s: float | EllipsisType | None = ...
    concurrency: int | None = None
    batch: Batch | None = None
    idempotent: bool | None = None
    retry: bool = False
    hedge_s: float | None = None
    examples: tuple[Mapping[str, Any], ...] = ()
    summary: str | None = None
    media_type: str | None = None
    max_message_bytes: int | None = None
    strict: bool = False
    max_body_bytes: int | None = None
    protocol: WireProtocol | None = None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One endpoint of a service, compiled."""

    spec: EndpointSpec
    function: Callable[..., Any]
    signature: Signature
    is_async: bool
    """A coroutine function or async generator, which runs on the loop; others run in a thread."""
    is_generator: bool
    description: str = ""
    examples: tuple[Mapping[str, Any], ...] = ()
    """Example calls: parameters by name, of a body that is one model its fields."""

    @property
    def path_names(self) -> tuple[str, ...]:
        """The names in braces of its path, in order."""
        return tuple(_PATH_NAME.findall(self.spec.path))

    @property
    def shared_names(self) -> frozenset[str]:
        """Path parameters that are fields of the body's model too: callers send them once."""
        return self.signature.fields.intersection(self.path_names)

    @property
    def body_name(self) -> str | None:
        """The handler's name for a body that is one model, unless the model has a field of that name."""
        whole_body = self.signature.whole_body
        return None if whole_body in self.signature.fields else whole_body

    def body_of(self, arguments: Mapping[str, Any]) -> Any:
        """The body of a call with `arguments`: the arguments, or the one value that is the whole body."""
        name = self.body_name
        if name is not None and arguments.keys() - self.shared_names == {name}:
            return arguments[name]
        return arguments


@overload
def endpoint(function: F, /) -> F: ...
@overload
def endpoint(
    *,
    path: str | None = None,
    method: str = "POST",
    timeout_s: float | EllipsisType | None = ...,
    concurrency: int | None = None,
    batch: Batch | None = None,
    idempotent: bool | None = None,
    retry: bool = False,
    hedge_s: float | None = None,
    examples: Sequence[Mapping[str, Any]] = (),
    summary: str | None = None,
    media_type: str | None = None,
    max_message_bytes: int | None = None,
    strict: bool = False,
    max_body_bytes: int | None = None,
    protocol: WireProtocol | None = None,
) -> Callable[[F], F]: ...
def endpoint(
    function: F | None = None,
    /,
    *,
    path: str | None = None,
    method: str = "POST",
    timeout_s: float | EllipsisType | None = ...,
    concurrency: int | None = None,
    batch: Batch | None = None,
    idempotent: bool | None = None,
    retry: bool = False,
    hedge_s: float | None = None,
    examples: Sequence[Mapping[str, Any]] = (),
    summary: str | None = None,
    media_type: str | None = None,
    max_message_bytes: int | None = None,
    strict: bool = False,
    max_body_bytes: int | None = None,
    protocol: WireProtocol | None = None,
) -> F | Callable[[F], F]:
    """Mark a method as an endpoint.

    Args:
        path: Relative to the deployment; by default `/{name}` with dashes. `/` is the deployment's root,
            `/items/{item_id}` has a parameter.
        method: HTTP verb. GET, HEAD and DELETE take their parameters from the query string, the others from a body.
        timeout_s: Seconds for one call; by default 60, for streams and websockets no limit; None: no limit.
        concurrency: How many calls may run at once in one replica; None: the replica decides.
        batch: Gather calls: each parameter is a list of rows, and the answer a list with one result per row.
        idempotent: Repeating a call changes nothing; by default true for GET, HEAD, PUT and DELETE.
        retry: Send a call of an idempotent endpoint to another replica when the first one fails during the call. A call
            that crashes a replica can then crash several, so it is off by default.
        hedge_s: Send a call of an idempotent endpoint to a second replica too when the first has not answered after so
            many seconds; the first good answer counts, the other call is cancelled. Off by default.
        examples: Example calls for the documentation, each the parameters by name.
        summary: One line for the documentation; by default the docstring's first.
        media_type: The media type of a generator of bytes, whose items are sent as they are; by default
            application/octet-stream.
        max_message_bytes: The largest message of a websocket; by default 32 MiB. A larger one closes the connection
            with code 1009.
        strict: Refuse unknown query parameters instead of ignoring them.
        max_body_bytes: The largest body, also when decompressed; by default 64 MiB, the maximum.
        protocol: The form of errors and streams: `kaon`, or `openai`, the default at paths of the OpenAI API such as
            `/v1/chat/completions`.

    Raises ConfigError, here or when the class is marked, for an invalid endpoint.
    """
    mark = EndpointMark(
        path=path,
        method=method.upper(),
        timeout_s=timeout_s,
        concurrency=concurrency,
        batch=batch,
        idempotent=idempotent,
        retry=retry,
        hedge_s=hedge_s,
        examples=tuple(examples),
        summary=summary,
        media_type=media_type,
        max_message_bytes=max_message_bytes,
        strict=strict,
        max_body_bytes=max_body_bytes,
        protocol=protocol,
    )

    def put(method_: F) -> F:
        if not is_method(method_):
            raise ConfigError(
                f"`@kaon.endpoint` is on {type(method_).__name__}, not on a method.",
                hint="Put it above `def`, without @property; other decorators need functools.wraps.",
            )
        setattr(method_, MARK, mark)
        return method_

    return put if function is None else put(function)


def compile_endpoint(method: Method, mark: EndpointMark, names: Mapping[str, Any]) -> Endpoint:
    """The endpoint of a marked method; `names` are the local names where it is defined. Raises ConfigError."""
    function, is_generator = method.function, method.is_generator
    owner = function.__qualname__.rpartition("<locals>.")[2]
    if mark.method not in VERBS:
        raise ConfigError(f"`{owner}` has method={mark.method!r}.", hint=f"Use one of {', '.join(sorted(VERBS))}.")
    path = mark.path if mark.path is not None else "/" + function.__name__.strip("_").replace("_", "-")
    _check_path(owner, path)
    is_socket = any(hints.is_websocket(hint) for hint in hints.resolved(function, names).values())
    verb = "GET" if is_socket else mark.method
    signature = compile_signature(
        method, verb=verb, path_names=frozenset(_PATH_NAME.findall(path)), names=names, strict=mark.strict
    )
    is_stream = is_generator or signature.returns_stream
    kind = EndpointKind.WEBSOCKET if is_socket else EndpointKind.STREAM if is_stream else EndpointKind.CALL
    if signature.heads and (is_socket or mark.batch is not None):
        what = "a websocket, which has all of it" if is_socket else "batched: one call of the method serves many"
        raise ConfigError(f"`{owner}` takes {', '.join(signature.heads)} and is {what}.", hint="Remove the parameter.")
    if mark.batch is not None:
        _check_batch(owner, signature, kind, verb)
    idempotent = verb in REPEATABLE if mark.idempotent is None else mark.idempotent
    if mark.retry:
        _check_retry(owner, kind, idempotent=idempotent)
    timeout_s = _timeout_s(mark.timeout_s, kind)
    if mark.hedge_s is not None:
        _check_hedge(owner, mark.hedge_s, kind, idempotent=idempotent, timeout_s=timeout_s)
    lines = (inspect.getdoc(function) or "").split("\n", 1)
    try:
        spec = EndpointSpec(
            name=function.__name__,
            method=verb,
            path=path,
            kind=kind,
            summary=mark.summary or lines[0].strip(),
            idempotent=idempotent,
            retry=mark.retry,
            timeout_s=timeout_s,
            concurrency=mark.concurrency,
            hedge_s=mark.hedge_s,
            batch=mark.batch,
            media_type=_media_type(owner, mark, kind, signature),
            max_message_bytes=_max_message_bytes(owner, mark, kind),
            answers_once=signature.items is not None,
            protocol=mark.protocol or ("openai" if _OPENAI_PATH.fullmatch(path) else "kaon"),
            strict=mark.strict,
            max_body_bytes=_max_body_bytes(owner, mark, signature),
        )
    except ValidationError as error:
        raise out_of_bounds(owner, error) from None
    compiled = Endpoint(
        spec=spec,
        function=function,
        signature=signature,
        is_async=method.is_async,
        is_generator=is_generator,
        description=lines[1].strip() if len(lines) > 1 else "",
        examples=mark.examples,
    )
    for example in mark.examples:
        _check_example(owner, compiled, example)
    return compiled


def out_of_bounds(owner: str, error: ValidationError) -> ConfigError:
    """The error for a value that a manifest does not allow, such as a negative time limit."""
    first = error.errors(include_url=False)[0]
    where = ".".join(map(str, first["loc"]))
    return ConfigError(
        f"`{owner}` has {where}={first['input']!r:.80}: {first['msg']}.", hint="Correct it in the class."
    )


def _timeout_s(given: float | EllipsisType | None, kind: EndpointKind) -> float | None:
    if isinstance(given, EllipsisType):
        return TIMEOUT_S if kind is EndpointKind.CALL else None
    return given


def _media_type(owner: str, mark: EndpointMark, kind: EndpointKind, signature: Signature) -> str:
    """The media type of a generator of bytes; empty for other endpoints."""
    if kind is EndpointKind.STREAM and hints.bare((signature.items or signature).answer_hint) is bytes:
        if mark.media_type is None or is_media_type(mark.media_type):
            return mark.media_type or OCTET_STREAM
        raise ConfigError(f"`{owner}` has media_type={mark.media_type!r}.", hint="Write it like 'audio/wav'.")
    if mark.media_type is not None:
        raise ConfigError(
            f"`{owner}` has a media_type and is not a generator of bytes.",
            hint="Use `-> Iterator[bytes]` or `-> AsyncIterator[bytes]`, or remove media_type.",
        )
    return ""


def _max_message_bytes(owner: str, mark: EndpointMark, kind: EndpointKind) -> int:
    given = mark.max_message_bytes
    if given is None:
        return MAX_MESSAGE_BYTES
    if kind is not EndpointKind.WEBSOCKET or isinstance(given, bool) or not 1 <= given <= 2**30:
        raise ConfigError(
            f"`{owner}` has max_message_bytes={given!r}.",
            hint="Use it on websockets only, from 1 byte to 1 GiB (2**30).",
        )
    return given


def _max_body_bytes(owner: str, mark: EndpointMark, signature: Signature) -> int | None:
    given = mark.max_body_bytes
    has_body = any(p.where == "body" for p in signature.parameters)
    if given is not None and (not has_body or isinstance(given, bool) or not 1 <= given <= MAX_BODY_BYTES):
        raise ConfigError(
            f"`{owner}` has max_body_bytes={given!r}" + ("." if has_body else " and no body."),
            hint="Use it on endpoints with a body only, up to 64 MiB (64 * 2**20).",
        )
    return given


def _check_path(owner: str, path: str) -> None:
    if not _PATH.fullmatch(path):
        raise ConfigError(f"`{owner}` has path={path!r}.", hint="Write it like '/', '/similar' or '/items/{item_id}'.")
    if path in _TAKEN:
        raise ConfigError(
            f"`{owner}` has path={path!r}, which the deployment's documentation uses.", hint="Use another path."
        )
    names = _PATH_NAME.findall(path)
    if len(names) != len(set(names)):
        raise ConfigError(f"`{owner}` has path={path!r}, which repeats a parameter.", hint="Use each name once.")


def _check_retry(owner: str, kind: EndpointKind, *, idempotent: bool) -> None:
    if kind is EndpointKind.WEBSOCKET or not idempotent:
        what = "is a websocket" if kind is EndpointKind.WEBSOCKET else "is not idempotent"
        raise ConfigError(
            f"`{owner}` has retry=True, which may send a call twice, and {what}.",
            hint="Set idempotent=True if a call may be repeated, or remove retry.",
        )


def _check_hedge(owner: str, hedge_s: float, kind: EndpointKind, *, idempotent: bool, timeout_s: float | None) -> None:
    if kind is not EndpointKind.CALL or not idempotent:
        what = f"is a {kind.value}" if kind is not EndpointKind.CALL else "is not idempotent"
        raise ConfigError(
            f"`{owner}` has hedge_s, which sends a call twice, and {what}.",
            hint="Set idempotent=True if a call may be repeated, or remove hedge_s.",
        )
    if not 0.001 <= hedge_s < (math.inf if timeout_s is None else timeout_s):
        raise ConfigError(
            f"`{owner}` has hedge_s={hedge_s!r}.", hint="Use seconds from 0.001 to less than its timeout_s."
        )


def _check_batch(owner: str, signature: Signature, kind: EndpointKind, verb: str) -> None:
    lists = [p for p in signature.parameters if p.where == "body" and hints.listed(p.hint) is not None]
    if kind is not EndpointKind.CALL or not signature.parameters or len(lists) != len(signature.parameters):
        raise ConfigError(
            f"`{owner}` is batched, so each of its parameters must be a list of rows in a body.",
            hint="Write it like `def embed(self, texts: list[str]) -> list[list[float]]`.",
        )
    if signature.answer_hint is not Any and hints.listed(signature.answer_hint) is None:
        raise ConfigError(
            f"`{owner}` is batched, so its answer must be a list with one result per row.",
            hint=f"It is {hints.spelled(signature.answer_hint)} now; write `-> list[...]`.",
        )


def _check_example(owner: str, endpoint: Endpoint, example: Mapping[str, Any]) -> None:
    path = {name: text_of(example[name]) for name in endpoint.path_names if name in example}
    rest = {k: v for k, v in example.items() if k not in path or k in endpoint.shared_names}
    try:
        if all(p.where != "body" for p in endpoint.signature.parameters):
            pairs = [pair for name, value in rest.items() for pair in pairs_of(name, value)]
            endpoint.signature.from_query(pairs, path, strict=True)
        else:
            endpoint.signature.from_json(json_of(endpoint.body_of(rest)), path)
    except InvalidInput as error:
        raise ConfigError(f"An example of `{owner}` is invalid: {error.cause}", errors=error.errors) from None
