"""The fast path: plain JSON calls answered within uvicorn's protocol class.

Most of the cost of a request by ASGI is its scope, messages and task. A small call with a known length needs none of
them: it is recognised when its headers are complete and answered when its body is, with the same checks and slots as
any other. Everything else goes to the parent: pipelined requests, upgrades, chunked or large bodies, `Expect`,
HTTP/1.0, escaped paths, other media types, a client that does not read.

The parent's state per request (`cycle`) is kept here too, by an object with the attributes that it reads, so that its
pipelining, flow control, keep-alive and graceful shutdown work.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import Any

from uvicorn.protocols.http.flow_control import CLOSE_HEADER
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from kaon.errors import BadAnswer, NotBegun
from kaon.runtime import bodies
from kaon.runtime.answers import problem_answer, public_error
from kaon.runtime.call import Call
from kaon.runtime.chunks import CHUNKS, Chunks
from kaon.runtime.inputs import query_pairs
from kaon.runtime.lane import Lane
from kaon.runtime.serving import Serving
from kaon.types.headers import check, is_media_type

_MAX_LENGTH_DIGITS = 5
"""The fast path takes bodies of up to 99,999 bytes."""
_JSON = b"application/json"
_MOST_HEADS = 256
_PIPELINE = 16
"""Pipelined requests of one connection; with more, reading pauses."""


class _NoEvent:
    """Replaces the event by which the parent wakes an ASGI app; there is no app."""

    def set(self) -> None: ...


_no_event = _NoEvent()


class _Cycle:
    """One request on the fast path, with the attributes that the parent reads."""

    message_event = _no_event
    body = b""
    request_id = ""
    call: Call | None = None
    disconnected = False
    response_complete = False
    let_in = True
    """Whether the caller may call: what it is answered else is no call."""

    def __init__(self, lane: Lane, fields: dict[bytes, bytes], query: bytes | None, keep_alive: bool) -> None:
        self.lane = lane
        self.fields = fields
        self.query = query
        """The query string of a verb without a body; None: the arguments are in the body."""
        self.keep_alive = keep_alive


class ReplicaProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 protocol with a shortcut for plain calls."""

    def __init__(self, serving: Serving, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._serving = serving
        self._checks = serving.checks
        self._fast: _Cycle | None = None
        self._chunks: Chunks | None = None
        """Of the request that an ASGI app is answering."""
        self._idle_since: float | None = None
        self._body_timer: asyncio.TimerHandle | None = None
        """Checks that a body still arrives."""
        self.ws_protocol_class = partial(_socket_protocol, serving)  # type: ignore[assignment]

    # --- a request comes in ---

    def _check_body(self, before: _Cycle | None, size: int) -> None:
        """Refuse a request whose body did not grow since the last check. One timer a connection, for all requests."""
        self._body_timer = None
        cycle = self._fast
        if cycle is None or cycle.call is not None:
            return
        if cycle is not before or len(cycle.body) != size:
            self._body_timer = self.loop.call_later(bodies.PAUSE_S, self._check_body, cycle, len(cycle.body))
            return
        cycle.request_id = self._checks.request_id(cycle.fields)
        cycle.keep_alive = False
        self._refuse(cycle, bodies.body_stopped())

    def on_message_begin(self) -> None:
        self.url = b""
        self.headers = []

    def on_headers_complete(self) -> None:
        cycle = self._fast_cycle()
        if cycle is None:
            url, headers = self.url, self.headers
            super().on_message_begin()  # builds the scope, which the fast path does without
            self.url = url
            for name, value in headers:
                super().on_header(name, value)
            super().on_headers_complete()
            if len(self.pipeline) <= _PIPELINE:  # else a disconnect would not be noticed
                self.flow.resume_reading()
            return
        self._fast = self.cycle = cycle  # type: ignore[assignment]
        if self._body_timer is None:
            self._body_timer = self.loop.call_later(bodies.PAUSE_S, self._check_body, None, 0)

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

    def _fast_cycle(self) -> _Cycle | None:
        """The request as a call of the fast path; None when it must go through ASGI."""
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
            or (b"origin" in fields and self._checks.site is not None)
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
        checks, lane, fields = self._checks, cycle.lane, cycle.fields
        cycle.request_id = request_id = checks.request_id(fields)
        try:
            grant = checks.check(fields, self.client)
        except Exception as error:
            cycle.let_in = isinstance(error, NotBegun)
            return self._refuse(cycle, error)
        try:
            cycle.call = call = checks.call(lane, grant, fields, request_id)
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
        """Answer with a problem document, or end the connection if that fails."""
        if cycle.response_complete:  # the failure came after the response was written
            return self.transport.abort()
        try:
            answer = problem_answer(
                public_error(error, cycle.lane.name, cycle.request_id),
                cycle.request_id,
                cycle.fields,
                cycle.lane.spec.protocol,
            )
            answer = self._serving.described(answer)
            self._write(cycle, answer.status, answer.media_type.decode(), answer.body, answer.headers)
        except BaseException:
            self.transport.abort()
            raise

    def _write(
        self, cycle: _Cycle, status: int, media_type: str, body: bytes, headers: tuple[tuple[bytes, bytes], ...] = ()
    ) -> None:
        """Send the response in one write, with the parent's bookkeeping. Raises for an invalid head."""
        call, now = cycle.call, time.monotonic()
        head = _heads.head(self.server_state.default_headers, status, media_type)
        if headers:
            check(headers)
        figures = cycle.lane.figures if cycle.let_in else self._serving.not_calls
        figures.answered(status, 0.0 if call is None else now - call.entered_at)
        cycle.response_complete = True
        self._fast = None
        if cycle.disconnected:
            return
        if not cycle.keep_alive or self._checks.closing:
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
        if self._body_timer is not None:
            self._body_timer.cancel()
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
        """The parent's bookkeeping after a response, without its timer."""
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
            return  # a request is running; its response starts the timer again
        left_s = self._idle_since + self.timeout_keep_alive - time.monotonic()
        if left_s > 0:
            self._arm(left_s)
        else:
            super().timeout_keep_alive_handler()


def _socket_protocol(serving: Serving, **kwargs: Any) -> Any:
    """The protocol of websockets, imported by the first one."""
    from kaon.runtime.socket_protocol import SocketProtocol

    return SocketProtocol(serving, **kwargs)


class _Heads:
    """The first lines of responses as bytes, cached as long as the server's own headers (the date) stay the same."""

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
            if len(self._heads) >= _MOST_HEADS:  # returned files may have any media type
                self._heads.clear()
            if not is_media_type(media_type):
                raise BadAnswer(f"The answer's media type {media_type[:80]!r} is not valid in a header.")
            lines = b"".join(b"%b: %b\r\n" % header for header in defaults)
            head = b"%b%bcontent-type: %b\r\n" % (STATUS_LINE[status], lines, media_type.encode("ascii"))
            self._heads[status, media_type] = head
        return head


_heads = _Heads()
