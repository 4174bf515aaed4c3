"""Questions to agents, which cannot be reached from here: they fetch questions by a long poll and stream the answers.

A question lives in memory only, as long as the request behind it: it is given to the cloud's next poll, its answer goes
line by line through a short queue (so that a slow reader slows the agent, not this process), and it ends when either
side disconnects.
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
"""A running agent polls again at once; one that has not polled by then is away."""
OPEN_CALLS = 64
_QUEUED_LINES = 256
_LINE_BYTES = 2**16


class AgentQuestion:
    """A question to an agent, and its answer."""

    def __init__(self, cloud: str, call: AgentCall) -> None:
        self.cloud = cloud
        self.call = call
        self._lines: asyncio.Queue[bytes | None] = asyncio.Queue(_QUEUED_LINES)
        self._answered = asyncio.Event()
        self._left = asyncio.Event()

    async def started(self) -> None:
        """Wait until the agent starts to answer. Raises `Unavailable` when it does not."""
        try:
            async with asyncio.timeout(PICKUP_S):
                await self._answered.wait()
        except TimeoutError:
            raise Unavailable(
                f"The agent of cloud '{self.cloud}' does not answer.",
                hint="Check whether it runs: kaon status",
                retry_after_s=PICKUP_S,
            ) from None

    async def line(self) -> bytes | None:
        """The next line of the answer, without its end; None after the last."""
        return await self._lines.get()

    async def take(self, chunks: AsyncIterator[bytes]) -> bool:
        """Take the agent's answer. Returns False when the reader left before its end."""
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
        """Discard the rest of the answer."""
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
                # The reader has left or is slow: it gets the end instead of the last lines.
                with suppress(asyncio.QueueEmpty):
                    self._lines.get_nowait()
            else:
                return


class Broker:
    """Open questions by cloud."""

    def __init__(self) -> None:
        self._open: dict[str, AgentQuestion] = {}
        self._waiting: defaultdict[str, deque[str]] = defaultdict(deque)
        self._arrived: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)

    @contextmanager
    def ask(self, cloud: str, call: str, arguments: dict[str, Any]) -> Iterator[AgentQuestion]:
        """Ask the agent of `cloud`; the question is withdrawn on exit. Raises `TooManyRequests`."""
        if len(self._open) >= OPEN_CALLS:
            raise TooManyRequests("Too many logs are being followed.", hint="Stop some of them.", retry_after_s=5)
        question = AgentQuestion(cloud, AgentCall(id=uuid.uuid4().hex, call=call, arguments=arguments))
        self._open[question.call.id] = question
        self._waiting[cloud].append(question.call.id)
        self._arrived[cloud].set()
        try:
            yield question
        finally:
            del self._open[question.call.id]
            with suppress(ValueError):
                self._waiting[cloud].remove(question.call.id)
            question.leave()

    async def next_call(self, cloud: str, wait_s: float) -> AgentCall | None:
        """The next question to `cloud`, each only once; None when there is none within `wait_s`."""
        try:
            async with asyncio.timeout(wait_s):
                while not self._waiting[cloud]:
                    self._arrived[cloud].clear()
                    await self._arrived[cloud].wait()
        except TimeoutError:
            return None
        return self._open[self._waiting[cloud].popleft()].call

    async def answer(self, cloud: str, call: str, chunks: AsyncIterator[bytes]) -> bool:
        """Pass an agent's answer on. Returns False when the reader left before its end.

        Raises `NotFound` when there is no such question to this cloud.
        """
        question = self._open.get(call)
        if question is None or question.cloud != cloud:
            raise NotFound("This question was withdrawn.")
        return await question.take(chunks)
