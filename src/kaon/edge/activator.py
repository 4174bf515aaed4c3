"""The activator: where calls wait while their deployment has no replica.

Envoy sends a call here when no replica of its deployment is well, each over a connection of its own, to a socket
whose name says which deployment it is. The head is read, and the doorkeeper asked, before anybody hears of the call:
so a stranger wakes nothing. Then its bytes are held: a few in memory, the rest where they come from, since nothing
more is read. When a replica is ready, the connection is spliced to it as it is.

A call is in exactly one state, and `held` counts those that wait:

    reading the head -> waiting -> spliced        a replica took it
                     -> answered                  refused at the door, the time is over, the start failed
    gone, from any of them                        the caller hung up

Nothing of a call was seen by a replica before it is spliced, so until then it may be sent again elsewhere, and a
replica that cannot be reached only makes it wait on. Afterwards it is as if Envoy had called the replica itself.
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
    """All calls that wait in one cloud, by deployment. `run` it while it is used."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._rooms: dict[DeploymentKey, WaitingRoom] = {}
        self._news = asyncio.Event()

    async def open(self, key: DeploymentKey, path: Path, terms: HoldTerms) -> None:
        """Let calls of `key` wait at the socket `path`, by these terms from now on. Raises OSError."""
        room = self._rooms.get(key) or WaitingRoom(key, path, self._clock, terms, self._news)
        room.terms = terms
        await room.listen()
        self._rooms[key] = room

    def close(self, key: DeploymentKey, why: KaonError | None = None) -> None:
        """Take no new calls of `key`. Those that wait are refused for a reason, or wait on without one."""
        if room := self._rooms.get(key):
            room.shut()
            if why:
                room.refuse(why)

    def tell(
        self, key: DeploymentKey, replicas: Sequence[Address], reason: str = "", trouble: KaonError | None = None
    ) -> None:
        """Who is ready; when nobody is, what calls wait for, or why they need not wait any more."""
        if room := self._rooms.get(key):
            room.tell(tuple(replicas), reason, trouble)

    @property
    def rooms(self) -> frozenset[DeploymentKey]:
        """The deployments whose calls may wait, or still do."""
        return frozenset(self._rooms)

    @property
    def held(self) -> dict[DeploymentKey, int]:
        """How many calls wait, where any do."""
        return {key: count for key, room in self._rooms.items() if (count := room.held)}

    @property
    def turned_away(self) -> dict[DeploymentKey, dict[str, int]]:
        """Requests that were no calls, since their deployment's calls may wait: class of the answer -> how many."""
        return {key: dict(room.turned_away) for key, room in self._rooms.items() if room.turned_away}

    async def changed(self) -> None:
        """Return when calls of some deployment have begun to wait, or none does any more, since the last time."""
        await self._news.wait()
        self._news.clear()

    async def run(self) -> None:
        """Watch over times and over callers that hang up; on cancellation let go of everybody."""
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
