"""The feed: what every household did since the model was trained, as fresh as each reader needs it.

`fresh` returns when a look at the ledger that *began after the call* has come back, so that nothing acknowledged
before is missing: each replica reads what any of them wrote. Readers that wait at the same time share one look, so
that a burst of requests costs one call and not one each. Holds what happened since the last training, no more.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from shop.session import Act

Look = Callable[[int], Awaitable[Mapping[str, Any]]]
"""Events numbered above the argument: {"now": the shop's day, "acts": [...], "more": whether there are others}."""

NEWEST = 200
"""A household's acts beyond so many are forgotten, the oldest first."""


class Feed:
    """Acts by household. For one event loop."""

    def __init__(self, look: Look, *, after: int, now: float) -> None:
        """`after`: the number of the last event that the model knows; `now`: the day to begin with."""
        self.now = now
        self._look = look
        self._until = after
        self._acts: dict[int, list[tuple[int, Act]]] = defaultdict(list)
        self._running: asyncio.Task[None] | None = None
        self._next: asyncio.Task[None] | None = None

    async def fresh(self) -> None:
        """Return when everything that was stored before this call is known. Raises what the look raises."""
        if self._next is None:
            self._next = asyncio.create_task(self._turn(self._running))
        await asyncio.shield(self._next)

    def of(self, user_id: int) -> tuple[int, list[Act]]:
        """The number of the household's last act, 0 for none, and its acts, oldest first."""
        acts = self._acts.get(user_id)
        return (acts[-1][0], [act for _, act in acts]) if acts else (0, [])

    async def _turn(self, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait([before])
        self._running, self._next = self._next, None  # who asks from here on needs a later look
        more = True
        while more:
            answer = await self._look(self._until)
            for told in answer["acts"]:
                self._take(told)
            self.now, more = answer["now"], answer["more"]

    def _take(self, told: Mapping[str, Any]) -> None:
        acts = self._acts[told["user_id"]]
        acts.append((told["id"], Act(told["product_id"], told["kind"], told["day"])))
        del acts[:-NEWEST]
        self._until = told["id"]
