"""Probes replicas on their control sockets, over one open connection each.

A few lines of HTTP/1.1 instead of a client library: one agent probes hundreds of replicas twice a second, and the other
side is our own runtime, whose answers always have a length.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace

from pydantic import ValidationError

from kaon.agent.decide.inputs import ProbedHealth
from kaon.agent.decide.liveness import MISSES
from kaon.agent.ports import ReplicaControl
from kaon.clock import Clock
from kaon.errors import Unavailable
from kaon.types.figures import ReplicaFigures
from kaon.types.key import Access
from kaon.types.knobs import Knobs
from kaon.types.launch import ReplicaHealth
from kaon.types.model import Address, canonical_json
from kaon.types.refusals import Refusals
from kaon.types.replica import Phase
from kaon.types.shadow import KeptAnswers, Sampling
from kaon.types.versioned import Versioned

PROBE_S = 0.5
HASTE_S = 0.1
"""Between two probes of a replica that is to become ready, to answer, or to be idle."""

EAGER_S = 0.01
"""The same while calls are held for it."""

_TIMEOUT_S = 0.5
_BODY_MOST_BYTES = 2**20

_Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class ControlSockets:
    """Replicas by their control addresses."""

    def __init__(self, token_at: Callable[[Address], str] = lambda _: "") -> None:
        """`token_at` gives the token for a control address; empty: none."""
        self._open: dict[Address, _Streams] = {}
        self._token_at = token_at

    async def health(self, address: Address) -> ReplicaHealth:
        _, body = await self._ask(address, "GET /ready", b"")
        try:
            return ReplicaHealth.model_validate_json(body)
        except ValidationError:
            raise Unavailable(f"What answers at {address} is not a replica.") from None

    async def figures(self, address: Address) -> ReplicaFigures:
        status, body = await self._ask(address, "GET /figures", b"")
        try:
            return ReplicaFigures.model_validate_json(body)
        except ValidationError:
            raise Unavailable(f"What answers at {address} has no figures: status {status}.") from None

    async def admit(self, address: Address, access: Access) -> None:
        status = await self._put(address, "/access", access)
        if status != 204:
            raise Unavailable(f"The replica at {address} did not take the access list: status {status}.")

    async def tune(self, address: Address, knobs: Knobs) -> None:
        status = await self._put(address, "/knobs", knobs)
        if status != 204:
            raise Unavailable(f"The replica at {address} did not take its knobs: status {status}.")

    async def refuse(self, address: Address, refusals: Refusals) -> None:
        status = await self._put(address, "/refusals", refusals)
        if status != 204:
            raise Unavailable(f"The replica at {address} did not take its refusals: status {status}.")

    async def sample(self, address: Address, sampling: Sampling) -> None:
        status, _ = await self._ask(address, "PUT /sampling", canonical_json(sampling))
        if status != 204:
            raise Unavailable(f"The replica at {address} keeps no answers: status {status}.")

    async def answers(self, address: Address, after: int) -> KeptAnswers:
        _, body = await self._ask(address, f"GET /answers?after={after}", b"")
        try:
            return KeptAnswers.model_validate_json(body)
        except ValidationError:
            raise Unavailable(f"The replica at {address} keeps no answers.") from None

    def let_go(self, address: Address) -> None:
        if streams := self._open.pop(address, None):
            streams[1].close()

    async def _put(self, address: Address, path: str, content: Versioned) -> int:
        """The version is in the query, where a replica of an older release ignores it."""
        return (await self._ask(address, f"PUT {path}?version={content.named().version}", content.body()))[0]

    async def _ask(self, address: Address, what: str, body: bytes) -> tuple[int, bytes]:
        streams = self._open.pop(address, None)  # removed, so that two calls never share a connection
        answer = None
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                streams = streams or await _connect(address)
                answer = await _exchange(streams, what, body, self._token_at(address))
        except (OSError, EOFError, ValueError, TimeoutError, asyncio.LimitOverrunError) as error:
            raise Unavailable(f"Nothing answers at {address}: {error or type(error).__name__}.") from None
        finally:
            if streams and (answer is None or address in self._open):
                streams[1].close()
            elif streams:
                self._open[address] = streams
        return answer


async def _connect(address: Address) -> _Streams:
    if address.startswith("unix:"):
        return await asyncio.open_unix_connection(address.removeprefix("unix:"))
    host, _, port = address.rpartition(":")
    return await asyncio.open_connection(host.strip("[]"), int(port))


async def _exchange(streams: _Streams, what: str, body: bytes, token: str) -> tuple[int, bytes]:
    reader, writer = streams
    head = f"{what} HTTP/1.1\r\nhost: replica\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
    bearer = f"authorization: Bearer {token}\r\n" if token else ""
    writer.write(f"{head}{bearer}\r\n".encode() + body)
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower().split("\r\n")
    fields = dict(line.split(":", 1) for line in lines[1:] if ":" in line)
    length = int(fields.get("content-length", "0"))
    if not 0 <= length <= _BODY_MOST_BYTES:
        raise ValueError(f"an answer of {length} bytes")
    return int(lines[0].split()[1]), await reader.readexactly(length)


@dataclass(frozen=True)
class _Signs:
    """The parts of a replica's health whose changes start a look at once."""

    phase: str | None
    reason: str
    access: str
    knobs: str
    refusals: str
    quiet: bool
    silent: bool


