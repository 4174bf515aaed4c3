"""The calls of one deployment that wait for a replica; see `kaon.edge.activator`."""

from __future__ import annotations

import asyncio
import math
import os
import select
import socket
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from kaon import log
from kaon.clock import Clock
from kaon.context import DEADLINE_HEADER, REQUEST_ID_HEADER
from kaon.edge.answers import ActivatorResponse, NoReadyReplica, hint, problem
from kaon.edge.heads import Head, HeadReader
from kaon.edge.splice import SpliceEnd
from kaon.errors import KaonError, NotBegun, Unavailable
from kaon.types.model import Address
from kaon.types.names import DeploymentKey

CALLS_MAX = 1000
"""Calls of one deployment that may wait."""

HELD_MAX_BYTES = 16 * 1024
"""Of one call, after its head; the rest waits where it comes from. What one reading brings may come on top."""

_HEAD_WITHIN_S = 5.0
_LINGER_S = 2.0
_BACKLOG = 2048
_COME_BACK_S = 5.0

_log = log.get("edge.activator")


class CallerCheck(Protocol):
    """Decides who may wait."""

    def admit(self, head: Head) -> ActivatorResponse | None:
        """None: the caller may wait; an answer: it is had at once. Raises what the caller is refused with."""
        ...


@dataclass(frozen=True, slots=True)
class HoldTerms:
    """How calls of one deployment wait."""

    doorkeeper: CallerCheck
    hold_s: float


class WaitingRoom:
    """The calls of one deployment."""

    def __init__(
        self, key: DeploymentKey, path: Path, clock: Clock, terms: HoldTerms, news: asyncio.Event | None = None
    ) -> None:
        """`news` is set when calls begin to wait, and when none does any more."""
        self.terms = terms
        self.calls: set[HeldCall] = set()
        self._key = key
        self._path = path
        self._clock = clock
        self._news = news or asyncio.Event()
        self._told_of_some = False
        self._waiting: dict[HeldCall, None] = {}
        self._server: asyncio.AbstractServer | None = None
        self._replicas: tuple[Address, ...] = ()
        self._reason = ""
        self._trouble: KaonError | None = None
        self.turned_away: Counter[str] = Counter()
        """Requests that were no calls, by class of the answer: the doorkeeper refused or answered them."""
        self._open_to: Counter[Address] = Counter()
        self._connecting: set[asyncio.Task[None]] = set()

    # Coming

    async def listen(self) -> None:
        """Answer on the socket: bound beside and renamed, so that one that is there answers. Idempotent.

        Raises OSError.
        """
        if self._server is not None:
            return
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        beside = self._path.with_suffix(".new")
        beside.unlink(missing_ok=True)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listening.bind(str(beside))
            os.chmod(beside, 0o600)
            listening.listen(_BACKLOG)
            listening.setblocking(False)
            beside.rename(self._path)
        except OSError:
            listening.close()
            raise
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(lambda: HeldCall(self), sock=listening, backlog=_BACKLOG)

    def shut(self) -> None:
        """Take no new calls."""
        if self._server is not None:
            self._server.close()
            self._server = None
            with suppress(OSError):
                self._path.unlink()

    @property
    def idle(self) -> bool:
        """Whether nobody is here and nobody can come."""
        return self._server is None and not self.calls

    @property
    def held(self) -> int:
        """How many calls wait, those included that are just being handed over."""
        return len(self._waiting)

    def now(self) -> float:
        """Seconds of a clock that never goes back."""
        return self._clock.monotonic()

    def enter(self, call: HeldCall, head: Head) -> None:
        """A call's head is here: answer, refuse, hand over or hold it."""
        if answer := self._doorkeepers_answer(head, call.request_id):
            self.turned_away[f"{answer.status // 100}xx"] += 1
            call.answer(answer)
            return
        try:
            if self._trouble:
                raise self._trouble
            if len(self._waiting) >= CALLS_MAX:
                raise Unavailable(f"{CALLS_MAX} calls wait already for a replica to start.", retry_after_s=1.0)
        except KaonError as error:
            call.refuse(error)
            return
        call.expires_at = self.now() + min(self.terms.hold_s, _patience_s(head))
        self._waiting[call] = None
        if self._replicas:
            self._hand_over(call)
        else:
            self._note()

    def _doorkeepers_answer(self, head: Head, request_id: str) -> ActivatorResponse | None:
        """The answer to a request that is not let in; None: it may wait."""
        try:
            return self.terms.doorkeeper.admit(head)
        except KaonError as error:
            return problem(error, request_id)

    def left(self, call: HeldCall) -> None:
        """A call does not wait, or not any more."""
        self._waiting.pop(call, None)
        self._note()

    def _note(self) -> None:
        """Tell when there are some who wait for a replica to start, or none any more."""
        some = bool(self._waiting)
        if some != self._told_of_some and not (some and self._replicas):
            self._told_of_some = some
            self._news.set()

    # Deciding

    def tell(self, replicas: tuple[Address, ...], reason: str, trouble: KaonError | None) -> None:
        """See `Activator.tell`. To be told again costs nothing, and tries again what failed."""
        self._replicas, self._reason = replicas, reason
        self._trouble = None if replicas else trouble
        if self._trouble:
            self.refuse(self._trouble)
        elif replicas:
            for call in list(self._waiting):
                self._hand_over(call)
        else:
            self._note()

    def refuse(self, why: KaonError) -> None:
        """Answer everybody who waits."""
        for call in list(self._waiting):
            call.refuse(why)

    def drop(self) -> None:
        """Give back to Envoy the calls that wait, which it sends again; break off those that a replica has."""
        waiting = set(self._waiting)
        self.refuse(NotBegun("The platform's agent stops.", retry_after_s=1.0))
        for call in list(self.calls):
            if call in waiting:
                call.transport.close()  # after the answer has been written
            else:
                call.transport.abort()

    def look(self) -> None:
        """Let go of calls whose time is over, and of those whose callers hung up unheard."""
        now = self.now()
        for call in [call for call in self.calls if call.expires_at <= now]:
            if call in self._waiting:
                call.refuse(self._too_late())
            else:
                call.transport.abort()  # its head, or the end of what was refused, never came
        self._find_gone()

    def _too_late(self) -> KaonError:
        waited = f"No replica of this deployment was ready within {self.terms.hold_s:g} s."
        return NoReadyReplica(f"{waited} {self._reason}".rstrip(), hint=hint(self._key), retry_after_s=_COME_BACK_S)

    def _find_gone(self) -> None:
        """Of calls that are not read from, the loop does not tell that they hung up."""
        poll, unheard = select.poll(), {}
        for call in self._waiting:
            if call.full:
                number = call.transport.get_extra_info("socket").fileno()
                unheard[number] = call
                poll.register(number, select.POLLRDHUP)
        for number, _ in poll.poll(0) if unheard else ():
            unheard[number].transport.abort()

    # Handing over

    def _hand_over(self, call: HeldCall) -> None:
        if not call.handing_over:
            call.handing_over = True
            task = asyncio.create_task(self._connect(call))
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)

    async def _connect(self, call: HeldCall) -> None:
        """Splice a call to the ready replica with the fewest; it waits on when none can be reached."""
        tried: set[Address] = set()
        while call in self._waiting and (left := [a for a in self._replicas if a not in tried]):
            address = min(left, key=lambda a: self._open_to[a])
            tried.add(address)
            self._open_to[address] += 1
            replica = _Replica(self, address)
            try:
                await _connect(address, replica)
            except OSError as error:
                self.let_go(address)
                _log.info("a ready replica cannot be reached", address=address, error=str(error))
                continue
            if call not in self._waiting:
                replica.transport.abort()
                break
            self.left(call)
            call.splice(replica)
        call.handing_over = False

    def let_go(self, address: Address) -> None:
        """A connection to a replica is gone."""
        self._open_to[address] -= 1
        if not self._open_to[address]:
            del self._open_to[address]


