"""A handler's signature, compiled once from its type hints: parses requests to arguments, writes answers.

The expensive work is done in `compile_signature`; `from_json` and `to_json` are a replica's hot path and make one call
into pydantic's core each. Parameters that a caller omits are not among the arguments, so that Python's defaults apply.
"""

from __future__ import annotations

import inspect
from codecs import BOM_UTF8
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, NotRequired, Required

from pydantic import ConfigDict, ValidationError
from pydantic_core import PydanticSerializationError, SchemaSerializer
from typing_extensions import TypedDict

from kaon.errors import BadAnswer, ConfigError, InvalidInput, UnsupportedMediaType
from kaon.sdk import hints
from kaon.sdk.arrays import plain
from kaon.sdk.codec import Codec, Reader
from kaon.sdk.exact import Exact, exact_check
from kaon.sdk.method import Method
from kaon.sdk.parameter import Parameter, ParameterPlace, compile_codec, compile_parameter
from kaon.sdk.problems import MOST, invalid, invalid_input, problem, summary, unknown_parameters, unreadable
from kaon.sdk.pydantic_versions import read_json, write_json
from kaon.sdk.request import Request
from kaon.sdk.response import Response
from kaon.types.headers import is_media_type
from kaon.types.media import OCTET_STREAM, File

JSON = "application/json"
SSE = "text/event-stream"
"""Also the media type under which one item of a stream is read."""
_N, _I = b"N"[0], b"I"[0]
"""The first bytes of NaN and Infinity; searching one byte is ten times as fast as searching a word."""
LARGE = 100_000
"""From this body size on, only the first wrong item of each container is reported."""


