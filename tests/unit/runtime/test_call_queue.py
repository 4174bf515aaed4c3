"""The order of queued calls."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import pytest
from tests.waiting import turns

from kaon.runtime.call import Call
from kaon.runtime.call_queue import PASSED_OVER, CallQueue
from kaon.types.key import Grant, Priority


class Lane:
    """What a call needs of its lane."""

    def __init__(self) -> None:
        self.line: CallQueue[Call] = CallQueue()

    def call_ended(self, call: Call) -> None:
        if call.turn is not None:
            self.line.leave(call)

    def caller_left(self, call: Call) -> None: ...


@pytest.fixture
def lane() -> Lane:
    return Lane()


def wait(lane: Lane, key: str, count: int = 1, priority: Priority = Priority.NORMAL) -> list[Call]:
    grant = Grant(hash=key, key=key, priority=priority)
    calls = [Call(cast(Any, lane), grant, f"{key}{number}", None) for number in range(count)]
    for call in calls:
        lane.line.join(call, (call,))
    return calls


def order(lane: Lane) -> str:
    return " ".join(call.request_id for call in taken(lane))


def taken(lane: Lane) -> Iterable[Call]:
    while (call := lane.line.take()) is not None:
        lane.line.began(call)
        yield call


def test_one_callers_calls_keep_their_order(lane: Lane) -> None:
    wait(lane, "a", 4)
    assert order(lane) == "a0 a1 a2 a3"


def test_callers_of_one_priority_take_turns(lane: Lane) -> None:
    wait(lane, "a", 4)
    wait(lane, "b", 2)
    assert order(lane) == "a0 b0 a1 b1 a2 a3"


def test_high_goes_before_normal_before_low(lane: Lane) -> None:
    wait(lane, "l", 1, Priority.LOW)
    wait(lane, "n", 2)
    wait(lane, "h", 2, Priority.HIGH)
    assert order(lane) == "h0 h1 n0 n1 l0"


def test_what_waits_is_passed_over_a_bounded_number_of_times(lane: Lane) -> None:
    wait(lane, "l", 2, Priority.LOW)
    wait(lane, "n", 2)
    wait(lane, "h", 100, Priority.HIGH)
    said = order(lane).split()
    assert max(said.index("n0"), said.index("l0")) <= PASSED_OVER + 1
    assert max(said.index("n1"), said.index("l1")) <= 2 * (PASSED_OVER + 1) + 1


def test_a_newcomer_waits_for_those_above_and_for_its_turn(lane: Lane) -> None:
    wait(lane, "a", 100)
    wait(lane, "h", 3, Priority.HIGH)
    [new] = wait(lane, "b")
    lane.line.leave(new)
    assert lane.line.ahead(Call(cast(Any, lane), new.grant, "", None)) == (3 + 2, 2)  # a's next one, its own place
    low = Grant(hash="l", key="l", priority=Priority.LOW)
    assert lane.line.ahead(Call(cast(Any, lane), low, "", None)) == (PASSED_OVER + 1, 0)
    high = Grant(hash="i", key="i", priority=Priority.HIGH)
    assert lane.line.ahead(Call(cast(Any, lane), high, "", None)) == (1, 1)


async def test_a_call_that_ends_while_it_waits_is_not_counted_nor_taken(lane: Lane) -> None:
    first, second, third = wait(lane, "a", 3)
    second.cancel()
    assert (lane.line.calls, lane.line.own(first)) == (2, 2)
    assert list(taken(lane)) == [first, third]
    assert (lane.line.calls, lane.line.own(first), *lane.line.ahead(first)) == (0, 0, 0, 0)


async def test_places_of_calls_that_ended_do_not_pile_up(lane: Lane) -> None:
    stays = wait(lane, "a")[0]
    for _ in range(1000):
        wait(lane, "a")[0].cancel()
        await turns(1)
    turn = stays.turn
    assert turn is not None
    assert len(turn.items) < 100
    assert list(taken(lane)) == [stays]
