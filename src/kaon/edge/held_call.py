"""One call that may wait for a replica, on its connection from Envoy; and the connection to its replica."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from kaon.context import DEADLINE_HEADER, REQUEST_ID_HEADER
from kaon.edge.answers import ActivatorResponse, problem
from kaon.edge.heads import Head, HeadReader
from kaon.edge.splice import SpliceEnd
from kaon.errors import KaonError
from kaon.types.model import Address

HELD_MAX_BYTES = 16 * 1024
"""Bytes of one call that are held after its head; the rest stays unread. The last read may exceed it."""

_HEAD_WITHIN_S = 5.0
_LINGER_S = 2.0
_REQUEST_ID = REQUEST_ID_HEADER.lower().encode()
_DEADLINE = DEADLINE_HEADER.lower().encode()


class Room(Protocol):
    """The waiting room of a call."""

    calls: set[HeldCall]

    def now(self) -> float:
        """Seconds of a monotonic clock."""
        ...

    def enter(self, call: HeldCall, head: Head) -> None:
        """Answer, refuse, hand over or hold a call whose head is complete."""
        ...

    def left(self, call: HeldCall) -> None:
        """Remove a call that no longer waits."""
        ...

    def release(self, address: Address) -> None:
        """Note that a connection to a replica was closed."""
        ...


class ReplicaConnection(SpliceEnd):
    """The connection to a replica that takes a call."""

    def __init__(self, room: Room, address: Address) -> None:
        self._room = room
        self._address = address

    def lost(self) -> None:
        self._room.release(self._address)


class HeldCall(SpliceEnd):
    """One call, on its connection from Envoy."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._reader: HeadReader | None = HeadReader()
        self._bytes = bytearray()
        self._most_bytes = 0
        self.request_id = ""
        self._bodiless = False
        self._answered = False
        self.full = False
        """Whether reading is paused, since the most bytes are held."""
        self.handing_over = False
        self.expires_at = room.now() + _HEAD_WITHIN_S

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._room.calls.add(self)

    def received(self, piece: bytes) -> None:
        if self._answered:
            return  # the rest of a refused call
        self._bytes += piece
        if self._reader is not None and not self._read_head(self._reader, piece):
            return
        if len(self._bytes) > self._most_bytes:
            self.full = True
            self.transport.pause_reading()

    def _read_head(self, reader: HeadReader, piece: bytes) -> bool:
        """Read more of the head; returns whether it is complete and the call was not answered."""
        try:
            head = reader.feed(piece)
        except KaonError as error:
            self.refuse(error)
            return False
        if head is None:
            return False
        self._reader = None
        self._most_bytes = len(self._bytes) + HELD_MAX_BYTES
        self.request_id = head.fields.get(_REQUEST_ID, b"").decode("latin-1")
        self._bodiless = head.method == b"HEAD"
        self._room.enter(self, head)
        return not self._answered

    def splice(self, replica: SpliceEnd) -> None:
        """Hand the call over to a replica."""
        self.expires_at = math.inf
        self.joined(replica)
        replica.transport.write(bytes(self._bytes))
        self._bytes.clear()
        self._read_on()

    def refuse(self, why: KaonError) -> None:
        """Answer with a problem."""
        self.answer(problem(why, self.request_id))

    def answer(self, answer: ActivatorResponse) -> None:
        """Answer, drop the rest of the request, and close when Envoy does."""
        self._answered = True
        self._bytes.clear()
        self._room.left(self)
        self.expires_at = self._room.now() + _LINGER_S
        self.transport.write(answer.on_the_wire(bodiless=self._bodiless))
        self._read_on()

    def _read_on(self) -> None:
        if self.full:
            self.full = False
            self.transport.resume_reading()

    def lost(self) -> None:
        self._room.left(self)
        self._room.calls.discard(self)


def patience_s(head: Head) -> float:
    """How long the caller waits at most, by its deadline; the replica refuses an invalid one."""
    with suppress(ValueError):
        if (given_s := float(head.fields.get(_DEADLINE, b"inf"))) > 0:
            return given_s
    return math.inf


async def connect(address: Address, end: SpliceEnd) -> None:
    """Connect `end` to a replica. Raises OSError."""
    loop = asyncio.get_running_loop()
    made: Callable[[], SpliceEnd] = lambda: end  # noqa: E731
    if address.startswith("unix:"):
        await loop.create_unix_connection(made, address.removeprefix("unix:"))
    else:
        host, _, port = address.rpartition(":")
        await loop.create_connection(made, host.strip("[]"), int(port))
