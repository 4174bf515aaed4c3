"""A call: one request to an endpoint, from the door to its end.

Nothing that a handler returns or raises may keep a call from its end, or its slot from the next one. Therefore `settle`
and `end` never raise: what goes wrong while an answer is written is logged, and whoever writes answers (`on_end`) sees
to it that the caller hears of it. A slot is given back by `free`, once, whoever comes first.
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

    def left(self, call: Call) -> None:
        """The call has ended."""

    def abandoned(self, call: Call) -> None:
        """The caller disconnected while the call was queued."""

    def release(self, began_at: float) -> None:
        """A slot that was taken at `began_at` is free."""


class Call:
    """One request to an endpoint. It ends once, with a value or an error; later endings are ignored.

    Its *end* is when the answer is known; its *slot* is free when the handler has really stopped. The two differ
    for a handler that outlives its caller: the caller is answered at the deadline, the slot stays taken.
    """

    # Most calls never queue, wait or fail: what they leave as it is costs them nothing here.
    rows: int = 1
    place: Turn[Any] | None = None
    """Where it stands in its lane's line, until it ends; None: it did not have to wait."""
    queued: bool = False
    """Whether it waits and has not begun."""
    waits: int = 0
    """Its rows that are still in the line."""
    holds: bool = False
    """Whether it has a slot; see `free`."""
    ended: bool = False
    value: Any = None
    error: BaseException | None = None
    on_begin: Callable[[], None] | None = None
    """For calls whose handler runs elsewhere (streams): the slot is theirs now."""
    on_end: Callable[[Call], None] | None = None
    on_cancel: Callable[[], object] | None = None
    """Set while a handler works that can be told to stop."""
    flight: int | None = None
    """Where it is noted as in flight, from the moment when it has a slot; see `kaon.runtime.inflight`."""
    _timer: asyncio.TimerHandle | None = None

    def __init__(self, lane: SlotOwner, grant: Grant, request_id: str, timeout_s: float | None) -> None:
        self.lane = lane
        self.grant = grant
        """Whose call it is, and with which priority."""
        self.request_id = request_id
        self.entered_at = self.began_at = now = time.monotonic()
        """`began_at`: when it came to its lane, and once it has a slot, when it got that."""
        self.deadline = None if timeout_s is None else now + timeout_s
        """`time.monotonic()` at which the caller gives up; None: never."""
        self.arguments: dict[str, Any] = {}

    @property
    def call(self) -> Call:
        """Itself: a call that is not cut is its only piece."""
        return self

    def patience_s(self) -> float | None:
        """Seconds that the caller still waits; None: for ever."""
        return None if self.deadline is None else self.deadline - time.monotonic()

    def context(self) -> Context:
        """A copy of the context of the service's class, in which its handler knows whose call it is."""
        own = self.lane.new_context()
        own.run(context.enter, self.request_id, self.deadline)
        return own

    def arm(self, loop: asyncio.AbstractEventLoop) -> None:
        """See to it that the call ends at its deadline. For calls that wait; one that does not needs no timer."""
        if self.deadline is not None and self._timer is None and not self.ended:
            self._timer = loop.call_later(max(0.0, self.deadline - time.monotonic()), self._expire)

    def _expire(self) -> None:
        waited_s = time.monotonic() - self.entered_at
        where = "in the queue" if self.queued else "in the handler"
        self.give_up(
            DeadlineExceeded(
                f"Not answered within {waited_s:.3g} s; the time ran out {where}.",
                hint="Allow more time by the header X-Request-Timeout, or raise the endpoint's timeout_s.",
            )
        )

    def cancel(self) -> None:
        """The caller went away."""
        if self.queued:
            self.lane.abandoned(self)
        self.give_up(Unavailable("The caller went away."))

    def give_up(self, error: BaseException) -> None:
        """End with `error`, and tell the handler to stop when it can be told."""
        if not self.ended:
            stop = self.on_cancel
            self.end(None, error)
            if stop is not None:
                stop()

    def settle(self, value: Any, error: BaseException | None) -> None:
        """The handler stopped: the answer is known, and the slot is free. Never raises."""
        self.end(value, error)
        if self.holds:
            self.holds = False
            self.lane.release(self.began_at)

    def free(self) -> None:
        """Give the slot back, if it has one."""
        if self.holds:
            self.holds = False
            self.lane.release(self.began_at)

    def end(self, value: Any, error: BaseException | None = None) -> None:
        """The answer is known. Never raises."""
        if self.ended:
            return
        self.ended = True
        self.value, self.error = value, error
        self.on_cancel = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.lane.left(self)
        if self.on_end is not None:
            try:
                self.on_end(self)
            except BaseException:
                _log.exception("an answer could not be written", extra={"fields": {"request_id": self.request_id}})
        if self.flight is not None:
            self.lane.flights.end(self.flight)

    def note(self) -> None:
        """Note it as in flight: it has a slot now. Never raises."""
        deadline = self.deadline
        if not self.ended:
            self.flight = self.lane.flights.begin(
                self.request_id, self.began_at + UNLIMITED_S if deadline is None else deadline
            )
