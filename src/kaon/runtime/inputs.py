"""From a request to a handler's arguments: query string, JSON body, multipart form, raw body."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Mapping
from typing import Any
from urllib.parse import parse_qsl

from kaon.errors import DeadlineExceeded, InvalidInput, TooLarge, Unavailable
from kaon.runtime.asgi import Receive
from kaon.runtime.call import Call
from kaon.runtime.lane import Lane
from kaon.types.media import File

MAX_BODY_BYTES = 64 * 2**20
_MAX_PARTS = 1000
_MAX_QUERY_PAIRS = 1000
_JSON = "application/json"


def query_pairs(query: bytes) -> list[tuple[str, str]]:
    """Names and values of a query string. Raises InvalidInput."""
    try:
        return parse_qsl(
            query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_MAX_QUERY_PAIRS
        )
    except ValueError:
        raise InvalidInput("The query string cannot be read.", hint="Percent-encode it as UTF-8.") from None


def media_type(fields: Mapping[bytes, bytes]) -> str:
    """The body's media type without its parameters, in lower case."""
    return fields.get(b"content-type", b"").decode("latin-1").partition(";")[0].strip().lower()


async def arguments(
    lane: Lane, names: Mapping[str, str], scope: Mapping[str, Any], fields: Mapping[bytes, bytes], receive: Receive
) -> dict[str, Any]:
    """What the request says. Raises InvalidInput or TooLarge, or Unavailable when the caller left."""
    signature = lane.signature
    body = await read_body(fields, receive)
    if lane.spec.method in ("GET", "HEAD", "DELETE"):
        return signature.from_query(query_pairs(scope["query_string"]), names)
    kind = media_type(fields)
    if kind in ("", _JSON) or kind.endswith("+json"):
        return signature.from_json(body, names)
    if signature.form and kind in ("multipart/form-data", "application/x-www-form-urlencoded"):
        return signature.from_form(await _form(kind, fields, body), names)
    return signature.from_raw(body, kind, names)


async def read_body(fields: Mapping[bytes, bytes], receive: Receive) -> bytes:
    """The whole body, at most `MAX_BODY_BYTES`."""
    stated = fields.get(b"content-length", b"0")
    if stated.isdigit() and int(stated) > MAX_BODY_BYTES:
        raise _too_large()
    pieces: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Unavailable("The caller went away.")
        pieces.append(message.get("body", b""))
        size += len(pieces[-1])
        if size > MAX_BODY_BYTES:
            raise _too_large()
        if not message.get("more_body", False):
            return b"".join(pieces)


def _too_large() -> TooLarge:
    return TooLarge(f"The body is larger than {MAX_BODY_BYTES} bytes.", hint="Send it in pieces.")


async def _form(kind: str, fields: Mapping[bytes, bytes], body: bytes) -> list[tuple[str, str | File]]:
    # Loaded by the first form: most replicas never see one.
    from starlette.datastructures import Headers, UploadFile
    from starlette.formparsers import FormParser, MultiPartException, MultiPartParser

    async def stream() -> AsyncGenerator[bytes, None]:
        yield body

    headers = Headers(raw=list(fields.items()))
    try:
        if kind == "multipart/form-data":
            parser: Any = MultiPartParser(
                headers, stream(), max_files=_MAX_PARTS, max_fields=_MAX_PARTS, max_part_size=MAX_BODY_BYTES
            )
        else:
            parser = FormParser(headers, stream())
        form = await parser.parse()
    except (MultiPartException, KeyError, ValueError, AssertionError):
        raise InvalidInput("The form cannot be read.", hint="Send multipart/form-data with a boundary.") from None
    parts: list[tuple[str, str | File]] = []
    for name, value in form.multi_items():
        if isinstance(value, UploadFile):
            content = await value.read()
            parts.append((name, _file(name, content, value.filename or "", value.content_type or "")))
            await asyncio.shield(value.close())
        else:
            parts.append((name, value))
    return parts


def _file(part: str, content: bytes, name: str, kind: str) -> File:
    try:
        return File(content, name=name, media_type=kind)
    except ValueError as error:
        raise InvalidInput(f"The form's part {part[:80]!r} cannot be taken: {error}.") from None


async def in_time(call: Call, work: Awaitable[Any]) -> Any:
    """What `work` gives, or DeadlineExceeded when the call's caller has given up."""
    try:
        async with asyncio.timeout(call.patience_s()):
            return await work
    except TimeoutError:
        raise DeadlineExceeded("The request did not arrive in time.", hint="Send the body faster.") from None


async def cancel_when_gone(call: Call, receive: Receive) -> None:
    """Cancel the call when its caller disconnects."""
    while (await receive())["type"] != "http.disconnect":
        pass
    call.cancel()
