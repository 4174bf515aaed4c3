"""Routes with a required right.

`AuthorizedRoute` is the only class of route in the API. Its right is a keyword without default, so that a route without
one cannot be created; the authorizer decides before more than the head of the request is read.
"""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import replace
from functools import cached_property
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError, WrapValidator
from starlette.requests import Request
from starlette.responses import Response

from kaon.api.authorizer import Need
from kaon.api.problems import RESPONSES, Unprocessable
from kaon.errors import Forbidden, InvalidInput, TooLarge
from kaon.sdk.codec import Reader, codec_of
from kaon.sdk.problems import invalid
from kaon.types.key import Right
from kaon.types.model import from_request

BODY_LIMIT_BYTES = 2**20
_FEW_ITEMS = 2000
Handler = TypeVar("Handler", bound=Callable[..., Any])


class AuthorizedRoute(APIRoute):
    """A route and the right that it requires."""

    def __init__(
        self,
        path: str,
        endpoint: Callable[..., Any],
        *,
        right: Need,
        body_limit_bytes: int = BODY_LIMIT_BYTES,
        **options: Any,
    ) -> None:
        self.right = right
        self.body_limit_bytes = body_limit_bytes
        if right is not Right.AGENT:  # an agent may be newer than this server
            endpoint = _with_strict_bodies(endpoint)
        super().__init__(path, endpoint, **options)
        self._queries = frozenset(_queries(self.dependant))

    @property
    def verb(self) -> str:
        """The verb in the audit log: the first word of the operation's name."""
        return (self.operation_id or self.name).partition("_")[0]

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The framework's handler, after authorization."""
        handle = super().get_route_handler()

        async def enter(request: Request) -> Response:
            try:
                return await self._enter(request, handle)
            except Forbidden:
                await request.app.state.refusals.record(request, self.verb, str(self.tags[0]).removesuffix("s"))
                raise

        return enter

    async def _enter(self, request: Request, handle: Callable[[Request], Coroutine[Any, Any, Response]]) -> Response:
        caller = await request.app.state.authorizer.admit(request, self.right)
        request.state.caller = caller and replace(caller, verb=self.verb)
        self._refuse_unknown_queries(request)
        strict = Strict(request, self.body_limit_bytes)
        if self.body_field is not None:
            self._check_large(await strict.body())
        return await handle(strict)

    def _check_large(self, body: bytes) -> None:
        """Refuse an invalid body of many items before the framework creates an error for each of them."""
        if body.count(b",") <= _FEW_ITEMS:
            return
        try:
            self._bulk_reader.validate_json(body, extra=None if self.right is Right.AGENT else "forbid")
        except ValidationError as error:
            found = invalid(error, "body").errors
            raise Unprocessable(
                "The request does not match the types of this route.",
                hint="See `errors` for the places; the types are in /api/v1/openapi.json.",
                errors=[{"where": each["where"], "message": each["problem"]} for each in found],
            ) from None

    @cached_property
    def _bulk_reader(self) -> Reader:
        assert self.body_field is not None
        return codec_of(self.body_field.field_info.annotation).bulk_reader

    def _refuse_unknown_queries(self, request: Request) -> None:
        """Raises `InvalidInput` for unknown parameters: a misspelt `dry_run` must not become a write."""
        unknown = sorted(set(request.query_params) - self._queries)
        if unknown:
            takes = ", ".join(sorted(self._queries)) or "none"
            raise InvalidInput(
                "The query has parameters that this route does not have.",
                hint=f"Its parameters: {takes}.",
                errors=[{"where": f"query.{name[:80]}", "message": "unknown"} for name in unknown[:20]],
            )


def _with_strict_bodies(endpoint: Handler) -> Handler:
    """The handler with its bodies read by `from_request`."""
    signature = inspect.signature(endpoint, eval_str=True)
    parameters = [p.replace(annotation=_strict(p.annotation)) for p in signature.parameters.values()]
    endpoint.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return endpoint


