import json
from collections.abc import Iterator
from typing import Any

import pytest

from kaon import context
from kaon.client.events import EventReader
from kaon.client.exchange import (
    TRIES,
    Budget,
    CallFailure,
    HttpRequest,
    HttpResponse,
    RetryWait,
    context_headers,
    converse,
    deadline_after,
    error_of,
    retry_delay_s,
)
from kaon.clock import FakeClock
from kaon.errors import (
    BadAnswer,
    DeadlineExceeded,
    Interrupted,
    InvalidInput,
    ItemError,
    KaonError,
    TooManyRequests,
    Unauthenticated,
    Unavailable,
)

BUSY = HttpResponse(503, {"retry-after": "2"})
SHED = HttpResponse(
    429, {"retry-after": "1", "content-type": "application/problem+json"}, b'{"status": 429, "retry_after_s": 0.3}'
)
GONE = CallFailure("cannot be reached", sent=False)
CUT = CallFailure("the connection broke")
BROKEN_OFF = HttpResponse(502, {}, b"")


def talk(
    outcomes: list[HttpResponse | CallFailure],
    *,
    idempotent: bool = True,
    retry: bool = False,
    timeout_s: float = 60.0,
    budget: Budget | None = None,
) -> tuple[Any, ...]:
    """The end of a conversation in which each request is answered with the next outcome, and what was said."""
    clock, said = FakeClock(), []
    conversation = converse(
        lambda left_s: HttpRequest("GET", "u", timeout_s=left_s),
        idempotent=idempotent,
        retry=retry,
        deadline=timeout_s,
        clock=clock,
        jitter=lambda: 1.0,
        budget=budget or Budget(),
    )
    step: Any = next(conversation)
    rest = iter(outcomes)
    try:
        while True:
            said.append(step)
            if isinstance(step, RetryWait):
                clock._elapsed += step.delay_s
                step = conversation.send(None)
            else:
                step = conversation.send(next(rest))
    except StopIteration as end:
        return end.value, said
    except KaonError as error:
        return error, said


def test_a_good_answer_ends_it() -> None:
    answer, said = talk([HttpResponse(200, content=b"1")])
    assert answer.content == b"1"
    assert said == [HttpRequest("GET", "u", timeout_s=60.0)]


def test_an_idempotent_call_is_tried_again_after_what_the_server_said() -> None:
    answer, said = talk([BUSY, GONE, HttpResponse(200)])
    assert answer.status == 200
    assert [s.delay_s for s in said if isinstance(s, RetryWait)] == [3.0, 0.2]
    assert [s.timeout_s for s in said if isinstance(s, HttpRequest)] == [60.0, 57.0, 56.8]


def test_refused_calls_come_back_after_what_they_were_told_and_not_together() -> None:
    assert [retry_delay_s(1, SHED, jitter) for jitter in (0.0, 1.0)] == [0.3, pytest.approx(0.45)]
    assert [retry_delay_s(1, BUSY, jitter) for jitter in (0.0, 1.0)] == [2.0, 3.0]


def test_when_everything_fails_a_fifth_of_the_calls_is_sent_again() -> None:
    budget = Budget()
    sent = 0
    for _ in range(100):
        error, said = talk([SHED] * TRIES, budget=budget)
        assert isinstance(error, TooManyRequests)
        sent += sum(isinstance(s, HttpRequest) for s in said)
    assert sent <= 100 + 10 + 20


def test_while_little_fails_every_failure_is_tried_again() -> None:
    budget = Budget()
    for _ in range(50):
        assert talk([SHED, HttpResponse(200)], budget=budget)[0].status == 200
        for _ in range(9):
            talk([HttpResponse(200)], budget=budget)


@pytest.mark.parametrize("idempotent", [True, False])
@pytest.mark.parametrize("outcome", [CUT, BROKEN_OFF])
def test_a_call_that_broke_off_is_sent_again_only_if_its_endpoint_asks_for_it(
    outcome: HttpResponse | CallFailure, idempotent: bool
) -> None:
    """It may be what ended the replica."""
    error, said = talk([outcome], idempotent=idempotent)
    assert isinstance(error, KaonError)
    assert len(said) == 1
    assert talk([outcome, HttpResponse(200)], retry=True)[0].status == 200


def test_a_call_that_could_not_be_sent_is_sent_again_whatever_it_is() -> None:
    assert talk([GONE, HttpResponse(200)], idempotent=False)[0].status == 200


