"""The agent: makes one cloud match its plan, and tells what it sees.

A shell around `kaon.agent.decide.replicas`: it looks (driver, probes), lets `step` decide, and acts, each action in a
task of its own so that no replica waits for another. Nothing hangs on an event: a new plan, the end of a replica, a
probe that tells something new only wake the loop early; it would have looked again within a second anyway.

It may be killed at any moment. The plan is on disk, replicas and edge run on, and the next agent finds them;
before that tells the edge anything, it has asked every replica how it is.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from pydantic import ValidationError

from kaon import log
from kaon.agent.act.actions import Acts
from kaon.agent.act.calls import LogsCall, ShadowCall, compared, logs
from kaon.agent.act.driver_guard import GuardedDriver
from kaon.agent.act.secrets import Secrets
from kaon.agent.act.workloads import ControlTokens
from kaon.agent.decide.inputs import AgentInputs, ReplicaHistory
from kaon.agent.decide.liveness import MISSES
from kaon.agent.decide.poison import Poison, follow, refused
from kaon.agent.decide.replicas import step
from kaon.agent.decide.standby import Standby
from kaon.agent.observe.probes import ControlSockets, Probes
from kaon.agent.observe.shadows import Shadows
from kaon.agent.plan_file import PlanFile
from kaon.agent.ports import (
    AgentCall,
    CallHolder,
    ControlPlane,
    EdgePort,
    NoCallHolder,
    NoTrafficWatcher,
    ReplicaControl,
    TrafficWatcher,
)
from kaon.clock import Clock
from kaon.drivers.port import Driver, ReplicaObservation, Stage
from kaon.errors import KaonError, NotFound
from kaon.laws.backoff import Backoff, delay_s
from kaon.types.names import DeploymentKey
from kaon.types.plan import EdgeStatus, NamedPlan, Plan, Report
from kaon.types.refusals import Refusals
from kaon.types.replica import ReplicaStatus
from kaon.types.route import ReplicaEndpoint

_TICK_S = 1.0
_LOOK_S = 0.02
"""Least time between two looks: what comes in a burst is seen at once."""

_HASTY_LOOK_S = 0.002
"""The same while callers wait for a replica."""

_AFTER_START_S = 0.01
"""How long the report that callers wait stands back behind the start of their replica."""

_FIRST_LOOK_S = 2.0
"""How long a new agent waits for the replicas that it finds to say how they are."""

_REPORT_S = 5.0
_WAIT_S = 20.0
_REFUSALS_TOLD = 20
"""Refused requests of a deployment that the control plane hears of."""

_AWAY = Backoff(first_s=0.2, cap_s=5.0)

_log = log.get("agent")


class Agent:
    """One cloud's agent. `run` until cancelled; replicas and edge outlive it."""

    def __init__(
        self,
        cloud: str,
        control: ControlPlane,
        driver: Driver,
        edge: EdgePort,
        clock: Clock,
        state_dir: Path,
        edge_url: str,
        *,
        replicas: ReplicaControl | None = None,
        holding: CallHolder | None = None,
        watching: TrafficWatcher | None = None,
        tokens: ControlTokens | None = None,
    ) -> None:
        """`edge_url` is where services reach each other; `replicas` how control sockets are asked; `holding` where
        calls wait for a replica; `watching` counts the traffic; `tokens` are those of control addresses."""
        self._cloud = cloud
        self._control = control
        self._driver = driver
        self._edge = edge
        self._holding: CallHolder = holding or NoCallHolder()
        self._watching: TrafficWatcher = watching or NoTrafficWatcher()
        self._clock = clock
        self._plan_file = PlanFile(state_dir / "plan.json")
        self._plan: Plan | None = None
        self._plan_name = ""
        self._wake, self._news, self._other_plan = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._tokens = tokens or ControlTokens.kept_in(state_dir / "control.key", driver.capabilities().addresses)
        asked: ReplicaControl = replicas or ControlSockets(self._tokens.at)
        self._place = GuardedDriver(driver, clock, self._wake)
        self._probes = Probes(asked, clock, self._wake)
        self._shadows = Shadows(ControlSockets(self._tokens.at), clock)
        self._histories: dict[str, ReplicaHistory] = {}
        self._statuses: tuple[ReplicaStatus, ...] = ()
        self._at_edge: frozenset[str] | None = None
        self._edge_seen = EdgeStatus()
        self._held_told: dict[str, int] = {}
        self._standby = Standby()
        self._secrets = Secrets(control)
        self._acts = Acts(driver, asked, self._probes, self._secrets, self._tokens, edge_url, clock, self._wake)
        self._poison = Poison()
        self._refusals: dict[DeploymentKey, Refusals] = {}
        self._answered_at = -math.inf

    async def run(self) -> None:
        """Work until cancelled."""
        self._take(self._plan_file.load())
        try:
            async with asyncio.TaskGroup() as group:
                for work in (
                    self._follow_plans,
                    self._place.run,
                    self._learn_secrets,
                    self._reconcile,
                    self._report,
                    self._answer_calls,
                    self._watching.run,
                    self._shadows.run,
                ):
                    group.create_task(work())
                group.create_task(self._holding.run(self._callers_wait))
        finally:
            closing = (self._acts.close(), self._probes.close(), self._place.close())
            await asyncio.gather(*closing, return_exceptions=True)

    # Following

    async def _follow_plans(self) -> None:
        failures = idle = 0
        while True:
            asked_at = self._clock.monotonic()
            try:
                answer = await self._control.plan(self._plan_name, _WAIT_S)
            except KaonError as error:
                failures = await self._back_off(failures, "no plan from the control plane", error)
                continue
            failures = 0
            self._heard()
            idle = await self._rest(idle, asked_at, new=self._is_new(answer))

    def _is_new(self, answer: NamedPlan | None) -> bool:
        """Take what the control plane answered; whether it says something else than the plan in force."""
        if answer is None or (answer.name and answer.name == self._plan_name):
            return False
        if new := answer.plan != self._plan:
            self._take(answer)
        self._plan_name = answer.name
        self._plan_file.keep(answer)
        return new

    def _take(self, named: NamedPlan | None) -> None:
        if named is None:
            return
        plan = named.plan
        self._plan, self._plan_name = plan, named.name
        self._secrets.keep((*plan.replicas, *plan.standby))
        for event in (self._wake, self._news, self._other_plan):
            event.set()

    def _callers_wait(self) -> None:
        """Callers have begun to wait, or none does any more."""
        self._wake.set()
        # A replica that is started ahead of the plan needs its secrets first; the two would only delay each other.
        ahead = self._plan is not None and bool(self._plan.standby)
        asyncio.get_running_loop().call_later(_AFTER_START_S if ahead else 0.0, self._news.set)

    async def _learn_secrets(self) -> None:
        """Know the secrets of replicas that an earlier agent started: to keep them out of logs that are asked for,
        and to start them again while the control plane is away."""
        failures = 0
        while True:
            self._other_plan.clear()
            missing: KaonError | None = None
            for spec in (*self._plan.replicas, *self._plan.standby) if self._plan else ():
                try:
                    if self._secrets.lacks(spec):
                        await self._secrets.of(spec)
                except KaonError as error:
                    missing = error
            if missing:
                failures = await self._back_off(failures, "no secrets from the control plane", missing)
                continue
            failures = 0
            await self._other_plan.wait()

    # Reconciling

    async def _reconcile(self) -> None:
        running = _running((await self._place.found()).replicas)
        self._tokens.follow(running)
        self._probes.follow(running)
        await self._first_answers()
        while True:
            again_in_s = await self._look_and_act() if self._plan else None
            await self._clock.sleep(_HASTY_LOOK_S if self._holding.held else _LOOK_S)
            await self._woken(self._wake, min(_TICK_S, again_in_s or _TICK_S))

    async def _first_answers(self) -> None:
        """Until every replica found running has answered or missed: the edge must not lose those that are well."""
        give_up = self._clock.monotonic() + _FIRST_LOOK_S
        while self._clock.monotonic() < give_up:
            if all(h.answer or h.misses for h in self._probes.health.values()):
                return
            await self._clock.sleep(_LOOK_S)

    async def _look_and_act(self) -> float | None:
        """Observe, decide, act; seconds until a back-off ends."""
        assert self._plan is not None
        self._wake.clear()
        busy = self._acts.busy  # before looking: see `kaon.agent.decide.replicas`
        await self._holding.follow(self._plan)
        plan = self._standby.ahead(self._plan, self._holding.held, self._clock.monotonic())
        not_begun = self._acts.refused()
        observed = (await self._place.observe()).replicas
        running = _running(observed)
        self._tokens.follow(running)
        self._probes.follow(running)
        self._blame(plan, observed)
        silent = [id_ for id_, health in self._probes.health.items() if health.misses >= MISSES]
        seen = AgentInputs(
            now=self._clock.monotonic(),
            wall=self._clock.now(),
            observed=observed,
            health=self._probes.health,
            refused=not_begun,
            failures=self._acts.failures,
            flights=await self._place.flights(silent),
            refusals=self._refusals,
            busy=busy,
            at_edge=self._at_edge,
            edge_busy=await self._edge_busy(plan, observed),
            answered_at=max(self._answered_at, self._watching.answered_at),
        )
        decided = step(plan, seen, self._histories)
        self._histories = decided.histories
        self._probes.hasten = frozenset(id_ for id_, m in decided.histories.items() if m.retired_at is not None)
        self._probes.waited_for = self._waited_for(plan)
        for action in decided.actions:
            self._acts.begin(plan, action)
        self._holding.tell(decided.endpoints, decided.statuses)  # who waits needs no edge to go on
        self._shadows.follow(plan.routes, decided.endpoints)
        await self._tell_edge(plan, decided.endpoints)
        self._tell(decided.statuses)  # ready is told once the edge knows it
        self._watching.tell(plan, running, decided.statuses)
        return decided.again_in_s

    def _blame(self, plan: Plan, observed: Mapping[str, ReplicaObservation]) -> None:
        """Learn from crashes which requests are to be refused."""
        specs = [*plan.replicas, *(memory.spec for memory in self._histories.values() if memory.spec)]
        owners = {spec.id: (spec.workspace, spec.deployment) for spec in specs}
        now = self._clock.monotonic()
        self._poison = follow(self._poison, observed, owners, now)
        refusals = {key: Refusals(request_ids=ids).named() for key, ids in refused(self._poison, now).items()}
        if refusals != self._refusals:
            self._refusals = refusals
            self._news.set()

    def _waited_for(self, plan: Plan) -> frozenset[str]:
        """Replicas of deployments that callers wait for."""
        held = self._holding.held
        return frozenset(spec.id for spec in plan.replicas if f"{spec.workspace}/{spec.deployment}" in held)

    async def _edge_busy(self, plan: Plan, observed: Mapping[str, ReplicaObservation]) -> frozenset[str]:
        """Replicas on their way out that the edge still has requests open to; it is asked once for all of them."""
        wanted = {spec.id for spec in plan.replicas}
        leaving = {
            id_: observation.service_address
            for id_, observation in observed.items()
            if id_ not in wanted and observation.service_address and observation.stage == Stage.STARTING
        }
        if not leaving:
            return frozenset()
        try:
            open_at = await self._edge.in_flight()
        except KaonError:
            return frozenset()
        return frozenset(id_ for id_, address in leaving.items() if open_at.get(address))

    async def _tell_edge(self, plan: Plan, endpoints: dict[DeploymentKey, tuple[ReplicaEndpoint, ...]]) -> None:
        try:
            await self._edge.apply(plan.routes, endpoints)
        except (KaonError, OSError) as error:
            _log.warning("the edge cannot be told", error=str(error))
            return
        told = frozenset(endpoint.replica for group in endpoints.values() for endpoint in group)
        if told != self._at_edge:
            self._at_edge = told
            self._wake.set()  # whoever waits for the edge to let go of it may go on

    def _tell(self, statuses: tuple[ReplicaStatus, ...]) -> None:
        before = {status.id: status for status in self._statuses}
        for status in statuses:
            earlier = before.get(status.id)
            if earlier is None or (earlier.phase, earlier.reason) != (status.phase, status.reason):
                _log.info("replica", replica=status.name, phase=status.phase.value, reason=status.reason)
        if statuses != self._statuses:
            self._statuses = statuses
            self._news.set()

    # Telling

    async def _report(self) -> None:
        failures = 0
        while True:
            self._news.clear()
            try:
                if self._held_told.keys() == self._holding.held.keys():  # else somebody waits: no time to ask the edge
                    self._edge_seen = await self._edge.status()
                report = Report(
                    cloud=self._cloud,
                    plan=self._plan_name,
                    replicas=self._statuses,
                    edge=self._edge_seen,
                    held=self._holding.held,
                    place=self._place.health,
                    refusals={
                        "/".join(key): refused.request_ids[:_REFUSALS_TOLD] for key, refused in self._refusals.items()
                    },
                )
                await self._control.report(report)
                self._heard()
                self._held_told = report.held
            except KaonError as error:
                failures = await self._back_off(failures, "no report to the control plane", error)
                continue
            failures = 0
            await self._woken(self._news, _REPORT_S)

    async def _answer_calls(self) -> None:
        failures = idle = 0
        async with asyncio.TaskGroup() as group:
            while True:
                asked_at = self._clock.monotonic()
                try:
                    call = await self._control.next_call(_WAIT_S)
                except KaonError as error:
                    failures = await self._back_off(failures, "no calls from the control plane", error)
                    continue
                failures = 0
                if call is not None:
                    group.create_task(self._answer(call))
                idle = await self._rest(idle, asked_at, new=call is not None)

    async def _answer(self, call: AgentCall) -> None:
        lines = _nothing()
        try:
            match call.call:
                case "logs":
                    lines = logs(LogsCall.model_validate(call.arguments), self._driver, self._clock.now())
                case "shadow":
                    lines = compared(ShadowCall.model_validate(call.arguments), self._shadows)
                case _:
                    raise NotFound(f"This agent knows no call {call.call!r}.")
        except (NotFound, ValidationError) as error:
            _log.warning("a call of the control plane cannot be answered", error=str(error))
        try:
            await self._control.answer(call.id, lines)
        except (KaonError, OSError):
            pass  # nobody listens any more, or the place cannot be reached
        except Exception:  # one call that fails ends nothing else
            _log.exception("a call of the control plane was not answered", call=call.call)

    # Waiting

    def _heard(self) -> None:
        """The control plane has answered."""
        self._answered_at = self._clock.monotonic()

    async def _rest(self, idle: int, asked_at: float, *, new: bool) -> int:
        """Wait after an answer that says nothing new and yet came at once, so that nothing is asked in a hot loop,
        whatever the reason; how many of these came in a row."""
        if new or self._clock.monotonic() - asked_at >= _AWAY.cap_s:
            return 0
        await self._clock.sleep(delay_s(_AWAY, idle + 1, random.random()))  # noqa: S311
        return idle + 1

    async def _back_off(self, failures: int, what: str, error: KaonError) -> int:
        """Wait after one more failure in a row; how many they are now."""
        if failures == 0:
            _log.warning(what, error=error.cause)
        await self._clock.sleep(delay_s(_AWAY, failures + 1, random.random()))  # noqa: S311
        return failures + 1

    async def _woken(self, event: asyncio.Event, within_s: float) -> None:
        """Return when `event` is set, at the latest after `within_s`."""
        waits = [asyncio.ensure_future(event.wait()), asyncio.ensure_future(self._clock.sleep(within_s))]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()


def _running(observed: Mapping[str, ReplicaObservation]) -> dict[str, str]:
    """Control addresses of the replicas whose process exists."""
    return {id_: s.control_address for id_, s in observed.items() if s.stage == Stage.STARTING and s.control_address}


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield b""