def _strict(annotation: Any) -> Any:
    """A body's type, read by `from_request`; other types unchanged."""
    if get_origin(annotation) in (Union, UnionType):
        return Union[tuple(map(_strict, get_args(annotation)))]  # noqa: UP007
    if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
        return annotation
    return Annotated[annotation, WrapValidator(lambda value, _: from_request(annotation, value))]


def _queries(dependant: Dependant) -> Iterator[str]:
    """The query parameters that a handler, or what it depends on, takes."""
    yield from (p.alias for p in dependant.query_params)
    for below in dependant.dependencies:
        yield from _queries(below)


class Strict(Request):
    """A request with a bounded body and strict JSON."""

    def __init__(self, request: Request, limit_bytes: int) -> None:
        super().__init__(request.scope, request.receive)
        self._limit_bytes = limit_bytes

    async def body(self) -> bytes:
        """The whole body. Raises `TooLarge` as early as possible."""
        if not hasattr(self, "_body"):
            declared = self.headers.get("content-length", "0")
            if declared.isdecimal() and int(declared[:19]) > self._limit_bytes:
                raise self._too_large()
            chunks, size = [], 0
            async for chunk in self.stream():
                size += len(chunk)
                if size > self._limit_bytes:
                    raise self._too_large()
                chunks.append(chunk)
            self._body = b"".join(chunks)
        return self._body

    async def json(self) -> Any:
        """The body's value; NaN, infinities, NUL in texts and too deep nesting are refused."""
        body = await self.body()
        try:
            value = json.loads(body, parse_constant=_refuse_number, parse_float=_finite)
        except (RecursionError, UnicodeDecodeError):
            raise json.JSONDecodeError("not readable", "", 0) from None
        except json.JSONDecodeError:
            raise
        except ValueError:
            raise json.JSONDecodeError("a number is out of range", "", 0) from None
        if b"\\u0000" in body and any("\0" in text for text in _texts(value)):
            raise json.JSONDecodeError("a text holds NUL", "", 0)
        return value

    def _too_large(self) -> TooLarge:
        return TooLarge(f"The body is larger than {self._limit_bytes:,} bytes.")


def _refuse_number(text: str) -> float:
    raise ValueError(text)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number


def _texts(value: Any) -> Iterator[str]:
    todo = [value]
    while todo:
        match todo.pop():
            case str(text):
                yield text
            case list(items):
                todo.extend(items)
            case dict(members):
                todo.extend(members.keys())
                todo.extend(members.values())


class AuthorizedRouter(list[AuthorizedRoute]):
    """The routes below one path: `@router.get("/{name}", right=Right.READ)`."""

    def __init__(self, prefix: str, *, tag: str) -> None:
        super().__init__()
        self._prefix = f"/api/v1{prefix}"
        self._tag = tag

    def get(self, path: str = "", **options: Any) -> Callable[[Handler], Handler]:
        """Add a GET route."""
        return self._route("GET", path, options)

    def post(self, path: str = "", **options: Any) -> Callable[[Handler], Handler]:
        """Add a POST route."""
        return self._route("POST", path, options)

    def put(self, path: str = "", **options: Any) -> Callable[[Handler], Handler]:
        """Add a PUT route."""
        return self._route("PUT", path, options)

    def delete(self, path: str = "", **options: Any) -> Callable[[Handler], Handler]:
        """Add a DELETE route."""
        return self._route("DELETE", path, options)

    def _route(self, method: str, path: str, options: dict[str, Any]) -> Callable[[Handler], Handler]:
        def add(endpoint: Handler) -> Handler:
            options.setdefault("responses", {}).update(RESPONSES)
            self.append(
                AuthorizedRoute(
                    self._prefix + path,
                    endpoint,
                    methods=[method],
                    tags=[self._tag],
                    operation_id=endpoint.__name__,
                    **options,
                )
            )
            return endpoint

        return add
