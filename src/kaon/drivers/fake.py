"""A place where replicas run in memory only, as a script says: for tests and for the simulator.

It passes the same contract suite as the real drivers, and moves with the clock that it is given: nothing
here happens at a time of its own. Its replicas answer `health`, `admit` and `tune` as real ones do on their control
sockets, so that an agent runs against it unchanged.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from pydantic import Field

from kaon.clock import Clock
from kaon.drivers.port import LogLine, Sighting, Stage, Start
from kaon.errors import Unavailable
from kaon.processes import ended_from_outside
from kaon.types.flight import Flight
from kaon.types.key import Access
from kaon.types.knobs import Knobs
from kaon.types.launch import EXIT_CONFIG, ReplicaHealth
from kaon.types.model import Address, Model
from kaon.types.refusals import Refusals
from kaon.types.replica import Phase

BEHAVIOUR = "BEHAVIOUR"
"""Environment variable of a replica that holds its `Behaviour` as JSON."""


class Behaviour(Model):
    """What a replica does once it is started."""

    ready_after_s: float | None = Field(default=0.0, description="None: never.")
    ends_after_s: float | None = Field(default=None, description="None: when it is stopped.")
    exit_code: int = Field(default=1, description="With which it ends by itself.")
    lines: tuple[str, ...] = Field(default=(), description="What it writes to its log at its start.")
    deaf: bool = Field(default=False, description="Does not listen to SIGTERM.")
    flights: dict[str, float] = Field(
        default_factory=dict, description="Calls that it notes at its start: request id -> seconds left."
    )


CONFIG_ERROR = Behaviour(ready_after_s=None, ends_after_s=0.0, exit_code=EXIT_CONFIG)


def behaviour_in_env(start: Start) -> Behaviour:
    """The script of the contract suite: the replica's environment says what it does."""
    return Behaviour.model_validate_json(start.replica.env.get(BEHAVIOUR, "{}"))


Script = Callable[[Start], Behaviour]


@dataclass
class FakeReplica:
    """One replica. `in_flight`, `flights` and `frozen` are for tests to set."""

    start: Start
    behaviour: Behaviour
    pid: int
    began: float
    began_at: float
    access: Access
    knobs: Knobs
    stopped: Sighting | None = None
    in_flight: int = 0
    flights: dict[str, float] = field(default_factory=dict)  # request id -> seconds left when it began
    refusals: Refusals = field(default_factory=Refusals)
    frozen: bool = False
    lines: list[str] = field(default_factory=list)


class FakePlace:
    """What outlives a driver object: the replicas themselves. `room` is how many may run at once."""

    def __init__(self, clock: Clock, *, script: Script = behaviour_in_env, room: int | None = None) -> None:
        self.clock = clock
        self.script = script
        self.room = room
        self.replicas: dict[str, FakeReplica] = {}
        self.pids = 1000
        self.unkillable = ""
        """Why no replica can be stopped now; empty: they can."""
        self.stops = 0
        """How often one that runs was asked to end."""


