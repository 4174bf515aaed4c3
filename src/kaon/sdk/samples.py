"""Sample calls: an example of every endpoint's arguments, and the code that sends it.

The code reads `KAON_URL` (the deployment's URL) and `KAON_KEY` from the environment, and runs unchanged.
"""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode

from kaon.errors import InvalidInput
from kaon.sdk import hints
from kaon.sdk.endpoint import Endpoint
from kaon.sdk.parameter import Parameter
from kaon.types.service import EndpointKind
from kaon.types.wire import pairs_of, text_of

_FILES = {"image": "photo.png", "audio": "sound.wav"}
_DEPTH = 6
_MOST = 100
"""The most items in a sample."""


@dataclass(frozen=True)
class SampleCall:
    """One call with example values."""

    path: str
    query: list[tuple[str, str]] = field(default_factory=list)
    body: Any = None
    files: dict[str, str] = field(default_factory=dict)
    """Parameter -> file name, for a multipart form."""
    arguments: dict[str, Any] = field(default_factory=dict)
    """The same call by keyword."""
    is_made: bool = True
    """Whether it has values: for some types (with a pattern or a validator) none can be generated."""


def call(
    endpoint: Endpoint, schemas: Mapping[tuple[str, str], dict[str, Any]], components: Mapping[str, Any]
) -> SampleCall:
    """An example call: the endpoint's first example, else one generated from the schemas of required parameters."""
    name, signature = endpoint.spec.name, endpoint.signature
    arguments = dict(endpoint.examples[0]) if endpoint.examples else {}
    files: dict[str, str] = {}
    if not endpoint.examples:
        for p in signature.parameters:
            row = hints.listed(p.hint)
            if hints.is_file(p.hint) or (row is not None and hints.is_file(row)):
                family = getattr(hints.bare(row or p.hint), "family", "")
                files[p.name] = _FILES.get(family.rstrip("/"), "file.bin")
            elif p.name == signature.whole_body or p.required:
                made = value(schemas[name, p.name], components)
                if not _is_taken(p, made):
                    return SampleCall(endpoint.spec.path, is_made=False)
                by_fields = p.name == signature.whole_body and isinstance(made, dict)
                arguments |= made if by_fields else {p.name: made}
    path, rest = endpoint.spec.path, dict(arguments)
    for part in endpoint.path_names:
        path = path.replace(f"{{{part}}}", quote(text_of(rest.get(part, "1")), safe=""))
        if part not in endpoint.shared_names:
            rest.pop(part, None)
    if endpoint.spec.method in ("GET", "HEAD", "DELETE"):
        pairs = [pair for key, given in rest.items() for pair in pairs_of(key, given)]
        return SampleCall(path, query=pairs, arguments=arguments)
    has_body = any(p.where == "body" for p in signature.parameters)
    return SampleCall(path, body=endpoint.body_of(rest) if has_body else None, files=files, arguments=arguments)


def _is_taken(parameter: Parameter, made: Any) -> bool:
    """Whether a generated value is valid for its parameter."""
    try:
        if parameter.where == "body":
            parameter.codec.reader.validate_json(json.dumps(made).encode())
        else:
            parameter.read([text for _, text in pairs_of(parameter.name, made)])
    except (ValueError, IndexError, InvalidInput):
        return False
    return True


def value(schema: Mapping[str, Any], components: Mapping[str, Any], depth: int = 0) -> Any:
    """A simple value that matches `schema`."""
    while "$ref" in schema:
        schema = components.get(str(schema["$ref"]).rpartition("/")[2], {})
    for key in ("default", "const"):
        if key in schema:
            return schema[key]
    for key in ("examples", "enum"):
        if schema.get(key):
            return schema[key][0]
    if depth > _DEPTH:
        return None
    for key in ("anyOf", "oneOf", "allOf"):
        if arms := schema.get(key):
            return value(arms[0], components, depth + 1)
    if "prefixItems" in schema:
        return [value(item, components, depth + 1) for item in schema["prefixItems"]]
    match schema.get("type"):
        case "object":
            properties = schema.get("properties", {})
            wanted = schema.get("required", [])
            found = {name: value(properties[name], components, depth + 1) for name in wanted if name in properties}
            for n in range(len(found), min(int(schema.get("minProperties", 0)), _MOST)):
                found[f"key{n}"] = value(schema.get("additionalProperties") or {}, components, depth + 1)
            return found
        case "array":
            count = min(max(1, int(schema.get("minItems", 1))), _MOST, int(schema.get("maxItems", _MOST)))
            return [value(schema.get("items", {}), components, depth + 1)] * count
        case "integer" | "number" as kind:
            return _number(schema, whole=kind == "integer")
        case "boolean":
            return True
        case "null":
            return None
        case "string":
            return _string(schema)
        case _:
            return 1


