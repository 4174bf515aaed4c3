"""A call: one request to an endpoint, from the checks to its end.

Nothing that a handler returns or raises may keep a call from ending, or its slot from being reused. Therefore `settle`
and `end` never raise: an error while the response is written is logged, and the writer of the response (`on_end`)
reports it to the caller. A slot is released once, by `settle` or `free`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextvars import Context
from typing import Any, Protocol

from kaon import context
from kaon.errors import DeadlineExceeded, Unavailable
from kaon.runtime.inflight import Flights
from kaon.runtime.turns import Turn
from kaon.types.flight import UNLIMITED_S
from kaon.types.key import Grant

_log = logging.getLogger("kaon.runtime")


class SlotOwner(Protocol):
    """What a call needs of its lane."""

    flights: Flights
    new_context: Callable[[], Context]

    def call_ended(self, call: Call) -> None:
        """The call has ended."""

    def caller_left(self, call: Call) -> None:
        """The caller disconnected while the call was queued."""

    def release(self, began_at: float) -> None:
        """A slot that was taken at `began_at` is free."""


class Call:
    """One request to an endpoint. It ends once, with a value or an error; later endings are ignored.

    It *ends* when its outcome is known; its *slot* is free when the handler has stopped. The two differ for a handler
    that runs longer than its deadline: the caller gets an error at the deadline, the slot stays taken.
    """

    # Class attributes: most calls never queue or fail, and do not pay for setting these.
    rows: int = 1
    turn: Turn[Any] | None = None
    """Its key's calls in the lane's queue, until it ends; None: it did not have to wait."""
    queued: bool = False
    """Whether it is in the queue and has not begun."""
    waits: int = 0
    """Its rows that are still in the queue."""
    holds: bool = False
    """Whether it has a slot; see `free`."""
    ended: bool = False
    value: Any = None
    error: BaseException | None = None
    on_begin: Callable[[], None] | None = None
    """For calls whose handler is not run by the lane (streams): called when the slot is taken."""
    on_end: Callable[[Call], None] | None = None
    on_cancel: Callable[[], object] | None = None
    """Set while a handler runs that can be cancelled."""
    flight: int | None = None
    """Its slot in the file of calls in flight, once it has a slot of the lane; see `kaon.runtime.inflight`."""
    _timer: asyncio.TimerHandle | None = None

    def __init__(self, lane: SlotOwner, grant: Grant, request_id: str, timeout_s: float | None) -> None:
        self.lane = lane
        self.grant = grant
        """The caller's key and priority."""
        self.request_id = request_id
        self.entered_at = self.began_at = now = time.monotonic()
        """`began_at`: when it entered its lane, then when it got a slot."""
        self.deadline = None if timeout_s is None else now + timeout_s
        """`time.monotonic()` at which it fails with DeadlineExceeded; None: never."""
        self.arguments: dict[str, Any] = {}

    @property
    def call(self) -> Call:
        """Itself: a call that is not split is its only piece."""
        return self

    def remaining_s(self) -> float | None:
        """Seconds until the deadline; None: there is none."""
        return None if self.deadline is None else self.deadline - time.monotonic()

    def context(self) -> Context:
        """A copy of the context of the service's class, with this call's request id and deadline."""
        own = self.lane.new_context()
        own.run(context.enter, self.request_id, self.deadline)
        return own

    def start_timer(self, loop: asyncio.AbstractEventLoop) -> None:
        """Make the call end at its deadline. Only calls that wait need a timer."""
        if self.deadline is not None and self._timer is None and not self.ended:
            self._timer = loop.call_later(max(0.0, self.deadline - time.monotonic()), self._expire)

    def _expire(self) -> None:
        waited_s = time.monotonic() - self.entered_at
        where = "in the queue" if self.queued else "in the handler"
        self.give_up(
            DeadlineExceeded(
                f"Not answered within {waited_s:.3g} s; the time ran out {where}.",
                hint="Send a larger X-Request-Timeout header, or raise the endpoint's timeout_s.",
            )
        )

    def cancel(self) -> None:
        """The caller disconnected."""
        if self.queued:
            self.lane.caller_left(self)
        self.give_up(Unavailable("The caller disconnected."))

    def give_up(self, error: BaseException) -> None:
        """End with `error`, and cancel the handler if it can be cancelled."""
        if not self.ended:
            stop = self.on_cancel
            self.end(None, error)
            if stop is not None:
                stop()

    def settle(self, value: Any, error: BaseException | None) -> None:
        """The handler stopped: end with its outcome and release the slot. Never raises."""
        self.end(value, error)
        if self.holds:
            self.holds = False
            self.lane.release(self.began_at)

    def free(self) -> None:
        """Release the slot, if the call has one."""
        if self.holds:
            self.holds = False
            self.lane.release(self.began_at)

    def end(self, value: Any, error: BaseException | None = None) -> None:
        """End with a value or an error. Never raises."""
        if self.ended:
            return
        self.ended = True
        self.value, self.error = value, error
        self.on_cancel = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.lane.call_ended(self)
        if self.on_end is not None:
            try:
                self.on_end(self)
            except BaseException:
                _log.exception("a response could not be written", extra={"fields": {"request_id": self.request_id}})
        if self.flight is not None:
            self.lane.flights.end(self.flight)

    def record_in_flight(self) -> None:
        """Record the call, which has a slot now, in the file of calls in flight. Never raises."""
        deadline = self.deadline
        if not self.ended:
            self.flight = self.lane.flights.begin(
                self.request_id, self.began_at + UNLIMITED_S if deadline is None else deadline
            )
