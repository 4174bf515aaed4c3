"""A lane: one endpoint at work, with its slots, its queue and its figures.

A call enters a lane through the door. It begins when one of the lane's slots is free, else it waits in a queue that
is bounded by the admission law. `in_flight` counts calls that entered and have not ended; `busy` counts slots that are
taken, which for a handler that outlives its call is longer. Everything happens on the loop's thread.
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from kaon.errors import TooManyRequests
from kaon.laws import admit
from kaon.runtime.call import Call
from kaon.runtime.figures import Figures
from kaon.runtime.steps import Stepper
from kaon.runtime.threads import Threads
from kaon.sdk.endpoint import Endpoint

QUEUE_BOUND = 1024
"""Calls that may wait at one endpoint."""
ASYNC_SLOTS = 1024
"""Calls of an async handler that may run at once when the endpoint does not say."""
THREAD_SLOTS = 16
"""Calls of a sync handler that may run at once when the endpoint does not say."""

_INSTANT_S = 0.0005


class Lane(ABC):
    """What all lanes share: slots, queue, admission, figures."""

    def __init__(self, endpoint: Endpoint, slots: int, loop: asyncio.AbstractEventLoop) -> None:
        self.endpoint = endpoint
        self.spec = endpoint.spec
        self.signature = endpoint.signature
        self.name = endpoint.spec.name
        self.timeout_s = endpoint.spec.timeout_s
        self.slots = slots
        self.queue_bound = QUEUE_BOUND
        self.figures = Figures()
        self.in_flight = 0
        self.queued = 0
        self.busy = 0
        self._loop = loop
        self._service = admit.Service()
        self._queue: deque[Call] = deque()
        self._pumping = False
        self.released = 0
        """Times that a slot became free."""
        self._learned = 0
        """Of these, what the service time was learned from; the others took no time to speak of."""
        self._edges = 0.0
        """The times of all ends less those of all beginnings of work in a slot: `busy_s` for two additions a call."""

    def enter(self, call: Call) -> None:
        """Begin the call, or let it wait. Raises TooManyRequests when the queue is full or the wait hopeless."""
        if self.busy < self.slots and not self._queue:
            self.in_flight += 1
            self.busy += 1
            self._edges -= call.began_at
            self._run(call)
            return
        self._admit(call)
        self._queue.append(call)

    def left(self, call: Call) -> None:
        """A call ended."""
        self.in_flight -= 1
        if call.queued:
            call.queued = False
            self.queued -= 1

    def release(self, began_at: float) -> None:
        """A slot is free again; the next call begins."""
        now = time.monotonic()
        self.busy -= 1
        self.released += 1
        self._edges += now
        if now - began_at >= _INSTANT_S:
            self._learn(now - began_at)
        if self._queue:
            self._pump()

    def busy_s(self, now: float) -> float:
        """Slot-seconds of work until `now`, `time.monotonic()`, exact to the call."""
        return max(0.0, self._edges + self.busy * now)

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
        """Run the call's handler; see to `call.end` and `release`."""

    def _admit(self, call: Call) -> None:
        load = admit.Load(self.queued, self.queue_bound, self.slots, self._service)
        match admit.decide(load, call.patience_s()):
            case admit.Refused(reason, retry_after_s):
                raise TooManyRequests(
                    f"`{self.name}` is busy: {reason}.",
                    hint="Come back after the time that Retry-After says, or run more replicas.",
                    retry_after_s=retry_after_s,
                )
        self.in_flight += 1
        self.queued += 1
        call.queued = True
        call.arm(self._loop)

    def _begin(self, call: Call) -> None:
        self.busy += 1
        if call.queued:
            call.queued = False
            self.queued -= 1
            now = time.monotonic()
            self.figures.queue_seconds.add(now - call.began_at)
            call.began_at = now
        self._edges -= call.began_at
        self._run(call)

    def _pump(self) -> None:
        # A call may end, and free its slot, inside of `_begin`: the loop below goes on for it, it does not recurse.
        if self._pumping:
            return
        self._pumping = True
        try:
            while self._queue and self.busy < self.slots:
                call = self._queue.popleft()
                if not call.ended:
                    self._begin(call)
        finally:
            self._pumping = False


class AsyncLane(Lane):
    """Coroutine handlers: on the loop, with no task unless they wait."""

    def __init__(self, endpoint: Endpoint, instance: Any, loop: asyncio.AbstractEventLoop, stepper: Stepper) -> None:
        super().__init__(endpoint, endpoint.spec.concurrency or ASYNC_SLOTS, loop)
        self._handler: Callable[..., Any] = endpoint.function.__get__(instance)
        self._stepper = stepper

    def _run(self, call: Call) -> None:
        task = self._stepper.start(self._handler(**call.arguments), call, call.settle)
        if task is not None and not call.ended:
            call.on_cancel = task.cancel
            call.arm(self._loop)


class ThreadLane(Lane):
    """Handlers that may block: in a thread. A call that timed out keeps its slot until its thread has ended."""

    def __init__(self, endpoint: Endpoint, instance: Any, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(endpoint, endpoint.spec.concurrency or THREAD_SLOTS, loop)
        self._handler: Callable[..., Any] = endpoint.function.__get__(instance)
        self._threads = Threads(loop, self.name)

    def _run(self, call: Call) -> None:
        call.arm(self._loop)
        work = partial(call.context().run, self._handler, **call.arguments)
        self._threads.run(work, call.settle)

    def close(self) -> None:
        self._threads.close()


class HeldLane(Lane):
    """Streams and websockets: the slot is handed to whoever drives them, who gives it back by `release`."""

    def __init__(self, endpoint: Endpoint, instance: Any, loop: asyncio.AbstractEventLoop) -> None:
        default = ASYNC_SLOTS if endpoint.is_async else THREAD_SLOTS
        super().__init__(endpoint, endpoint.spec.concurrency or default, loop)
        self.handler: Callable[..., Any] = endpoint.function.__get__(instance)
        self.threads = Threads(loop, self.name)

    def _run(self, call: Call) -> None:
        call.arm(self._loop)
        if call.on_begin is not None:
            call.on_begin()

    def close(self) -> None:
        self.threads.close()