class FakeDriver:
    """A driver over a `FakePlace`."""

    def __init__(self, place: FakePlace) -> None:
        self._place = place
        self._news = asyncio.Event()

    async def start(self, start: Start, secrets: dict[str, str]) -> None:
        place, id_ = self._place, start.replica.id
        if id_ in place.replicas and self._sighting(id_).stage != Stage.EXITED:
            return
        running = sum(self._sighting(other).stage != Stage.EXITED for other in place.replicas)
        if place.room is not None and running >= place.room:
            raise Unavailable(f"No room left: {place.room} replicas run here.")
        place.pids += 1
        behaviour = place.script(start)
        place.replicas[id_] = FakeReplica(
            start=start,
            behaviour=behaviour,
            pid=place.pids,
            began=place.clock.monotonic(),
            began_at=place.clock.now(),
            access=start.access,
            knobs=start.knobs,
            flights=dict(behaviour.flights),
            lines=[*(place.replicas[id_].lines if id_ in place.replicas else []), *behaviour.lines],
        )
        self._news.set()

    async def stop(self, replica: str, grace_s: float) -> None:
        known = self._place.replicas.get(replica)
        if known is None or self._sighting(replica).stage == Stage.EXITED:
            return
        self._place.stops += 1
        if self._place.unkillable:
            raise Unavailable(self._place.unkillable)
        if (known.behaviour.deaf or known.frozen) and grace_s:
            await self._place.clock.sleep(grace_s)
        code = -9 if known.behaviour.deaf or known.frozen or not grace_s else 0
        known.stopped = self._ended(known, code)
        self._news.set()

    async def observe(self) -> dict[str, Sighting]:
        self._news.clear()
        return {id_: self._sighting(id_) for id_ in self._place.replicas}

    async def changed(self) -> None:
        clock = self._place.clock
        ends = [left for replica in self._place.replicas.values() if (left := self._left_s(replica)) is not None]
        news = asyncio.ensure_future(self._news.wait())
        due = asyncio.ensure_future(clock.sleep(min(ends))) if ends else None
        try:
            await asyncio.wait([news, *([due] if due else [])], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for waiting in (news, due):
                if waiting:
                    waiting.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await waiting

    async def flights(self, replica: str) -> tuple[Flight, ...]:
        known = self._place.replicas.get(replica)
        if known is None or self._sighting(replica).stage == Stage.EXITED:
            return ()
        age_s = self._place.clock.monotonic() - known.began
        return tuple(Flight(request_id=id_, left_s=left_s - age_s) for id_, left_s in known.flights.items())

    async def show_stacks(self, replica: str) -> None:
        if (known := self._place.replicas.get(replica)) and self._sighting(replica).stage == Stage.STARTING:
            known.lines.append("Current thread 0x1 (most recent call first):")

    async def forget(self, replica: str) -> None:
        if replica in self._place.replicas and self._sighting(replica).stage == Stage.EXITED:
            del self._place.replicas[replica]

    async def logs(self, replica: str, *, tail: int, follow: bool) -> AsyncIterator[LogLine]:
        known = self._place.replicas.get(replica)
        seen = max(0, len(known.lines) - tail) if known else 0
        while known:
            for text in known.lines[seen:]:
                yield LogLine(replica=replica, text=text)
            seen = len(known.lines)
            if not follow:
                return
            await self._place.clock.sleep(0.1)
            known = self._place.replicas.get(replica)

    # What the replicas themselves answer

    async def health(self, address: Address) -> ReplicaHealth:
        """The answer of the replica's `/ready`. Raises `Unavailable` when nothing answers there."""
        replica = self._at(address)
        after = replica.behaviour.ready_after_s
        ready = after is not None and self._place.clock.monotonic() >= replica.began + after
        return ReplicaHealth(
            phase=Phase.READY if ready else Phase.LOADING,
            in_flight=replica.in_flight,
            access=replica.access.named().version,
            knobs=replica.knobs.named().version,
            refusals=replica.refusals.named().version,
        )

    async def admit(self, address: Address, access: Access) -> None:
        """`PUT /access` of the replica. Raises `Unavailable` when nothing answers there."""
        self._at(address).access = access

    async def tune(self, address: Address, knobs: Knobs) -> None:
        """`PUT /knobs` of the replica. Raises `Unavailable` when nothing answers there."""
        self._at(address).knobs = knobs

    async def refuse(self, address: Address, refusals: Refusals) -> None:
        """`PUT /refusals` of the replica. Raises `Unavailable` when nothing answers there."""
        self._at(address).refusals = refusals

    def let_go(self, address: Address) -> None:
        """Nothing is kept for a replica that has ended."""

    def _at(self, address: Address) -> FakeReplica:
        id_ = address.split("/")[-2]
        replica = self._place.replicas.get(id_)
        if replica is None or replica.frozen or self._sighting(id_).stage != Stage.STARTING:
            raise Unavailable(f"Nothing answers at {address}.")
        return replica

    def _left_s(self, replica: FakeReplica) -> float | None:
        """Seconds until a replica ends by itself; None when it has ended or never does."""
        if replica.stopped or replica.behaviour.ends_after_s is None:
            return None
        left = replica.began + replica.behaviour.ends_after_s - self._place.clock.monotonic()
        return left if left > 0 else None

    def _sighting(self, id_: str) -> Sighting:
        replica = self._place.replicas[id_]
        ends = replica.behaviour.ends_after_s
        if replica.stopped is None and ends is not None and self._left_s(replica) is None:
            replica.stopped = self._ended(replica, replica.behaviour.exit_code)
        return replica.stopped or Sighting(
            id=id_,
            stage=Stage.STARTING,
            pid=replica.pid,
            started_at=replica.began_at,
            service_address=f"unix:/fake/{id_}/service.sock",
            control_address=f"unix:/fake/{id_}/control.sock",
        )

    def _ended(self, replica: FakeReplica, code: int) -> Sighting:
        return Sighting(
            id=replica.start.replica.id,
            stage=Stage.EXITED,
            reason=f"It ended with exit code {code}.",
            pid=replica.pid,
            started_at=replica.began_at,
            exit_code=code,
            last_lines=tuple(replica.lines[-20:]),
            blamed=() if ended_from_outside(code) or not code else tuple(replica.flights),
        )
