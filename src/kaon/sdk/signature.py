"""A handler's signature, compiled once from its type hints: text and bytes in, arguments out, answers to bytes.

Everything that costs time is done in `compile_signature`; `from_json` and `to_json` are the hot path of a replica and
make one call into pydantic's core each. Parameters that a caller leaves out are simply not among the arguments, so
that Python's own defaults apply.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NotRequired, Required

from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config
from pydantic_core import PydanticSerializationError, SchemaSerializer, SchemaValidator
from typing_extensions import TypedDict

from kaon.errors import BadAnswer, ConfigError, InvalidInput
from kaon.sdk import hints
from kaon.sdk.arrays import plain
from kaon.sdk.exact import Exact, exact_check
from kaon.sdk.parameter import Parameter, Place, compile_adapter, compile_parameter
from kaon.sdk.problems import invalid, problem, refused, told
from kaon.types.headers import is_media_type
from kaon.types.media import OCTET_STREAM, File

JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Signature:
    """What a handler takes and answers; made by `compile_signature`."""

    owner: str
    """`Class.method`, for messages."""
    parameters: tuple[Parameter, ...]
    answer: TypeAdapter[Any]
    answer_hint: Any
    exact: Exact | None
    """Tells cheaply that an answer is what the hint says, so that the serializer need not look for what is not."""
    serializer: SchemaSerializer | Any
    validator: SchemaValidator | Any
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

    def from_json(self, body: bytes, path: Mapping[str, str] | None = None) -> dict[str, Any]:
        """The arguments that a JSON body says, and those of the path. Raises InvalidInput."""
        try:
            value = self.validator.validate_json(body or b"{}")
        except ValidationError as error:
            raise invalid(error, "body") from None
        arguments: dict[str, Any] = value if self.sole is None else {self.sole: value}
        return self._with_path(arguments, path) if path else arguments

    def from_query(self, pairs: Iterable[tuple[str, str]], path: Mapping[str, str] | None = None) -> dict[str, Any]:
        """The arguments that a query string says; lists by repetition. Raises InvalidInput."""
        return self._with_path(self._read(pairs, "query"), path)

    def from_form(
        self, parts: Iterable[tuple[str, str | File]], path: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """The arguments that a multipart form says: files as parts, all else as text or JSON. Raises InvalidInput."""
        grouped: dict[str, list[str | File]] = {}
        for name, value in parts:
            grouped.setdefault(name, []).append(value)
        known = {p.name: p for p in self.parameters if p.where == "body"}
        problems = [problem(f"form.{n[:80]}", "is not a parameter of this endpoint") for n in grouped.keys() - known]
        arguments: dict[str, Any] = {}
        for name, parameter in known.items():
            if name not in grouped:
                if parameter.required:
                    problems.append(problem(f"form.{name}", "is required"))
                continue
            try:
                arguments[name] = parameter.read_parts(grouped[name])
            except (ValidationError, InvalidInput) as error:
                problems += _problems(error, f"form.{name}")
        if problems:
            raise refused(problems[:20])
        return self._with_path(arguments, path)

    def from_raw(self, body: bytes, media_type: str, path: Mapping[str, str] | None = None) -> dict[str, Any]:
        """The argument that a body of any media type is. Raises InvalidInput."""
        if self.raw is None:
            raise InvalidInput(
                f"A body of type {media_type[:80] or 'unknown'} is not taken here.",
                hint="Send `content-type: application/json`.",
            )
        parameter = next(p for p in self.parameters if p.name == self.raw)
        try:
            value = File(body, media_type=media_type) if hints.is_file(parameter.hint) else body
            arguments = {self.raw: parameter.adapter.validate_python(value)}
        except ValidationError as error:
            raise invalid(error, "body") from None
        except ValueError as error:
            raise InvalidInput(f"The body cannot be taken: {error}.") from None
        return self._with_path(arguments, path)

    def to_json(self, result: Any) -> bytes:
        """The answer (or one item of a stream) as JSON. Raises BadAnswer when it is not what the hint says."""
        exact = self.exact
        try:
            if exact is not None and exact(result):
                return self.serializer.to_json(result)
            return self.serializer.to_json(result, warnings="error")
        except (PydanticSerializationError, ValueError, TypeError, RecursionError):
            return self._to_json_with_care(result)

    def to_body(self, result: Any) -> tuple[str, bytes]:
        """The answer's media type and bytes: files and raw bytes as they are, all else as JSON. Raises BadAnswer."""
        if self.exact is None:
            if isinstance(result, File):
                if not is_media_type(result.media_type):  # it was checked when made, but may have been changed since
                    raise BadAnswer(f"`{self.owner}` answered a file of the media type {result.media_type[:80]!r}.")
                return result.media_type, bytes(result.content)
            if self.answer_hint is bytes and isinstance(result, bytes):
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

    def _read(self, pairs: Iterable[tuple[str, str]], where: Place) -> dict[str, Any]:
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
        problems += [problem(f"{where}.{name[:80]}", "is not a parameter of this endpoint") for name in grouped]
        if problems:
            raise refused(problems[:20])
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


def compile_signature(
    function: Callable[..., Any], *, verb: str, path_names: frozenset[str], names: Mapping[str, Any]
) -> Signature:
    """Read the hints of a handler. Raises ConfigError when one of them cannot come over the wire."""
    owner = function.__qualname__.rpartition("<locals>.")[2]
    known = hints.resolved(function, names)
    in_text = verb in ("GET", "HEAD", "DELETE")
    parameters: list[Parameter] = []
    socket = None
    for p in list(inspect.signature(function).parameters.values())[1:]:
        hint = known.get(p.name, Any)
        if hints.is_websocket(hint):
            socket = p.name
            continue
        where: Place = "path" if p.name in path_names else "query" if in_text else "body"
        parameters.append(compile_parameter(owner, p, hint, where))
    if missing := path_names - {p.name for p in parameters}:
        raise ConfigError(f"`{owner}` has no parameter {', '.join(sorted(missing))}, which its path names.")
    answer_hint = known.get("return", Any)
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        answer_hint = hints.yielded(answer_hint)
    body = [p for p in parameters if p.where == "body"]
    sole = body[0].name if len(body) == 1 and hints.is_record(body[0].hint) else None
    raw = len(body) == 1 and (hints.bare(body[0].hint) is bytes or hints.is_file(body[0].hint))
    answer = compile_adapter(owner, "return", answer_hint)
    return Signature(
        owner=owner,
        parameters=tuple(parameters),
        answer=answer,
        answer_hint=answer_hint,
        exact=exact_check(answer.core_schema),
        serializer=answer.serializer,
        validator=body[0].adapter.validator if sole else _body_validator(owner, body),
        sole=sole,
        fields=hints.fields_of(body[0].hint) if sole else frozenset(),
        raw=body[0].name if raw else None,
        form=any(hints.is_file(p.hint) or hints.is_file(hints.listed(p.hint)) for p in body),
        socket=socket,
    )


def _body_validator(owner: str, parameters: list[Parameter]) -> SchemaValidator | Any:
    """One validator for the object of all parameters by name; anything else in it is refused."""
    fields = {p.name: (Required if p.required else NotRequired)[hints.on_the_wire(p.hint)] for p in parameters}
    body = TypedDict("Body", fields)  # type: ignore[misc]
    return TypeAdapter(with_config(ConfigDict(extra="forbid"))(body)).validator


def _problems(error: ValidationError | InvalidInput, where: str) -> list[dict[str, Any]]:
    if isinstance(error, ValidationError):
        return list(invalid(error, where).errors)
    return [{"where": where, "problem": e["problem"]} for e in error.errors]
