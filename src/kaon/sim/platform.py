"""The platform in simulated time: the real controllers and the agent's real decisions, on a fake clock and driver.

Simulated are replicas that start slowly, fail or never start (`kaon.drivers.fake`), callers, and the edge's shares.
Every second the agent's pure `step` decides on the observations, its report and its samples are sent to the control
plane, and every reconciler processes the changes. Either side can be restarted in between. The same seed and the same
calls give the same run.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, field

from kaon.agent.act.workloads import workload_of
from kaon.agent.decide import replicas
from kaon.agent.decide.inputs import (
    Action,
    AdmitIt,
    AgentInputs,
    ForgetIt,
    ProbedHealth,
    RefusedStart,
    ReplicaHistory,
    StartIt,
    StopIt,
)
from kaon.clock import FakeClock
from kaon.control import Controllers
from kaon.control.scaling import TICK_S
from kaon.control.tune.twin_port import TwinPort
from kaon.drivers.fake import Behaviour, FakeDriver, FakePlace, FakeReplicas
from kaon.drivers.port import Stage, Workload
from kaon.errors import Unavailable
from kaon.laws.tune.guard import TICK_S as LOOK_S
from kaon.sim.served import Served
from kaon.store.live_status import LiveStatus
from kaon.store.memory import MemoryStore
from kaon.store.plans import StoredPlans
from kaon.store.snapshot import Snapshot
from kaon.store.traffic import TrafficRing
from kaon.store.vault import Vault
from kaon.types.artifact import ArtifactSpec, Manifest
from kaon.types.cloud import CloudSpec, CloudStatus
from kaon.types.deployment import DeploymentSpec, DeploymentStatus
from kaon.types.knobs import PlannedKnobs
from kaon.types.names import DeploymentKey
from kaon.types.observation import Batches
from kaon.types.plan import EdgeStatus, Plan, Report
from kaon.types.replica import Phase, ReplicaStatus
from kaon.types.service import ServiceSpec
from kaon.types.traffic import LATENCY_BOUNDS_S, ColdStart, Sample, Traffic

CLOUD, WORKSPACE = "local", "default"
_PATIENCE_S = 1.0
"""A caller that waits longer leaves, and counts as a miss."""
_STARTING = (Phase.STARTING, Phase.LOADING, Phase.INSTALLING)


@dataclass
class SimulatedLoad:
    """The calls of a deployment, and how long each takes."""

    rps: float = 0.0
    call_s: float = 0.1
    waiting: int = 0
    arrived: int = 0
    well: int = 0
    missed: int = 0
    served: Served | None = None
    """The event simulator that serves the calls, if any; then `rps` and `call_s` are not used."""

    @property
    def in_flight(self) -> int:
        """Calls that arrived and are neither answered nor missed."""
        return self.arrived - self.well - self.missed


@dataclass
class SimulatedPlatform:
    """A control plane and one cloud. `behaviours`: how replicas of an artifact behave; by default ready after 5 s."""

    seed: int = 0
    behaviours: dict[str, Behaviour] = field(default_factory=dict)
    loads: dict[str, SimulatedLoad] = field(default_factory=dict)
    twin: TwinPort | None = None

    def __post_init__(self) -> None:
        self.clock = FakeClock()
        self.store = MemoryStore(self.clock)
        self._snapshot = Snapshot(self.store)
        self._plans = StoredPlans(self._snapshot)
        self.place = FakePlace(self.clock, script=self._behaviour)
        self.driver, self.replicas = FakeDriver(self.place), FakeReplicas(self.place)
        self.ring = TrafficRing()
        self.random = random.Random(self.seed)  # noqa: S311 - a simulation's
        self.restart_control()
        self.restart_agent()
        self._second = 0

    def restart_control(self) -> None:
        """Restart the control plane over the same store: what it had in memory is lost."""
        self.live_status = LiveStatus()
        self.controllers = Controllers(
            self.store, Vault(bytes(32)), self.clock, traffic=self.ring, live_status=self.live_status, twin=self.twin
        )
        self._version = -1
        self._due: dict[tuple[int, DeploymentKey], float] = {}

    def restart_agent(self) -> None:
        """Restart the agent in the same place: replicas keep running."""
        self._histories: Mapping[str, ReplicaHistory] = {}
        self._refused: dict[str, RefusedStart] = {}
        self._at_edge: frozenset[str] = frozenset()
        self._health: dict[str, ProbedHealth] = {}
        self._ready: frozenset[str] = frozenset()

    async def begin(self) -> None:
        """Join the cloud."""
        await self.store.create("cloud", "", CLOUD, CloudSpec(), CloudStatus())

    async def deploy(self, name: str, spec: DeploymentSpec, service: ServiceSpec | None = None) -> None:
        """Create or change a deployment; a new artifact is made of `service`, or of a plain one."""
        digest = spec.template.artifact
        if await self.store.find("artifact", WORKSPACE, digest) is None:
            service = service or ServiceSpec(name=name, entry="m:C")
            manifest = Manifest(kaon="0", python="3.11", service=service, files=())
            artifact = ArtifactSpec(digest=digest, manifest=manifest, size_bytes=1)
            await self.store.create("artifact", WORKSPACE, digest, artifact)
        found = await self.store.find("deployment", WORKSPACE, name)
        if found is None:
            await self.store.create("deployment", WORKSPACE, name, spec)
        else:
            await self.store.update_spec(found, spec)
        self.loads.setdefault(name, SimulatedLoad())

    async def live(self, seconds: int) -> None:
        """Simulate so many seconds."""
        for _ in range(seconds):
            self._second += 1
            await self.clock.advance(1.0)
            report, ready = await self._agent()
            samples = self._serve(report, ready)
            until = self.ring.until(CLOUD)
            self.ring.add(Traffic(cloud=CLOUD, after_s=until, samples=tuple(samples)), self.clock.now())
            cloud = await self.store.get("cloud", "", CLOUD)
            await self.store.update_status(cloud, CloudStatus(report=report, seen_at=self.clock.now()))
            await self.reconcile()
            if self._second % round(TICK_S) == 0:
                await self.controllers.scaling.tick()
                await self.reconcile()
            if self._second % round(LOOK_S) == 0:
                await self.controllers.tuning.tick()
                await self.controllers.tuning.query_results()
                await self.reconcile()

    async def status(self, name: str) -> DeploymentStatus:
        """A deployment's status."""
        found: DeploymentStatus = (await self.store.get("deployment", WORKSPACE, name)).status
        return found

    def ready(self, name: str) -> int:
        """Replicas of a deployment that are behind the edge."""
        return sum(self.place.replicas[id_].workload.spec.deployment == name for id_ in self._ready)

    def running(self, name: str) -> int:
        """Replicas of a deployment that exist, ready or not."""
        return sum(r.workload.spec.deployment == name for r in self.place.replicas.values() if r.stopped is None)

    def kill(self, name: str) -> None:
        """Kill a replica of the deployment, chosen by the seed."""
        alive = [r for r in self.place.replicas.values() if r.workload.spec.deployment == name and r.stopped is None]
        if alive:
            victim = self.random.choice(alive)
            victim.behaviour = victim.behaviour.model_copy(update={"ends_after_s": 0.0})

    async def reconcile(self) -> None:
        """Let every reconciler process what has changed or is due, until nothing is left."""
        reconcilers = self.controllers.reconcilers
        if self._version < 0:
            for number, reconciler in enumerate(reconcilers):
                self._due |= {(number, key): 0.0 for key in await reconciler.keys()}
            self._version = 0
        while True:
            if self._version < await self.store.version():
                async for changes in self.store.watch(self._version):
                    self._version = max(change.version for change in changes)
                    for number, reconciler in enumerate(reconcilers):
                        self._due |= {(number, key): 0.0 for key in await reconciler.affected(changes)}
                    break
            now = self.clock.now()
            due = sorted(place for place, at in self._due.items() if at <= now)
            if not due:
                return
            for number, key in due:
                del self._due[number, key]
                again = await reconcilers[number].reconcile(key)
                if again is not None:
                    self._due[number, key] = now + again.after_s

    def _behaviour(self, workload: Workload) -> Behaviour:
        return self.behaviours.get(workload.spec.artifact, Behaviour(ready_after_s=5.0))

    async def _agent(self) -> tuple[Report, frozenset[str]]:
        """One step of the agent."""
        await self._snapshot.at_least(self.store.written)
        found = self._plans.read(CLOUD)
        self._plan = plan = found.plan if found else Plan(cloud=CLOUD)
        observed = (await self.driver.observe()).replicas
        now = self.clock.monotonic()
        for id_, observation in observed.items():
            before = self._health.get(id_, ProbedHealth())
            try:
                answer = await self.replicas.health(observation.control_address or "unix:/gone/-")
            except Unavailable:
                silent_since = now if before.silent_since is None else before.silent_since
                self._health[id_] = ProbedHealth(before.answer, before.asked_at, 0, before.misses + 1, silent_since)
            else:
                self._health[id_] = ProbedHealth(answer, now, before.zeros + 1 if answer.in_flight == 0 else 0)
        inputs = AgentInputs(
            now=now,
            wall=self.clock.now(),
            observed=observed,
            health={id_: self._health[id_] for id_ in observed},
            refused=self._refused,
            at_edge=self._at_edge,
        )
        decided = replicas.step(plan, inputs, self._histories)
        self._histories, self._refused = decided.histories, {}
        self._at_edge = frozenset(e.replica for group in decided.endpoints.values() for e in group)
        for action in decided.actions:
            await self._do(plan, action)
        ready = frozenset(id_ for id_ in self._at_edge if observed[id_].stage != Stage.EXITED)
        report = Report(
            cloud=CLOUD, plan=found.name if found else "", replicas=decided.statuses, edge=EdgeStatus(running=True)
        )
        return report, ready

    async def _do(self, plan: Plan, action: Action) -> None:
        match action:
            case StartIt(spec):
                self._health.pop(spec.id, None)
                try:
                    await self.driver.start(workload_of(plan, spec, {}))
                except Unavailable as error:
                    self._refused[spec.id] = RefusedStart(Phase.NO_CAPACITY, error.cause)
            case StopIt(replica):
                await self.driver.stop(replica, 0.0)
            case ForgetIt(replica):
                await self.driver.forget(replica)
                self._health.pop(replica, None)
            case AdmitIt(replica, access):
                await self.replicas.admit(f"unix:/fake/{replica}/control.sock", access)

    def _serve(self, report: Report, ready: frozenset[str]) -> list[Sample]:
        """A second of calls: each ready replica answers one call at a time; a caller that waits too long leaves."""
        fresh, self._ready = ready - self._ready, ready
        samples = []
        for name, load in sorted(self.loads.items()):
            statuses = [status for status in report.replicas if status.deployment == name]
            serving: dict[int, int] = {}
            for status in statuses:
                serving[status.revision] = serving.get(status.revision, 0) + (status.id in ready)
            if load.served is not None:
                samples += self._simulated(name, load.served, statuses, ready, fresh)
                continue
            whole = int(load.rps)
            came = whole + (self.random.random() < load.rps - whole)
            able = int(sum(serving.values()) / load.call_s)
            load.arrived += came
            load.waiting += came
            done = min(load.waiting, able)
            load.waiting -= done
            late = max(0, load.waiting - max(int(able * _PATIENCE_S), came))
            load.waiting -= late
            load.well += done
            load.missed += late
            samples += _samples(self.clock.now(), name, load, statuses, serving, (came, done, late), fresh)
        return samples

    def _simulated(
        self, name: str, served: Served, statuses: list[ReplicaStatus], ready: frozenset[str], fresh: frozenset[str]
    ) -> list[Sample]:
        """A second of calls that the event simulator serves, of one revision."""
        planned = self._plan.knobs.get(f"{WORKSPACE}/{name}", PlannedKnobs())
        observed, latency = served.second(self._second, [planned.of(s.id) for s in statuses if s.id in ready])
        return [
            Sample(
                workspace=WORKSPACE,
                deployment=name,
                revision=max((status.revision for status in statuses), default=0),
                cloud=CLOUD,
                at_s=self.clock.now(),
                span_s=1.0,
                arrivals=observed.arrivals,
                codes={"2xx": observed.answered or 0},
                latency=latency,
                in_flight=observed.in_flight,
                queued=observed.queued,
                began=observed.began,
                busy_s=observed.busy_s,
                batches=observed.batches,
                ready=observed.ready,
                starting=sum(s.phase in _STARTING for s in statuses),
                starts=tuple(ColdStart(replica=s.id, load_s=5.0) for s in statuses if s.id in fresh),
            )
        ]


