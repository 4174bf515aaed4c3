"""Bodies that come slowly: each pause is bounded, not the whole, so that a large body on a thin line arrives."""

from __future__ import annotations

import asyncio

from kaon.errors import RequestTimeout
from kaon.runtime.asgi import Message, Receive

PAUSE_S = 10.0
"""How long nothing may come of a body that is not whole."""


def stopped() -> RequestTimeout:
    """The error of a request whose body stopped coming."""
    return RequestTimeout(
        f"Nothing came of the request's body for {PAUSE_S:.0f} s.", hint="Send the body without pauses."
    )


def steady(receive: Receive) -> Receive:
    """`receive` for somebody who reads a body; it raises RequestTimeout when nothing comes for `PAUSE_S`."""

    async def steadily() -> Message:
        try:
            async with asyncio.timeout(PAUSE_S):
                return await receive()
        except TimeoutError:
            raise stopped() from None

    return steadily
