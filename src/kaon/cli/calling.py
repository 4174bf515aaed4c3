"""What `call` does: arguments from texts by the endpoint's schema, the call, the answer as text or into a file."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kaon.cli import contexts, values
from kaon.cli.notes import note
from kaon.cli.remote import opened
from kaon.cli.text import json_safe, plain
from kaon.client.client import Client
from kaon.client.deployment import ClientCall, value_of
from kaon.errors import InvalidInput
from kaon.settings import Settings
from kaon.types.headers import is_name, is_value
from kaon.types.media import File
from kaon.types.route import prefix_of

_OWN = {"authorization", "content-length", "content-type", "host", "transfer-encoding", "connection"}
"""Headers that the call says itself."""


@dataclass(frozen=True)
class Asked:
    """What of a call is typed."""

    texts: Sequence[str]
    body: str = ""
    """All parameters as JSON, in place of `texts`."""
    headers: Sequence[str] = ()


def headers_of(texts: Sequence[str]) -> dict[str, str]:
    """Headers from 'NAME: VALUE'. Raises `InvalidInput`."""
    found = {}
    for text in texts:
        name, separator, value = text.partition(":")
        name, value = name.strip().lower(), value.strip()
        if not separator or not is_name(name) or not is_value(value):
            raise InvalidInput(f"{plain(text)!r} is not a header.", hint="Write it as -H 'NAME: VALUE'.")
        if name in _OWN:
            raise InvalidInput(f"The header {name} is said by the call itself.", hint="Leave it out.")
        found[name] = value
    return found


def json_arguments(body: str) -> dict[str, Any]:
    """The parameters that `--json` says; a dash reads standard input. Raises `InvalidInput`."""
    try:
        value = json.loads(values.read_stdin() if body == "-" else body)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"--json is not JSON: {plain(error)}.", hint="Quote it with single quotes.") from None
    if not isinstance(value, dict):
        raise InvalidInput("--json is not an object.", hint="""Write it like '{"name": "Ada"}'.""")
    return value


@contextmanager
def answered(name: str, endpoint: str, asked: Asked, workspace: str | None, timeout_s: float) -> Iterator[Any]:
    """The answer; of a stream an iterator of its items, as they come."""
    if asked.body and asked.texts:
        raise InvalidInput("--json and KEY=VALUE exclude each other.", hint="Put everything into one of them.")
    headers = headers_of(asked.headers)
    context = contexts.in_use()
    key = contexts.key_of(context)
    if context.url:
        with opened(workspace) as remote:
            url = remote.deployment(name).url
    else:
        url = Settings().url + prefix_of(workspace or context.workspace, name)
    with Client(url, key, timeout_s=timeout_s) as client:
        endpoint = endpoint.replace("-", "_")  # be it written as in its path
        if asked.body:
            given: Mapping[str, Any] = json_arguments(asked.body)
        else:
            operation = client._operation(endpoint)
            given = values.arguments(asked.texts, operation.schemas, operation.definitions)
        yield client._send(ClientCall(endpoint, given, headers=headers), value_of)


def said(answer: Any) -> str:
    """An answer as JSON, and a file or bytes as what they are. Text is JSON too, so that it is no number."""
    if isinstance(answer, File):
        return f"{plain(answer.media_type)}, {len(answer.content)} bytes; -o FILE keeps it"
    if isinstance(answer, bytes):
        return f"{len(answer)} bytes; -o FILE keeps them"
    return json_safe(json.dumps(answer, ensure_ascii=False))


def keep(found: Iterator[Any], place: str) -> None:
    """Write answers into a file, `-` standard output, as they are: files by their bytes, values as lines of JSON.

    The file appears when all has come.
    """
    if place == "-":
        for answer in found:
            sys.stdout.buffer.write(_bytes(answer))
            sys.stdout.buffer.flush()
        return
    path = Path(place)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with beside.open("wb") as file:
            size = sum(file.write(_bytes(answer)) for answer in found)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    note(f"{size:,} bytes are in {place}")


def _bytes(answer: Any) -> bytes:
    if isinstance(answer, File):
        return answer.content
    if isinstance(answer, bytes):
        return answer
    return json.dumps(answer, ensure_ascii=False).encode() + b"\n"
