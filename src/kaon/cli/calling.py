"""What `call` does: arguments from texts, the call, the answer as text."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from kaon.cli import contexts
from kaon.cli.remote import opened
from kaon.cli.text import json_safe, pairs, plain
from kaon.client.client import Client
from kaon.errors import InvalidInput
from kaon.settings import Settings
from kaon.types.media import File
from kaon.types.route import prefix_of


def arguments(texts: Sequence[str], body: str) -> dict[str, Any]:
    """The parameters of a call. Raises `InvalidInput`."""
    if body and texts:
        raise InvalidInput("--json and KEY=VALUE exclude each other.", hint="Put everything into one of them.")
    if not body:
        return {name: _value(text) for name, text in pairs(texts, "The argument").items()}
    try:
        value = json.loads(sys.stdin.read() if body == "-" else body)
    except ValueError as error:
        raise InvalidInput(f"--json is not JSON: {error}.", hint="Quote it with single quotes.") from None
    if not isinstance(value, dict):
        raise InvalidInput("--json is not an object.", hint="""Write it like '{"name": "Ada"}'.""")
    return value


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def answers(
    name: str, endpoint: str, given: dict[str, Any], workspace: str | None, timeout_s: float, *, stream: bool
) -> Iterator[str]:
    """The answer as text; of a stream one text an item with `stream`, else all of them as one list."""
    context = contexts.in_use()
    key = contexts.key_of(context)
    if context.url:
        with opened(workspace) as remote:
            url = remote.deployment(name).url
    else:
        url = Settings().url + prefix_of(workspace or context.workspace, name)
    with Client(url, key, timeout_s=timeout_s) as client:
        answer = client.call(endpoint.replace("-", "_"), **given)  # be it written as in its path
        if not isinstance(answer, Iterator):
            yield said(answer)
        elif stream:
            yield from map(said, answer)
        else:
            items = list(answer)
            yield said(b"".join(items) if items and isinstance(items[0], bytes) else items)


def said(answer: Any) -> str:
    """An answer as JSON, and a file or bytes as what they are. Text is JSON too, so that it is no number."""
    if isinstance(answer, File):
        return f"{plain(answer.media_type)}, {len(answer.content)} bytes"
    if isinstance(answer, bytes):
        return f"{len(answer)} bytes"
    return json_safe(json.dumps(answer, ensure_ascii=False))
