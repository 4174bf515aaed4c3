"""Following logs, as the agent sees it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from kaon.agent.act import calls
from kaon.clock import FakeClock
from kaon.drivers.fake import FakeDriver, FakePlace
from kaon.drivers.port import LogLine


class Quiet(FakeDriver):
    """Replicas that say one thing each and are silent from then on."""

    async def logs(self, replica: str, *, tail: int, follow: bool) -> AsyncIterator[LogLine]:
        yield LogLine(replica=replica, text="hello", at=None)
        await asyncio.Event().wait()


async def test_while_nothing_is_said_empty_lines_come_so_that_a_reader_that_left_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(calls, "_QUIET_S", 0.01)
    lines = calls.logs(calls.LogsCall(replicas=("0" * 12,), follow=True), Quiet(FakePlace(FakeClock())), 0.0)
    async with asyncio.timeout(5):
        said = [await anext(lines) for _ in range(4)]
    assert b"hello" in said[0]
    assert said[1:] == [b"\n"] * 3
    await lines.aclose()  # type: ignore[attr-defined]
