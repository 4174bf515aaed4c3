"""A handler's signature, compiled once from its type hints: text and bytes in, arguments out, answers to bytes.

Everything that costs time is done in `compile_signature`; `from_json` and `to_json` are the hot path of a replica and
make one call into pydantic's core each. Parameters that a caller leaves out are simply not among the arguments, so
that Python's own defaults apply.
"""

from __future__ import annotations

import inspect
from codecs import BOM_UTF8
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, NotRequired, Required

from pydantic import ConfigDict, ValidationError, with_config
from pydantic_core import PydanticSerializationError, SchemaSerializer, from_json
from typing_extensions import TypedDict

from kaon.errors import BadAnswer, ConfigError, InvalidInput, UnsupportedMediaType
from kaon.sdk import hints
from kaon.sdk.arrays import plain
from kaon.sdk.codec import Codec, Reader
from kaon.sdk.exact import Exact, exact_check
from kaon.sdk.method import Method
from kaon.sdk.parameter import Parameter, ParameterPlace, compile_codec, compile_parameter
from kaon.sdk.problems import MOST, invalid, problem, refused, surplus, told, unreadable
from kaon.sdk.request import Request
from kaon.sdk.response import Response
from kaon.types.headers import is_media_type
from kaon.types.media import OCTET_STREAM, File

JSON = "application/json"
_N, _I = b"N"[0], b"I"[0]
"""With these begin NaN and Infinity; a single byte is found ten times as quickly as a word."""
LARGE = 100_000
"""Bytes of a body from which on only the first wrong item of each container is looked for."""


