"""The agent: makes one cloud match its plan, and reports what it observes.

A shell around `kaon.agent.decide.replicas`: it observes (driver, probes), lets `step` decide, and acts, each action in
a task of its own so that no replica waits for another. Nothing depends on an event: a new plan, the end of a replica,
or a probe with news only start the next look early, which comes within a second anyway.

It may be killed at any moment. The plan is on disk, replicas and edge keep running, and the next agent takes them over;
it probes every replica before it configures the edge.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from pathlib import Path

from kaon import log
from kaon.agent.act.actions import Acts
from kaon.agent.act.answering import WAIT_S, CallAnswers
from kaon.agent.act.attempt_news import AttemptReports
from kaon.agent.act.driver_guard import GuardedDriver
from kaon.agent.act.publishing import Publisher
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
    AttemptReceiver,
    CallHolder,
    ControlPlane,
    EdgePort,
    NoAttempts,
    NoCallHolder,
    NoTrafficWatcher,
    ReplicaControl,
    TrafficWatcher,
)
from kaon.agent.waits import Waits
from kaon.clock import Clock
from kaon.drivers.port import Driver, ReplicaObservation, Stage
from kaon.errors import KaonError
from kaon.types.names import DeploymentKey
from kaon.types.plan import EdgeStatus, NamedPlan, Plan, Report
from kaon.types.refusals import Refusals
from kaon.types.replica import ReplicaStatus, WorkloadKind
from kaon.types.route import ReplicaEndpoint

_TICK_S = 1.0
_LOOK_S = 0.02
"""Least time between two looks, so that a burst of changes needs one."""

_HELD_LOOK_S = 0.002
"""The same while calls are held."""

_AFTER_START_S = 0.01
"""How much later than the start of their replica held calls are reported."""

_FIRST_LOOK_S = 2.0
"""How long a new agent waits for the first probes of the replicas that it finds."""

_REPORT_S = 5.0
_REFUSALS_REPORTED = 20
"""Refused requests of one deployment that are reported."""

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
        attempts: AttemptReceiver | None = None,
        tokens: ControlTokens | None = None,
    ) -> None:
        """`edge_url` is where services call each other; `replicas` reaches control sockets; `holding` holds calls for
        a replica; `watching` counts the traffic; `attempts` receives what jobs make; `tokens` are those of control
        addresses."""
        self._cloud = cloud
        self._control = control
        self._driver = driver
        self._edge = edge
        self._holding: CallHolder = holding or NoCallHolder()
        self._watching: TrafficWatcher = watching or NoTrafficWatcher()
        self._clock = clock
        receiver = attempts or NoAttempts()
        self._plan_file = PlanFile(state_dir / "plan.json")
        self._plan: Plan | None = None
        self._plan_name = ""
        self._wake, self._news, self._other_plan = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._tokens = tokens or ControlTokens.kept_in(state_dir / "control.key", driver.capabilities().addresses)
        controls: ReplicaControl = replicas or ControlSockets(self._tokens.at)
        self._place = GuardedDriver(driver, clock, self._wake)
        self._probes = Probes(controls, clock, self._wake)
        self._shadows = Shadows(ControlSockets(self._tokens.at), clock)
        self._histories: dict[str, ReplicaHistory] = {}
        self._statuses: tuple[ReplicaStatus, ...] = ()
        self._at_edge: frozenset[str] | None = None
        self._edge_status = EdgeStatus()
        self._held_reported: dict[str, int] = {}
        self._standby = Standby()
        self._waits = Waits(clock)
        self._call_answers = CallAnswers(control, driver, self._shadows, clock)
        self._secrets = Secrets(control)
        self._reports = AttemptReports(driver, receiver, clock)
        self._publisher = Publisher(driver, receiver, self._reports)
        self._acts = Acts(
            driver,
            controls,
            self._probes,
            self._secrets,
            receiver,
            self._publisher,
            self._tokens,
            edge_url,
            clock,
            self._wake,
        )
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
                    self._get_secrets,
                    self._reconcile,
                    self._report,
                    self._call_answers.run,
                    self._watching.run,
                    self._shadows.run,
                    self._reports.run,
                ):
                    group.create_task(work())
                group.create_task(self._holding.run(self._callers_wait))
        finally:
            closing = (self._acts.close(), self._probes.close(), self._place.close())
            await asyncio.gather(*closing, return_exceptions=True)

    # The plan

    async def _follow_plans(self) -> None:
        failures = idle = 0
        while True:
            sent_at = self._clock.monotonic()
            try:
                answer = await self._control.plan(self._plan_name, WAIT_S)
            except KaonError as error:
                failures = await self._waits.after_failure(failures, "no plan from the control plane", error)
                continue
            failures = 0
            self._note_answer()
            idle = await self._waits.after_answer(idle, sent_at, new=self._is_new(answer))

    def _is_new(self, answer: NamedPlan | None) -> bool:
        """Apply the control plane's answer; returns whether it is another plan than the current one."""
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
        """Called when the first call is held, and when none is held any more."""
        self._wake.set()
        # A replica started ahead of the plan needs its secrets first; a report at the same time would delay them.
        ahead = self._plan is not None and bool(self._plan.standby)
        asyncio.get_running_loop().call_later(_AFTER_START_S if ahead else 0.0, self._news.set)

    async def _get_secrets(self) -> None:
        """Get the secrets of replicas that an earlier agent started: to hide them in logs, and to restart these
        replicas while the control plane cannot be reached."""
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
                failures = await self._waits.after_failure(failures, "no secrets from the control plane", missing)
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
            again_in_s = await self._reconcile_once() if self._plan else None
            await self._clock.sleep(_HELD_LOOK_S if self._holding.held else _LOOK_S)
            await self._waits.for_event(self._wake, min(_TICK_S, again_in_s or _TICK_S))

    async def _first_answers(self) -> None:
        """Wait until every running replica has answered or missed a probe: the edge must not lose healthy ones."""
        give_up = self._clock.monotonic() + _FIRST_LOOK_S
        while self._clock.monotonic() < give_up:
            if all(h.answer or h.misses for h in self._probes.health.values()):
                return
            await self._clock.sleep(_LOOK_S)

    async def _reconcile_once(self) -> float | None:
        """Observe, decide, act; returns the seconds until a back-off ends."""
        assert self._plan is not None
        self._wake.clear()
        busy = self._acts.busy  # before observing: see `kaon.agent.decide.replicas`
        await self._holding.follow(self._plan)
        plan = self._standby.ahead(self._plan, self._holding.held, self._clock.monotonic())
        refused_starts = self._acts.refused()
        observed = (await self._place.observe()).replicas
        running = _running(observed)
        self._tokens.follow(running)
        self._probes.follow(running)
        self._find_poison(plan, observed)
        silent = [id_ for id_, health in self._probes.health.items() if health.misses >= MISSES]
        self._follow_attempts(plan, observed)
        inputs = AgentInputs(
            now=self._clock.monotonic(),
            wall=self._clock.now(),
            observed=observed,
            health=self._probes.health,
            refused=refused_starts,
            failures=self._acts.failures,
            flights=await self._place.flights(silent),
            refusals=self._refusals,
            busy=busy,
            acknowledged=self._publisher.acknowledged,
            output_bytes=self._reports.output_bytes,
            at_edge=self._at_edge,
            edge_busy=await self._edge_busy(plan, observed),
            answered_at=max(self._answered_at, self._watching.answered_at),
        )
        decided = step(plan, inputs, self._histories)
        self._histories = decided.histories
        self._probes.hasten = frozenset(id_ for id_, m in decided.histories.items() if m.retired_at is not None)
        self._probes.waited_for = self._waited_for(plan)
        for action in decided.actions:
            self._acts.begin(plan, action)
        services = tuple(status for status in decided.statuses if _is_service(decided.histories[status.id]))
        self._holding.update(decided.endpoints, services)  # held calls go on without the edge
        self._shadows.follow(plan.routes, decided.endpoints)
        await self._configure_edge(plan, decided.endpoints)
        self._report_statuses(decided.statuses)  # ready is reported once the edge has it
        self._watching.update(plan, running, services)
        return decided.again_in_s

    def _find_poison(self, plan: Plan, observed: Mapping[str, ReplicaObservation]) -> None:
        """Find requests to refuse in the crashes observed."""
        specs = [*plan.replicas, *(memory.spec for memory in self._histories.values() if memory.spec)]
        owners = {spec.id: (spec.workspace, spec.deployment) for spec in specs}
        now = self._clock.monotonic()
        self._poison = follow(self._poison, observed, owners, now)
        refusals = {key: Refusals(request_ids=ids).named() for key, ids in refused(self._poison, now).items()}
        if refusals != self._refusals:
            self._refusals = refusals
            self._news.set()

    def _follow_attempts(self, plan: Plan, observed: Mapping[str, ReplicaObservation]) -> None:
        planned = {attempt.replica.id for attempt in plan.attempts}
        exist = (id_ for id_, observation in observed.items() if observation.stage is Stage.STARTING)
        self._reports.follow(planned.intersection(exist), planned)
        self._publisher.keep(planned)

    def _waited_for(self, plan: Plan) -> frozenset[str]:
        """Replicas of deployments with held calls."""
        held = self._holding.held
        return frozenset(spec.id for spec in plan.replicas if f"{spec.workspace}/{spec.deployment}" in held)

    async def _edge_busy(self, plan: Plan, observed: Mapping[str, ReplicaObservation]) -> frozenset[str]:
        """Replicas outside of the plan with open requests of the edge; one request to the edge for all of them."""
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

    async def _configure_edge(self, plan: Plan, endpoints: dict[DeploymentKey, tuple[ReplicaEndpoint, ...]]) -> None:
        try:
            await self._edge.apply(plan.routes, endpoints)
        except (KaonError, OSError) as error:
            _log.warning("the edge cannot be configured", error=str(error))
            return
        configured = frozenset(endpoint.replica for group in endpoints.values() for endpoint in group)
        if configured != self._at_edge:
            self._at_edge = configured
            self._wake.set()  # stops that wait for the edge may go on

    def _report_statuses(self, statuses: tuple[ReplicaStatus, ...]) -> None:
        before = {status.id: status for status in self._statuses}
        for status in statuses:
            earlier = before.get(status.id)
            if earlier is None or (earlier.phase, earlier.reason) != (status.phase, status.reason):
                _log.info("replica", replica=status.name, phase=status.phase.value, reason=status.reason)
        if statuses != self._statuses:
            self._statuses = statuses
            self._news.set()

    # Reporting

    async def _report(self) -> None:
        failures = 0
        while True:
            self._news.clear()
            try:
                if self._held_reported.keys() == self._holding.held.keys():  # else calls are held: report them first
                    self._edge_status = await self._edge.status()
                report = Report(
                    cloud=self._cloud,
                    plan=self._plan_name,
                    replicas=self._statuses,
                    edge=self._edge_status,
                    held=self._holding.held,
                    place=self._place.health,
                    refusals={
                        "/".join(key): refused.request_ids[:_REFUSALS_REPORTED]
                        for key, refused in self._refusals.items()
                    },
                )
                await self._control.report(report)
                self._note_answer()
                self._held_reported = report.held
            except KaonError as error:
                failures = await self._waits.after_failure(failures, "no report to the control plane", error)
                continue
            failures = 0
            await self._waits.for_event(self._news, _REPORT_S)

    def _note_answer(self) -> None:
        """The control plane has answered."""
        self._answered_at = self._clock.monotonic()


def _is_service(history: ReplicaHistory) -> bool:
    return history.spec is None or history.spec.kind is WorkloadKind.SERVICE


def _running(observed: Mapping[str, ReplicaObservation]) -> dict[str, str]:
    """Control addresses of the replicas whose process exists."""
    return {id_: s.control_address for id_, s in observed.items() if s.stage == Stage.STARTING and s.control_address}
