"""What a request carries along, from the edge through every service that it calls."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextvars import Context, ContextVar

REQUEST_ID_HEADER = "x-request-id"
DEADLINE_HEADER = "x-request-timeout"
"""Seconds that the caller still waits, as a decimal number."""

request_id: ContextVar[str] = ContextVar("request_id", default="")
deadline: ContextVar[float | None] = ContextVar("deadline", default=None)
"""`time.monotonic()` at which the caller gives up; None: never."""


def enter(id_: str, until: float | None) -> None:
    """Set both in the current context: a request of that id, with that deadline."""
    request_id.set(id_)
    deadline.set(until)


def copies(home: Context) -> Callable[[], Context]:
    """A function that returns independent copies of `home`.

    The decimal module keeps a mutable object in its context variable; each copy gets one of its own.
    """
    decimal = sys.modules.get("decimal")
    state = next((value for value in home.values() if decimal is not None and isinstance(value, decimal.Context)), None)
    if decimal is None or state is None:
        return home.copy
    set_state = decimal.setcontext

    def copy() -> Context:
        own = home.copy()
        own.run(set_state, state.copy())
        return own

    return copy