def code(endpoint: Endpoint, call: SampleCall) -> list[dict[str, str]]:
    """The call in curl, Python and JavaScript; empty for a websocket, and without example values."""
    if endpoint.spec.kind is EndpointKind.WEBSOCKET or not call.is_made:
        return []
    is_stream = endpoint.spec.kind is EndpointKind.STREAM and not endpoint.spec.answers_once
    stream = is_stream and not endpoint.spec.media_type
    raw = is_stream and bool(endpoint.spec.media_type)
    verb = endpoint.spec.method
    url = call.path.rstrip("/") + ("?" + urlencode(call.query) if call.query else "")
    return [
        {"lang": "Shell", "label": "curl", "source": _curl(verb, url, call, stream, raw)},
        {"lang": "Python", "label": "Python", "source": _python(endpoint.spec.name, call, stream, raw)},
        {"lang": "Python", "label": "Python, plain HTTP", "source": _plain_python(verb, url, call, stream, raw)},
        {"lang": "JavaScript", "label": "JavaScript", "source": _javascript(verb, url, call, stream, raw)},
    ]


def _curl(verb: str, url: str, call: SampleCall, stream: bool, raw: bool) -> str:
    lines = [f'curl {"-N " if stream else ""}"$KAON_URL{url}"']
    if raw:
        lines.append("-o answer")
    if verb == "HEAD":
        lines.append("--head")
    elif verb != ("POST" if call.body is not None else "GET"):
        lines.append(f"-X {verb}")
    lines.append('-H "authorization: Bearer $KAON_KEY"')
    if call.files:
        lines += [f"-F {shlex.quote(f'{name}=@{file}')}" for name, file in call.files.items()]
        lines += [f"-F {shlex.quote(f'{name}={text_of(v)}')}" for name, v in (call.body or {}).items()]
    elif call.body is not None:
        lines += ['-H "content-type: application/json"', f"-d {shlex.quote(_json(call.body))}"]
    return " \\\n  ".join(lines)


def _python(name: str, call: SampleCall, stream: bool, raw: bool) -> str:
    arguments = [f"{key}={v!r}" for key, v in call.arguments.items()]
    arguments += [f'{key}=kaon.File.read("{file}")' for key, file in call.files.items()]
    expression = f"client.{name}({', '.join(arguments)})"
    use = f"for item in {expression}:\n    print(item)" if stream else f"print({expression})"
    if raw:
        use = f'with open("answer", "wb") as file:\n    file.writelines({expression})'
    return f"""import os

import kaon

client = kaon.Client(os.environ["KAON_URL"], key=os.environ["KAON_KEY"])
{use}"""


