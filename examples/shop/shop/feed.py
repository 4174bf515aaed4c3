"""The feed: what every household did since the model was trained, as fresh as each reader needs it.

`fresh` returns when a look at the ledger has come back that began at most `lag_s` before the call. Whoever writes waits
as long before it acknowledges, so nothing acknowledged is ever missing: each replica reads what any of them wrote, and
200 readers a second cost 40 looks and not 200. Readers that wait at the same time share one look. Holds what happened
since the last training, no more.
"""

from __future__ import annotations

import asyncio
import math
import time
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

    def __init__(
        self,
        look: Look,
        *,
        after: int,
        now: float,
        lag_s: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`after`: the number of the last event that the model knows; `now`: the day to begin with."""
        self.now = now
        self._look = look
        self._lag_s = lag_s
        self._clock = clock
        self._began_at = self._known_at = -math.inf
        self._until = after
        self._acts: dict[int, list[tuple[int, Act]]] = defaultdict(list)
        self._running: asyncio.Task[None] | None = None
        self._next: asyncio.Task[None] | None = None

    async def fresh(self) -> None:
        """Return when all that was stored `lag_s` before this call is known. Raises what the look raises."""
        now = self._clock()
        late = now - self._lag_s
        if self._known_at > late:
            if self._known_at <= now - self._lag_s / 2:
                self._look_ahead()
            return
        if self._running is not None and not self._running.done() and self._began_at > late:
            await asyncio.shield(self._running)
            return
        if self._next is None:
            self._next = asyncio.create_task(self._turn(self._running))
        await asyncio.shield(self._next)

    def _look_ahead(self) -> None:
        """Look while what is known is still fresh enough, so that under steady load nobody waits for a look."""
        if self._next is None and (self._running is None or self._running.done()):
            self._next = asyncio.create_task(self._turn(self._running))
            self._next.add_done_callback(lambda look: look.cancelled() or look.exception())  # the next reader is told

    def of(self, user_id: int) -> tuple[int, list[Act]]:
        """The number of the household's last act, 0 for none, and its acts, oldest first."""
        acts = self._acts.get(user_id)
        return (acts[-1][0], [act for _, act in acts]) if acts else (0, [])

    async def _turn(self, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait([before])
        self._running, self._next = self._next, None  # who asks from here on needs a later look
        self._began_at = self._clock()
        more = True
        while more:
            answer = await self._look(self._until)
            for told in answer["acts"]:
                self._take(told)
            self.now, more = answer["now"], answer["more"]
        self._known_at = self._began_at

    def _take(self, told: Mapping[str, Any]) -> None:
        acts = self._acts[told["user_id"]]
        acts.append((told["id"], Act(told["product_id"], told["kind"], told["day"])))
        del acts[:-NEWEST]
        self._until = told["id"]
