"""Slow request bodies: each pause is bounded, not the whole, so that a large body on a slow line arrives."""

from __future__ import annotations

import asyncio

from kaon.errors import RequestTimeout
from kaon.runtime.asgi import Message, Receive

PAUSE_S = 10.0
"""The longest pause within a body."""


def body_stopped() -> RequestTimeout:
    """The error of a request whose body stopped."""
    return RequestTimeout(
        f"No part of the request's body arrived for {PAUSE_S:.0f} s.", hint="Send the body without pauses."
    )


def pause_limited(receive: Receive) -> Receive:
    """`receive` that raises RequestTimeout when nothing arrives for `PAUSE_S`."""

    async def receive_in_time() -> Message:
        try:
            async with asyncio.timeout(PAUSE_S):
                return await receive()
        except TimeoutError:
            raise body_stopped() from None

    return receive_in_time
