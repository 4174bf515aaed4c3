"""From a request to a handler's arguments: query string, JSON body, multipart form, raw body."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from typing import Any
from urllib.parse import parse_qsl

from kaon.errors import DeadlineExceeded, InvalidInput, TooLarge, Unavailable
from kaon.runtime.asgi import Receive
from kaon.runtime.call import Call
from kaon.runtime.codings import decoded
from kaon.runtime.forms import MULTIPART, URLENCODED, form
from kaon.runtime.lane import Lane
from kaon.sdk.request import Headers, Request
from kaon.sdk.response import Response
from kaon.types.service import MAX_BODY_BYTES

_MAX_QUERY_PAIRS = 1000
_JSON = "application/json"
_LENGTH_DIGITS = 15


def query_pairs(query: bytes) -> list[tuple[str, str]]:
    """Names and values of a query string. Raises InvalidInput."""
    try:
        text = query.decode()
        return parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=_MAX_QUERY_PAIRS)
    except UnicodeDecodeError:
        raise InvalidInput("The query string is not UTF-8.", hint="Percent-encode it as UTF-8.") from None
    except ValueError:
        raise InvalidInput(f"The query string has more than {_MAX_QUERY_PAIRS} parameters.") from None


def media_type(fields: Mapping[bytes, bytes]) -> str:
    """The body's media type without its parameters, in lower case."""
    return fields.get(b"content-type", b"").decode("latin-1").partition(";")[0].strip().lower()


async def arguments(
    lane: Lane, names: Mapping[str, str], scope: Mapping[str, Any], fields: Mapping[bytes, bytes], receive: Receive
) -> dict[str, Any]:
    """The handler's arguments from the request, with `Request` and `Response` where it takes them.

    Raises InvalidInput, UnsupportedMediaType or TooLarge, or Unavailable when the caller left.
    """
    given = await _read_arguments(lane, names, scope, fields, receive)
    signature = lane.signature
    if signature.request is not None:
        given[signature.request] = _request(scope, fields)
    if signature.response is not None:
        given[signature.response] = Response()
    return given


def _request(scope: Mapping[str, Any], fields: Mapping[bytes, bytes]) -> Request:
    peer = scope.get("client")
    if peer is None:  # a unix socket, which only the edge can connect to: its header is trusted
        client = fields.get(b"x-forwarded-for", b"").decode("latin-1").rpartition(",")[2].strip()
    else:
        client = peer[0]
    return Request(
        method=scope["method"],
        path=scope["path"],
        query_string=scope["query_string"].decode("latin-1"),
        headers=Headers(scope["headers"]),
        client=client,
    )


async def _read_arguments(
    lane: Lane, names: Mapping[str, str], scope: Mapping[str, Any], fields: Mapping[bytes, bytes], receive: Receive
) -> dict[str, Any]:
    signature, query = lane.signature, scope["query_string"]
    most = lane.spec.max_body_bytes or MAX_BODY_BYTES
    body = await read_body(fields, receive, most)
    if lane.spec.method in ("GET", "HEAD", "DELETE"):
        return signature.from_query(query_pairs(query), names)
    if lane.spec.strict and query:
        signature.from_query(query_pairs(query))
    if coding := fields.get(b"content-encoding"):
        body = await decoded(coding, body, most)
    kind = media_type(fields)
    if kind in ("", _JSON) or kind.endswith("+json") or (kind == URLENCODED and _is_json_of_curl(fields, body)):
        return signature.from_large_json(body, names)
    if signature.form and kind in (MULTIPART, URLENCODED):
        return signature.from_form(await form(fields[b"content-type"].decode("latin-1"), body), names)
    return signature.from_raw(body, kind, names)


def _is_json_of_curl(fields: Mapping[bytes, bytes], body: bytes) -> bool:
    """Whether it is JSON that curl's `-d` sends as a form. Not from a browser, which sends `Origin`."""
    return b"origin" not in fields and b"sec-fetch-site" not in fields and body[:64].lstrip()[:1] in (b"{", b"[")


async def read_body(fields: Mapping[bytes, bytes], receive: Receive, most: int = MAX_BODY_BYTES) -> bytes:
    """The whole body, at most `most` bytes. Raises TooLarge."""
    stated = fields.get(b"content-length", b"0")
    if stated.isdigit() and (len(stated) > _LENGTH_DIGITS or int(stated) > most):
        raise _too_large(most)
    pieces: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Unavailable("The caller disconnected.")
        pieces.append(message.get("body", b""))
        size += len(pieces[-1])
        if size > most:
            raise _too_large(most)
        if not message.get("more_body", False):
            return b"".join(pieces)


def _too_large(most: int) -> TooLarge:
    return TooLarge(f"The body is larger than {most} bytes.", hint="Send it in pieces.")


async def within_deadline(call: Call, work: Awaitable[Any]) -> Any:
    """The result of `work`. Raises DeadlineExceeded at the call's deadline."""
    try:
        async with asyncio.timeout(call.remaining_s()):
            return await work
    except TimeoutError:
        raise DeadlineExceeded("The request did not arrive in time.", hint="Send the body faster.") from None


async def cancel_on_disconnect(call: Call, receive: Receive) -> None:
    """Cancel the call when its caller disconnects."""
    while (await receive())["type"] != "http.disconnect":
        pass
    call.cancel()