def _samples(
    now: float,
    name: str,
    load: SimulatedLoad,
    statuses: list[ReplicaStatus],
    serving: Mapping[int, int],
    counts: tuple[int, int, int],
    fresh: frozenset[str],
) -> list[Sample]:
    """The samples of a deployment for this second, by revision; calls without a replica count for revision 0."""
    came, done, late = counts
    total = sum(serving.values())
    shares = {r: n / total for r, n in serving.items()} if total else {0: 1.0}
    bucket = next(i for i, bound in enumerate(LATENCY_BOUNDS_S) if bound >= load.call_s)
    found = []
    left = [came, done, late, load.waiting]
    for revision, share in sorted({**dict.fromkeys(serving, 0.0), **shares}.items()):
        last = revision == max({**serving, **shares})
        parts = [left[i] if last else math.floor(v * share) for i, v in enumerate((came, done, late, load.waiting))]
        left = [whole - part for whole, part in zip(left, parts, strict=True)]
        arrivals, answered, lost, waiting = parts
        own = [status for status in statuses if status.revision == revision]
        busy_s = answered * load.call_s
        found.append(
            Sample(
                workspace=WORKSPACE,
                deployment=name,
                revision=revision,
                cloud=CLOUD,
                at_s=now,
                span_s=1.0,
                arrivals=arrivals,
                codes={"2xx": answered, "none": lost},
                latency={bucket: answered} if answered else {},
                in_flight=waiting,
                queued=waiting,
                began=answered,
                busy_s=busy_s,
                batches=Batches(
                    count=answered, rows=answered, seconds=busy_s, rows_squared=answered, rows_seconds=busy_s
                ),
                ready=serving.get(revision, 0),
                starting=sum(s.phase in _STARTING for s in own),
                starts=tuple(ColdStart(replica=s.id, load_s=5.0) for s in own if s.id in fresh),
            )
        )
    return found
