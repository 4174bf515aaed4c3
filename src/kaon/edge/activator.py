"""The activator: where calls wait while their deployment has no replica.

Envoy sends a call here when no replica of its deployment is healthy: each call over a connection of its own, to the
socket of its deployment. The head is read and the caller checked before the call counts as waiting: a caller without a
key wakes nothing. Then a few of its bytes are held in memory; the rest stays unread. When a replica is ready, the
connection is spliced to it byte by byte.

A call is in exactly one state, and `held` counts those that wait:

    reading the head -> waiting -> spliced        a replica took it
                     -> answered                  refused by the check, timed out, or the start failed
    closed, from any of them                      the caller left

No replica has received a call before it is spliced, so until then it may be repeated elsewhere, and a replica that
cannot be reached only makes it wait longer. Afterwards it is as if Envoy had called the replica itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from kaon.clock import Clock
from kaon.edge.waiting import HoldTerms, WaitingRoom
from kaon.errors import KaonError
from kaon.types.model import Address
from kaon.types.names import DeploymentKey

_LOOK_S = 0.1


class Activator:
    """All calls that wait in one cloud, by deployment. `run` must run while it is used."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._rooms: dict[DeploymentKey, WaitingRoom] = {}
        self._news = asyncio.Event()

    async def open(self, key: DeploymentKey, path: Path, terms: HoldTerms) -> None:
        """Hold calls of `key` at the socket `path`, with these terms. Raises OSError."""
        room = self._rooms.get(key) or WaitingRoom(key, path, self._clock, terms, self._news)
        room.terms = terms
        await room.listen()
        self._rooms[key] = room

    def close(self, key: DeploymentKey, why: KaonError | None = None) -> None:
        """Accept no new calls of `key`. Those that wait are refused with `why`; without it they go on waiting."""
        if room := self._rooms.get(key):
            room.shut()
            if why:
                room.refuse(why)

    def set_replicas(
        self, key: DeploymentKey, replicas: Sequence[Address], reason: str = "", error: KaonError | None = None
    ) -> None:
        """Set the ready replicas. Without any, `reason` is what calls wait for, and `error` refuses them."""
        if room := self._rooms.get(key):
            room.set_replicas(tuple(replicas), reason, error)

    @property
    def rooms(self) -> frozenset[DeploymentKey]:
        """The deployments whose calls may wait or still do."""
        return frozenset(self._rooms)

    @property
    def held(self) -> dict[DeploymentKey, int]:
        """How many calls wait, where any do."""
        return {key: count for key, room in self._rooms.items() if (count := room.held)}

    @property
    def turned_away(self) -> dict[DeploymentKey, dict[str, int]]:
        """Answers to requests that were no calls, by deployment and class: running totals."""
        return {key: dict(room.turned_away) for key, room in self._rooms.items() if room.turned_away}

    async def changed(self) -> None:
        """Return when, since the last return, the first call of a deployment waits or its last one has gone."""
        await self._news.wait()
        self._news.clear()

    async def run(self) -> None:
        """Watch time limits and callers that leave; release all calls when cancelled."""
        try:
            while True:
                await self._clock.sleep(_LOOK_S)
                for key, room in list(self._rooms.items()):
                    room.look()
                    if room.idle:
                        del self._rooms[key]
        finally:
            for room in self._rooms.values():
                room.shut()
                room.drop()
            self._rooms.clear()
