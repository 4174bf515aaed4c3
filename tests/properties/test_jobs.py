"""Jobs on a model of agents and servers that are interrupted anywhere: none lost, none twice."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections import Counter
from collections.abc import Awaitable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from kaon.api import attempts, jobs
from kaon.api.app import create_app
from kaon.api.keyring import Caller
from kaon.clock import FakeClock
from kaon.control.jobs import THE_QUEUE, JobController
from kaon.errors import Conflict, NotFound, Unavailable
from kaon.laws.rights import EffectiveRights
from kaon.settings import Settings
from kaon.store.memory import MemoryStore
from kaon.store.plans import StoredPlans
from kaon.store.snapshot import Snapshot
from kaon.store.vault import Vault
from kaon.testing.blobs import MemoryBlobs
from kaon.types.artifact import ArtifactSpec, Manifest
from kaon.types.cloud import CloudPhase, CloudSpec, CloudStatus
from kaon.types.job import AttemptEnd, AttemptNews, JobDeclaration, JobRequest, JobState, PlannedAttempt, Progress
from kaon.types.key import RIGHTS, Role
from kaon.types.place import Capacity, PlaceHealth
from kaon.types.plan import Plan, PlanSpec, Report
from kaon.types.replica import Phase, ReplicaStatus, WorkloadKind
from kaon.types.service import ServiceSpec
from kaon.types.workspace import WorkspaceSpec

CHAOS = int(os.environ.get("KAON_CHAOS", "0"))
WS, CLOUD, CPUS = "default", "local", 3.0
DIGEST = f"sha256:{'0' * 64}"
T = TypeVar("T")
ROOT = Caller("root", "root", "", Role.ADMIN, EffectiveRights(rights=RIGHTS[Role.ADMIN]), verb="submit")


class InterruptedStore(MemoryStore):
    """A store whose next write fails, before it has an effect or after it."""

    fails = ""

    async def write(self, writes: Any, *, epoch: int | None = None) -> Any:
        fails, self.fails = self.fails, ""
        if fails == "before":
            raise Unavailable("The store is gone.")
        written = await super().write(writes, epoch=epoch)
        if fails == "after":
            raise Unavailable("The answer is lost.")
        return written


class Agent:
    """What an agent does with attempts: its disk survives it, its processes too."""

    def __init__(self) -> None:
        self.running: dict[str, PlannedAttempt] = {}
        self.ends: dict[str, AttemptEnd] = {}
        self.starts: Counter[str] = Counter()
        self.uids: dict[str, str] = {}

    def apply(self, plan: Plan | None) -> None:
        planned = {attempt.replica.id: attempt for attempt in (plan.attempts if plan else ())}
        for id_, attempt in planned.items():
            if id_ not in self.running and id_ not in self.ends:
                self.starts[attempt.replica.deployment_uid] += 1
                self.uids[id_] = attempt.replica.deployment_uid
                self.running[id_] = attempt
            if attempt.cancelled and id_ in self.running:
                self.end(id_, AttemptEnd(exit_code=-15, timed_out=attempt.cancelled == JobState.TIMED_OUT))
        for id_ in [*self.running, *self.ends]:
            if id_ not in planned:  # not wanted any more
                self.running.pop(id_, None)
                self.ends.pop(id_, None)

    def end(self, id_: str, end: AttemptEnd) -> None:
        del self.running[id_]
        self.ends[id_] = end

    def report(self) -> Report:
        def status(attempt: PlannedAttempt) -> ReplicaStatus:
            spec = attempt.replica
            names = {"id": spec.id, "name": spec.name, "workspace": spec.workspace, "deployment": spec.deployment}
            return ReplicaStatus(**names, revision=1, kind=WorkloadKind.JOB, phase=Phase.READY)

        free = max(0.0, CPUS - len(self.running))
        place = PlaceHealth(free=Capacity(cpus=free, memory_bytes=2**40), used=Capacity(cpus=len(self.running)))
        return Report(cloud=CLOUD, replicas=tuple(map(status, self.running.values())), place=place)


class JobsMachine(RuleBasedStateMachine):
    """Submit, run, crash, cancel, retry, publish, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.exits = ExitStack()
        self.clock = FakeClock(1000.0)
        self.store = InterruptedStore(self.clock)
        self.blobs = MemoryBlobs()
        self.vault = Vault(b"0" * 32)
        self.agent = Agent()
        self.submitted: dict[str, tuple[str, bool]] = {}
        self.results: dict[str, Any] = {}
        self.serial = 0

    def do(self, work: Awaitable[T]) -> T | None:
        """What `work` returns; None when it was interrupted or refused."""
        try:
            return self.loop.run_until_complete(work)  # type: ignore[arg-type]
        except (Unavailable, Conflict, NotFound):
            return None

    @initialize()
    def begin(self) -> None:
        declared = JobDeclaration(name="train", entry="m:train", parameters={"properties": {"n": {"type": "integer"}}})
        manifest = Manifest(
            kaon="0", python="3.11", service=ServiceSpec(name="Train", entry="m:train"), jobs=(declared,), files=()
        )
        artifact = ArtifactSpec(digest=DIGEST, size_bytes=1, manifest=manifest)

        async def rows() -> None:
            await self.store.create("workspace", "", WS, WorkspaceSpec())
            await self.store.create("artifact", WS, DIGEST, artifact)
            status = CloudStatus(report=self.agent.report(), phase=CloudPhase.READY, seen_at=self.clock.now())
            await self.store.create("cloud", "", CLOUD, CloudSpec(), status)
            await self.store.create("plan", "", CLOUD, PlanSpec(hash="none"))

        self.do(rows())
        self.start_server()

    @rule()
    def start_server(self) -> None:
        """A server that was killed at any moment has nothing but the store."""
        self.store.fails = ""
        self.snapshot = Snapshot(self.store)
        app = create_app(
            store=self.store,
            blobs=self.blobs,
            vault=self.vault,
            settings=Settings(home=Path(tempfile.gettempdir())),
            clock=self.clock,
            snapshot=self.snapshot,
        )
        self.context = app.state.context
        self.controller = JobController(self.store, self.vault, self.clock, self.snapshot, lambda: 0.5)
        self.plans = StoredPlans(self.snapshot)
        self.exits.close()
        self.subscription = self.exits.enter_context(self.snapshot.subscribe())
        self.do(self.snapshot.current())
        self.todo: dict[Any, None] = dict.fromkeys(self.do(self.controller.keys()) or ())

    @rule(fails=st.sampled_from(["before", "after"]))
    def interrupt_next_write(self, fails: str) -> None:
        self.store.fails = fails

    @rule(retries=st.integers(0, 2), once=st.booleans(), many=st.sampled_from([0, 0, 3]))
    def submit(self, retries: int, once: bool, many: int) -> None:
        self.serial += 1
        name = f"job-{self.serial}"
        request: dict[str, Any] = {"map": {"n": range(many)}, "parallel": 2} if many else {}
        body = JobRequest(
            name=name, artifact=DIGEST, function="train", retries=0 if once else retries, once=once, **request
        )
        self.do(self.snapshot.current())
        self.do(jobs.submit_job(WS, body, self.context, ROOT))
        for job in self.do(self.store.list_all("job", WS)) or ():
            self.submitted.setdefault(job.uid, (job.name, job.spec.once))

    @rule(data=st.data())
    def cancel_or_retry(self, data: st.DataObject) -> None:
        if self.submitted:
            name = data.draw(st.sampled_from([name for name, _ in self.submitted.values()]))
            change = data.draw(st.sampled_from([jobs.cancel_job, jobs.retry_job]))
            self.do(self.snapshot.current())
            self.do(change(WS, name, self.context, ROOT))

    @rule(steps=st.integers(1, 4))
    def control(self, steps: int) -> None:
        """The controller does a few of the things that it has to do."""
        self.do(self.snapshot.current())
        self.todo.update(dict.fromkeys(self.do(self.controller.affected(self.subscription.taken())) or ()))
        for key in list(self.todo)[:steps]:
            del self.todo[key]
            try:
                self.loop.run_until_complete(self.controller.reconcile(key))
            except (Unavailable, Conflict, NotFound):
                self.todo[key] = None

    @rule(seconds=st.sampled_from([0.5, 3.0, 70.0]))
    def pass_time(self, seconds: float) -> None:
        self.clock.jump(seconds)
        self.todo[THE_QUEUE] = None

    @rule()
    def agent_gets_the_plan(self) -> None:
        self.do(self.snapshot.current())
        named = self.plans.read(CLOUD)
        self.agent.apply(named.plan if named else None)

    @rule()
    def agent_reports(self) -> None:
        async def report() -> None:
            cloud = await self.store.get("cloud", "", CLOUD)
            changed = {"report": self.agent.report(), "seen_at": self.clock.now()}
            await self.store.update_status(cloud, cloud.status.model_copy(update=changed))

        self.do(report())

    @rule(data=st.data(), good=st.booleans())
    def process_ends(self, data: st.DataObject, good: bool) -> None:
        if self.agent.running:
            id_ = data.draw(st.sampled_from(sorted(self.agent.running)))
            self.agent.end(id_, AttemptEnd(exit_code=0 if good else 1, result=id_ if good else None))

    @rule(data=st.data())
    def agent_sends_news(self, data: st.DataObject) -> None:
        if self.agent.running:
            id_ = data.draw(st.sampled_from(sorted(self.agent.running)))
            news = AttemptNews(progress=Progress(fraction=0.5))
            self.do(self.snapshot.current())
            self.do(attempts.post_attempt_news(CLOUD, id_, news, self.context))

    @rule(data=st.data())
    def agent_sends_an_end(self, data: st.DataObject) -> None:
        """Perhaps not for the first time: it keeps it until the plan does not have the attempt any more."""
        if self.agent.ends:
            self.send_end(data.draw(st.sampled_from(sorted(self.agent.ends))))

    def send_end(self, id_: str) -> None:
        self.do(self.snapshot.current())
        self.do(attempts.post_attempt_end(CLOUD, id_, self.agent.ends[id_], self.context))

    @invariant()
    def no_job_is_lost_or_published_twice(self) -> None:
        found = {job.uid: job for job in self.do(self.store.list_all("job", WS)) or ()}
        assert found.keys() >= self.submitted.keys()
        for uid, job in found.items():
            numbers = [attempt.number for attempt in job.status.attempts]
            assert numbers == list(range(1, len(numbers) + 1))
            current = [attempt for attempt in job.status.attempts if not attempt.state.ended]
            assert current in ([], [job.status.attempts[-1]] if job.status.attempts else [])
            if job.status.state is JobState.SUCCEEDED:
                assert self.results.setdefault(uid, job.status.result) == job.status.result
            else:
                assert uid not in self.results

    @invariant()
    def no_job_runs_twice_at_once_or_more_often_than_it_may(self) -> None:
        assert all(count == 1 for count in Counter(self.agent.uids[id_] for id_ in self.agent.running).values())
        for uid, (_, once) in self.submitted.items():
            assert not once or self.agent.starts[uid] <= 1
        assert len(self.agent.running) <= CPUS, "more than the capacity"
        arrays = Counter(a.replica.deployment.rpartition("-")[0] for a in self.agent.running.values())
        assert all(count <= 2 for name, count in arrays.items() if name != "job"), "more than may run in parallel"

    def teardown(self) -> None:
        """Without interruptions every job ends."""
        if not hasattr(self, "controller"):
            return
        self.start_server()
        for _ in range(60 + 40 * len(self.submitted)):
            if all(job.status.state.ended for job in self.do(self.store.list_all("job", WS)) or ()):
                break
            self.control(100)
            self.agent_gets_the_plan()
            for id_ in sorted(self.agent.running):
                self.agent.end(id_, AttemptEnd(exit_code=0, result=id_))
            for id_ in sorted(self.agent.ends):
                self.send_end(id_)
            self.agent_gets_the_plan()
            self.agent_reports()
            self.pass_time(70.0)
            self.no_job_is_lost_or_published_twice()
            self.no_job_runs_twice_at_once_or_more_often_than_it_may()
        states = {job.name: job.status.state for job in self.do(self.store.list_all("job", WS)) or ()}
        assert all(state.ended for state in states.values()), states
        self.exits.close()
        self.loop.close()


TestJobs = JobsMachine.TestCase
TestJobs.settings = settings(max_examples=100 * max(1, 10 * CHAOS), stateful_step_count=50)
