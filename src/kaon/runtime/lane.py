"""A lane: one endpoint at work, with its slots, its queue and its figures.

A call enters a lane through the door. It begins when one of the lane's slots is free, else it waits in a line (see
`kaon.runtime.call_queue`) if the admission law lets it; when its turn comes it begins, unless it would be late by then.
`in_flight` counts calls that entered and have not ended; `busy` counts slots that are taken, which for a handler that
outlives its call is longer. Everything happens on the loop's thread.

Knobs may give a lane fewer slots than its endpoint allows, at any time (`Lane.tune`). What runs then runs on: until
enough of it has ended, more is busy than there are slots, and nothing begins.
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
"""Calls of an async handler that may run at once when the endpoint does not say."""
THREAD_SLOTS = 16
"""Calls of a sync handler that may run at once when the endpoint does not say."""

_INSTANT_S = 0.0005


class Lane(ABC):
    """What all lanes share: slots, line, admission, figures. In the line are calls, or parts of them."""

    flights = NOWHERE
    """Where its calls in flight are noted."""
    new_context: Callable[[], Context] = Context
    """Makes the context of a call: a copy of what the class's module and constructor left."""

    def __init__(self, endpoint: Endpoint, slots: int, loop: asyncio.AbstractEventLoop) -> None:
        self.endpoint = endpoint
        self.spec = endpoint.spec
        self.signature = endpoint.signature
        self.name = endpoint.spec.name
        self.timeout_s = endpoint.spec.timeout_s
        self.slots = slots
        self._own_slots = slots
        """What the endpoint allows; knobs never go beyond it."""
        self.queue_bound = QUEUE_BOUND
        self.figures = EndpointFigures()
        self.in_flight = 0
        self.busy = 0
        self._loop = loop
        self._service = admit.LearnedService()
        self._line: CallQueue[Any] = CallQueue()
        self._empty_at = -math.inf
        """When the line was last seen empty, `time.monotonic()`."""
        self._patience_s = math.inf
        """How long callers were seen to wait, since the line was empty."""
        self._paces = dict.fromkeys(Priority, admit.Pace())
        self._turned = admit.RefusalPace()
        self._pumping = False
        self.released = 0
        """Times that a slot became free."""
        self._learned = 0
        """Of these, what the service time was learned from; the others took no time to speak of."""
        self._edges = 0.0
        """The times of all ends less those of all beginnings of work in a slot: `busy_s` for two additions a call."""
        self._settled = (0.0, 0.0)
        """`work_s` and `busy_s` when the slots changed last."""
        self._shared_by = slots
        """By how many slots `busy_s` is divided since then: those that there are, or those that are taken."""

    @property
    def queued(self) -> int:
        """Calls that wait."""
        return self._line.calls

    def enter(self, call: Call) -> None:
        """Begin the call, or let it wait. Raises TooManyRequests when the admission law refuses it."""
        if self.busy < self.slots and not self._line.calls:
            self.in_flight += 1
            self.busy += 1
            self._edges -= call.began_at
            call.holds = True
            call.note()
            try:
                self._run(call)
            except BaseException as error:
                call.settle(None, error)
            return
        self._wait(call, (call,))

    def left(self, call: Call) -> None:
        """A call ended."""
        self.in_flight -= 1
        if call.place is not None:
            self._line.leave(call)

    def abandoned(self, call: Call) -> None:
        """A caller went away while its call waited: until the line is empty, nobody is thought to wait longer."""
        waited_s = time.monotonic() - call.entered_at
        self._patience_s = min(self._patience_s, admit.patience_s(self._service, waited_s))

    def release(self, began_at: float) -> None:
        """A slot is free again; the next call begins."""
        now = time.monotonic()
        self.busy -= 1
        self.released += 1
        self._edges += now
        if self.busy >= self.slots:  # more were taken than there are: see `tune`
            self._settle(now)
        if now - began_at >= _INSTANT_S:
            self._learn(now - began_at)
        if self._line.calls:
            self._pump()

    def busy_s(self, now: float) -> float:
        """Slot-seconds of work until `now`, `time.monotonic()`, exact to the call."""
        return max(0.0, self._edges + self.busy * now)

    def work_s(self, now: float) -> float:
        """Lane-seconds of work until `now`: a second in one slot counts by how many there were at the time."""
        work_s, busy_s = self._settled
        return work_s + (self.busy_s(now) - busy_s) / self._shared_by

    def tune(self, knobs: Knobs) -> None:
        """Obey `knobs` from now on."""
        self._resize(knobs.concurrency)
        self._pump()

    def _resize(self, concurrency: int | None) -> None:
        self.slots = self._own_slots if concurrency is None else min(self._own_slots, concurrency)
        self._settle(time.monotonic())

    def _settle(self, now: float) -> None:
        """Count work up to now by the slots as they were, and by those that there are from now on."""
        self._settled = self.work_s(now), self.busy_s(now)
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

    def close(self) -> None:  # noqa: B027 - most lanes have nothing to let go of
        """Let go of threads."""

    @abstractmethod
    def _run(self, call: Call) -> None:
        """Run the call's handler, and see to `call.settle`; what this raises is the call's error."""

    def _wait(self, call: Call, pieces: Collection[Piece]) -> None:
        """Let the call wait, or raise TooManyRequests."""
        line, now = self._line, time.monotonic()
        if not line.calls:
            self._empty_at, self._patience_s = now, math.inf
        room = admit.QueueRoom(line.calls, line.own(call), self.queue_bound)
        load = self._load(call, now)
        match admit.decide(load, room, self._left_s(call, now), call.grant.priority):
            case admit.Refused(reason):
                raise self._refused(load, reason, now)
        self.in_flight += 1
        if not line.waits(call.grant.priority):
            self._paces[call.grant.priority] = self._paces[call.grant.priority].again(now)
        line.join(call, pieces)
        call.arm(self._loop)

    def _load(self, call: Call, now: float) -> admit.QueueLoad:
        ahead, beside = self._line.ahead(call)
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
        """The pace of a priority of which somebody has waited until now, when `rows` of it moved on."""
        return self._paces[priority].after(now, rows, admit.memory_s(self._service))

    def _left_s(self, call: Call, now: float) -> float:
        """Seconds that the caller still waits, as far as is known."""
        left_s = self._patience_s - (now - call.entered_at)
        return left_s if call.deadline is None else min(left_s, call.deadline - now)

    def _rows_per_round(self) -> int:
        """Rows that a slot takes at once."""
        return 1

    def _refused(self, load: admit.QueueLoad, reason: str, now: float) -> TooManyRequests:
        self._turned = self._turned.more(now)
        return TooManyRequests(
            f"`{self.name}` is busy: {reason}.",
            hint="Come back after the time that Retry-After says, or run more replicas.",
            retry_after_s=admit.retry_after_s(load, self._turned, random.random()),  # noqa: S311
        )

    def _next(self) -> Any:
        """The next piece of a call that can still be answered in time; None: nobody waits."""
        while (piece := self._line.take()) is not None:
            call, now = piece.call, time.monotonic()
            self._paces[call.grant.priority] = self._pace(call.grant.priority, piece.rows, now)
            if not call.queued or not admit.late(self._service, self._left_s(call, now)):
                return piece
            call.give_up(self._refused(self._load(call, now), "what is left of its time would not be enough", now))
        return None

    def _begin(self, call: Call) -> None:
        """Run a call that has waited."""
        now = time.monotonic()
        self._line.began(call)
        self.figures.queue_seconds.add(now - call.began_at)
        call.began_at = now
        self.busy += 1
        self._edges -= now
        call.holds = True
        call.note()
        try:
            self._run(call)
        except BaseException as error:
            call.settle(None, error)

    def _pump(self) -> None:
        # A call may end, and free its slot, inside of `_begin`: the loop below goes on for it, it does not recurse.
        if self._pumping:
            return
        self._pumping = True
        try:
            while self.busy < self.slots and (piece := self._next()) is not None:
                self._begin(piece.call)
        finally:
            self._pumping = False