@pytest.mark.parametrize("outcome", [BUSY, HttpResponse(429), CallFailure("slow", timed_out=True)])
def test_another_call_is_never_sent_twice(outcome: HttpResponse | CallFailure) -> None:
    error, said = talk([outcome], idempotent=False)
    assert isinstance(error, (Unavailable, TooManyRequests, DeadlineExceeded))
    assert len(said) == 1


@pytest.mark.parametrize(
    "outcome",
    [HttpResponse(400), HttpResponse(404), HttpResponse(500), HttpResponse(504), CallFailure("slow", timed_out=True)],
)
def test_what_would_fail_again_is_not_tried_again(outcome: HttpResponse | CallFailure) -> None:
    assert len(talk([outcome])[1]) == 1


def test_tries_are_counted() -> None:
    error, said = talk([GONE] * 10)
    assert isinstance(error, Unavailable)
    assert sum(isinstance(s, HttpRequest) for s in said) == TRIES


def test_a_wait_that_would_pass_the_deadline_is_not_begun() -> None:
    error, said = talk([BUSY], timeout_s=1.5)
    assert isinstance(error, Unavailable)
    assert error.retry_after_s == 2.0
    assert len(said) == 1


def test_no_time_left_sends_nothing() -> None:
    conversation = converse(
        lambda _: HttpRequest("GET", "u"),
        idempotent=True,
        retry=True,
        deadline=0.0,
        clock=FakeClock(),
        jitter=lambda: 0.0,
        budget=Budget(),
    )
    with pytest.raises(DeadlineExceeded):
        next(conversation)


def test_delays_grow_to_a_bound_and_are_spread() -> None:
    assert [retry_delay_s(n, GONE, 1.0) for n in (1, 2, 3)] == [0.1, 0.2, 0.4]
    assert retry_delay_s(1, GONE, 0.0) == 0.05
    assert retry_delay_s(TRIES, GONE, 1.0) is None
    assert retry_delay_s(1, HttpResponse(429, {"retry-after": "soon"}), 1.0) == 0.1


@pytest.mark.parametrize(
    ("status", "members", "kind"),
    [
        (401, {"code": "unauthenticated", "detail": "No key."}, Unauthenticated),
        (400, {"code": "invalid-input", "detail": "Bad.", "hint": "Do.", "errors": [{"where": "body"}]}, InvalidInput),
        (422, {"code": "item-error", "detail": "Row 3."}, ItemError),
        (502, {"code": "interrupted", "detail": "It broke off."}, Interrupted),
        (502, {"detail": "x"}, BadAnswer),
        (503, {"code": "of-the-future", "detail": "x"}, Unavailable),
    ],
)
def test_a_problem_comes_back_as_the_error_that_it_names(status: int, members: Any, kind: type[KaonError]) -> None:
    content = json.dumps(members).encode()
    error = error_of(HttpResponse(status, {"content-type": "application/problem+json"}, content))
    assert type(error) is kind
    assert error.cause == members["detail"]
    assert error.errors == members.get("errors", [])


@pytest.mark.parametrize("content", [b"", b"<html>", b"[1]", b"{", b'"x"', b"[" * 100_000])
def test_an_error_that_is_no_problem_is_told_by_its_status(content: bytes) -> None:
    error = error_of(HttpResponse(502, {"content-type": "application/json"}, content))
    assert "502" in error.cause


def test_the_request_in_hand_is_carried_on() -> None:
    request_id, deadline = context.request_id.set("abc"), context.deadline.set(10.0)
    try:
        assert context_headers(2.5) == {"x-request-id": "abc", "x-request-timeout": "2.500"}
        assert context_headers(0.0001)["x-request-timeout"] == "0.001"  # never 0, which is no deadline
        assert deadline_after(60.0, now=5.0) == 10.0
        assert deadline_after(1.0, now=5.0) == 6.0
    finally:
        context.request_id.reset(request_id)
        context.deadline.reset(deadline)
    assert deadline_after(60.0, now=5.0) == 65.0


STREAM = b'data: "a"\n\n: comment\n\nevent: error\ndata: {}\n\ndata: 1\r\ndata: 2\r\n\r\ndata: cut'


def _pieces(size: int) -> Iterator[bytes]:
    return (STREAM[n : n + size] for n in range(0, len(STREAM), size))


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_events_are_read_wherever_the_bytes_are_cut(size: int) -> None:
    reader = EventReader()
    events = [event for piece in _pieces(size) for event in reader.feed(piece)]
    assert [(e.name, e.data) for e in events] == [("message", b'"a"'), ("error", b"{}"), ("message", b"1\n2")]
