"""Following logs, as the agent sees it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from kaon.agent.act import calls
from kaon.clock import FakeClock
from kaon.drivers.fake import FakeDriver, FakePlace
from kaon.drivers.port import LogLine


class Quiet(FakeDriver):
    """Replicas that write one line each and are silent from then on."""

    async def logs(self, replica: str, *, tail: int, follow: bool) -> AsyncIterator[LogLine]:
        yield LogLine(replica=replica, text="hello", at=None)
        await asyncio.Event().wait()


async def test_while_nothing_is_said_empty_lines_come_so_that_a_reader_that_left_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(calls, "_QUIET_S", 0.01)
    lines = calls.logs(calls.LogsCall(replicas=("0" * 12,), follow=True), Quiet(FakePlace(FakeClock())), 0.0)
    async with asyncio.timeout(5):
        received = [await anext(lines) for _ in range(4)]
    assert b"hello" in received[0]
    assert received[1:] == [b"\n"] * 3
    await lines.aclose()  # type: ignore[attr-defined]


class Chatty(FakeDriver):
    """A replica that has written a line each second, an error each tenth."""

    async def logs(self, replica: str, *, tail: int, follow: bool) -> AsyncIterator[LogLine]:
        texts = [f'{{"event": "{n}", "level": "{"error" if n % 10 == 0 else "info"}"}}' for n in range(100)]
        for n, text in list(enumerate(texts))[len(texts) - min(tail, len(texts)) :]:
            yield LogLine(replica=replica, text=text, at=float(n))


@pytest.mark.parametrize(
    ("filters", "events"),
    [
        ({}, ["97", "98", "99"]),
        ({"level": "warning"}, ["70", "80", "90"]),
        ({"grep": '"5'}, ["57", "58", "59"]),
        ({"since_s": 50, "level": "error"}, ["70", "80", "90"]),
        ({"since_s": 15, "level": "error"}, ["90"]),
    ],
)
async def test_filters_select_among_all_lines_that_are_kept_and_tail_counts_those(
    filters: dict[str, object], events: list[str]
) -> None:
    call = calls.LogsCall.model_validate({"replicas": ("0" * 12,), "tail": 3, **filters})
    lines = [LogLine.model_validate_json(line) async for line in calls.logs(call, Chatty(FakePlace(FakeClock())), 100)]
    assert [json.loads(line.text)["event"] for line in lines] == events
