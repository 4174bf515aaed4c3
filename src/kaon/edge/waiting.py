"""The calls of one deployment that wait for a replica; see `kaon.edge.activator`."""

from __future__ import annotations

import asyncio
import os
import select
import socket
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from kaon import log
from kaon.clock import Clock
from kaon.edge.answers import ActivatorResponse, NoReadyReplica, hint, problem
from kaon.edge.heads import Head
from kaon.edge.held_call import HeldCall, ReplicaConnection, connect, patience_s
from kaon.errors import KaonError, NotBegun, Unavailable
from kaon.types.model import Address
from kaon.types.names import DeploymentKey

CALLS_MAX = 1000
"""How many calls of one deployment may wait."""

_BACKLOG = 2048
_RETRY_AFTER_S = 5.0

_log = log.get("edge.activator")


class CallerCheck(Protocol):
    """Decides whether a caller may wait."""

    def admit(self, head: Head) -> ActivatorResponse | None:
        """None: the caller may wait; an answer: it is sent at once. Raises `KaonError` to refuse the caller."""
        ...


@dataclass(frozen=True, slots=True)
class HoldTerms:
    """How calls of one deployment wait."""

    check: CallerCheck
    hold_s: float


class WaitingRoom:
    """The calls of one deployment."""

    def __init__(
        self, key: DeploymentKey, path: Path, clock: Clock, terms: HoldTerms, news: asyncio.Event | None = None
    ) -> None:
        """`news` is set when the first call waits, and when none does any more."""
        self.terms = terms
        self.calls: set[HeldCall] = set()
        self._key = key
        self._path = path
        self._clock = clock
        self._news = news or asyncio.Event()
        self._reported_waiting = False
        self._waiting: dict[HeldCall, None] = {}
        self._server: asyncio.AbstractServer | None = None
        self._replicas: tuple[Address, ...] = ()
        self._reason = ""
        self._start_error: KaonError | None = None
        self.turned_away: Counter[str] = Counter()
        """Requests that were no calls, by class of the answer: the check refused or answered them."""
        self._open_to: Counter[Address] = Counter()
        self._connecting: set[asyncio.Task[None]] = set()

    # Arriving

    async def listen(self) -> None:
        """Listen on the socket, which is bound under another name and renamed, so that it always answers. Idempotent.

        Raises OSError.
        """
        if self._server is not None:
            return
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = self._path.with_suffix(".new")
        new.unlink(missing_ok=True)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listening.bind(str(new))
            os.chmod(new, 0o600)
            listening.listen(_BACKLOG)
            listening.setblocking(False)
            new.rename(self._path)
        except OSError:
            listening.close()
            raise
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(lambda: HeldCall(self), sock=listening, backlog=_BACKLOG)

    def shut(self) -> None:
        """Accept no new calls."""
        if self._server is not None:
            self._server.close()
            self._server = None
            with suppress(OSError):
                self._path.unlink()

    @property
    def idle(self) -> bool:
        """Whether it has no calls and accepts none."""
        return self._server is None and not self.calls

    @property
    def held(self) -> int:
        """How many calls wait, including those that are being handed over."""
        return len(self._waiting)

    def now(self) -> float:
        """Seconds of a monotonic clock."""
        return self._clock.monotonic()

    def enter(self, call: HeldCall, head: Head) -> None:
        """Answer, refuse, hand over or hold a call whose head is complete."""
        if answer := self._answer_at_once(head, call.request_id):
            self.turned_away[f"{answer.status // 100}xx"] += 1
            call.answer(answer)
            return
        try:
            if self._start_error:
                raise self._start_error
            if len(self._waiting) >= CALLS_MAX:
                raise Unavailable(f"{CALLS_MAX} calls already wait for a replica to start.", retry_after_s=1.0)
        except KaonError as error:
            call.refuse(error)
            return
        call.expires_at = self.now() + min(self.terms.hold_s, patience_s(head))
        self._waiting[call] = None
        if self._replicas:
            self._hand_over(call)
        else:
            self._note()

    def _answer_at_once(self, head: Head, request_id: str) -> ActivatorResponse | None:
        """The answer to a request that may not wait; None: it may."""
        try:
            return self.terms.check.admit(head)
        except KaonError as error:
            return problem(error, request_id)

    def left(self, call: HeldCall) -> None:
        """Remove a call that no longer waits."""
        self._waiting.pop(call, None)
        self._note()

    def _note(self) -> None:
        """Set `news` when the first call waits for a replica to start, or none does any more."""
        waiting = bool(self._waiting)
        if waiting != self._reported_waiting and not (waiting and self._replicas):
            self._reported_waiting = waiting
            self._news.set()

    # Deciding

    def set_replicas(self, replicas: tuple[Address, ...], reason: str, error: KaonError | None) -> None:
        """See `Activator.set_replicas`. A repeated call costs little, and repeats connections that failed."""
        self._replicas, self._reason = replicas, reason
        self._start_error = None if replicas else error
        if self._start_error:
            self.refuse(self._start_error)
        elif replicas:
            for call in list(self._waiting):
                self._hand_over(call)
        else:
            self._note()

    def refuse(self, why: KaonError) -> None:
        """Refuse all calls that wait."""
        for call in list(self._waiting):
            call.refuse(why)

    def drop(self) -> None:
        """Return the calls that wait to Envoy, which repeats them; abort those that a replica has."""
        waiting = set(self._waiting)
        self.refuse(NotBegun("The platform's agent stops.", retry_after_s=1.0))
        for call in list(self.calls):
            if call in waiting:
                call.transport.close()  # after the answer has been written
            else:
                call.transport.abort()

    def look(self) -> None:
        """Refuse calls whose time is over, and drop those whose callers have left."""
        now = self.now()
        for call in [call for call in self.calls if call.expires_at <= now]:
            if call in self._waiting:
                call.refuse(self._too_late())
            else:
                call.transport.abort()  # its head, or the rest of a refused call, never came
        self._drop_left()

    def _too_late(self) -> KaonError:
        waited = f"No replica of this deployment was ready within {self.terms.hold_s:g} s."
        return NoReadyReplica(f"{waited} {self._reason}".rstrip(), hint=hint(self._key), retry_after_s=_RETRY_AFTER_S)

    def _drop_left(self) -> None:
        """The loop does not notice that a caller left while reading is paused."""
        poll, paused = select.poll(), {}
        for call in self._waiting:
            if call.full:
                number = call.transport.get_extra_info("socket").fileno()
                paused[number] = call
                poll.register(number, select.POLLRDHUP)
        for number, _ in poll.poll(0) if paused else ():
            paused[number].transport.abort()

    # Handing over

    def _hand_over(self, call: HeldCall) -> None:
        if not call.handing_over:
            call.handing_over = True
            task = asyncio.create_task(self._connect(call))
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)

    async def _connect(self, call: HeldCall) -> None:
        """Splice a call to the ready replica with the fewest calls; it goes on waiting when none can be reached."""
        tried: set[Address] = set()
        while call in self._waiting and (left := [a for a in self._replicas if a not in tried]):
            address = min(left, key=lambda a: self._open_to[a])
            tried.add(address)
            self._open_to[address] += 1
            replica = ReplicaConnection(self, address)
            try:
                await connect(address, replica)
            except OSError as error:
                self.release(address)
                _log.info("a ready replica cannot be reached", address=address, error=str(error))
                continue
            if call not in self._waiting:
                replica.transport.abort()
                break
            self.left(call)
            call.splice(replica)
        call.handing_over = False

    def release(self, address: Address) -> None:
        """Note that a connection to a replica was closed."""
        self._open_to[address] -= 1
        if not self._open_to[address]:
            del self._open_to[address]
