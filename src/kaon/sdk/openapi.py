"""OpenAPI 3.1 from compiled endpoints, for the docs page, clients and people.

Extensions of an operation: `x-kaon` has properties beyond OpenAPI (kind, idempotent, timeout, batching),
`x-codeSamples` has code that runs unchanged with `KAON_URL` and `KAON_KEY` set. `x-mounts` lists the mounted apps,
whose own documents a replica merges in (`mounted_docs`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kaon.errors import (
    PROBLEM_JSON,
    Conflict,
    DeadlineExceeded,
    Forbidden,
    InvalidInput,
    KaonError,
    NotFound,
    TooLarge,
    TooManyRequests,
    Unauthenticated,
    Unavailable,
    UnsupportedMediaType,
)
from kaon.sdk import codec, hints, samples
from kaon.sdk.endpoint import Endpoint
from kaon.sdk.parameter import Parameter
from kaon.sdk.pydantic_versions import read_json, write_json
from kaon.sdk.signature import JSON
from kaon.types.media import OCTET_STREAM, Audio, Image
from kaon.types.service import EndpointKind

VERSION = "3.1.0"
SSE = "text/event-stream"
NDJSON = "application/x-ndjson"
_PROBLEMS: tuple[type[KaonError], ...] = (
    InvalidInput,
    Unauthenticated,
    Forbidden,
    NotFound,
    Conflict,
    TooLarge,
    UnsupportedMediaType,
    TooManyRequests,
    Unavailable,
    DeadlineExceeded,
)

Schemas = Mapping[tuple[str, str], dict[str, Any]]
"""(endpoint, parameter or 'return') -> JSON schema."""


def document(
    name: str,
    endpoints: tuple[Endpoint, ...],
    *,
    summary: str = "",
    description: str = "",
    server: str = "/",
    mounts: Sequence[Mapping[str, str]] = (),
) -> dict[str, Any]:
    """A deployment's OpenAPI document; `server` is the URL or path under which callers see it."""
    schemas, components = _schemas(endpoints)
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        operation = _operation(endpoint, schemas, components)
        paths.setdefault(endpoint.spec.path, {})[endpoint.spec.method.lower()] = operation
    openai = any(endpoint.spec.protocol == "openai" for endpoint in endpoints)
    about = {"title": name, "version": "1", "summary": summary, "description": description}
    return {
        "openapi": VERSION,
        "info": {key: text for key, text in about.items() if text},
        "servers": [{"url": server}],
        "security": [{"key": []}],
        "paths": paths,
        **({"x-mounts": list(mounts)} if mounts else {}),
        "components": {
            "schemas": {**components, "Problem": _PROBLEM_SCHEMA} | ({"OpenAIError": _OPENAI_SCHEMA} if openai else {}),
            "responses": {kind.__name__: _problem(kind) for kind in _PROBLEMS}
            | {"Problem": _problem(KaonError)}
            | ({"OpenAIError": _OPENAI_RESPONSE} if openai else {}),
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer", "description": "A key of the platform."}},
        },
    }


def _schemas(endpoints: tuple[Endpoint, ...]) -> tuple[Schemas, dict[str, Any]]:
    wanted: list[tuple[tuple[str, str], codec.SchemaMode, codec.Codec]] = []
    for endpoint in endpoints:
        name = endpoint.spec.name
        wanted += [((name, p.name), "validation", p.codec) for p in endpoint.signature.parameters]
        wanted.append(((name, "return"), "serialization", endpoint.signature.answer))
        if endpoint.signature.items is not None:
            wanted.append(((name, "item"), "serialization", endpoint.signature.items.answer))
    return codec.schemas(wanted)


