"""A lane: one endpoint at work, with its slots, its queue and its figures.

A call begins when one of the lane's slots is free, else it waits in the queue (see `kaon.runtime.call_queue`) if the
admission law lets it; at its turn it begins, unless it would miss its deadline. `in_flight` counts calls that entered
and have not ended; `busy` counts slots that are taken, also by handlers that run longer than their calls. Everything
happens on the loop's thread.

Knobs may give a lane fewer slots than its endpoint allows, at any time (`Lane.tune`). Running calls go on: until enough
of them have ended, more slots are busy than exist, and nothing begins.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from contextvars import Context
from typing import Any

from kaon.errors import TooManyRequests
from kaon.laws import admit
from kaon.runtime.call import Call
from kaon.runtime.call_queue import CallQueue, Piece
from kaon.runtime.figures import EndpointFigures
from kaon.runtime.inflight import NOWHERE
from kaon.runtime.steps import Stepper
from kaon.runtime.threads import Threads, Worker
from kaon.sdk.endpoint import Endpoint
from kaon.types.key import Priority
from kaon.types.knobs import Knobs

QUEUE_BOUND = 1024
"""Calls that may wait at one endpoint."""
ASYNC_SLOTS = 1024
"""Concurrent calls of an async handler, unless the endpoint sets `concurrency`."""
THREAD_SLOTS = 16
"""Concurrent calls of a sync handler, unless the endpoint sets `concurrency`."""

_INSTANT_S = 0.0005


class Lane(ABC):
    """What all lanes share: slots, queue, admission, figures. The queue holds calls, or parts of them."""

    flights = NOWHERE
    """Where its calls in flight are recorded."""
    new_context: Callable[[], Context] = Context
    """Makes the context of a call: a copy of the context in which the class was constructed."""

    def __init__(self, endpoint: Endpoint, slots: int, loop: asyncio.AbstractEventLoop) -> None:
        self.endpoint = endpoint
        self.spec = endpoint.spec
        self.signature = endpoint.signature
        self.name = endpoint.spec.name
        self.timeout_s = endpoint.spec.timeout_s
        self.slots = slots
        self._own_slots = slots
        """What the endpoint allows; knobs never exceed it."""
        self.queue_bound = QUEUE_BOUND
        self.figures = EndpointFigures()
        self.in_flight = 0
        self.busy = 0
        self._loop = loop
        self._service = admit.LearnedService()
        self._queue: CallQueue[Any] = CallQueue()
        self._empty_at = -math.inf
        """When the queue was last empty, `time.monotonic()`."""
        self._patience_s = math.inf
        """How long callers wait before they disconnect, observed since the queue was empty."""
        self._paces = dict.fromkeys(Priority, admit.Pace())
        self._refusal_pace = admit.RefusalPace()
        self._pumping = False
        self.released = 0
        """How often a slot was released."""
        self._learned = 0
        """Of these, those that the service time was learned from; the others were instant."""
        self._busy_integral = 0.0
        """Running integral of busy time: +t at each release, -t at each beginning; two additions a call."""
        self._at_checkpoint = (0.0, 0.0)
        """`work_s` and `busy_s` when the number of slots last changed."""
        self._shared_by = slots
        """The divisor of `busy_s` since then: the number of slots, or of busy slots if that is larger."""

    @property
    def queued(self) -> int:
        """Calls in the queue."""
        return self._queue.calls

    def enter(self, call: Call) -> None:
        """Begin the call, or queue it. Raises TooManyRequests when the admission law refuses it."""
        if self.busy < self.slots and not self._queue.calls:
            self.in_flight += 1
            self.busy += 1
            self._busy_integral -= call.began_at
            call.holds = True
            call.record_in_flight()
            try:
                self._run(call)
            except BaseException as error:
                call.settle(None, error)
            return
        self._wait(call, (call,))

    def call_ended(self, call: Call) -> None:
        """Count a call that has ended."""
        self.in_flight -= 1
        if call.turn is not None:
            self._queue.leave(call)

    def caller_left(self, call: Call) -> None:
        """A caller disconnected while queued: until the queue is empty, no caller is expected to wait longer."""
        waited_s = time.monotonic() - call.entered_at
        self._patience_s = min(self._patience_s, admit.patience_s(self._service, waited_s))

    def release(self, began_at: float) -> None:
        """Release a slot and begin the next call."""
        now = time.monotonic()
        self.busy -= 1
        self.released += 1
        self._busy_integral += now
        if self.busy >= self.slots:  # more than exist, after `tune`
            self._checkpoint(now)
        if now - began_at >= _INSTANT_S:
            self._learn(now - began_at)
        if self._queue.calls:
            self._pump()

    def busy_s(self, now: float) -> float:
        """Slot-seconds of work until `now` (`time.monotonic()`)."""
        return max(0.0, self._busy_integral + self.busy * now)

    def work_s(self, now: float) -> float:
        """Lane-seconds of work until `now`: a second in one of n slots counts 1/n."""
        work_s, busy_s = self._at_checkpoint
        return work_s + (self.busy_s(now) - busy_s) / self._shared_by

    def tune(self, knobs: Knobs) -> None:
        """Apply `knobs` from now on."""
        self._resize(knobs.concurrency)
        self._pump()

    def _resize(self, concurrency: int | None) -> None:
        self.slots = self._own_slots if concurrency is None else min(self._own_slots, concurrency)
        self._checkpoint(time.monotonic())

    def _checkpoint(self, now: float) -> None:
        """Add up the work so far with the previous divisor, and set the new one."""
        self._at_checkpoint = self.work_s(now), self.busy_s(now)
        self._shared_by = max(self.slots, self.busy)

    @property
    def began(self) -> int:
        """Calls that got a slot."""
        return self.released + self.busy

    def _learn(self, seconds: float) -> None:
        instant = self.released - self._learned - 1
        if instant:
            self._service = admit.learn(self._service, 0.0, instant)
        self._service = admit.learn(self._service, seconds)
        self._learned = self.released

    def close(self) -> None:  # noqa: B027 - most lanes have no threads
        """Release threads."""

    @abstractmethod
    def _run(self, call: Call) -> None:
        """Run the call's handler, then `call.settle`; an error raised here is the call's error."""

    def _wait(self, call: Call, pieces: Collection[Piece]) -> None:
        """Queue the call, or raise TooManyRequests."""
        queue, now = self._queue, time.monotonic()
        if not queue.calls:
            self._empty_at, self._patience_s = now, math.inf
        room = admit.QueueRoom(queue.calls, queue.own(call), self.queue_bound)
        load = self._load(call, now)
        match admit.decide(load, room, self._left_s(call, now), call.grant.priority):
            case admit.Refused(reason):
                raise self._refused(load, reason, now)
        self.in_flight += 1
        if not queue.waits(call.grant.priority):
            self._paces[call.grant.priority] = self._paces[call.grant.priority].again(now)
        queue.join(call, pieces)
        call.start_timer(self._loop)

    def _load(self, call: Call, now: float) -> admit.QueueLoad:
        ahead, beside = self._queue.ahead(call)
        return admit.QueueLoad(
            ahead=ahead,
            beside=beside,
            per_round=self._rows_per_round(),
            busy=self.busy,
            slots=self.slots,
            service=self._service,
            pace_s=self._pace(call.grant.priority, 0, now).seconds if beside else 0.0,
            standing=admit.stands(now - self._empty_at, self.timeout_s),
        )

    def _pace(self, priority: Priority, rows: int, now: float) -> admit.Pace:
        """The pace of a priority that has had queued calls until now, after `rows` of its rows began."""
        return self._paces[priority].after(now, rows, admit.memory_s(self._service))

    def _left_s(self, call: Call, now: float) -> float:
        """Seconds that the caller will still wait: its deadline, or the observed patience if that is shorter."""
        left_s = self._patience_s - (now - call.entered_at)
        return left_s if call.deadline is None else min(left_s, call.deadline - now)

    def _rows_per_round(self) -> int:
        """Rows that a slot takes at once."""
        return 1

    def _refused(self, load: admit.QueueLoad, reason: str, now: float) -> TooManyRequests:
        self._refusal_pace = self._refusal_pace.more(now)
        return TooManyRequests(
            f"`{self.name}` is busy: {reason}.",
            hint="Try again after the time in Retry-After, or run more replicas.",
            retry_after_s=admit.retry_after_s(load, self._refusal_pace, random.random()),  # noqa: S311
        )

    def _next(self) -> Any:
        """The next piece of a call that can still be answered in time; None: the queue is empty."""
        while (piece := self._queue.take()) is not None:
            call, now = piece.call, time.monotonic()
            self._paces[call.grant.priority] = self._pace(call.grant.priority, piece.rows, now)
            if not call.queued or not admit.late(self._service, self._left_s(call, now)):
                return piece
            call.give_up(self._refused(self._load(call, now), "the rest of its time would not be enough", now))
        return None

    def _begin(self, call: Call) -> None:
        """Run a call from the queue."""
        now = time.monotonic()
        self._queue.began(call)
        self.figures.queue_seconds.add(now - call.began_at)
        call.began_at = now
        self.busy += 1
        self._busy_integral -= now
        call.holds = True
        call.record_in_flight()
        try:
            self._run(call)
        except BaseException as error:
            call.settle(None, error)

    def _pump(self) -> None:
        # A call may end and release its slot within `_begin`: this loop continues, without recursion.
        if self._pumping:
            return
        self._pumping = True
        try:
            while self.busy < self.slots and (piece := self._next()) is not None:
                self._begin(piece.call)
        finally:
            self._pumping = False


class AsyncLane(Lane):
    """Coroutine handlers: on the loop, without a task unless they wait."""

    def __init__(self, endpoint: Endpoint, instance: Any, loop: asyncio.AbstractEventLoop, stepper: Stepper) -> None:
        super().__init__(endpoint, endpoint.spec.concurrency or ASYNC_SLOTS, loop)
        self._handler: Callable[..., Any] = endpoint.function.__get__(instance)
        self._stepper = stepper

    def _run(self, call: Call) -> None:
        task = self._stepper.start(self._handler(**call.arguments), call.context(), call.settle)
        if task is not None and not call.ended:
            call.on_cancel = task.cancel
            call.start_timer(self._loop)


class ThreadLane(Lane):
    """Sync handlers: in a thread. A call that timed out keeps its slot until its handler returns."""

    def __init__(self, endpoint: Endpoint, instance: Any, loop: asyncio.AbstractEventLoop, worker: Worker) -> None:
        super().__init__(endpoint, endpoint.spec.concurrency or THREAD_SLOTS, loop)
        self._handler: Callable[..., Any] = endpoint.function.__get__(instance)
        self._worker = worker

    def _run(self, call: Call) -> None:
        call.start_timer(self._loop)
        self._worker.run(lambda: self._answer(call), call.settle)

    def _answer(self, call: Call) -> Any:
        """Runs in the worker's thread. A call that has ended meanwhile is not begun."""
        return None if call.ended else call.context().run(self._handler, **call.arguments)

    def close(self) -> None:
        self._worker.close()


class HeldLane(Lane):
    """Streams and websockets: `on_begin` hands the slot to the code that serves them, which calls `Call.free`."""

    def __init__(self, endpoint: Endpoint, instance: Any, loop: asyncio.AbstractEventLoop, worker: Worker) -> None:
        default = ASYNC_SLOTS if endpoint.is_async else THREAD_SLOTS
        super().__init__(endpoint, endpoint.spec.concurrency or default, loop)
        self.handler: Callable[..., Any] = endpoint.function.__get__(instance)
        self.worker = worker

    def tune(self, knobs: Knobs) -> None:
        """Ignores knobs: a slot is taken as long as a caller is connected, and knobs limit work, not callers."""

    def _run(self, call: Call) -> None:
        call.start_timer(self._loop)
        if call.on_begin is not None:
            call.on_begin()

    def close(self) -> None:
        self.worker.close()


def worker_of(endpoint: Endpoint, loop: asyncio.AbstractEventLoop, main: Worker | None) -> Worker:
    """The worker of a sync handler: `main`, the constructor's thread, if `concurrency=1`; else threads of its own."""
    if main is not None and endpoint.spec.concurrency == 1:
        return main
    return Threads(loop, endpoint.spec.name)
