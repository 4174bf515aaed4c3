"""R16: people, agents and controllers in any order, writes cut off anywhere; then quiet, and all is well."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tests.figures import examples
from tests.plans import kept_plan
from tests.statuses import status_with

from kaon.clock import FakeClock
from kaon.control import Controllers
from kaon.errors import Conflict, Unavailable
from kaon.laws import rollout
from kaon.store import open_store
from kaon.store.port import AnyResource, Store
from kaon.store.vault import Vault
from kaon.types.artifact import ArtifactSpec, Manifest
from kaon.types.cloud import CloudSpec
from kaon.types.deployment import DeploymentSpec, Rollout, RolloutState, Scaling, Template, in_use
from kaon.types.key import KeySpec, KeyStatus, Role, identity_name, key_hash
from kaon.types.model import content_hash
from kaon.types.plan import Plan, Report
from kaon.types.replica import Phase, ReplicaSpec, ReplicaStatus, replica_id
from kaon.types.service import ServiceSpec

T = TypeVar("T")
WS = "default"
DEADLINE_S = 30
NAMES = ("a", "b")
GOOD = tuple(f"sha256:{digit * 64}" for digit in "012")
DECLARING = GOOD[1]
"""Its artifact exists and declares that its service calls `a`; the others have no artifact."""
BROKEN = f"sha256:{'f' * 64}"

names = st.sampled_from(NAMES)
artifacts = st.sampled_from([*GOOD, BROKEN])
numbers = st.integers(min_value=0, max_value=40)


class CutStore:
    """A store of which the n-th write fails: before it is made, or after, so that only its answer is lost."""

    def __init__(self, store: Store, writes: int, *, after: bool) -> None:
        self._store = store
        self._left = writes
        self._after = after

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def _write(self, call: Coroutine[Any, Any, T]) -> T:
        self._left -= 1
        if self._left < 0 and not self._after:
            call.close()
            raise Unavailable("cut before")
        result = await call
        if self._left < 0:
            raise Unavailable("cut after")
        return result

    async def create(self, *arguments: Any) -> AnyResource:
        return await self._write(self._store.create(*arguments))

    async def update_spec(self, *arguments: Any) -> AnyResource:
        return await self._write(self._store.update_spec(*arguments))

    async def update_status(self, *arguments: Any) -> AnyResource:
        return await self._write(self._store.update_status(*arguments))

    async def delete(self, *arguments: Any) -> None:
        await self._write(self._store.delete(*arguments))

    async def write(self, writes: Any, **options: Any) -> list[AnyResource]:
        return await self._write(self._store.write(writes, **options))


class Agent:
    """One cloud: starts and ends replicas by the plan, and reports."""

    def __init__(self) -> None:
        self.replicas: dict[str, tuple[ReplicaSpec, ReplicaStatus]] = {}

    def obey(self, plan: Plan, now: float) -> None:
        wanted = {replica.id: replica for replica in plan.replicas}
        self.replicas = {i: last for i, last in self.replicas.items() if i in wanted}
        for i, spec in wanted.items():
            if i not in self.replicas:
                self._put(spec, Phase.STARTING, now, 0)

    def advance(self, number: int, now: float) -> None:
        spec, last = list(self.replicas.values())[number % len(self.replicas)]
        if spec.artifact == BROKEN:
            self._put(spec, Phase.CRASHED, now, min(last.restarts + 1, 5))
        elif last.phase is not Phase.READY:
            self._put(spec, Phase.READY, now, last.restarts)

    def crash(self, number: int, now: float) -> None:
        spec, last = list(self.replicas.values())[number % len(self.replicas)]
        self._put(spec, Phase.CRASHED, now, last.restarts + 1)

    def _put(self, spec: ReplicaSpec, phase: Phase, now: float, restarts: int) -> None:
        names = spec.model_dump(include={"id", "name", "workspace", "deployment", "revision"})
        self.replicas[spec.id] = spec, ReplicaStatus(**names, phase=phase, since=now, restarts=restarts)

    def report(self, plan: str) -> Report:
        return Report(cloud="local", plan=plan, replicas=tuple(last for _, last in self.replicas.values()))


class StoreAndControl(RuleBasedStateMachine):
    """Any order of operations; see the rules."""

    url = "memory://"

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
        self.loop = asyncio.new_event_loop()
        self.clock = FakeClock()
        self.vault = Vault(bytes(32))
        self.agent = Agent()
        self.store = open_store(self.url.format(folder=self.folder), self.clock)
        self.specs: dict[str, DeploymentSpec] = {}
        self.newest = 0
        self.was_slow = False
        """Whether a start may have taken longer than its deadline."""
        self.do(self.store.open())
        self.do(self.store.create("cloud", "", "local", CloudSpec()))
        service = ServiceSpec(name="s", entry="s:S", uses=("a",))
        manifest = Manifest(kaon="0", python="3.11", service=service, files=())
        artifact = ArtifactSpec(digest=DECLARING, size_bytes=1, manifest=manifest)
        self.do(self.store.create("artifact", WS, DECLARING, artifact))
        self.restart_controllers()

    def do(self, call: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(call)

    def teardown(self) -> None:
        try:
            self.come_to_rest()
        finally:
            self.do(self.store.close())
            self.loop.close()
            shutil.rmtree(self.folder)

    # What users do.

    @rule(name=names, artifact=artifacts, count=st.integers(0, 3))
    def deploy(self, name: str, artifact: str, count: int) -> None:
        spec = DeploymentSpec(
            template=Template(artifact=artifact),
            scaling=Scaling(min=count, max=count),
            rollout=Rollout(progress_deadline_s=DEADLINE_S),
        )
        self.write(name, spec)

    @precondition(lambda self: self.specs)
    @rule(number=numbers, count=st.integers(0, 3))
    def scale(self, number: int, count: int) -> None:
        name = self.pick(number)
        self.write(name, self.specs[name].model_copy(update={"scaling": Scaling(min=count, max=count)}))

    @precondition(lambda self: self.specs)
    @rule(number=numbers)
    def undo(self, number: int) -> None:
        name = self.pick(number)
        kept = [r for r in self.do(self.store.list_all("revision", WS)) if r.spec.deployment == name]
        if kept:
            template = kept[number % len(kept)].spec.template
            self.write(name, self.specs[name].model_copy(update={"template": template}))

    @precondition(lambda self: self.specs)
    @rule(number=numbers, paused=st.booleans())
    def pause(self, number: int, paused: bool) -> None:
        name = self.pick(number)
        self.write(name, self.specs[name].model_copy(update={"paused": paused}))

    @precondition(lambda self: self.specs)
    @rule(number=numbers)
    def delete(self, number: int) -> None:
        name = self.pick(number)
        self.do(self.store.delete(self.do(self.store.get("deployment", WS, name))))
        del self.specs[name]

    @rule(number=numbers)
    def make_or_revoke_a_key(self, number: int) -> None:
        name = f"key-{number % 3}"
        found = self.do(self.store.find("key", WS, name))
        if found is None:
            spec = KeySpec(hash=key_hash(f"{name}{self.newest}"), hint="k", role=Role.CALLER, workspace=WS)
            self.do(self.store.create("key", WS, name, spec))
        elif found.status.revoked_at is None:
            self.do(self.store.update_status(found, KeyStatus(revoked_at=self.clock.now())))
        else:
            self.do(self.store.delete(found))

    @precondition(lambda self: self.specs)
    @rule(number=numbers)
    def write_late(self, number: int) -> None:
        """Somebody writes on top of what is old by now: refused, and nothing changes."""
        old = self.do(self.store.get("deployment", WS, self.pick(number)))
        self.do(self.store.update_status(old, status_with(old.status, reason=f"written at {self.newest}")))
        try:
            self.do(self.store.update_spec(old, old.spec.model_copy(update={"drain_s": 31.0 + self.newest % 1000})))
        except Conflict:
            return
        raise AssertionError("a write based on an old version went through")

    # What the cloud does.

    @rule()
    def obey(self) -> None:
        if plan := self.plan():
            self.agent.obey(plan, self.clock.now())

    @precondition(lambda self: self.agent.replicas)
    @rule(number=numbers)
    def advance(self, number: int) -> None:
        self.agent.advance(number, self.clock.now())

    @precondition(lambda self: self.agent.replicas)
    @rule(number=numbers)
    def crash(self, number: int) -> None:
        self.agent.crash(number, self.clock.now())

    @rule()
    def report(self) -> None:
        plan = self.plan()
        cloud = self.do(self.store.get("cloud", "", "local"))
        report = self.agent.report(content_hash(plan) if plan else "")
        status = cloud.status.model_copy(update={"report": report, "seen_at": self.clock.now()})
        self.do(self.store.update_status(cloud, status))

    @rule(delta_s=st.sampled_from([1.0, 40.0]))
    def time_passes(self, delta_s: float) -> None:
        self.was_slow = self.was_slow or delta_s > DEADLINE_S
        self.do(self.clock.advance(delta_s))

    @rule(rounds=st.integers(1, 6))
    def all_goes_well(self, rounds: int) -> None:
        for _ in range(rounds):
            self.look_at_all()
            self.obey()
            for number in range(len(self.agent.replicas)):
                self.agent.advance(number, self.clock.now())
            self.report()

    # What the control plane does.

    @rule()
    def restart_controllers(self) -> None:
        self.reconcilers = Controllers(self.store, self.vault, self.clock).reconcilers

    @rule(number=numbers)
    def look_at_one(self, number: int) -> None:
        keys = self.keys()
        if keys:
            which, key = keys[number % len(keys)]
            self.look(which, key)

    @rule()
    def look_at_all(self) -> None:
        for which, key in self.keys():
            self.look(which, key)

    @rule(number=numbers, writes=st.integers(0, 4), after=st.booleans())
    def look_and_be_cut(self, number: int, writes: int, after: bool) -> None:
        """The control plane dies after some writes, and another begins."""
        cut: Any = CutStore(self.store, writes, after=after)
        self.reconcilers = Controllers(cut, self.vault, self.clock).reconcilers
        keys = self.keys()
        if keys:
            which, key = keys[number % len(keys)]
            try:
                self.look(which, key)
            except Unavailable:
                pass
        self.restart_controllers()

    def keys(self) -> list[tuple[int, tuple[str, str]]]:
        return [(i, key) for i, r in enumerate(self.reconcilers) for key in sorted(self.do(r.keys()))]

    def look(self, which: int, key: tuple[str, str]) -> None:
        before = self.do(self.store.find("deployment", *key))
        try:
            again = self.do(self.reconcilers[which].reconcile(key))
        finally:
            after = self.do(self.store.find("deployment", *key))
            if before and after:
                self.check_move(before, after)
        assert again is None or again.after_s > 0

    def check_move(self, before: AnyResource, after: AnyResource) -> None:
        report = self.do(self.store.get("cloud", "", "local")).status.report
        ready = {r.id for r in report.replicas if r.phase is Phase.READY} if report else set()

        def assigned(d: AnyResource) -> set[str]:
            return {replica_id(WS, d.uid, a.revision, o) for a in d.status.rollout.assignments for o in a.ordinals}

        wanted, surge = (
            rollout.desired_replicas(after.spec, before.status.rollout, before.status.scaling),
            after.spec.rollout.max_surge,
        )
        assert len(assigned(after)) <= max(wanted + surge, len(assigned(before)))
        assert len(assigned(after) & ready) >= min(wanted, len(assigned(before) & ready))

    # What always holds.

    @invariant()
    def versions_only_grow(self) -> None:
        version = self.do(self.store.version())
        assert version >= self.newest
        self.newest = version

    @invariant()
    def what_people_wrote_is_there(self) -> None:
        assert {d.name: d.spec for d in self.do(self.store.list_all("deployment", WS))} == self.specs

    @invariant()
    def a_template_is_one_revision(self) -> None:
        kept = [r.spec for r in self.do(self.store.list_all("revision", WS))]
        assert len({(r.deployment_uid, r.template_hash) for r in kept}) == len(kept)
        assert len({(r.deployment_uid, r.number) for r in kept}) == len(kept)

    @invariant()
    def a_status_is_written_with_its_event_and_its_decision(self) -> None:
        for deployment in self.do(self.store.list_all("deployment", WS)):
            if (target := deployment.status.rollout.target) is None:
                continue
            events = self.do(self.store.events(WS, "deployment", deployment.name))
            messages = [e.message for e in events if e.uid == deployment.uid and e.reason == "RolloutStarted"]
            decided = [e.after for e in self.do(self.store.journal(WS, deployment.name, "rollout"))]
            assert any(message.startswith(f"Revision {target} takes over") for message in messages)
            assert f"revision {target}" in decided

    @invariant()
    def a_replica_is_planned_once(self) -> None:
        plan = self.plan()
        if plan:
            assert len({r.id for r in plan.replicas}) == len(plan.replicas)

    # Helpers of the rules.

    def plan(self) -> Plan | None:
        found = self.do(kept_plan(self.store))
        return found.plan if found else None

    def pick(self, number: int) -> str:
        return sorted(self.specs)[number % len(self.specs)]

    def write(self, name: str, spec: DeploymentSpec) -> None:
        found = self.do(self.store.find("deployment", WS, name))
        if found is None:
            self.do(self.store.create("deployment", WS, name, spec))
        else:
            self.do(self.store.update_spec(found, spec))
        self.specs[name] = spec

    # Quiet.

    def come_to_rest(self) -> None:
        for name, spec in self.specs.items():
            self.write(name, spec.model_copy(update={"paused": False}))
        self.restart_controllers()
        quiet = 0
        for _ in range(120):
            before = self.do(self.store.version())
            self.all_goes_well(1)
            self.time_passes(1.0)
            writes = self.do(self.store.version()) - before
            quiet = quiet + 1 if writes <= 1 else 0  # the report's time stamp alone
            if quiet == 6:
                return self.check_rest()
        raise AssertionError("it does not come to rest")

    def check_rest(self) -> None:
        plan = self.plan()
        assert plan is not None
        planned = {(r.deployment, r.revision, r.ordinal) for r in plan.replicas}
        assigned: set[tuple[str, int, int]] = set()
        for deployment in self.do(self.store.list_all("deployment", WS)):
            status = deployment.status.rollout
            assigned |= {(deployment.name, a.revision, o) for a in status.assignments for o in a.ordinals}
            self.check_deployment(deployment)
        assert planned == assigned
        assert {route.deployment for route in plan.routes} == set(self.specs)
        valid = [k.spec for k in self.do(self.store.list_all("key", WS)) if k.status.revoked_at is None]
        for place, access in plan.access.items():
            own = {key.hash for key in valid if key.deployments is None or place.partition("/")[2] in key.deployments}
            assert {g.hash for g in access.grants} == own
        identities = self.identities()
        keys, secrets = (
            {r.name: r.spec for r in self.do(self.store.list_all(kind, WS)) if r.name.startswith("identity-")}
            for kind in ("key", "secret")
        )
        assert {name: key.deployments for name, key in keys.items()} == identities
        texts = {name: self.vault.open(WS, name, secret) for name, secret in secrets.items()}
        assert {name: key.hash for name, key in keys.items()} == {n: key_hash(text) for n, text in texts.items()}
        uids = {d.uid for d in self.do(self.store.list_all("deployment", WS))}
        assert {r.spec.deployment_uid for r in self.do(self.store.list_all("revision", WS))} == uids

    def check_deployment(self, deployment: AnyResource) -> None:
        status, spec = deployment.status.rollout, deployment.spec
        assert status.observed_generation == deployment.generation
        ready = {a.revision: a.ready for a in status.assignments}
        wanted = rollout.desired_replicas(spec, status, deployment.status.scaling)
        too_slow = self.was_slow and f"is not ready after {DEADLINE_S} s" in status.reason
        if too_slow and status.state is RolloutState.STOPPED:
            assert sum(ready.values()) == (wanted if status.stable else 0)
        elif spec.template.artifact != BROKEN or wanted == 0:
            assert status.state is RolloutState.STABLE, status
            assert ready == ({status.target: wanted} if wanted else {})
        else:
            assert status.state is RolloutState.STOPPED
            assert sum(ready.values()) == (wanted if status.stable else 0)

    def identities(self) -> dict[str, tuple[str, ...] | None]:
        """The names that services' keys should have, and what each should open."""
        revisions = {(r.spec.deployment, r.spec.number): r for r in self.do(self.store.list_all("revision", WS))}
        found: dict[str, tuple[str, ...] | None] = {}
        for deployment in self.do(self.store.list_all("deployment", WS)):
            for number in in_use(deployment.status.rollout):
                declares = revisions[deployment.name, number].spec.template.artifact == DECLARING
                name = identity_name(deployment.name, number if declares else None)
                found[name] = ("a",) if declares else None
        return found


class StoreAndControlOnSQLite(StoreAndControl):
    """The same, on disk."""

    url = "sqlite:///{folder}/kaon.db"


quietly = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]

TestInMemory = StoreAndControl.TestCase
TestInMemory.settings = settings(max_examples=examples(100), stateful_step_count=50, suppress_health_check=quietly)

TestOnSQLite = pytest.mark.slow(StoreAndControlOnSQLite.TestCase)
TestOnSQLite.settings = settings(max_examples=examples(8), stateful_step_count=50, suppress_health_check=quietly)
