"""The fast path: plain JSON calls answered inside uvicorn's own protocol class.

Of a request's cost by ASGI, most is its scope, messages and task. A call that comes whole, small and alone needs none
of them: it is recognised when its headers are complete, and answered when its body is, with the door's checks and on
the lane's slots like any other. Everything unusual goes to the parent unchanged: pipelined requests, upgrades, chunked
or large bodies, `Expect`, HTTP/1.0, escaped paths, other media types, a client that does not read.

What the parent keeps per request (`cycle`) is kept here too, by a stand-in with the attributes that it looks at, so
its pipelining, flow control, keep-alive and graceful shutdown go on working.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import Any

from uvicorn.protocols.http.flow_control import CLOSE_HEADER
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from kaon.errors import BadAnswer
from kaon.runtime import bodies
from kaon.runtime.answers import known, refusal
from kaon.runtime.call import Call
from kaon.runtime.chunks import CHUNKS, Chunks
from kaon.runtime.inputs import query_pairs
from kaon.runtime.lane import Lane
from kaon.runtime.serving import Serving
from kaon.types.headers import check, is_media_type

_MAX_LENGTH_DIGITS = 5
"""Bodies of up to 99,999 bytes come this way."""
_JSON = b"application/json"
_MOST_HEADS = 256
_PIPELINE = 16
"""Requests that a caller may send ahead on one connection; behind them nothing is read."""


class _Unheard:
    """In the place of the event by which the parent wakes an ASGI app; no app waits here."""

    def set(self) -> None: ...


_unheard = _Unheard()


class _Cycle:
    """One request on the fast path, as the parent sees it."""

    message_event = _unheard
    body = b""
    request_id = ""
    call: Call | None = None
    disconnected = False
    response_complete = False

    def __init__(self, lane: Lane, fields: dict[bytes, bytes], query: bytes | None, keep_alive: bool) -> None:
        self.lane = lane
        self.fields = fields
        self.query = query
        """The query string of a verb that has no body; None: the body speaks."""
        self.keep_alive = keep_alive


class ReplicaProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 protocol with a shortcut for plain calls."""

    def __init__(self, serving: Serving, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._serving = serving
        self._door = serving.door
        self._fast: _Cycle | None = None
        self._chunks: Chunks | None = None
        """Of the request that an ASGI app answers now."""
        self._idle_since: float | None = None
        self._slow: asyncio.TimerHandle | None = None
        """Looks whether a body still comes."""
        self.ws_protocol_class = partial(_socket_protocol, serving)  # type: ignore[assignment]

    # --- a request comes in ---

    def _look_at_body(self, before: _Cycle | None, size: int) -> None:
        """Refuse a request of whose body nothing came since the last look. One timer a connection, for all requests."""
        self._slow = None
        cycle = self._fast
        if cycle is None or cycle.call is not None:
            return
        if cycle is not before or len(cycle.body) != size:
            self._slow = self.loop.call_later(bodies.PAUSE_S, self._look_at_body, cycle, len(cycle.body))
            return
        cycle.request_id = self._door.request_id(cycle.fields)
        cycle.keep_alive = False
        self._refuse(cycle, bodies.stopped())

    def on_message_begin(self) -> None:
        self.url = b""
        self.headers = []

    def on_headers_complete(self) -> None:
        cycle = self._recognised()
        if cycle is None:
            url, headers = self.url, self.headers
            super().on_message_begin()  # builds the scope, which the fast path does without
            self.url = url
            for name, value in headers:
                super().on_header(name, value)
            super().on_headers_complete()
            if len(self.pipeline) <= _PIPELINE:  # else it would not be seen that the caller is gone
                self.flow.resume_reading()
            return
        self._fast = self.cycle = cycle  # type: ignore[assignment]
        if self._slow is None:
            self._slow = self.loop.call_later(bodies.PAUSE_S, self._look_at_body, None, 0)

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_body(self, body: bytes) -> None:
        cycle = self._fast
        if cycle is not None and self.cycle is cycle:  # type: ignore[comparison-overlap]
            cycle.body += body
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        cycle = self._fast
        if cycle is not None and self.cycle is cycle:  # type: ignore[comparison-overlap]
            self._begin(cycle)
        else:
            super().on_message_complete()

    def _recognised(self) -> _Cycle | None:
        """The request as a call of the fast path, or None when it is anything but plain."""
        url, query = self.url, b""
        found = self._serving.fast.get(url)
        if found is None:
            path, mark, query = url.partition(b"?")
            if not mark or (found := self._serving.fast.get(path)) is None:
                return None
        method, lane = found
        parser, previous = self.parser, self.cycle
        if (
            (previous is not None and not previous.response_complete)
            or self.flow.write_paused
            or self.limit_concurrency is not None
            or parser.get_method() != method
            or parser.get_http_version() != "1.1"
        ):
            return None
        fields = dict(self.headers)
        if (
            b"transfer-encoding" in fields
            or b"expect" in fields
            or b"upgrade" in fields
            or b"content-encoding" in fields
            or (b"origin" in fields and self._door.site is not None)
        ):
            return None
        if len(fields.get(b"content-length", b"")) > _MAX_LENGTH_DIGITS:
            return None
        keep_alive = parser.should_keep_alive()
        if method == b"GET" or method == b"DELETE":
            return _Cycle(lane, fields, query, keep_alive)
        kind = fields.get(b"content-type", _JSON)
        if url.endswith(b"?") or query or method == b"HEAD":
            return None
        if kind != _JSON and kind.partition(b";")[0] != _JSON:
            return None
        return _Cycle(lane, fields, None, keep_alive)

    # --- it is answered ---

    def _begin(self, cycle: _Cycle) -> None:
        door, lane, fields = self._door, cycle.lane, cycle.fields
        cycle.request_id = request_id = door.request_id(fields)
        try:
            grant = door.check(fields, self.client)
            cycle.call = call = door.call(lane, grant, fields, request_id)
            if cycle.query is None:
                call.arguments = lane.signature.from_json(cycle.body)
            else:
                call.arguments = lane.signature.from_query(query_pairs(cycle.query))
            call.on_end = self._end
            lane.enter(call)
        except Exception as error:
            self._refuse(cycle, error)

    def _end(self, call: Call) -> None:
        cycle = self._fast
        if cycle is None or cycle.call is not call:
            return
        error = call.error
        if error is None:
            try:
                media_type, body = cycle.lane.signature.to_body(call.value)
                self._write(cycle, 200, media_type, body)
            except BaseException as unfit:
                error = unfit
            else:
                return
        self._refuse(cycle, error)

    def _refuse(self, cycle: _Cycle, error: BaseException) -> None:
        """Answer with a problem document; where not even that can be done, end the connection."""
        if cycle.response_complete:  # it was written, and what came after failed
            return self.transport.abort()
        try:
            answer = refusal(known(error, cycle.lane.name, cycle.request_id), cycle.request_id, cycle.fields)
            self._write(cycle, answer.status, answer.media_type.decode(), answer.body, answer.headers)
        except BaseException:
            self.transport.abort()
            raise

    def _write(
        self, cycle: _Cycle, status: int, media_type: str, body: bytes, headers: tuple[tuple[bytes, bytes], ...] = ()
    ) -> None:
        """Send the answer in one write, and do the parent's book-keeping for it. Raises when it cannot be said."""
        call, now = cycle.call, time.monotonic()
        head = _heads.head(self.server_state.default_headers, status, media_type)
        if headers:
            check(headers)
        cycle.lane.figures.answered(status, 0.0 if call is None else now - call.entered_at)
        cycle.response_complete = True
        self._fast = None
        if cycle.disconnected:
            return
        if not cycle.keep_alive or self._door.closing:
            cycle.keep_alive = False
            headers = (*headers, CLOSE_HEADER)
        if headers:
            head += b"".join(b"%b: %b\r\n" % header for header in headers)
        length, request_id = b"%d" % len(body), cycle.request_id.encode("latin-1")
        self.transport.write(
            b"".join((head, b"content-length: ", length, b"\r\nx-request-id: ", request_id, b"\r\n\r\n", body))
        )
        if not cycle.keep_alive:
            self.transport.close()
        self._answered(now)
        if self._serving.sampler is not None:
            self._serving.keep(cycle.request_id, cycle.lane.name, status, media_type, body)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._chunks = Chunks(cycle)
        cycle.scope["extensions"] = {CHUNKS: self._chunks}  # type: ignore[dict-item]
        super()._start_asgi_task(cycle, app)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._chunks is not None:
            self._chunks.lost()
        if self._slow is not None:
            self._slow.cancel()
        cycle = self._fast
        if cycle is not None:
            cycle.disconnected = True
            if cycle.call is not None:
                cycle.call.cancel()
        super().connection_lost(exc)
        if self.timeout_keep_alive_task is not None:
            self.timeout_keep_alive_task.cancel()
            self.timeout_keep_alive_task = None

    # --- keep-alive: one timer a connection, not one a request ---

    def _unset_keepalive_if_required(self) -> None:
        self._idle_since = None

    def on_response_complete(self) -> None:
        self._answered(time.monotonic())

    def _answered(self, now: float) -> None:
        """What the parent does after an answer, but for its timer."""
        if self.pipeline:
            super().on_response_complete()
            return
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        if self.flow.read_paused:
            self.flow.resume_reading()
        self._idle_since = now
        if self.timeout_keep_alive_task is None:
            self._arm(self.timeout_keep_alive)

    def _arm(self, delay_s: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(delay_s, self.timeout_keep_alive_handler)

    def timeout_keep_alive_handler(self) -> None:
        self.timeout_keep_alive_task = None
        if self._idle_since is None:
            return  # at work; the next answer arms it again
        left_s = self._idle_since + self.timeout_keep_alive - time.monotonic()
        if left_s > 0:
            self._arm(left_s)
        else:
            super().timeout_keep_alive_handler()


def _socket_protocol(serving: Serving, **kwargs: Any) -> Any:
    """The protocol of websockets, imported by the first of them."""
    from kaon.runtime.socket_protocol import SocketProtocol

    return SocketProtocol(serving, **kwargs)


class _Heads:
    """The first lines of answers as bytes, kept for as long as the server's own headers (the date) stay the same."""

    def __init__(self) -> None:
        self._defaults: list[tuple[bytes, bytes]] | None = None
        self._heads: dict[tuple[int, str], bytes] = {}

    def head(self, defaults: list[tuple[bytes, bytes]], status: int, media_type: str) -> bytes:
        """Status line, `defaults` and the media type, each with its line break."""
        if defaults is not self._defaults:  # uvicorn makes a new list every second
            self._defaults = defaults
            self._heads.clear()
        head = self._heads.get((status, media_type))
        if head is None:
            if len(self._heads) >= _MOST_HEADS:  # callers' files bring media types of any name
                self._heads.clear()
            if not is_media_type(media_type):
                raise BadAnswer(f"The answer's media type is {media_type[:80]!r}, which no header can say.")
            lines = b"".join(b"%b: %b\r\n" % header for header in defaults)
            head = b"%b%bcontent-type: %b\r\n" % (STATUS_LINE[status], lines, media_type.encode("ascii"))
            self._heads[status, media_type] = head
        return head


_heads = _Heads()