class _Replica(SpliceEnd):
    """A connection to a replica."""

    def __init__(self, room: WaitingRoom, address: Address) -> None:
        self._room = room
        self._address = address

    def lost(self) -> None:
        self._room.let_go(self._address)


class HeldCall(SpliceEnd):
    """One call, on its connection from Envoy."""

    def __init__(self, room: WaitingRoom) -> None:
        self._room = room
        self._reader: HeadReader | None = HeadReader()
        self._bytes = bytearray()
        self._most_bytes = 0
        self.request_id = ""
        self._bodiless = False
        self._answered = False
        self.full = False
        """Whether nothing more is read for now."""
        self.handing_over = False
        self.expires_at = room.now() + _HEAD_WITHIN_S

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._room.calls.add(self)

    def received(self, piece: bytes) -> None:
        if self._answered:
            return  # the rest of what was refused
        self._bytes += piece
        if self._reader is not None and not self._read_head(self._reader, piece):
            return
        if len(self._bytes) > self._most_bytes:
            self.full = True
            self.transport.pause_reading()

    def _read_head(self, reader: HeadReader, piece: bytes) -> bool:
        """Whether the head is whole, and the call goes on."""
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
        """The call is the replica's from now on."""
        self.expires_at = math.inf
        self.joined(replica)
        replica.transport.write(bytes(self._bytes))
        self._bytes.clear()
        self._read_on()

    def refuse(self, why: KaonError) -> None:
        """Answer with a problem."""
        self.answer(problem(why, self.request_id))

    def answer(self, answer: ActivatorResponse) -> None:
        """Answer, let the rest of the request come to nothing, and close when Envoy does."""
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


_REQUEST_ID = REQUEST_ID_HEADER.lower().encode()
_DEADLINE = DEADLINE_HEADER.lower().encode()


def _patience_s(head: Head) -> float:
    """How long the caller waits at most, if it says so; nonsense is the replica's to refuse."""
    with suppress(ValueError):
        if (asked_s := float(head.fields.get(_DEADLINE, b"inf"))) > 0:
            return asked_s
    return math.inf


async def _connect(address: Address, end: SpliceEnd) -> None:
    """Connect `end` to a replica. Raises OSError."""
    loop = asyncio.get_running_loop()
    made: Callable[[], SpliceEnd] = lambda: end  # noqa: E731
    if address.startswith("unix:"):
        await loop.create_unix_connection(made, address.removeprefix("unix:"))
    else:
        host, _, port = address.rpartition(":")
        await loop.create_connection(made, host.strip("[]"), int(port))
