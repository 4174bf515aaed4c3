"""The limits of endpoints that answer once or stream hold for both forms."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.waiting import forever

import kaon
from kaon.types.key import Access


@kaon.service
class Mixed:
    @kaon.endpoint(concurrency=1, timeout_s=30, max_body_bytes=200)
    async def words(self, text: str, stream: bool = False) -> str | AsyncIterator[str]:
        if text == "waits" and not stream:
            await forever()
        return self._each(text) if stream else text

    async def _each(self, text: str) -> AsyncIterator[str]:
        for word in text.split():
            if word == "waits":
                await forever()
            yield word

    @kaon.endpoint(method="GET")
    async def watch(self, stream: bool = False) -> int | AsyncIterator[str]:
        return self._each("a b") if stream else 1

    @kaon.endpoint(method="GET", path="/always")
    async def always(self) -> AsyncIterator[str]:
        yield "a"


BOTH = pytest.mark.parametrize("stream", [False, True])


@pytest.fixture
async def running(serve: Any) -> Any:
    return await serve(Mixed)


def words(running: Any, text: str, stream: bool, **headers: str) -> Any:
    return running.client.post("/words", json={"text": text, "stream": stream}, headers=headers)


@BOTH
async def test_a_call_waits_for_the_slot_of_either_form(running: Any, eventually: Any, stream: bool) -> None:
    lane = running.lane("words")
    first = asyncio.create_task(words(running, "waits", stream))
    await eventually(lambda: lane.busy == 1)
    others = [asyncio.create_task(words(running, "a", form)) for form in (False, True)]
    await eventually(lambda: lane.queued == 2)
    first.cancel()
    assert [answer.text for answer in await asyncio.gather(*others)] == ['"a"', 'data: "a"\n\n']
    await eventually(lambda: (lane.busy, lane.in_flight) == (0, 0))


@BOTH
async def test_more_calls_than_may_wait_are_refused(running: Any, eventually: Any, stream: bool) -> None:
    lane = running.lane("words")
    lane.queue_bound = 1
    calls = [asyncio.create_task(words(running, "waits", stream)) for _ in range(2)]
    await eventually(lambda: (lane.busy, lane.queued) == (1, 1))
    for form in (False, True):
        refused = await words(running, "a", form)
        assert (refused.status_code, refused.json()["code"]) == (429, "too-many-requests")
        assert "retry-after" in refused.headers
    for call in calls:
        call.cancel()


@pytest.mark.parametrize(("text", "begins"), [("waits", ""), ("a waits", 'data: "a"\n\n')])
async def test_a_stream_ends_at_its_deadline_and_a_late_answer_is_an_error(
    running: Any, text: str, begins: str
) -> None:
    late = {"x-request-timeout": "0.3"}
    once = await words(running, "waits", False, **late)
    assert (once.status_code, once.json()["code"]) == (504, "deadline-exceeded")
    streamed = await words(running, text, True, **late)
    if begins:
        assert streamed.text.startswith(f"{begins}event: error\n")
    else:
        assert streamed.status_code == 504
    assert "deadline-exceeded" in streamed.text


async def test_the_endpoints_own_time_limit_is_the_deadline_of_both_forms(running: Any) -> None:
    assert running.lane("words").timeout_s == 30
    assert running.lane("watch").timeout_s is None


@BOTH
async def test_a_body_over_the_endpoints_limit_is_refused(running: Any, stream: bool) -> None:
    assert (await words(running, "x" * 200, stream)).status_code == 413


@BOTH
async def test_both_forms_end_with_their_key(running: Any, eventually: Any, stream: bool) -> None:
    lane = running.lane("words")
    call = asyncio.create_task(words(running, "waits", stream))
    await eventually(lambda: lane.busy == 1)
    running.serving.checks.access.put(Access())
    answer = await call
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
    await eventually(lambda: lane.in_flight == 0)


async def test_head_has_no_body_and_only_a_type_that_is_known(running: Any) -> None:
    head = await running.client.head("/watch")
    assert (head.status_code, head.content, head.headers.get("content-type")) == (200, b"", None)
    assert (await running.client.head("/always")).headers["content-type"].startswith("text/event-stream")
    assert (await running.client.options("/watch")).headers["allow"] == "GET, HEAD, OPTIONS"
    assert (await running.client.options("/words")).headers["allow"] == "OPTIONS, POST"
    assert (await running.client.head("/words")).status_code == 405
