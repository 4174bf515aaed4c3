"""The fast path: plain JSON calls answered inside uvicorn's own protocol class.

Of a request's cost by ASGI, most is its scope, messages and task. A call that comes whole, small and alone needs none
of them: it is recognised when its headers are complete, and answered when its body is, with the door's checks and on
the lane's slots like any other. Everything unusual goes to the parent unchanged: pipelined requests, upgrades, chunked
or large bodies, `Expect`, HTTP/1.0, escaped paths, other media types, a client that does not read.

What the parent keeps per request (`cycle`) is kept here too, by a stand-in with the attributes that it looks at, so
its pipelining, flow control, keep-alive and graceful shutdown go on working.
"""

from __future__ import annotations

import time
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from kaon.runtime.answers import Answer, known, refusal
from kaon.runtime.call import Call
from kaon.runtime.inputs import query_pairs
from kaon.runtime.lane import Lane
from kaon.runtime.serving import Serving

_MAX_BODY_BYTES = 65_536
_UNUSUAL = (b"transfer-encoding", b"expect", b"upgrade")
_JSON = b"application/json"


class _Unheard:
    """In the place of the event by which the parent wakes an ASGI app; no app waits here."""

    def set(self) -> None: ...


_unheard = _Unheard()


class _Cycle:
    """One request on the fast path, as the parent sees it."""

    __slots__ = (
        "body",
        "call",
        "disconnected",
        "fields",
        "keep_alive",
        "lane",
        "query",
        "request_id",
        "response_complete",
    )
    message_event = _unheard

    def __init__(self, lane: Lane, fields: dict[bytes, bytes], query: bytes | None, keep_alive: bool) -> None:
        self.lane = lane
        self.fields = fields
        self.query = query
        """The query string of a verb that has no body; None: the body speaks."""
        self.keep_alive = keep_alive
        self.body = b""
        self.request_id = ""
        self.call: Call | None = None
        self.disconnected = False
        self.response_complete = False


class ReplicaProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 protocol with a shortcut for plain calls."""

    def __init__(self, serving: Serving, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._serving = serving
        self._door = serving.door
        self._fast: _Cycle | None = None
        self._idle_since: float | None = None

    # --- a request comes in ---

    def on_message_begin(self) -> None:
        self.url = b""
        self.expect_100_continue = False
        self.headers = []

    def on_headers_complete(self) -> None:
        cycle = self._recognised()
        if cycle is None:
            url, headers, expect = self.url, self.headers, self.expect_100_continue
            super().on_message_begin()  # builds the scope, which the fast path does without
            self.url, self.expect_100_continue = url, expect
            self.headers.extend(headers)
            super().on_headers_complete()
            return
        self._fast = self.cycle = cycle  # type: ignore[assignment]

    def on_message_complete(self) -> None:
        cycle = self._fast
        if cycle is not None and self.cycle is cycle:  # type: ignore[comparison-overlap]
            self._begin(cycle)
        else:
            super().on_message_complete()

    def _recognised(self) -> _Cycle | None:
        """The request as a call of the fast path, or None when it is anything but plain."""
        path, mark, query = self.url.partition(b"?")
        found = self._serving.fast.get(path)
        if found is None:
            return None
        method, lane = found
        previous = self.cycle
        if (
            (previous is not None and not previous.response_complete)
            or self.flow.write_paused
            or self.limit_concurrency is not None
            or self.parser.get_method() != method
            or self.parser.get_http_version() != "1.1"
        ):
            return None
        fields = dict(self.headers)
        for name in _UNUSUAL:
            if name in fields:
                return None
        length = fields.get(b"content-length", b"0")
        if not length.isdigit() or int(length) > _MAX_BODY_BYTES:
            return None
        if method in (b"GET", b"DELETE", b"HEAD"):
            return None if method == b"HEAD" else _Cycle(lane, fields, query, self._keeps_alive())
        if mark or fields.get(b"content-type", _JSON).partition(b";")[0] != _JSON:
            return None
        return _Cycle(lane, fields, None, self._keeps_alive())

    def _keeps_alive(self) -> bool:
        return bool(self.parser.should_keep_alive()) and not self._door.closing

    # --- it is answered ---

    def _begin(self, cycle: _Cycle) -> None:
        door, lane = self._door, cycle.lane
        cycle.request_id = request_id = door.request_id(cycle.fields)
        call: Call | None = None
        try:
            door.check(cycle.fields)
            call = door.call(lane, cycle.fields, request_id)
            if cycle.query is None:
                call.arguments = lane.signature.from_json(cycle.body)
            else:
                call.arguments = lane.signature.from_query(query_pairs(cycle.query))
            cycle.call = call
            call.on_end = self._end
            lane.enter(call)
        except Exception as error:
            began_at = time.monotonic() if call is None else call.entered_at
            self._write(cycle, refusal(known(error, lane.name, request_id), request_id), began_at)

    def _end(self, call: Call) -> None:
        cycle = self._fast
        if cycle is None or cycle.call is not call:
            return
        try:
            if call.error is not None:
                raise call.error
            media_type, body = cycle.lane.signature.to_body(call.value)
            answer = Answer(200, media_type.encode(), body)
        except BaseException as error:
            answer = refusal(known(error, cycle.lane.name, call.request_id), call.request_id)
        self._write(cycle, answer, call.entered_at)

    def _write(self, cycle: _Cycle, answer: Answer, began_at: float) -> None:
        """Send the answer in one write, and do the parent's book-keeping for it."""
        cycle.lane.figures.answered(answer.status, time.monotonic() - began_at)
        cycle.response_complete = True
        self._fast = None
        if cycle.disconnected:
            return
        head = [STATUS_LINE[answer.status]]
        for name, value in (*self.server_state.default_headers, *answer.headers):
            head += (name, b": ", value, b"\r\n")
        if not cycle.keep_alive or self._door.closing:
            cycle.keep_alive = False
            head.append(b"connection: close\r\n")
        head.append(
            b"content-type: %b\r\ncontent-length: %d\r\nx-request-id: %b\r\n\r\n"
            % (answer.media_type, len(answer.body), cycle.request_id.encode("latin-1"))
        )
        head.append(answer.body)
        self.transport.write(b"".join(head))
        if not cycle.keep_alive:
            self.transport.close()
        self.on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
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
        if self.pipeline:
            super().on_response_complete()
            return
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        self._idle_since = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._arm(self.timeout_keep_alive)

    def _arm(self, delay_s: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(delay_s, self.timeout_keep_alive_handler)

    def timeout_keep_alive_handler(self) -> None:
        self.timeout_keep_alive_task = None
        if self._idle_since is None:
            return  # at work; the next answer arms it again
        left_s = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if left_s > 0:
            self._arm(left_s)
        else:
            super().timeout_keep_alive_handler()
