"""What an agent does to replicas: each action in a task of its own, so that no replica waits for another."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from kaon import log
from kaon.agent.ports import Replicas
from kaon.agent.probe import Probes
from kaon.agent.secrets import Secrets
from kaon.agent.situation import Action, AdmitIt, Failure, ForgetIt, Refused, RefuseIt, StartIt, StopIt, TuneIt
from kaon.clock import Clock
from kaon.drivers.port import Driver, Start
from kaon.errors import KaonError, Unavailable
from kaon.types.key import Access
from kaon.types.knobs import Knobs, PlannedKnobs
from kaon.types.model import Address, content_hash
from kaon.types.plan import Plan
from kaon.types.refusals import Refusals
from kaon.types.replica import Phase, ReplicaSpec
from kaon.types.route import prefix_of

_log = log.get("agent")


class Acts:
    """The actions that are under way, one for each replica at most; `done` is set when one of them is over."""

    def __init__(
        self,
        driver: Driver,
        replicas: Replicas,
        probes: Probes,
        secrets: Secrets,
        edge_url: str,
        clock: Clock,
        done: asyncio.Event,
    ) -> None:
        self._driver = driver
        self._replicas = replicas
        self._probes = probes
        self._secrets = secrets
        self._edge_url = edge_url
        self._clock = clock
        self._done = done
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._refused: dict[str, Refused] = {}
        self.failures: dict[str, Failure] = {}
        """Replicas with which the last action failed."""

    @property
    def busy(self) -> frozenset[str]:
        """Replicas to which something is being done."""
        return frozenset(self._under_way)

    def refused(self) -> dict[str, Refused]:
        """Starts that did not begin, since this was asked last."""
        refused, self._refused = self._refused, {}
        return refused

    def begin(self, plan: Plan, action: Action) -> None:
        """Do it from now on. Nothing may be under way with that replica."""
        match action:
            case StartIt(spec):
                self._do(spec.id, self._start(plan, spec))
            case StopIt(replica, grace_s, reason, stacks):
                _log.info("stopping", replica=replica, grace_s=grace_s, reason=reason)
                self._do(replica, self._stop(replica, grace_s, stacks=stacks))
            case ForgetIt(replica):
                self._do(replica, self._driver.forget(replica))
            case AdmitIt(replica, access):
                self._do(replica, self._admit(replica, access))
            case TuneIt(replica, knobs):
                self._do(replica, self._tune(replica, knobs))
            case RefuseIt(replica, refusals):
                self._do(replica, self._refuse(replica, refusals))

    async def close(self) -> None:
        """Leave everything as it is."""
        under_way = list(self._under_way.values())
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)

    def _do(self, replica: str, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._under_way[replica] = task
        task.add_done_callback(lambda done: self._ended(replica, done))

    def _ended(self, replica: str, task: asyncio.Task[None]) -> None:
        del self._under_way[replica]
        self._done.set()
        if task.cancelled():
            return
        before = self.failures.pop(replica, None)
        if error := task.exception():
            cause = _cause(error)
            count = before.count + 1 if before else 1
            self.failures[replica] = Failure(cause, count, self._clock.monotonic())
            if count == 1:
                _log.warning("what was begun with a replica failed", replica=replica, error=cause)

    async def _start(self, plan: Plan, spec: ReplicaSpec) -> None:
        name = f"{spec.workspace}/{spec.deployment}"
        start = Start(
            replica=spec,
            access=plan.access.get(name, Access()),
            knobs=plan.knobs.get(name, PlannedKnobs()).force,  # a trial is told once it answers
            prefix=prefix_of(spec.workspace, spec.deployment),
            edge_url=self._edge_url,
        )
        try:
            secrets = await self._secrets.of(spec)
        except KaonError as error:
            self._refused[spec.id] = Refused(Phase.INSTALLING, f"Its secrets cannot be had: {error.cause}")
            return
        try:
            await self._driver.start(start, secrets)
        except Unavailable as error:
            self._refused[spec.id] = Refused(Phase.NO_CAPACITY, error.cause)
        except Exception as error:
            self._refused[spec.id] = Refused(Phase.CRASHED, _cause(error))

    async def _stop(self, replica: str, grace_s: float, *, stacks: bool) -> None:
        if stacks:
            await self._driver.show_stacks(replica)
        await self._driver.stop(replica, grace_s)

    async def _admit(self, replica: str, access: Access) -> None:
        if address := await self._address(replica):
            await self._replicas.admit(address, access)
            self._probes.told(replica, access=content_hash(access))

    async def _tune(self, replica: str, knobs: Knobs) -> None:
        if address := await self._address(replica):
            await self._replicas.tune(address, knobs)
            self._probes.told(replica, knobs=content_hash(knobs))
            _log.info("knobs", replica=replica, **knobs.model_dump(exclude_none=True))

    async def _refuse(self, replica: str, refusals: Refusals) -> None:
        if address := await self._address(replica):
            await self._replicas.refuse(address, refusals)
            self._probes.told(replica, refusals=content_hash(refusals))
            _log.info("refused requests", replica=replica, count=len(refusals.request_ids))

    async def _address(self, replica: str) -> Address | None:
        sighting = (await self._driver.observe()).get(replica)
        return sighting.control_address if sighting else None


def _cause(error: BaseException) -> str:
    return error.cause if isinstance(error, KaonError) else repr(error)