class Probes:
    """One probe for each running replica; `changed` is set when one of them has news."""

    def __init__(self, replicas: ReplicaControl, clock: Clock, changed: asyncio.Event) -> None:
        self._replicas = replicas
        self._clock = clock
        self._changed = changed
        self._tasks: dict[str, tuple[Address, asyncio.Task[None]]] = {}
        self.health: dict[str, ProbedHealth] = {}
        self.hasten: frozenset[str] = frozenset()
        """Replicas that leave: probed more often, so that they need not wait."""
        self.waited_for: frozenset[str] = frozenset()
        """Replicas with held calls: probed more often still, until they are ready."""

    def follow(self, running: dict[str, Address]) -> None:
        """Probe exactly these replicas, each at its control address, from now on."""
        for id_, (address, task) in list(self._tasks.items()):
            if running.get(id_) != address or task.done():
                task.cancel()
                del self._tasks[id_]
                self.health.pop(id_, None)
                self._replicas.let_go(address)
        for id_, address in running.items():
            if id_ not in self._tasks:
                self.health[id_] = ProbedHealth()
                self._tasks[id_] = (address, asyncio.create_task(self._probe(id_, address)))

    def address(self, replica: str) -> Address | None:
        """The control address at which a replica is probed."""
        followed = self._tasks.get(replica)
        return followed[0] if followed else None

    def record(self, replica: str, **took: str) -> None:
        """Record that a replica took `access`, `knobs` or `refusals` of a version, ahead of its next probe."""
        health = self.health.get(replica)
        if health and health.answer:
            self.health[replica] = replace(health, answer=health.answer.model_copy(update=took))

    async def close(self) -> None:
        """End all probes."""
        tasks = [task for _, task in self._tasks.values()]
        self.follow({})
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _probe(self, id_: str, address: Address) -> None:
        while True:
            asked_at = self._clock.monotonic()
            before = self.health[id_]
            after = before
            with contextlib.suppress(Unavailable):
                answer = await self._replicas.health(address)
                idle = answer.in_flight == 0 and answer.queued == 0
                after = ProbedHealth(answer=answer, asked_at=asked_at, zeros=before.zeros + 1 if idle else 0)
            if after is before:
                since = asked_at if before.silent_since is None else before.silent_since
                after = replace(before, misses=before.misses + 1, silent_since=since)
            self.health[id_] = after
            if _signs(before) != _signs(after) or (id_ in self.hasten and after.zeros >= MISSES):
                self._changed.set()
            await self._clock.sleep(self._pause_s(id_, after))

    def _pause_s(self, id_: str, health: ProbedHealth) -> float:
        not_ready = health.answer is None or health.answer.phase != Phase.READY
        if not_ready and id_ in self.waited_for:
            return EAGER_S
        return HASTE_S if not_ready or 0 < health.misses <= MISSES or id_ in self.hasten else PROBE_S


def _signs(health: ProbedHealth) -> _Signs:
    answer = health.answer
    return _Signs(
        phase=answer.phase if answer else None,
        reason=answer.reason if answer else "",
        access=answer.access if answer else "",
        knobs=answer.knobs if answer else "",
        refusals=answer.refusals if answer else "",
        quiet=health.zeros >= MISSES,
        silent=health.misses >= MISSES,
    )