@dataclass(frozen=True, slots=True)
class Signature:
    """What a handler takes and answers; made by `compile_signature`."""

    owner: str
    """`Class.method`, for messages."""
    parameters: tuple[Parameter, ...]
    answer: Codec
    answer_hint: Any
    exact: Exact | None
    """Tells cheaply that an answer is what the hint says, so that the serializer need not look for what is not."""
    body: Codec
    """Reads the JSON body: the one model, or the object of all parameters."""
    reader: Reader
    """`body`'s."""
    serializer: SchemaSerializer
    """The answer's."""
    limited: bool = False
    """Whether the answer's type has limits that only a validator checks."""
    may_be_nan: bool = False
    """Whether a number in the answer may be NaN or infinite."""
    strict: bool = False
    """Whether query parameters that it does not know are refused."""
    sole: str | None = None
    """The parameter that is the whole body, when there is one."""
    fields: frozenset[str] = frozenset()
    """The names of that body's fields."""
    raw: str | None = None
    """The parameter that a body of another media type than JSON is."""
    form: bool = False
    """Whether it takes files, so that a multipart form may say it."""
    socket: str | None = None
    """The parameter that is the websocket."""
    request: str | None = None
    """The parameter that is the request's head, a `Request`."""
    response: str | None = None
    """The parameter that is the answer's head, a `Response`."""

    @property
    def heads(self) -> tuple[str, ...]:
        """The parameters that are no part of what a caller says."""
        return tuple(name for name in (self.request, self.response) if name is not None)

    def from_json(self, body: bytes, path: Mapping[str, str] | None = None) -> dict[str, Any]:
        """The arguments that a JSON body says, and those of the path. Raises InvalidInput."""
        try:
            value = self.reader.validate_json(body or b"{}")
        except ValidationError as error:
            value = self._read_again(body, error)
        arguments: dict[str, Any] = value if self.sole is None else {self.sole: value}
        return self._with_path(arguments, path) if path else arguments

    def from_large_json(self, body: bytes, path: Mapping[str, str] | None = None) -> dict[str, Any]:
        """The same for a body of any size: what is wrong with it is found at the cost of reading it."""
        if len(body) < LARGE:
            return self.from_json(body, path)
        value = self._read_large(body.removeprefix(BOM_UTF8) or b"{}")
        return self._with_path(value if self.sole is None else {self.sole: value}, path)

    def _read_again(self, body: bytes, error: ValidationError) -> Any:
        """Read a body that was refused, if there is a way; or say why it was refused."""
        if body.startswith(BOM_UTF8):  # RFC 8259 lets a reader ignore it
            return self._read_large(body.removeprefix(BOM_UTF8))
        if error.error_count() > MOST:
            return self._read_large(body)
        raise unreadable(error, body) from None

    def _read_large(self, body: bytes) -> Any:
        try:
            value = self.body.bulk_reader.validate_json(body)
        except ValidationError as error:
            raise unreadable(error, body) from None
        if self.sole is None:
            known = {p.name for p in self.parameters}
            if more := list(islice((name for name in value if name not in known), MOST + 1)):
                raise surplus("body", more)
        return value

    def from_query(
        self, pairs: Iterable[tuple[str, str]], path: Mapping[str, str] | None = None, *, strict: bool = False
    ) -> dict[str, Any]:
        """The arguments that a query string says; lists by repetition. Raises InvalidInput.

        What it does not know is left out, unless the endpoint or the caller of this is strict.
        """
        return self._with_path(self._read(pairs, "query", strict=strict or self.strict), path)

    def from_form(
        self, parts: Iterable[tuple[str, str | File | None]], path: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """The arguments that a form says: files as parts, all else as text or JSON. Raises InvalidInput.

        A part that is None is a file input which was left empty.
        """
        grouped: dict[str, list[str | File]] = {}
        for name, value in parts:
            grouped.setdefault(name, []).extend([] if value is None else [value])
        known = {p.name: p for p in self.parameters if p.where == "body"}
        if more := grouped.keys() - known:
            raise surplus("form", sorted(more))
        problems: list[dict[str, str]] = []
        arguments: dict[str, Any] = {}
        for name, parameter in known.items():
            given = grouped.get(name)
            if not given and (given is None or not parameter.takes_nothing):
                if parameter.required:
                    problems.append(problem(f"form.{name}", "is required"))
                continue
            try:
                arguments[name] = parameter.read_parts(given or [])
            except (ValidationError, InvalidInput) as error:
                problems += _problems(error, f"form.{name}")
        if problems:
            raise refused(problems[:MOST])
        return self._with_path(arguments, path)

    def from_raw(self, body: bytes, media_type: str, path: Mapping[str, str] | None = None) -> dict[str, Any]:
        """The argument that a body of any media type is. Raises InvalidInput."""
        if self.raw is None:
            taken = f"{JSON}, multipart/form-data or application/x-www-form-urlencoded" if self.form else JSON
            raise UnsupportedMediaType(
                f"A body of type {media_type[:80] or 'unknown'} is not taken here.", hint=f"Send {taken}."
            )
        parameter = next(p for p in self.parameters if p.name == self.raw)
        try:
            value = File(body, media_type=media_type) if hints.is_file(parameter.hint) else body
            arguments = {self.raw: parameter.codec.validate_python(value)}
        except ValidationError as error:
            raise invalid(error, "body") from None
        except ValueError as error:
            raise InvalidInput(f"The body cannot be taken: {error}.") from None
        return self._with_path(arguments, path)

    def to_json(self, result: Any) -> bytes:
        """The answer (or one item of a stream) as JSON. Raises BadAnswer when it is not what the hint says."""
        try:
            if self.exact is not None and self.exact(result):
                text = self.serializer.to_json(result)
            else:
                value = self.answer.validate_python(result) if self.limited else result
                text = self.serializer.to_json(value, warnings="error")
        except (PydanticSerializationError, ValueError, TypeError, RecursionError):
            text = self._to_json_with_care(result)
        if self.may_be_nan and (_N in text or _I in text):
            return self._finite(text, result)
        return text

    def to_bytes(self, item: Any) -> bytes:
        """One item of a stream of bytes. Raises BadAnswer when it is none."""
        if not isinstance(item, bytes | bytearray | memoryview):
            raise BadAnswer(
                f"`{self.owner}` is a stream of bytes and yielded a {type(item).__name__}.", hint="Yield bytes."
            )
        return bytes(item)

    def to_body(self, result: Any) -> tuple[str, bytes]:
        """The answer's media type and bytes: files and raw bytes as they are, all else as JSON. Raises BadAnswer."""
        exact = self.exact
        if exact is not None:
            if exact(result):
                try:
                    text = self.serializer.to_json(result)
                except (PydanticSerializationError, ValueError):
                    return JSON, self._to_json_with_care(result)
                if not self.may_be_nan or not (_N in text or _I in text):
                    return JSON, text
        elif isinstance(result, File):
            if not is_media_type(result.media_type):  # it was checked when made, but may have been changed since
                raise BadAnswer(f"`{self.owner}` answered a file of the media type {result.media_type[:80]!r}.")
            return result.media_type, bytes(result.content)
        elif self.answer_hint is bytes and isinstance(result, bytes):
            return OCTET_STREAM, result
        return JSON, self.to_json(result)

    def from_answer(self, media_type: str, content: bytes) -> Any:
        """What `to_body` made, as the hint says it again; for callers that know the class. Raises BadAnswer."""
        try:
            if media_type.partition(";")[0].strip() == JSON:
                return self.answer.validate_json(content)
            if self.answer_hint is bytes:
                return content
            return self.answer.validate_python(File(content, media_type=media_type))
        except ValidationError as error:
            raise BadAnswer(f"`{self.owner}` answered something else than its hint says: {told(error)}.") from None
        except ValueError as error:
            raise BadAnswer(f"`{self.owner}` answered a file that cannot be read: {error}.") from None

    def rows(self, arguments: Mapping[str, Any]) -> int:
        """How many rows a call of a batched endpoint carries. Raises InvalidInput when its lists differ in length."""
        lengths = {len(value) for value in arguments.values()}
        if len(lengths) > 1:
            names = ", ".join(sorted(arguments))
            raise refused([problem("body", f"needs lists of one length in {names}")])
        return lengths.pop() if lengths else 0

    def _with_path(self, arguments: dict[str, Any], path: Mapping[str, str] | None) -> dict[str, Any]:
        return arguments | self._read(path.items(), "path") if path else arguments

    def _read(self, pairs: Iterable[tuple[str, str]], where: ParameterPlace, *, strict: bool = True) -> dict[str, Any]:
        grouped: dict[str, list[str]] = {}
        for name, text in pairs:
            grouped.setdefault(name, []).append(text)
        arguments: dict[str, Any] = {}
        problems: list[dict[str, str]] = []
        for parameter in self.parameters:
            if parameter.where != where:
                continue
            texts = grouped.pop(parameter.name, None)
            if texts is None:
                if parameter.required:
                    problems.append(problem(f"{where}.{parameter.name}", "is required"))
                continue
            try:
                arguments[parameter.name] = parameter.read(texts)
            except (ValidationError, InvalidInput) as error:
                problems += _problems(error, f"{where}.{parameter.name}")
        if strict and grouped:
            problems += surplus(where, list(grouped)).errors
        if problems:
            raise refused(problems[:MOST])
        return arguments

    def _to_json_with_care(self, result: Any) -> bytes:
        """For answers that are right but for their spelling: arrays for lists, dicts for models."""
        try:
            value = self.answer.validate_python(plain(result))
            return self.serializer.to_json(value, warnings="error")
        except ValidationError as error:
            why = told(error)
        except (PydanticSerializationError, ValueError, TypeError, RecursionError):
            why = "it cannot be said in JSON"
        raise BadAnswer(
            f"`{self.owner}` answered something else than its hint says: {why}.",
            hint="Correct the handler's return hint, or what it returns.",
        ) from None

    def _finite(self, text: bytes, result: Any) -> bytes:
        """`text` if its NaN is but a word in it; else the answer with null in its place, where the type allows that."""
        if (b"NaN" not in text and b"Infinity" not in text) or _is_json(text):
            return text
        try:
            value = self.answer.validate_python(plain(result)) if self.limited else plain(result)
            text = self.answer.nullable_serializer.to_json(value, warnings="error")
        except (PydanticSerializationError, ValueError, TypeError, RecursionError):
            text = b"NaN"
        if _is_json(text):
            return text
        raise BadAnswer(
            f"`{self.owner}` answered a number that is NaN or infinite, which JSON cannot say.",
            hint="Answer None in its place, and let the return hint allow it: `float | None`.",
        )


def compile_signature(
    method: Method,
    *,
    verb: str,
    path_names: frozenset[str],
    names: Mapping[str, Any],
    strict: bool = False,
) -> Signature:
    """Read the hints of a handler. Raises ConfigError when one of them cannot come over the wire."""
    function = method.function
    owner = function.__qualname__.rpartition("<locals>.")[2]
    known = hints.resolved(function, names)
    in_text = verb in ("GET", "HEAD", "DELETE")
    parameters: list[Parameter] = []
    socket = request = response = None
    for p in list(inspect.signature(function).parameters.values())[1:]:
        hint = known.get(p.name, Any)
        if hints.is_websocket(hint):
            socket = p.name
            continue
        kind = hints.bare(hint)
        if kind is Request or kind is Response:
            request, response = (p.name, response) if kind is Request else (request, p.name)
            continue
        where: ParameterPlace = "path" if p.name in path_names else "query" if in_text else "body"
        parameters.append(compile_parameter(owner, p, hint, where))
    if missing := path_names - {p.name for p in parameters}:
        raise ConfigError(f"`{owner}` has no parameter {', '.join(sorted(missing))}, which its path names.")
    answer_hint = known.get("return", Any)
    if method.is_generator:
        answer_hint = hints.yielded(answer_hint)
    body = [p for p in parameters if p.where == "body"]
    sole = body[0].name if len(body) == 1 and hints.is_record(body[0].hint) else None
    raw = len(body) == 1 and (hints.bare(body[0].hint) is bytes or hints.is_file(body[0].hint))
    answer = compile_codec(owner, "return", answer_hint)
    taken = body[0].codec if sole else _body_codec(owner, body)
    return Signature(
        owner=owner,
        parameters=tuple(parameters),
        answer=answer,
        answer_hint=answer_hint,
        exact=None if answer.is_limited else exact_check(answer.schema),
        body=taken,
        reader=taken.reader,
        serializer=answer.serializer,
        limited=answer.is_limited,
        may_be_nan=answer.has_numbers,
        strict=strict,
        sole=sole,
        fields=taken.fields if sole else frozenset(),
        raw=body[0].name if raw else None,
        form=any(hints.is_file(p.hint) or hints.is_file(hints.listed(p.hint)) for p in body),
        socket=socket,
        request=request,
        response=response,
    )


def _body_codec(owner: str, parameters: list[Parameter]) -> Codec:
    """Reads the object of all parameters by name; anything else in it is refused."""
    fields = {p.name: (Required if p.required else NotRequired)[hints.modern(p.hint)] for p in parameters}
    body = TypedDict("Body", fields)  # type: ignore[misc]
    return compile_codec(owner, "body", with_config(ConfigDict(extra="forbid", arbitrary_types_allowed=True))(body))


def _is_json(text: bytes) -> bool:
    try:
        from_json(text, allow_inf_nan=False, cache_strings=False)
    except ValueError:
        return False
    return True


def _problems(error: ValidationError | InvalidInput, where: str) -> list[dict[str, Any]]:
    if isinstance(error, ValidationError):
        return list(invalid(error, where).errors)
    return [{"where": where, "problem": e["problem"]} for e in error.errors]
