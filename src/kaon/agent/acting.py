"""What an agent does to replicas: each action in a task of its own, so that no replica waits for another."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any

from kaon import log
from kaon.agent.place import cause_of, within
from kaon.agent.ports import Replicas
from kaon.agent.probe import Probes
from kaon.agent.secrets import Secrets
from kaon.agent.situation import Action, AdmitIt, Failure, ForgetIt, Refused, RefuseIt, StartIt, StopIt, TuneIt
from kaon.agent.workloads import ControlTokens, workload_of
from kaon.clock import Clock
from kaon.drivers.port import Driver
from kaon.errors import KaonError, PlaceFull, Unavailable, WorkloadRefused
from kaon.types.key import Access
from kaon.types.knobs import Knobs
from kaon.types.model import content_hash
from kaon.types.plan import Plan
from kaon.types.refusals import Refusals
from kaon.types.replica import Phase, ReplicaSpec

_CALL_S = 60.0
"""How long a driver may take for a call, beyond the time that it is given to drain a replica."""

_STACKS_S = 5.0

_log = log.get("agent")


class Acts:
    """The actions that are under way, one for each replica at most; `done` is set when one of them is over."""

    def __init__(
        self,
        driver: Driver,
        replicas: Replicas,
        probes: Probes,
        secrets: Secrets,
        tokens: ControlTokens,
        edge_url: str,
        clock: Clock,
        done: asyncio.Event,
    ) -> None:
        self._driver = driver
        self._replicas = replicas
        self._probes = probes
        self._secrets = secrets
        self._tokens = tokens
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
                self._do(replica, within(self._clock, _CALL_S, self._driver.forget(replica)))
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
            cause = cause_of(error)
            count = before.count + 1 if before else 1
            self.failures[replica] = Failure(cause, count, self._clock.monotonic())
            if count == 1:
                _log.warning("what was begun with a replica failed", replica=replica, error=cause)

    async def _start(self, plan: Plan, spec: ReplicaSpec) -> None:
        try:
            values = await self._secrets.of(spec)
        except KaonError as error:
            self._refused[spec.id] = Refused(Phase.STARTING, f"Its secrets cannot be had: {error.cause}")
            return
        token = self._tokens.of(spec.id)
        workload = workload_of(plan, spec, values, edge_url=self._edge_url, control_token=token)
        try:
            await within(self._clock, _CALL_S, self._driver.start(workload))
        except PlaceFull as error:
            self._refused[spec.id] = Refused(Phase.NO_CAPACITY, error.cause)
        except WorkloadRefused as error:
            self._refused[spec.id] = Refused(Phase.CONFIG_ERROR, error.cause, final=True)
        except Unavailable as error:
            self._refused[spec.id] = Refused(Phase.STARTING, f"The place cannot be reached: {error.cause}")
        except Exception as error:
            self._refused[spec.id] = Refused(Phase.CRASHED, cause_of(error))

    async def _stop(self, replica: str, grace_s: float, *, stacks: bool) -> None:
        if stacks:
            with contextlib.suppress(Exception):  # it is ended all the same
                await within(self._clock, _STACKS_S, self._driver.show_stacks(replica))
        await within(self._clock, grace_s + _CALL_S, self._driver.stop(replica, grace_s))

    async def _admit(self, replica: str, access: Access) -> None:
        if address := self._probes.address(replica):
            await self._replicas.admit(address, access)
            self._probes.told(replica, access=content_hash(access))

    async def _tune(self, replica: str, knobs: Knobs) -> None:
        if address := self._probes.address(replica):
            await self._replicas.tune(address, knobs)
            self._probes.told(replica, knobs=content_hash(knobs))
            _log.info("knobs", replica=replica, **knobs.model_dump(exclude_none=True))

    async def _refuse(self, replica: str, refusals: Refusals) -> None:
        if address := self._probes.address(replica):
            await self._replicas.refuse(address, refusals)
            self._probes.told(replica, refusals=content_hash(refusals))
            _log.info("refused requests", replica=replica, count=len(refusals.request_ids))