def _operation(endpoint: Endpoint, schemas: Schemas, components: Mapping[str, Any]) -> dict[str, Any]:
    spec = endpoint.spec
    call = samples.call(endpoint, schemas, components)
    operation: dict[str, Any] = {"operationId": spec.name}
    if spec.summary:
        operation["summary"] = spec.summary
    if endpoint.description:
        operation["description"] = endpoint.description
    parameters = [p for p in endpoint.signature.parameters if p.where != "body"]
    if parameters:
        operation["parameters"] = [_parameter(endpoint, p, schemas, call) for p in parameters]
    if any(p.where == "body" for p in endpoint.signature.parameters):
        operation["requestBody"] = _body(endpoint, schemas, call)
    operation["responses"] = _responses(endpoint, schemas)
    operation["x-kaon"] = {
        "kind": spec.kind.value,
        "idempotent": spec.idempotent,
        "retry": spec.retry,
        "timeout_s": spec.timeout_s,
        **({"answers_once": True} if spec.answers_once else {}),
        **({"protocol": spec.protocol} if spec.protocol != "kaon" else {}),
        **_body_names(endpoint),
        **({"media_type": spec.media_type} if spec.media_type else {}),
        **({"max_message_bytes": spec.max_message_bytes} if spec.kind is EndpointKind.WEBSOCKET else {}),
        **({"batch": spec.batch.model_dump(mode="json")} if spec.batch else {}),
    }
    if code := samples.code(endpoint, call):
        operation["x-codeSamples"] = code
    return operation


def _parameter(endpoint: Endpoint, parameter: Parameter, schemas: Schemas, call: samples.SampleCall) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "name": parameter.name,
        "in": parameter.where,
        "required": parameter.required,
        "schema": with_default(schemas[endpoint.spec.name, parameter.name], parameter),
    }
    if description := entry["schema"].pop("description", None):
        entry["description"] = description
    if parameter.name in call.arguments:
        entry["example"] = call.arguments[parameter.name]
    return entry


def _body(endpoint: Endpoint, schemas: Schemas, call: samples.SampleCall) -> dict[str, Any]:
    signature = endpoint.signature
    parameters = [p for p in signature.parameters if p.where == "body"]
    content: dict[str, Any] = {}
    if signature.form:
        properties = {p.name: _form_schema(schemas[endpoint.spec.name, p.name], p) for p in parameters}
        content["multipart/form-data"] = {"schema": _object(properties, parameters)}
    if signature.whole_body is not None:
        schema = schemas[endpoint.spec.name, signature.whole_body]
    else:
        properties = {p.name: with_default(schemas[endpoint.spec.name, p.name], p) for p in parameters}
        schema = _object(properties, parameters)
    content[JSON] = {"schema": schema}
    apart = set(endpoint.path_names) - endpoint.shared_names
    shown = [endpoint.body_of({k: v for k, v in e.items() if k not in apart}) for e in endpoint.examples]
    if not shown and not call.files and call.is_made:
        shown = [call.body]
    if shown:
        content[JSON]["examples"] = {str(n): {"value": value} for n, value in enumerate(shown, start=1)}
    if signature.raw is not None:
        content[_raw_type(parameters[0].hint)] = {"schema": {}}
    return {"required": any(p.required for p in parameters), "content": content}


def _body_names(endpoint: Endpoint) -> dict[str, Any]:
    """For clients: the handler's name for a body that is one model, and its fields that are in the path too."""
    names: dict[str, Any] = {"body": endpoint.body_name} if endpoint.body_name else {}
    return names | ({"shared": sorted(endpoint.shared_names)} if endpoint.shared_names else {})


def _object(properties: dict[str, Any], parameters: list[Parameter]) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
    if required := [p.name for p in parameters if p.required]:
        schema["required"] = required
    return schema


def _form_schema(schema: dict[str, Any], parameter: Parameter) -> dict[str, Any]:
    row = hints.listed(parameter.hint)
    if hints.is_file(parameter.hint):
        return {"type": "string", "contentMediaType": _raw_type(parameter.hint)}
    if row is not None and hints.is_file(row):
        return {"type": "array", "items": {"type": "string", "contentMediaType": _raw_type(row)}}
    return with_default(schema, parameter)


def _raw_type(hint: Any) -> str:
    hint = hints.bare(hint)
    for family in (Image, Audio):
        if isinstance(hint, type) and issubclass(hint, family):
            return f"{family.family}*"
    return OCTET_STREAM


def _raw_answer(hint: Any) -> str:
    """The media type of a returned file; a plain `File` may have any."""
    return "*/*" if hints.bare(hint).family == "" else _raw_type(hint)


