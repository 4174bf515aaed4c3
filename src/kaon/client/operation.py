"""The operations of a deployment's OpenAPI document, and how a call becomes a request."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from kaon.client.schemas import is_file_only
from kaon.errors import BadAnswer, InvalidInput
from kaon.types.headers import form_name
from kaon.types.media import File
from kaon.types.wire import json_of, many, pairs_of, text_of

JSON = "application/json"
FORM = "multipart/form-data"
SSE = "text/event-stream"
_VERBS = ("get", "head", "post", "put", "patch", "delete")


@dataclass(frozen=True, slots=True)
class Operation:
    """One endpoint of a deployment."""

    name: str
    method: str
    path: str
    in_path: frozenset[str]
    in_query: frozenset[str]
    has_body: bool
    body_name: str | None
    """The handler's name for a body that is one model; callers may use it or give the model's fields."""
    shared: frozenset[str]
    """Names in both path and body: given once, sent twice."""
    kind: str
    idempotent: bool
    retry: bool
    """Whether it may be retried after the connection broke while a replica had it."""
    timeout_s: float | None
    media_type: str = ""
    """Of a stream of bytes; empty: the items are events."""
    schemas: Mapping[str, Any] = field(default_factory=dict)
    """JSON schemas of its parameters, and of the fields of its body, by name."""
    required: frozenset[str] = frozenset()
    """Names of parameters, and of fields of the body, without a default."""
    answer: Mapping[str, Any] = field(default_factory=dict)
    """JSON schema of the answer, or of a stream's items."""
    summary: str = ""
    description: str = ""
    answers_once: bool = False
    """Of a stream: a call may be answered with one document instead."""
    definitions: Mapping[str, Any] = field(default_factory=dict)
    """The schemas' definitions, by name."""


@dataclass(frozen=True, slots=True)
class Payload:
    """Path, query and body of a call."""

    path: str
    content: bytes = b""
    content_type: str = ""


def operations(document: Any) -> dict[str, Operation]:
    """Name -> operation, of endpoints and not of mounted apps.

    Raises BadAnswer when it is not the OpenAPI document of a deployment.
    """
    try:
        definitions = document.get("components", {}).get("schemas", {})
        found = [
            _operation(path, verb, item[verb], definitions)
            for path, item in document["paths"].items()
            for verb in _VERBS
            if verb in item and "x-mount" not in item[verb]
        ]
    except (TypeError, KeyError, AttributeError):
        raise BadAnswer("The OpenAPI document is not one of a deployment.", hint="Check the URL.") from None
    return {operation.name: operation for operation in found}


def payload(operation: Operation, arguments: Mapping[str, Any], body: Any = None) -> Payload:
    """The call's path, query and body. Raises InvalidInput for unknown or missing arguments."""
    rest = {
        name: _with_files(name, value, operation)
        for name, value in arguments.items()
        if value is not None or operation.has_body
    }
    in_body = operation.schemas.keys() - operation.in_path - operation.in_query
    body = _with_files(next(iter(in_body)) if len(in_body) == 1 else "", body, operation)
    path = operation.path
    for name in operation.in_path:
        if name not in rest:
            raise InvalidInput(f"`{operation.name}` needs {name}.", hint=f"Call {operation.name}({name}=...).")
        path = path.replace(f"{{{name}}}", _segment(operation, name, text_of(rest[name])))
        if name not in operation.shared:
            del rest[name]
    pairs = [pair for name in sorted(operation.in_query & rest.keys()) for pair in pairs_of(name, rest.pop(name))]
    path = "" if path == "/" else path
    path += f"?{urlencode(pairs)}" if pairs else ""
    if not operation.has_body:
        if rest or body is not None:
            raise InvalidInput(
                f"`{operation.name}` has no parameter {', '.join(sorted(rest)) or 'for a body'}.",
                hint="It takes " + (", ".join(sorted(operation.in_path | operation.in_query)) or "nothing") + ".",
            )
        return Payload(path)
    if body is None and operation.body_name in rest and rest.keys() - operation.shared == {operation.body_name}:
        body = rest[operation.body_name]
    if body is not None:
        rest = {name: rest[name] for name in rest.keys() - operation.shared - {operation.body_name}}
    if body is not None and rest:
        raise InvalidInput(f"`{operation.name}` was given a body and {', '.join(sorted(rest))}.", hint="Give one.")
    if isinstance(body, File):
        return Payload(path, body.content, body.media_type)
    if any(isinstance(v, File) for value in rest.values() for v in many(value)):
        content, boundary = _form(rest)
        return Payload(path, content, f"{FORM}; boundary={boundary}")
    return Payload(path, json_of(rest if body is None else body), JSON)


