"""The actions of an agent on replicas, each in a task of its own, so that no replica waits for another."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any

from kaon import log
from kaon.agent.act.driver_guard import cause_of, within
from kaon.agent.act.publishing import Publisher
from kaon.agent.act.secrets import Secrets, SecretValues
from kaon.agent.act.workloads import ControlTokens, workload_of
from kaon.agent.decide.inputs import (
    Action,
    AdmitIt,
    ForgetIt,
    PublishIt,
    RefusedStart,
    RefuseIt,
    StartIt,
    StopIt,
    TuneIt,
    kind_of,
    replica_of,
)
from kaon.agent.observe.probes import Probes
from kaon.agent.ports import AttemptReceiver, ReplicaControl
from kaon.clock import Clock
from kaon.drivers.port import Driver
from kaon.errors import KaonError, PlaceFull, Unavailable, WorkloadRefused
from kaon.types.key import Access
from kaon.types.knobs import Knobs
from kaon.types.plan import Plan
from kaon.types.refusals import Refusals
from kaon.types.replica import Phase, ReplicaSpec, WorkloadKind

_CALL_S = 60.0
"""How long a call of a driver may take, beyond the time to drain a replica."""

_STACKS_S = 5.0

_log = log.get("agent")


class Acts:
    """The actions in progress, at most one for each replica; `done` is set when one of them ends."""

    def __init__(
        self,
        driver: Driver,
        replicas: ReplicaControl,
        probes: Probes,
        secrets: Secrets,
        receiver: AttemptReceiver,
        publisher: Publisher,
        tokens: ControlTokens,
        edge_url: str,
        clock: Clock,
        done: asyncio.Event,
    ) -> None:
        self._driver = driver
        self._replicas = replicas
        self._probes = probes
        self._secrets = secrets
        self._receiver = receiver
        self._publisher = publisher
        self._tokens = tokens
        self._edge_url = edge_url
        self._clock = clock
        self._done = done
        self._in_progress: dict[str, asyncio.Task[None]] = {}
        self._refused: dict[str, RefusedStart] = {}
        self.failures: dict[tuple[str, str], str] = {}
        """Replica and kind of action -> why the last one failed. `decide.replicas` decides when to repeat it."""

    @property
    def busy(self) -> frozenset[str]:
        """Replicas with an action in progress."""
        return frozenset(self._in_progress)

    def refused(self) -> dict[str, RefusedStart]:
        """Starts refused since the last call."""
        refused, self._refused = self._refused, {}
        return refused

    def begin(self, plan: Plan, action: Action) -> None:
        """Begin an action. The replica must have none in progress."""
        replica = replica_of(action)
        task = asyncio.create_task(self._done_by(plan, action))
        self._in_progress[replica] = task
        task.add_done_callback(lambda done: self._ended(replica, kind_of(action), done))

    def _done_by(self, plan: Plan, action: Action) -> Coroutine[Any, Any, None]:
        match action:
            case StartIt(spec):
                return self._start(plan, spec)
            case StopIt(replica, grace_s, reason, stacks):
                _log.info("stopping", replica=replica, grace_s=grace_s, reason=reason)
                return self._stop(replica, grace_s, stacks=stacks)
            case PublishIt():
                return self._publisher.publish(action)
            case ForgetIt(replica):
                return within(self._clock, _CALL_S, self._driver.forget(replica))
            case AdmitIt(replica, access):
                return self._admit(replica, access)
            case TuneIt(replica, knobs):
                return self._tune(replica, knobs)
            case RefuseIt(replica, refusals):
                return self._refuse(replica, refusals)

    async def close(self) -> None:
        """Cancel all actions."""
        in_progress = list(self._in_progress.values())
        for task in in_progress:
            task.cancel()
        await asyncio.gather(*in_progress, return_exceptions=True)

    def _ended(self, replica: str, kind: str, task: asyncio.Task[None]) -> None:
        del self._in_progress[replica]
        self._done.set()
        if task.cancelled():
            return
        before = self.failures.pop((replica, kind), None)
        if error := task.exception():
            cause = self.failures[replica, kind] = cause_of(error)
            if cause != before:
                _log.warning("an action failed", replica=replica, action=kind, error=cause)
        elif kind == ForgetIt.__name__:
            self.failures = {key: cause for key, cause in self.failures.items() if key[0] != replica}

    async def _start(self, plan: Plan, spec: ReplicaSpec) -> None:
        try:
            values = await self._secrets_of(spec)
        except KaonError as error:
            self._refused[spec.id] = RefusedStart(Phase.STARTING, f"Its secrets are not available: {error.cause}")
            return
        token = self._tokens.of(spec.id)
        workload = workload_of(plan, spec, values, edge_url=self._edge_url, control_token=token)
        try:
            await within(self._clock, _CALL_S, self._driver.start(workload))
        except PlaceFull as error:
            self._refused[spec.id] = RefusedStart(Phase.NO_CAPACITY, error.cause)
        except WorkloadRefused as error:
            self._refused[spec.id] = RefusedStart(Phase.CONFIG_ERROR, error.cause, final=True)
        except Unavailable as error:
            self._refused[spec.id] = RefusedStart(Phase.STARTING, f"The place cannot be reached: {error.cause}")
        except Exception as error:
            self._refused[spec.id] = RefusedStart(Phase.CRASHED, cause_of(error))

    async def _secrets_of(self, spec: ReplicaSpec) -> SecretValues:
        """The secrets of a workload. Those of a job are always fetched: an attempt that the control plane does not
        want any more is not started by an older plan."""
        if spec.kind is WorkloadKind.SERVICE:
            return await self._secrets.of(spec)
        values = await self._receiver.attempt_secrets(spec.id)
        for value in values.values():
            log.hide_secret(value)
        return values

    async def _stop(self, replica: str, grace_s: float, *, stacks: bool) -> None:
        if stacks:
            with contextlib.suppress(Exception):  # it is stopped in any case
                await within(self._clock, _STACKS_S, self._driver.show_stacks(replica))
        await within(self._clock, grace_s + _CALL_S, self._driver.stop(replica, grace_s))

    async def _admit(self, replica: str, access: Access) -> None:
        if address := self._probes.address(replica):
            await self._replicas.admit(address, access)
            self._probes.record(replica, access=access.named().version)

    async def _tune(self, replica: str, knobs: Knobs) -> None:
        if address := self._probes.address(replica):
            await self._replicas.tune(address, knobs)
            self._probes.record(replica, knobs=knobs.named().version)
            _log.info("knobs", replica=replica, **knobs.model_dump(exclude_none=True, exclude={"version"}))

    async def _refuse(self, replica: str, refusals: Refusals) -> None:
        if address := self._probes.address(replica):
            await self._replicas.refuse(address, refusals)
            self._probes.record(replica, refusals=refusals.named().version)
            _log.info("refused requests", replica=replica, count=len(refusals.request_ids))