def with_default(schema: dict[str, Any], parameter: Parameter) -> dict[str, Any]:
    """A parameter's schema with its default, if that has a JSON form."""
    if parameter.required or parameter.default is None:
        return dict(schema)
    try:
        default = read_json(write_json(parameter.codec.serializer, parameter.default))
    except ValueError:
        return dict(schema)
    return {**schema, "default": default}


def _responses(endpoint: Endpoint, schemas: Schemas) -> dict[str, Any]:
    answer = schemas[endpoint.spec.name, "return"]
    item = schemas.get((endpoint.spec.name, "item"), answer)
    good: dict[str, Any]
    match endpoint.spec.kind:
        case EndpointKind.WEBSOCKET:
            good = {"101": {"description": "The connection becomes a WebSocket."}}
        case EndpointKind.STREAM:
            once = _once(endpoint.signature.answer_hint, answer) if endpoint.spec.answers_once else {}
            good = {"200": _stream(endpoint.spec.media_type, item, once)}
        case _:
            content = _once(endpoint.signature.answer_hint, answer)
            good = {"200": {"description": "The answer." if JSON in content else "The file.", "content": content}}
    if endpoint.spec.protocol == "openai":
        return {**good, "default": {"$ref": "#/components/responses/OpenAIError"}}
    bad = {str(kind.status): {"$ref": f"#/components/responses/{kind.__name__}"} for kind in _PROBLEMS}
    return {**good, **bad, "default": {"$ref": "#/components/responses/Problem"}}


def _once(hint: Any, schema: Mapping[str, Any]) -> dict[str, Any]:
    """The content of one answer, by media type."""
    if hint is bytes:
        return {OCTET_STREAM: {"schema": {}}}
    arms = hints.arms(hint)
    content: dict[str, Any] = {_raw_answer(arm): {"schema": {}} for arm in arms if hints.is_file(arm)}
    if not content or not all(hints.is_file(arm) for arm in arms):
        content[JSON] = {"schema": schema}
    return content


def _stream(media_type: str, item: Mapping[str, Any], once: dict[str, Any]) -> dict[str, Any]:
    """The response of a stream of bytes or of items, or of one answer instead."""
    if media_type:
        return {"description": "A stream of bytes.", "content": once | {media_type: {"schema": {}}}}
    text = {"schema": {"type": "string", "description": "One item per event or line.", "x-item": item}}
    what = "The answer, or a stream of items" if once else "A stream of items"
    return {"description": f"{what}; NDJSON if `accept` includes it.", "content": once | {SSE: text, NDJSON: text}}


def _problem(kind: type[KaonError]) -> dict[str, Any]:
    response: dict[str, Any] = {
        "description": (kind.__doc__ or "").splitlines()[0] if kind is not KaonError else "Something went wrong.",
        "content": {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    if kind in (TooManyRequests, Unavailable):
        header = {"description": "Seconds to wait before the next try.", "schema": {"type": "integer"}}
        response["headers"] = {"retry-after": header}
    return response


_OPENAI_SCHEMA: dict[str, Any] = {
    "type": "object",
    "description": "An error in the form of the OpenAI API.",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "code", "param"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "code": {"type": "string", "description": "For programs; stable."},
                "param": {"type": ["string", "null"], "description": "The wrong field of the request."},
            },
        }
    },
}
_OPENAI_RESPONSE: dict[str, Any] = {
    "description": "Something went wrong.",
    "content": {JSON: {"schema": {"$ref": "#/components/schemas/OpenAIError"}}},
}
_PROBLEM_SCHEMA: dict[str, Any] = {
    "type": "object",
    "description": "What went wrong (RFC 9457).",
    "required": ["type", "title", "status", "code", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string", "description": "For programs; stable."},
        "detail": {"type": "string", "description": "What happened."},
        "hint": {"type": "string", "description": "What to do next."},
        "request_id": {"type": "string"},
        "retry_after_s": {"type": "number"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"where": {"type": "string"}, "problem": {"type": "string"}},
            },
        },
    },
}
