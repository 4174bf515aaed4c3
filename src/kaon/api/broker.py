"""Questions to agents, which nobody can dial: they fetch them by a long poll and stream the answers back.

A call lives in memory only and no longer than whoever asked: it is offered to the cloud's next poll, its
answer flows line by line through a short queue (so that a slow reader slows the agent, not this process),
and it is gone when either side leaves.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from kaon.agent.ports import AgentCall
from kaon.errors import InvalidInput, NotFound, TooManyRequests, Unavailable

PICKUP_S = 5.0
"""An agent that runs polls at once again; one that has not come by then is away."""
OPEN_CALLS = 64
_QUEUED_LINES = 256
_LINE_BYTES = 2**16


class AgentQuestion:
    """A call that somebody waits for."""

    def __init__(self, cloud: str, call: AgentCall) -> None:
        self.cloud = cloud
        self.call = call
        self._lines: asyncio.Queue[bytes | None] = asyncio.Queue(_QUEUED_LINES)
        self._answered = asyncio.Event()
        self._left = asyncio.Event()

    async def begun(self) -> None:
        """Return when the agent has begun to answer. Raises `Unavailable` when it does not come."""
        try:
            async with asyncio.timeout(PICKUP_S):
                await self._answered.wait()
        except TimeoutError:
            raise Unavailable(
                f"The agent of cloud '{self.cloud}' does not answer.",
                hint="`kaon status` says whether it runs.",
                retry_after_s=PICKUP_S,
            ) from None

    async def line(self) -> bytes | None:
        """The next line of the answer, without its end; None after the last."""
        return await self._lines.get()

    async def take(self, chunks: AsyncIterator[bytes]) -> bool:
        """The agent's answer comes in; whether it came to its end before the asker left."""
        if self._answered.is_set():
            raise NotFound("This call was answered already.")
        self._answered.set()
        pump = asyncio.ensure_future(self._pump(chunks))
        gone = asyncio.ensure_future(self._left.wait())
        try:
            await asyncio.wait((pump, gone), return_when=asyncio.FIRST_COMPLETED)
            if not pump.done():
                return False
            pump.result()
            return True
        finally:
            for task in (pump, gone):
                task.cancel()
            self._end()

    def leave(self) -> None:
        """Nobody waits for the answer any more."""
        self._left.set()

    async def _pump(self, chunks: AsyncIterator[bytes]) -> None:
        rest = b""
        async for chunk in chunks:
            *lines, rest = (rest + chunk).split(b"\n")
            if len(rest) > _LINE_BYTES:
                raise InvalidInput(f"A line is longer than {_LINE_BYTES:,} bytes.")
            for line in filter(None, lines):
                await self._lines.put(line)
        if rest:
            await self._lines.put(rest)

    def _end(self) -> None:
        while True:
            try:
                self._lines.put_nowait(None)
            except asyncio.QueueFull:
                # The reader left, or is so slow that the last lines of a broken stream are worth less than an end.
                with suppress(asyncio.QueueEmpty):
                    self._lines.get_nowait()
            else:
                return


class Broker:
    """Open questions by cloud."""

    def __init__(self) -> None:
        self._open: dict[str, AgentQuestion] = {}
        self._waiting: defaultdict[str, deque[str]] = defaultdict(deque)
        self._news: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)

    @contextmanager
    def ask(self, cloud: str, call: str, arguments: dict[str, Any]) -> Iterator[AgentQuestion]:
        """Ask the agent of `cloud`; the question is withdrawn at the end. Raises `TooManyRequests`."""
        if len(self._open) >= OPEN_CALLS:
            raise TooManyRequests("Too many logs are being followed.", hint="End some.", retry_after_s=5)
        question = AgentQuestion(cloud, AgentCall(id=uuid.uuid4().hex, call=call, arguments=arguments))
        self._open[question.call.id] = question
        self._waiting[cloud].append(question.call.id)
        self._news[cloud].set()
        try:
            yield question
        finally:
            del self._open[question.call.id]
            with suppress(ValueError):
                self._waiting[cloud].remove(question.call.id)
            question.leave()

    async def next_call(self, cloud: str, wait_s: float) -> AgentCall | None:
        """What is asked of `cloud` next, each only once; None when nothing was for `wait_s`."""
        try:
            async with asyncio.timeout(wait_s):
                while not self._waiting[cloud]:
                    self._news[cloud].clear()
                    await self._news[cloud].wait()
        except TimeoutError:
            return None
        return self._open[self._waiting[cloud].popleft()].call

    async def answer(self, cloud: str, call: str, chunks: AsyncIterator[bytes]) -> bool:
        """Pass an agent's answer on; False when the asker left before its end.

        Raises `NotFound` when nobody asks, or asked another cloud.
        """
        question = self._open.get(call)
        if question is None or question.cloud != cloud:
            raise NotFound("Nobody waits for this answer any more.")
        return await question.take(chunks)
