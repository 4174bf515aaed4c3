"""What a request carries along, from the edge through every service that it calls."""

from __future__ import annotations

from contextvars import ContextVar

REQUEST_ID_HEADER = "x-request-id"
DEADLINE_HEADER = "x-request-timeout"
"""Seconds that the caller still waits, as a decimal number."""

request_id: ContextVar[str] = ContextVar("request_id", default="")
deadline: ContextVar[float | None] = ContextVar("deadline", default=None)
"""`time.monotonic()` at which the caller gives up; None: never."""