class AsyncLane(Lane):
    """Coroutine handlers: on the loop, with no task unless they wait."""

    def __init__(self, endpoint: Endpoint, instance: Any, loop: asyncio.AbstractEventLoop, stepper: Stepper) -> None:
        super().__init__(endpoint, endpoint.spec.concurrency or ASYNC_SLOTS, loop)
        self._handler: Callable[..., Any] = endpoint.function.__get__(instance)
        self._stepper = stepper

    def _run(self, call: Call) -> None:
        task = self._stepper.start(self._handler(**call.arguments), call.context(), call.settle)
        if task is not None and not call.ended:
            call.on_cancel = task.cancel
            call.arm(self._loop)


class ThreadLane(Lane):
    """Handlers that may block: in a thread. A call that timed out keeps its slot until its thread has ended."""

    def __init__(self, endpoint: Endpoint, instance: Any, loop: asyncio.AbstractEventLoop, worker: Worker) -> None:
        super().__init__(endpoint, endpoint.spec.concurrency or THREAD_SLOTS, loop)
        self._handler: Callable[..., Any] = endpoint.function.__get__(instance)
        self._worker = worker

    def _run(self, call: Call) -> None:
        call.arm(self._loop)
        self._worker.run(lambda: self._answer(call), call.settle)

    def _answer(self, call: Call) -> Any:
        """In the worker's thread. A call that ended while the worker had others to do is not begun."""
        return None if call.ended else call.context().run(self._handler, **call.arguments)

    def close(self) -> None:
        self._worker.close()


class HeldLane(Lane):
    """Streams and websockets: the slot is handed to whoever drives them, who gives it back by `Call.free`."""

    def __init__(self, endpoint: Endpoint, instance: Any, loop: asyncio.AbstractEventLoop, worker: Worker) -> None:
        default = ASYNC_SLOTS if endpoint.is_async else THREAD_SLOTS
        super().__init__(endpoint, endpoint.spec.concurrency or default, loop)
        self.handler: Callable[..., Any] = endpoint.function.__get__(instance)
        self.worker = worker

    def tune(self, knobs: Knobs) -> None:
        """Nothing: a slot is taken for as long as a caller stays, and a limit on work is none on callers."""

    def _run(self, call: Call) -> None:
        call.arm(self._loop)
        if call.on_begin is not None:
            call.on_begin()

    def close(self) -> None:
        self.worker.close()


def worker_of(endpoint: Endpoint, loop: asyncio.AbstractEventLoop, main: Worker | None) -> Worker:
    """Where an endpoint's sync handler runs: in `main`, the thread of the constructor, when it runs one at a time."""
    if main is not None and endpoint.spec.concurrency == 1:
        return main
    return Threads(loop, endpoint.spec.name)