def _operation(path: str, verb: str, described: Any, definitions: Mapping[str, Any]) -> Operation:
    more = described.get("x-kaon", {})
    places = [(p["name"], p["in"]) for p in described.get("parameters", ())]
    body = described.get("requestBody")
    return Operation(
        name=str(described["operationId"]),
        method=verb.upper(),
        path=path,
        in_path=frozenset(name for name, where in places if where == "path"),
        in_query=frozenset(name for name, where in places if where == "query"),
        has_body=body is not None,
        body_name=more.get("body"),
        shared=frozenset(more.get("shared", ())),
        kind=more.get("kind", "call"),
        idempotent=bool(more.get("idempotent", verb in ("get", "head", "put", "delete"))),
        retry=more.get("retry") is True,
        timeout_s=more.get("timeout_s", 60.0),
        media_type=more.get("media_type", ""),
        answers_once=more.get("answers_once") is True,
        schemas={p["name"]: p.get("schema", {}) for p in described.get("parameters", ())}
        | _fields(body or {}, more.get("body"), definitions),
        required=frozenset(p["name"] for p in described.get("parameters", ()) if p.get("required"))
        | _required(body or {}, more.get("body"), definitions),
        answer=_answer(described),
        summary=str(described.get("summary", "")),
        description=str(described.get("description", "")),
        definitions=definitions,
    )


def _answer(described: Any) -> Mapping[str, Any]:
    """The schema of a success; empty when none is described."""
    content = described.get("responses", {}).get("200", {}).get("content", {})
    schemas: list[Mapping[str, Any]] = [entry.get("schema", {}) for entry in content.values()]
    return schemas[0] if schemas else {}


def _fields(body: Mapping[str, Any], name: str | None, definitions: Mapping[str, Any]) -> dict[str, Any]:
    """Schemas of a body's fields by name, and of the body itself by its parameter's name."""
    schema, whole = _body_schema(body, definitions)
    if schema is None:  # bytes as they are
        return {name: {"contentMediaType": next(iter(body.get("content", {})), "")}} if name else {}
    return dict(whole.get("properties", {})) | ({name: schema} if name else {})


def _required(body: Mapping[str, Any], name: str | None, definitions: Mapping[str, Any]) -> frozenset[str]:
    schema, whole = _body_schema(body, definitions)
    return frozenset(whole.get("required", ())) if schema is not None else frozenset({name} if name else ())


def _body_schema(body: Mapping[str, Any], definitions: Mapping[str, Any]) -> tuple[Any, Mapping[str, Any]]:
    """The schema of a body, None for bytes as they are; and the same with its reference resolved."""
    content = body.get("content", {})
    schema = next((content[kind].get("schema", {}) for kind in (JSON, FORM) if kind in content), None)
    reference = (schema or {}).get("$ref")
    return schema, definitions.get(reference.rpartition("/")[2], {}) if isinstance(reference, str) else schema or {}


def _with_files(name: str, value: Any, operation: Operation) -> Any:
    """Paths, open files and bytes as files, where the parameter takes files. Raises InvalidInput."""
    if (
        value is None
        or isinstance(value, File)
        or not is_file_only(operation.schemas.get(name, {}), operation.definitions)
    ):
        return value
    if isinstance(value, list | tuple):
        return [_with_files(name, part, operation) for part in value]
    try:
        if isinstance(value, bytes | bytearray | memoryview):
            return File(bytes(value))
        if isinstance(value, str | Path):
            return File.read(value)
        if hasattr(value, "read"):
            return File(value.read(), name=Path(str(getattr(value, "name", ""))).name)
    except OSError as error:
        raise InvalidInput(f"{name}: {value} cannot be read: {error.strerror}.", hint="Give a file's path.") from None
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"{name} is not a file: {error}.", hint="Open files in binary mode.") from None
    return value


def _segment(operation: Operation, name: str, text: str) -> str:
    """A value as a segment of a path. Raises InvalidInput for "", "." and "..", which servers do not take as values."""
    if text in ("", ".", ".."):
        raise InvalidInput(
            f"{name}={text!r} of `{operation.name}` cannot be a part of a path.", hint="Use another value."
        )
    return quote(text, safe="")


def _form(arguments: Mapping[str, Any]) -> tuple[bytes, str]:
    """The multipart form and its boundary, a hash of the content."""
    parts: list[tuple[str, bytes]] = []
    for name, value in arguments.items():
        if value is None:
            continue
        for part in many(value) if _has_files(value) else [value]:
            if isinstance(part, File):
                file_name = form_name(part.name or "file")
                head = f'form-data; name="{form_name(name)}"; filename="{file_name}"\r\ncontent-type: {part.media_type}'
                parts.append((head, part.content))
            else:
                parts.append((f'form-data; name="{form_name(name)}"', text_of(part).encode()))
    digest = hashlib.sha256()
    for head, content in parts:
        digest.update(head.encode())
        digest.update(content)
    boundary = digest.hexdigest()[:32]
    lines = [f"--{boundary}\r\ncontent-disposition: {h}\r\n\r\n".encode() + c + b"\r\n" for h, c in parts]
    return b"".join([*lines, f"--{boundary}--\r\n".encode()]), boundary


def _has_files(value: Any) -> bool:
    return any(isinstance(v, File) for v in many(value))
