"""Steady traffic against a platform, with the outcome of every request."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2
from tests.waiting import lasts


@dataclass
class Account:
    """The outcome of each request."""

    started: list[float] = field(default_factory=list)
    ended: list[tuple[float, float, str]] = field(default_factory=list)
    """(begin, end, outcome): '200', another status, or the name of an error."""
    marks: list[str] = field(default_factory=list)
    cut_streams: int = 0
    whole_streams: int = 0

    @property
    def outcomes(self) -> Counter[str]:
        return Counter(outcome for _, _, outcome in self.ended)

    @property
    def failed(self) -> list[tuple[float, float, str]]:
        return [e for e in self.ended if e[2] != "200"]

    @property
    def share_ok(self) -> float:
        return self.outcomes["200"] / max(1, len(self.ended))


MOST_AT_ONCE = 32
"""Requests of one client that wait for their answers. With more of them than that a machine that is short of processors
would answer ever fewer, and the clients would take all connections that the edge has."""
PATIENCE_S = 60.0
"""Until a request counts as lost: far beyond what any answer takes on a busy machine."""


class Traffic:
    """Requests at a fixed rate from a thread of its own, until stopped; fewer when answers take long."""

    def __init__(
        self,
        url: str,
        headers: dict[str, str],
        rps: float,
        marks_url: str = "",
        streams_url: str = "",
        body: Any = None,
    ) -> None:
        """GET `url`, or POST it a `body`."""
        self.url, self.headers, self.rps = url, headers, rps
        self.marks_url, self.streams_url, self.body = marks_url, streams_url, body
        self.account = Account()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    def start(self) -> Traffic:
        self._thread.start()
        return self

    def stop(self) -> Account:
        self._stop.set()
        self._thread.join(2 * PATIENCE_S)
        assert not self._thread.is_alive()
        return self.account

    async def _run(self) -> None:
        limits = httpx2.Limits(max_connections=MOST_AT_ONCE, max_keepalive_connections=MOST_AT_ONCE)
        async with httpx2.AsyncClient(headers=self.headers, timeout=PATIENCE_S, limits=limits, verify=False) as client:
            begin, tasks = time.monotonic(), set()
            for number in itertools.count():
                delay = begin + number / self.rps - time.monotonic()
                if delay > 0:
                    await lasts(delay)
                if self._stop.is_set():
                    break
                if len(tasks) >= MOST_AT_ONCE:
                    continue
                if self.marks_url and number % 5 == 0:
                    task = asyncio.create_task(self._mark(client, f"m{number}"))
                elif self.streams_url and number % 40 == 0:
                    task = asyncio.create_task(self._stream(client))
                else:
                    task = asyncio.create_task(self._get(client))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            await asyncio.gather(*tasks)

    async def _get(self, client: httpx2.AsyncClient) -> None:
        begin = time.monotonic()
        self.account.started.append(begin)
        try:
            response = client.get(self.url) if self.body is None else client.post(self.url, json=self.body)
            outcome = str((await response).status_code)
        except httpx2.HTTPError as error:
            outcome = type(error).__name__
        self.account.ended.append((begin, time.monotonic(), outcome))

    async def _mark(self, client: httpx2.AsyncClient, text: str) -> None:
        try:
            await client.post(self.marks_url, json={"text": text})
        except httpx2.HTTPError:
            pass
        self.account.marks.append(text)

    async def _stream(self, client: httpx2.AsyncClient) -> None:
        try:
            async with client.stream("GET", self.streams_url) as answer:
                text = (await answer.aread()).decode()
            whole = answer.status_code == 200 and "19" in text
        except httpx2.HTTPError:
            whole = False
        self.account.whole_streams += whole
        self.account.cut_streams += not whole


@contextmanager
def traffic(url: str, headers: dict[str, str], rps: float, **more: Any) -> Iterator[Account]:
    """Traffic while the block runs; the account is whole after it."""
    running = Traffic(url, headers, rps, **more).start()
    try:
        yield running.account
    finally:
        running.stop()