def _plain_python(verb: str, url: str, call: SampleCall, stream: bool, raw: bool) -> str:
    lines = [
        f'    "{verb}",',
        f'    os.environ["KAON_URL"] + {json.dumps(url)},' if url else '    os.environ["KAON_URL"],',
        '    headers={"authorization": "Bearer " + os.environ["KAON_KEY"]},',
    ]
    if call.files:
        files = ", ".join(f'"{name}": open("{file}", "rb")' for name, file in call.files.items())
        lines.append(f"    files={{{files}}},")
        if call.body:
            lines.append(f"    data={ ({k: text_of(v) for k, v in call.body.items()})!r},")
    elif call.body is not None:
        lines.append(f"    json={call.body!r},")
    lines.append("    timeout=60,")
    arguments = "\n".join(lines)
    if stream or raw:
        use = "print(line)" if stream else "file.write(piece)"
        each = "line in response.iter_lines()" if stream else "piece in response.iter_bytes()"
        file = "" if stream else ', open("answer", "wb") as file'
        rest = f"""with httpx2.stream(
{arguments}
) as response{file}:
    for {each}:
        {use}"""
    else:
        shown = "response.headers" if verb == "HEAD" else "response.text"
        rest = f"""response = httpx2.request(
{arguments}
)
response.raise_for_status()
print({shown})"""
    return f"import os\n\nimport httpx2\n\n{rest}"


def _javascript(verb: str, url: str, call: SampleCall, stream: bool, raw: bool) -> str:
    lines, before = [f'  method: "{verb}",'], ""
    headers = ["authorization: `Bearer ${process.env.KAON_KEY}`"]
    if call.files:
        parts = [
            f'form.append("{name}", new Blob([await readFile("{file}")]), "{file}");'
            for name, file in call.files.items()
        ]
        parts += [f'form.append("{name}", {json.dumps(text_of(v))});' for name, v in (call.body or {}).items()]
        before = 'import { readFile } from "node:fs/promises";\n\nconst form = new FormData();\n'
        before += "\n".join(parts) + "\n"
        lines.append("  body: form,")
    elif call.body is not None:
        headers.append('"content-type": "application/json"')
        lines.append(f"  body: JSON.stringify({_json(call.body)}),")
    lines.insert(1, f"  headers: {{ {', '.join(headers)} }},")
    options = "\n".join(lines)
    address = f"process.env.KAON_URL + {json.dumps(url)}" if url else "process.env.KAON_URL"
    if stream:
        use = """const decoder = new TextDecoder();
for await (const bytes of response.body) {
  process.stdout.write(decoder.decode(bytes, { stream: true }));
}"""
    elif raw:
        use = "for await (const bytes of response.body) {\n  process.stdout.write(bytes);\n}"
    else:
        use = "console.log(await response.text());"
    return f"""{before}const response = await fetch({address}, {{
{options}
}});
if (!response.ok) throw new Error(await response.text());
{use}"""


def _number(schema: Mapping[str, Any], *, whole: bool) -> float:
    step = schema.get("multipleOf") or (1 if whole else None)
    low, high = schema.get("minimum"), schema.get("maximum")
    over, under = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    floor = max((n for n in (low, over) if n is not None), default=None)
    ceiling = min((n for n in (high, under) if n is not None), default=None)
    if step is not None:
        start = floor if floor is not None and floor > 0 else step if ceiling is None else min(step, ceiling)
        if floor is not None and start < floor:
            start = floor
        number = math.ceil(start / step) * step
        number += step if number == over else 0
        if ceiling is not None and number > ceiling:
            number = math.floor(ceiling / step) * step
        if number == under:
            number -= step
        return int(number) if whole else float(number)
    if floor is not None and ceiling is not None:
        return float(floor + (ceiling - floor) / 2)
    if floor is not None and floor >= 1.5:
        return float(floor + 1)
    return float(ceiling - 1) if ceiling is not None and ceiling <= 1.5 else 1.5


_FORMATS = {
    "date": "2026-01-31",
    "date-time": "2026-01-31T12:00:00Z",
    "time": "12:00:00",
    "duration": "PT1M",
    "uuid": "3fa85f64-5717-4562-b3fc-2c963f66afa6",
    "email": "someone@example.org",
    "uri": "https://example.org/",
}


def _string(schema: Mapping[str, Any]) -> str:
    if schema.get("contentEncoding") == "base64":
        return "aGVsbG8="
    text = _FORMATS.get(str(schema.get("format")), "hello")
    text = text.ljust(int(schema.get("minLength", 0)), "o")
    return text[: int(schema.get("maxLength", len(text)))]


def _json(v: Any) -> str:
    return json.dumps(v, ensure_ascii=False)
