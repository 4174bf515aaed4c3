"""One call as a conversation of values, with no I/O: what to send, what came, what to do next.

A conversation is a generator. It yields a `HttpRequest` and is sent a `HttpResponse` or a `CallFailure`; it yields a
`RetryWait` and is sent nothing; it returns the answer or raises the `KaonError` that describes why there is none.
`Client` and `AsyncClient` only carry the messages, so that every rule about time-outs, retries and errors is said here
once, and tested without a network.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from kaon import context
from kaon.clock import Clock
from kaon.errors import PROBLEM_JSON, DeadlineExceeded, KaonError, Unavailable, from_problem

TRIES = 4
_FIRST_DELAY_S = 0.1
_LONGEST_DELAY_S = 5.0
_BUDGET_FULL = 10.0
_BUDGET_SHARE = 0.2
_LEAST_S = 0.001
_REFUSED = frozenset({429, 503})
"""Statuses that say the call was refused for now, and that another try may go better."""
_BROKEN_OFF = 502
"""The status of a call that a replica had when it broke off."""


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """An HTTP request."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes = b""
    timeout_s: float = 60.0


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """An HTTP response; header names are in lower case."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes = b""

    @property
    def media_type(self) -> str:
        """The content type without its parameters."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()


@dataclass(frozen=True, slots=True)
class CallFailure:
    """No whole response came."""

    cause: str
    timed_out: bool = False
    sent: bool = True
    """Whether some of the request may have arrived."""


@dataclass(frozen=True, slots=True)
class RetryWait:
    """Nothing to send for so many seconds."""

    delay_s: float


@dataclass(slots=True)
class Budget:
    """What a client may spend on second tries: one for each five calls, and ten at first.

    While little fails it is never missed. When all fails, a client with a budget sends a fifth more than it would
    without retries, not four times as much (as gRPC's retry throttling and Finagle's budget do).
    """

    left: float = _BUDGET_FULL

    def earn(self) -> None:
        """A call was made."""
        self.left = min(_BUDGET_FULL, self.left + _BUDGET_SHARE)

    def spend(self) -> bool:
        """Whether another try may be made; then it is paid for."""
        if self.left < 1:
            return False
        self.left -= 1
        return True


Outcome: TypeAlias = HttpResponse | CallFailure
Conversation: TypeAlias = Generator[HttpRequest | RetryWait, Outcome | None, HttpResponse]


def deadline_after(timeout_s: float, now: float) -> float:
    """The monotonic time at which a call is given up: after `timeout_s`, or when the request in hand is."""
    inherited = context.deadline.get()
    mine = now + timeout_s
    return mine if inherited is None else min(mine, inherited)


def carried(left_s: float | None) -> dict[str, str]:
    """The headers that carry the request in hand on: its id, and how long its caller still waits (None: for ever)."""
    headers = {} if left_s is None else {context.DEADLINE_HEADER: f"{max(left_s, _LEAST_S):.3f}"}
    if request_id := context.request_id.get():
        headers[context.REQUEST_ID_HEADER] = request_id
    return headers


def converse(
    request: Callable[[float], HttpRequest],
    *,
    idempotent: bool,
    retry: bool,
    deadline: float,
    clock: Clock,
    jitter: Callable[[], float],
    budget: Budget,
) -> Conversation:
    """Send `request(seconds left)` until it is answered, there is no hope, or `deadline` has come.

    `idempotent` and `retry` are what its endpoint says. Returns a response with a status under 400. Raises KaonError.
    """
    attempt = 0
    budget.earn()
    while True:
        attempt += 1
        left_s = deadline - clock.monotonic()
        if left_s <= 0:
            raise DeadlineExceeded("There was no time left for the call.", hint="Give it a longer timeout.")
        outcome = yield request(left_s)
        assert outcome is not None, "a request is answered with a response or a failure"
        if isinstance(outcome, HttpResponse) and outcome.status < 300:
            return outcome
        again = may_be_sent_again(outcome, idempotent=idempotent, retry=retry)
        delay_s = retry_delay_s(attempt, outcome, jitter()) if again else None
        if delay_s is None or clock.monotonic() + delay_s >= deadline or not budget.spend():
            raise error_of(outcome)
        yield RetryWait(delay_s)


def may_be_sent_again(outcome: Outcome, *, idempotent: bool, retry: bool) -> bool:
    """Whether a second try of a call with this outcome may help and does no harm.

    A call that broke off may be what ended its replica: sent again, it would end the next one. So it is repeated only
    if its endpoint asks for it. What never arrived may always be sent again.
    """
    if isinstance(outcome, CallFailure):
        return not outcome.timed_out and (retry or not outcome.sent)
    if outcome.status == _BROKEN_OFF:
        return retry
    return outcome.status in _REFUSED and idempotent


def retry_delay_s(attempt: int, outcome: Outcome, jitter: float) -> float | None:
    """Seconds until the next try; None: do not try again. `jitter` is uniform in 0..1.

    What the answer says is obeyed (`retry_after_s` of its problem, which is finer, or `retry-after`), and up to half as
    long again waited, so that those who were refused together do not come back together. Where it says nothing:
    exponential back-off with jitter, 0.1 s doubling to 5 s.
    """
    if attempt >= TRIES:
        return None
    if isinstance(outcome, HttpResponse) and (told := retry_after_s(outcome)) is not None:
        return told * (1 + jitter / 2)
    return min(_LONGEST_DELAY_S, _FIRST_DELAY_S * 2.0 ** (attempt - 1)) * (0.5 + jitter / 2)


def retry_after_s(response: HttpResponse) -> float | None:
    """Seconds to wait as the response says, in its problem or by `retry-after`; None when it does not, or by a date."""
    told = _problem(response).get("retry_after_s") if response.media_type == PROBLEM_JSON else None
    if not isinstance(told, (int, float)):
        try:
            told = float(response.headers.get("retry-after", ""))
        except ValueError:
            return None
    return told if 0 <= told < float("inf") else None


def error_of(outcome: Outcome) -> KaonError:
    """The error that an outcome other than success describes."""
    if isinstance(outcome, CallFailure):
        if outcome.timed_out:
            return DeadlineExceeded(outcome.cause, hint="Give the call a longer timeout, or look at `kaon ps`.")
        return Unavailable(outcome.cause, hint="See whether the platform is up with `kaon status`.")
    error = from_problem(outcome.status, _problem(outcome))
    if error.retry_after_s is None:
        error.retry_after_s = retry_after_s(outcome)
    return error


def _problem(response: HttpResponse) -> Mapping[str, object]:
    if response.media_type in (PROBLEM_JSON, "application/json"):
        try:
            members = json.loads(response.content)
        except (ValueError, RecursionError):
            members = None
        if isinstance(members, dict):
            return members
    return {"detail": f"The answer was HTTP status {response.status}.", "hint": "Is the URL a deployment's?"}
