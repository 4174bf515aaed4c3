from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from tests.waiting import turns

from kaon.api import broker as module
from kaon.api.broker import OPEN_CALLS, Broker
from kaon.errors import InvalidInput, NotFound, TooManyRequests, Unavailable


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def for_ever() -> AsyncIterator[bytes]:
    yield b"first\n"
    await asyncio.Event().wait()


async def test_a_call_goes_to_its_cloud_once_and_its_answer_comes_back_line_by_line() -> None:
    broker = Broker()
    with broker.ask("here", "logs", {"tail": 3}) as question:
        assert await broker.next_call("there", 0.01) is None
        call = await broker.next_call("here", 0.01)
        assert call is not None
        assert (call.call, call.arguments) == ("logs", {"tail": 3})
        assert await broker.next_call("here", 0.01) is None
        assert await broker.answer("here", call.id, chunks(b"one\ntw", b"o\n\nthree"))
        await question.started()
        assert [await question.line() for _ in range(4)] == [b"one", b"two", b"three", None]


async def test_a_waiting_poll_gets_a_call_at_once() -> None:
    broker = Broker()
    poll = asyncio.ensure_future(broker.next_call("here", 10))
    await turns()
    with broker.ask("here", "logs", {}) as question:
        assert await poll == question.call


async def test_when_the_reader_leaves_the_agents_answer_ends() -> None:
    broker = Broker()
    with broker.ask("here", "logs", {}) as question:
        answering = asyncio.ensure_future(broker.answer("here", question.call.id, for_ever()))
        assert await question.line() == b"first"
    assert await answering is False


async def test_when_the_agent_fails_the_reader_sees_the_end() -> None:
    broker = Broker()

    async def broken() -> AsyncIterator[bytes]:
        yield b"first\n"
        raise ConnectionError

    with broker.ask("here", "logs", {}) as question:
        with pytest.raises(ConnectionError):
            await broker.answer("here", question.call.id, broken())
        assert [await question.line(), await question.line()] == [b"first", None]


async def test_a_slow_reader_slows_the_agent_and_loses_nothing() -> None:
    broker = Broker()
    sent = 0

    async def many() -> AsyncIterator[bytes]:
        nonlocal sent
        for number in range(2000):
            sent += 1
            yield b"%d\n" % number

    with broker.ask("here", "logs", {}) as question:
        answering = asyncio.ensure_future(broker.answer("here", question.call.id, many()))
        await turns(50)
        assert sent < 300
        lines = []
        while (line := await question.line()) is not None:
            lines.append(line)
        assert lines == [b"%d" % n for n in range(2000)]
        assert await answering


async def test_an_answer_for_another_cloud_or_twice_or_too_late_is_refused() -> None:
    broker = Broker()
    with broker.ask("here", "logs", {}) as question:
        with pytest.raises(NotFound):
            await broker.answer("there", question.call.id, chunks())
        await broker.answer("here", question.call.id, chunks())
        with pytest.raises(NotFound):
            await broker.answer("here", question.call.id, chunks())
    with pytest.raises(NotFound):
        await broker.answer("here", question.call.id, chunks())


async def test_a_question_that_was_withdrawn_reaches_no_agent() -> None:
    broker = Broker()
    with broker.ask("here", "logs", {}):
        pass
    assert await broker.next_call("here", 0.01) is None


async def test_an_agent_that_does_not_poll_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PICKUP_S", 0.01)
    with Broker().ask("here", "logs", {}) as question, pytest.raises(Unavailable, match="here"):
        await question.started()


async def test_an_endless_line_is_refused() -> None:
    broker = Broker()
    with broker.ask("here", "logs", {}) as question, pytest.raises(InvalidInput):
        await broker.answer("here", question.call.id, chunks(b"x" * 2**17))


def test_open_questions_are_bounded() -> None:
    broker = Broker()
    entered = [broker.ask("here", "logs", {}) for _ in range(OPEN_CALLS)]
    for one in entered:
        one.__enter__()
    with pytest.raises(TooManyRequests), broker.ask("here", "logs", {}):
        pass
    for one in entered:
        one.__exit__(None, None, None)
    with broker.ask("here", "logs", {}):
        pass
