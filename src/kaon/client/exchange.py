"""One call as a conversation of values, without I/O.

A conversation is a generator. It yields an `HttpRequest` and receives an `HttpResponse` or a `CallFailure`; it yields
a `RetryWait` and receives nothing; it returns the answer or raises a `KaonError`. `Client` and `AsyncClient` only send
the requests, so all rules for time-outs, retries and errors are here, and are tested without a network.
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
_MAX_DELAY_S = 5.0
_BUDGET_FULL = 10.0
_BUDGET_SHARE = 0.2
_MIN_LEFT_S = 0.001
_REFUSED = frozenset({429, 503})
"""Statuses of calls that were refused for now; a retry may succeed."""
_BROKEN_OFF = 502
"""The status of a call that broke off while a replica had it."""


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
    """A call without a complete response."""

    cause: str
    timed_out: bool = False
    sent: bool = True
    """Whether a part of the request may have arrived."""


@dataclass(frozen=True, slots=True)
class RetryWait:
    """A pause before the next request."""

    delay_s: float


@dataclass(slots=True)
class Budget:
    """A client's budget of retries: one for each five calls, and ten at first.

    When all calls fail, a client sends a fifth more requests than without retries, not four times as many (as gRPC's
    retry throttling and Finagle's budget do).
    """

    left: float = _BUDGET_FULL

    def earn(self) -> None:
        """Add the share of one call."""
        self.left = min(_BUDGET_FULL, self.left + _BUDGET_SHARE)

    def spend(self) -> bool:
        """Take one retry; False when none is left."""
        if self.left < 1:
            return False
        self.left -= 1
        return True


Outcome: TypeAlias = HttpResponse | CallFailure
Conversation: TypeAlias = Generator[HttpRequest | RetryWait, Outcome | None, HttpResponse]


def deadline_after(timeout_s: float, now: float) -> float:
    """The monotonic time at which a call ends: after `timeout_s`, or at the deadline of the current request."""
    inherited = context.deadline.get()
    own = now + timeout_s
    return own if inherited is None else min(own, inherited)


def context_headers(left_s: float | None) -> dict[str, str]:
    """Headers with the id of the current request and the seconds left of its deadline (None: no deadline)."""
    headers = {} if left_s is None else {context.DEADLINE_HEADER: f"{max(left_s, _MIN_LEFT_S):.3f}"}
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
    """Send `request(seconds left)` until it is answered, cannot be retried, or `deadline` has passed.

    `idempotent` and `retry` are declared by the endpoint. Returns a response with a status under 400. Raises KaonError.
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
    """Whether a retry after this outcome may help and does no harm.

    A call that broke off may have crashed its replica, and would crash the next one: it is retried only when its
    endpoint declares so. A request that never arrived can always be retried.
    """
    if isinstance(outcome, CallFailure):
        return not outcome.timed_out and (retry or not outcome.sent)
    if outcome.status == _BROKEN_OFF:
        return retry
    return outcome.status in _REFUSED and idempotent


def retry_delay_s(attempt: int, outcome: Outcome, jitter: float) -> float | None:
    """Seconds until the next attempt; None: no retry. `jitter` is uniform in 0..1.

    The answer's own delay (`retry_after_s` of its problem, else `retry-after`) is extended by up to half, so that
    clients that were refused together do not return together. Without one: exponential back-off with jitter, 0.1 s
    doubling to 5 s.
    """
    if attempt >= TRIES:
        return None
    if isinstance(outcome, HttpResponse) and (asked_s := retry_after_s(outcome)) is not None:
        return asked_s * (1 + jitter / 2)
    return min(_MAX_DELAY_S, _FIRST_DELAY_S * 2.0 ** (attempt - 1)) * (0.5 + jitter / 2)


def retry_after_s(response: HttpResponse) -> float | None:
    """The delay in the response's problem or `retry-after` header; None without one, or when it is a date."""
    delay_s = _problem(response).get("retry_after_s") if response.media_type == PROBLEM_JSON else None
    if not isinstance(delay_s, (int, float)):
        try:
            delay_s = float(response.headers.get("retry-after", ""))
        except ValueError:
            return None
    return delay_s if 0 <= delay_s < float("inf") else None


def error_of(outcome: Outcome) -> KaonError:
    """The error of an outcome without success."""
    if isinstance(outcome, CallFailure):
        if outcome.timed_out:
            return DeadlineExceeded(outcome.cause, hint="Give the call a longer timeout, or see: kaon ps")
        return Unavailable(outcome.cause, hint="See whether the platform runs: kaon status")
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
    return {"detail": f"The answer was HTTP status {response.status}.", "hint": "Check that the URL is a deployment's."}