@dataclass(frozen=True, slots=True)
class Signature:
    """A handler's parameters and answer; made by `compile_signature`."""

    owner: str
    """`Class.method`, for messages."""
    parameters: tuple[Parameter, ...]
    answer: Codec
    answer_hint: Any
    exact: Exact | None
    """A cheap check that an answer matches its hint, so that the serializer need not check."""
    body: Codec
    """Reads the JSON body: one model, or an object of all parameters."""
    reader: Reader
    """`body`'s."""
    serializer: SchemaSerializer
    """The answer's."""
    limited: bool = False
    """Whether the answer's type has limits that only a validator checks."""
    may_be_nan: bool = False
    """Whether a number in the answer may be NaN or infinite."""
    strict: bool = False
    """Whether unknown query parameters are refused."""
    whole_body: str | None = None
    """The parameter that is the whole body, if any."""
    fields: frozenset[str] = frozenset()
    """The names of that body's fields."""
    raw: str | None = None
    """The parameter that gets a body of any other media type than JSON."""
    form: bool = False
    """Whether it takes files, and so multipart forms."""
    socket: str | None = None
    """The parameter that is the websocket."""
    request: str | None = None
    """The parameter that is the request's head, a `Request`."""
    response: str | None = None
    """The parameter that is the answer's head, a `Response`."""
    items: Signature | None = None
    """Writes the items of a stream, where a call may also be answered once."""
    returns_stream: bool = False
    """Whether the handler returns an iterator, always or for some calls."""

    @property
    def heads(self) -> tuple[str, ...]:
        """The parameters that are not sent by callers."""
        return tuple(name for name in (self.request, self.response) if name is not None)

    def from_json(self, body: bytes, path: Mapping[str, str] | None = None) -> dict[str, Any]:
        """The arguments in a JSON body and the path. Raises InvalidInput."""
        try:
            value = self.reader.validate_json(body or b"{}")
        except ValidationError as error:
            value = self._read_again(body, error)
        arguments: dict[str, Any] = value if self.whole_body is None else {self.whole_body: value}
        return self._with_path(arguments, path) if path else arguments

    def from_large_json(self, body: bytes, path: Mapping[str, str] | None = None) -> dict[str, Any]:
        """The same for a body of any size: finding its errors costs no more than reading it."""
        if len(body) < LARGE:
            return self.from_json(body, path)
        value = self._read_large(body.removeprefix(BOM_UTF8) or b"{}")
        return self._with_path(value if self.whole_body is None else {self.whole_body: value}, path)

    def _read_again(self, body: bytes, error: ValidationError) -> Any:
        """Read a refused body in another way if possible, else raise InvalidInput."""
        if body.startswith(BOM_UTF8):  # RFC 8259 allows readers to ignore it
            return self._read_large(body.removeprefix(BOM_UTF8))
        if error.error_count() > MOST:
            return self._read_large(body)
        raise unreadable(error, body) from None

    def _read_large(self, body: bytes) -> Any:
        try:
            value = self.body.bulk_reader.validate_json(body)
        except ValidationError as error:
            raise unreadable(error, body) from None
        if self.whole_body is None:
            names = {p.name for p in self.parameters}
            if more := list(islice((name for name in value if name not in names), MOST + 1)):
                raise unknown_parameters("body", more)
        return value

    def from_query(
        self, pairs: Iterable[tuple[str, str]], path: Mapping[str, str] | None = None, *, strict: bool = False
    ) -> dict[str, Any]:
        """The arguments in a query string; lists by repetition. Raises InvalidInput.

        Unknown parameters are ignored, unless this or the endpoint is strict.
        """
        return self._with_path(self._read(pairs, "query", strict=strict or self.strict), path)

    def from_form(
        self, parts: Iterable[tuple[str, str | File | None]], path: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """The arguments in a form: files as parts, all else as text or JSON. Raises InvalidInput.

        A part that is None is an empty file input.
        """
        grouped: dict[str, list[str | File]] = {}
        for name, value in parts:
            grouped.setdefault(name, []).extend([] if value is None else [value])
        accepted = {p.name: p for p in self.parameters if p.where == "body"}
        if more := grouped.keys() - accepted:
            raise unknown_parameters("form", sorted(more))
        problems: list[dict[str, str]] = []
        arguments: dict[str, Any] = {}
        for name, parameter in accepted.items():
            given = grouped.get(name)
            if not given and (given is None or not parameter.may_be_empty):
                if parameter.required:
                    problems.append(problem(f"form.{name}", "is required"))
                continue
            try:
                arguments[name] = parameter.read_parts(given or [])
            except (ValidationError, InvalidInput) as error:
                problems += _problems(error, f"form.{name}")
        if problems:
            raise invalid_input(problems[:MOST])
        return self._with_path(arguments, path)

    def from_raw(self, body: bytes, media_type: str, path: Mapping[str, str] | None = None) -> dict[str, Any]:
        """The argument from a body of any media type. Raises InvalidInput."""
        if self.raw is None:
            accepted = f"{JSON}, multipart/form-data or application/x-www-form-urlencoded" if self.form else JSON
            raise UnsupportedMediaType(
                f"A body of type {media_type[:80] or 'unknown'} is not supported here.", hint=f"Send {accepted}."
            )
        parameter = next(p for p in self.parameters if p.name == self.raw)
        try:
            value = File(body, media_type=media_type) if hints.is_file(parameter.hint) else body
            arguments = {self.raw: parameter.codec.validate_python(value)}
        except ValidationError as error:
            raise invalid(error, "body") from None
        except ValueError as error:
            raise InvalidInput(f"The body is invalid: {error}.") from None
        return self._with_path(arguments, path)

    def to_json(self, result: Any) -> bytes:
        """The answer (or one item of a stream) as JSON. Raises BadAnswer when it does not match its hint."""
        try:
            if self.exact is not None and self.exact(result):
                text = self.serializer.to_json(result)
            else:
                value = self.answer.validate_python(result) if self.limited else result
                text = write_json(self.serializer, value)
        except (PydanticSerializationError, ValueError, TypeError, RecursionError):
            text = self._to_json_with_care(result)
        if self.may_be_nan and (_N in text or _I in text):
            return self._finite(text, result)
        return text

    def to_bytes(self, item: Any) -> bytes:
        """One item of a stream of bytes. Raises BadAnswer for other types."""
        if not isinstance(item, bytes | bytearray | memoryview):
            raise BadAnswer(
                f"`{self.owner}` is a stream of bytes and yielded a {type(item).__name__}.", hint="Yield bytes."
            )
        return bytes(item)

    def to_body(self, result: Any) -> tuple[str, bytes]:
        """The answer's media type and content: files and bytes as they are, all else as JSON. Raises BadAnswer."""
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
            if not is_media_type(result.media_type):  # it may have been changed after it was made
                raise BadAnswer(
                    f"`{self.owner}` returned a file with the invalid media type {result.media_type[:80]!r}."
                )
            return result.media_type, bytes(result.content)
        elif self.answer_hint is bytes and isinstance(result, bytes):
            return OCTET_STREAM, result
        return JSON, self.to_json(result)

    def from_answer(self, media_type: str, content: bytes) -> Any:
        """Reads what `to_body` wrote, as the hint's type; for callers that have the class. Raises BadAnswer."""
        try:
            if media_type == SSE:
                return (self.items or self).answer.validate_json(content)
            if media_type.partition(";")[0].strip() == JSON:
                return self.answer.validate_json(content)
            if self.answer_hint is bytes:
                return content
            return self.answer.validate_python(File(content, media_type=media_type))
        except ValidationError as error:
            raise BadAnswer(f"The answer of `{self.owner}` does not match its hint: {summary(error)}.") from None
        except ValueError as error:
            raise BadAnswer(f"The file that `{self.owner}` returned cannot be read: {error}.") from None

    def rows(self, arguments: Mapping[str, Any]) -> int:
        """The number of rows in a call of a batched endpoint. Raises InvalidInput when its lists differ in length."""
        lengths = {len(value) for value in arguments.values()}
        if len(lengths) > 1:
            names = ", ".join(sorted(arguments))
            raise invalid_input([problem("body", f"needs lists of one length in {names}")])
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
            problems += unknown_parameters(where, list(grouped)).errors
        if problems:
            raise invalid_input(problems[:MOST])
        return arguments

    def _to_json_with_care(self, result: Any) -> bytes:
        """For answers of equivalent types: arrays for lists, dicts for models."""
        try:
            value = self.answer.nullable_validator.validate_python(plain(result))
            return write_json(self.serializer, value)
        except ValidationError as error:
            why = summary(error)
        except (PydanticSerializationError, ValueError, TypeError, RecursionError):
            why = "it has no JSON form"
        raise BadAnswer(
            f"The answer of `{self.owner}` does not match its hint: {why}.",
            hint="Correct the handler's return hint or its return value.",
        ) from None

    def _finite(self, text: bytes, result: Any) -> bytes:
        """`text` if NaN is only within strings; else the answer with null in its place, where the type allows null."""
        if (b"NaN" not in text and b"Infinity" not in text) or _is_json(text):
            return text
        for read in (None, self.answer.nullable_validator.validate_python):  # as it is, and as an equivalent type
            try:
                value = read(plain(result)) if read else result
                text = write_json(self.answer.nullable_serializer, value)
            except (PydanticSerializationError, ValueError, TypeError, RecursionError):
                continue
            if _is_json(text):
                return text
        raise BadAnswer(
            f"`{self.owner}` returned a number that is NaN or infinite, which JSON does not have.",
            hint="Return None in its place, with a return hint that allows it: `float | None`.",
        )


def compile_signature(
    method: Method,
    *,
    verb: str,
    path_names: frozenset[str],
    names: Mapping[str, Any],
    strict: bool = False,
) -> Signature:
    """Compile the hints of a handler. Raises ConfigError for an unsupported one."""
    function = method.function
    owner = function.__qualname__.rpartition("<locals>.")[2]
    resolved = hints.resolved(function, names)
    in_text = verb in ("GET", "HEAD", "DELETE")
    parameters: list[Parameter] = []
    socket = request = response = None
    for p in list(inspect.signature(function).parameters.values())[1:]:
        hint = resolved.get(p.name, Any)
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
        raise ConfigError(
            f"The path of `{owner}` has {', '.join(sorted(missing))}, which is not one of its parameters."
        )
    returned = resolved.get("return", Any)
    once, item = (hints.yielded(returned), None) if method.is_generator else hints.split_stream(returned)
    answer_hint, item_hint = (item, None) if once is None and item is not None else (once, item)
    body = [p for p in parameters if p.where == "body"]
    whole_body = body[0].name if len(body) == 1 and hints.is_record(body[0].hint) else None
    raw = len(body) == 1 and (hints.bare(body[0].hint) is bytes or hints.is_file(body[0].hint))
    body_codec = body[0].codec if whole_body else _body_codec(owner, body)
    signature = Signature(
        owner=owner,
        parameters=tuple(parameters),
        **_writer(owner, answer_hint),
        body=body_codec,
        reader=body_codec.reader,
        returns_stream=item is not None,
        strict=strict,
        whole_body=whole_body,
        fields=body_codec.fields if whole_body else frozenset(),
        raw=body[0].name if raw else None,
        form=any(hints.is_file(p.hint) or hints.is_file(hints.listed(p.hint)) for p in body),
        socket=socket,
        request=request,
        response=response,
    )
    return signature if item_hint is None else replace(signature, items=replace(signature, **_writer(owner, item_hint)))


def compile_call(owner: str, parameters: Sequence[Parameter], returned: Any) -> Signature:
    """The signature of a function that is called with a JSON object of all its parameters. Raises ConfigError."""
    body = _body_codec(owner, parameters)
    return Signature(
        owner=owner, parameters=tuple(parameters), **_writer(owner, returned), body=body, reader=body.reader
    )


def _writer(owner: str, hint: Any) -> dict[str, Any]:
    """The fields of a signature that write values of a hint."""
    codec = compile_codec(owner, "return", hint)
    return {
        "answer": codec,
        "answer_hint": hint,
        "exact": None if codec.is_limited else exact_check(codec.schema),
        "serializer": codec.serializer,
        "limited": codec.is_limited,
        "may_be_nan": codec.has_numbers,
    }


def _body_codec(owner: str, parameters: Sequence[Parameter]) -> Codec:
    """Reads an object of all parameters by name; other fields are refused."""
    fields = {p.name: (Required if p.required else NotRequired)[hints.modern(p.hint)] for p in parameters}
    body = TypedDict("Body", fields)  # type: ignore[misc]
    body.__pydantic_config__ = ConfigDict(extra="forbid", arbitrary_types_allowed=True)  # type: ignore[attr-defined]
    return compile_codec(owner, "body", body)


def _is_json(text: bytes) -> bool:
    try:
        read_json(text)
    except ValueError:
        return False
    return True


def _problems(error: ValidationError | InvalidInput, where: str) -> list[dict[str, Any]]:
    if isinstance(error, ValidationError):
        return list(invalid(error, where).errors)
    return [{"where": where, "problem": e["problem"]} for e in error.errors]
