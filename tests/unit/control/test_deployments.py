"""From a deployment's spec to its identity, revisions, status and events."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from tests.plans import kept_plan
from tests.replicas import status_of
from tests.waiting import until

from kaon.clock import FakeClock, SystemClock
from kaon.control import Controllers
from kaon.control.deployments import DeploymentController
from kaon.control.history import KEPT
from kaon.store.memory import MemoryStore
from kaon.store.port import AnyResource, Change
from kaon.store.traffic import TrafficRing
from kaon.store.vault import Vault
from kaon.types import traffic as traffic_types
from kaon.types.cloud import CloudSpec, CloudStatus
from kaon.types.deployment import Canary, DeploymentSpec, Rollout, RolloutState, Scaling, Shadow, Template
from kaon.types.event import EventLevel
from kaon.types.key import KeySpec, Role, key_hash
from kaon.types.plan import EdgeStatus, PlanSpec, PlanStatus, Report
from kaon.types.replica import Phase
from kaon.types.traffic import Sample

SHOP = ("default", "shop")
IDENTITY = ("default", "identity-shop")


def template(number: int = 0) -> Template:
    return Template(artifact=f"sha256:{'0' * 64}", env={"NUMBER": str(number)})


class Platform:
    """A store with one cloud, the reconciler, and an agent of a few lines."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.clock = FakeClock()
        self.vault = Vault(bytes(32))
        self.reconciler = DeploymentController(self.store, self.vault, self.clock)

    async def deploy(self, number: int = 0, wanted: int = 1) -> None:
        spec = DeploymentSpec(
            template=template(number),
            scaling=Scaling(min=wanted, max=wanted),
            rollout=Rollout(progress_deadline_s=60),
        )
        found = await self.store.find("deployment", *SHOP)
        if found is None:
            await self.store.create("deployment", *SHOP, spec)
        else:
            await self.store.update_spec(found, spec)

    async def shop(self) -> AnyResource:
        return await self.store.get("deployment", *SHOP)

    async def report(self, phase: Callable[[int], Phase] = lambda _: Phase.READY, **seen: object) -> None:
        """Say that every assigned replica is in the phase that `phase` gives for its revision."""
        shop = await self.shop()
        replicas = tuple(
            status_of(
                shop.uid,
                a.revision,
                o,
                phase(a.revision),
                since=self.clock.now(),
                **(seen if phase(a.revision) is not Phase.READY else {}),
            )
            for a in shop.status.rollout.assignments
            for o in a.ordinals
        )
        cloud = await self.store.get("cloud", "", "local")
        await self.store.update_status(cloud, CloudStatus(report=Report(cloud="local", replicas=replicas)))

    async def settle(self, phase: Callable[[int], Phase] = lambda _: Phase.READY, **seen: object) -> AnyResource:
        for _ in range(20):
            before = await self.store.version()
            await self.reconciler.reconcile(SHOP)
            if await self.store.find("deployment", *SHOP) is None:
                break
            await self.report(phase, **seen)
            if await self.store.version() == before:
                break
        return await self.store.find("deployment", *SHOP)

    async def told(self) -> list[str]:
        return [event.reason for event in await self.store.events("default")]


@pytest.fixture
async def platform() -> Platform:
    platform = Platform()
    await platform.store.create("cloud", "", "local", CloudSpec())
    return platform


async def test_a_new_deployment_gets_an_identity_that_its_key_knows(platform: Platform) -> None:
    await platform.deploy()
    await platform.settle()
    secret = await platform.store.get("secret", "default", "identity-shop")
    key = await platform.store.get("key", "default", "identity-shop")
    text = platform.vault.open("default", "identity-shop", secret.spec)
    assert text.startswith("kaon_")
    assert (key.spec.hash, key.spec.role, key.spec.workspace) == (key_hash(text), Role.CALLER, "default")
    assert text not in key.model_dump_json() + secret.model_dump_json()


async def test_the_identity_belongs_to_the_key_that_deployed(platform: Platform) -> None:
    await platform.deploy()
    shop = await platform.settle()
    for owner in ("first", "second"):
        spec = shop.spec.model_copy(update={"owner": owner, "owner_uid": f"uid-of-{owner}"})
        await platform.store.update_spec(await platform.shop(), spec)
        await platform.settle()
        key = await platform.store.get("key", "default", "identity-shop")
        assert (key.spec.owner, key.spec.owner_uid) == (owner, f"uid-of-{owner}")


async def test_a_deployment_that_was_made_again_has_another_key_than_its_predecessor(platform: Platform) -> None:
    texts = []
    for _ in range(2):
        await platform.deploy()
        shop = await platform.settle()
        secret = await platform.store.get("secret", "default", "identity-shop")
        texts.append(platform.vault.open("default", "identity-shop", secret.spec))
        await platform.store.delete(shop)  # nobody has cleared up when it is made again
    key = await platform.store.get("key", "default", "identity-shop")
    assert key.spec.hash == key_hash(texts[1]) != key_hash(texts[0])
    assert key.spec.deployment_uid == shop.uid


async def test_the_key_that_an_older_kaon_made_stays_what_it_is(platform: Platform) -> None:
    text = "kaon_of_an_older_version"
    await platform.store.create("secret", "default", "identity-shop", platform.vault.seal(*IDENTITY, text))
    old = KeySpec(hash=key_hash(text), hint=text[:9], role=Role.CALLER, workspace="default")
    await platform.store.create("key", *IDENTITY, old)
    await platform.deploy()
    shop = await platform.settle()
    key = await platform.store.get("key", *IDENTITY)
    assert key.spec == old.model_copy(update={"deployment_uid": shop.uid})


@pytest.mark.parametrize("lost", ["key", "secret"])
async def test_half_an_identity_is_made_whole(platform: Platform, lost: str) -> None:
    await platform.deploy()
    await platform.settle()
    await platform.store.delete(await platform.store.get(lost, "default", "identity-shop"))
    await platform.settle()
    secret = await platform.store.get("secret", "default", "identity-shop")
    key = await platform.store.get("key", "default", "identity-shop")
    assert key.spec.hash == key_hash(platform.vault.open("default", "identity-shop", secret.spec))


async def test_a_lost_encryption_key_is_reported_and_stops_nothing(platform: Platform) -> None:
    await platform.deploy()
    await platform.settle()
    platform.reconciler = DeploymentController(platform.store, Vault(bytes([1]) * 32), platform.clock)
    await platform.deploy(1)
    shop = await platform.settle()
    assert shop.status.rollout.stable == 2
    (condition,) = [c for c in shop.status.conditions if c.type == "Identity"]
    assert not condition.holds
    assert "encrypted with key" in condition.reason


async def test_each_template_is_a_revision_and_an_old_template_is_its_old_revision(platform: Platform) -> None:
    for number in (0, 1, 0):
        await platform.deploy(number)
        shop = await platform.settle()
    assert [r.name for r in await platform.store.list_all("revision")] == ["shop-1", "shop-2"]
    assert (shop.status.rollout.target, shop.status.rollout.stable, shop.status.rollout.state) == (
        1,
        1,
        RolloutState.STABLE,
    )


async def test_only_the_newest_finished_revisions_are_kept(platform: Platform) -> None:
    for number in range(KEPT + 5):
        await platform.deploy(number)
        await platform.settle()
    await platform.reconciler.reconcile(SHOP)
    numbers = sorted(r.spec.number for r in await platform.store.list_all("revision"))
    assert numbers == list(range(5, KEPT + 6))


async def test_a_deployment_that_is_deleted_takes_all_but_its_events_with_it(platform: Platform) -> None:
    await platform.deploy()
    await platform.settle()
    await platform.store.delete(await platform.shop())
    assert SHOP in await platform.reconciler.keys()
    await platform.reconciler.reconcile(SHOP)
    for kind in ("revision", "key", "secret"):
        assert await platform.store.list_all(kind) == []
    assert await platform.told() == ["RolloutStarted", "RolloutFinished"]
    assert SHOP not in await platform.reconciler.keys()


async def test_a_name_used_again_begins_a_new_history(platform: Platform) -> None:
    for number in (0, 1):
        await platform.deploy(number)
        await platform.settle()
    await platform.store.delete(await platform.shop())
    await platform.deploy(7)
    await platform.reconciler.reconcile(SHOP)
    (revision,) = await platform.store.list_all("revision")
    assert (revision.spec.number, revision.spec.deployment_uid) == (1, (await platform.shop()).uid)
    assert (await platform.shop()).status.rollout.assignments[0].ready == 0  # the old ones' reports are not its own


async def test_a_revision_that_fails_is_reported_with_its_reason_and_the_old_one_serves(platform: Platform) -> None:
    await platform.deploy(0, wanted=2)
    await platform.settle()
    await platform.deploy(1, wanted=2)
    shop = await platform.settle(
        lambda revision: Phase.READY if revision == 1 else Phase.CONFIG_ERROR,
        reason="setting TOKEN is missing",
        exit_code=78,
    )
    assert (shop.status.rollout.state, shop.status.rollout.stable, shop.status.rollout.target) == (
        RolloutState.STOPPED,
        1,
        2,
    )
    last = (await platform.store.events("default"))[-1]
    assert (last.reason, last.level) == ("RolloutStopped", EventLevel.WARNING)
    assert "setting TOKEN is missing; exit code 78" in last.message
    assert {c.type: c.holds for c in shop.status.conditions} == {"Ready": True, "Progressing": False, "Identity": True}


async def test_a_first_revision_that_does_not_start_is_reported_once(platform: Platform) -> None:
    await platform.deploy()
    for restarts in (3, 4, 5):
        shop = await platform.settle(lambda _: Phase.CRASHED, restarts=restarts, exit_code=1)
        await platform.clock.advance(30)
    assert (shop.status.rollout.state, shop.status.rollout.assignments[0].replicas) == (RolloutState.STOPPED, 1)
    assert await platform.told() == ["RolloutStarted", "RolloutStopped"]
    assert (await platform.store.events("default"))[-1].message.endswith("Kaon keeps retrying.")


async def test_a_deadline_is_looked_at_when_it_passes(platform: Platform) -> None:
    await platform.deploy(0)
    await platform.settle()
    await platform.deploy(1)
    await platform.settle(lambda revision: Phase.READY if revision == 1 else Phase.LOADING)
    again = await platform.reconciler.reconcile(SHOP)
    assert again is not None
    assert again.after_s == pytest.approx(60)
    await platform.clock.advance(60)
    assert await platform.reconciler.reconcile(SHOP) is None
    assert (await platform.shop()).status.rollout.state is RolloutState.STOPPED


async def test_a_request_that_is_refused_since_it_crashes_replicas_is_reported_once(platform: Platform) -> None:
    await platform.deploy()
    await platform.settle()
    cloud = await platform.store.get("cloud", "", "local")
    refusing = cloud.status.report.model_copy(update={"refusals": {"default/shop": ("bad",)}})
    for report in (refusing, refusing, cloud.status.report):
        cloud = await platform.store.get("cloud", "", "local")
        await platform.store.update_status(cloud, CloudStatus(report=report))
        for _ in range(2):
            await platform.reconciler.reconcile(SHOP)
    told = [event for event in await platform.store.events("default") if event.reason == "PoisonRequest"]
    assert [event.level for event in told] == [EventLevel.WARNING]
    assert "Request bad is refused" in told[0].message
    assert (await platform.shop()).status.refused == ()


async def test_news_of_refused_requests_are_looked_at(platform: Platform) -> None:
    await platform.deploy()
    await platform.settle()
    watching = platform.store.watch(0)
    changes = [change for change in await anext(watching) if change.kind == "cloud"]
    await watching.aclose()  # type: ignore[attr-defined]
    await platform.reconciler.affected(changes)
    cloud = await platform.store.get("cloud", "", "local")
    report = cloud.status.report.model_copy(update={"refusals": {"default/shop": ("bad",)}})
    await platform.store.update_status(cloud, CloudStatus(report=report))
    assert await platform.reconciler.affected(changes) == {SHOP}
    assert await platform.reconciler.affected(changes) == set()


async def test_only_deployments_that_changed_in_a_report_are_reconciled(platform: Platform) -> None:
    await platform.deploy()
    await platform.settle()
    watching = platform.store.watch(0)
    changes = [change for change in await anext(watching) if change.kind == "cloud"]
    await watching.aclose()  # type: ignore[attr-defined]
    assert await platform.reconciler.affected(changes) == {SHOP}
    assert await platform.reconciler.affected(changes) == set()
    await platform.report(lambda _: Phase.CRASHED)
    assert await platform.reconciler.affected(changes) == {SHOP}


async def test_controllers_take_a_deployment_to_a_plan_and_on_to_stable(platform: Platform) -> None:
    """The loops themselves, on the machine's clock, with nothing but the store between them and the agent."""
    running = asyncio.create_task(Controllers(platform.store, platform.vault, SystemClock()).run())
    try:
        await platform.deploy(0, wanted=2)

        async def planned() -> list[str]:
            found = await kept_plan(platform.store)
            return [replica.name for replica in found.plan.replicas] if found else []

        async def stable() -> bool:
            return (await platform.shop()).status.rollout.state is RolloutState.STABLE

        assert await until(planned) == ["shop-1-0", "shop-1-1"]
        await platform.report()
        await until(stable)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


class Traffic:
    """Calls of revisions by their shares, a second at a time, as the API takes them in."""

    def __init__(self, platform: Platform) -> None:
        self.platform, self.ring = platform, TrafficRing()
        platform.reconciler = DeploymentController(platform.store, platform.vault, platform.clock, self.ring)

    async def seconds(self, number: int, failing: int = 0) -> AnyResource:
        """`failing` is the revision whose calls fail."""
        for _ in range(number):
            await self.platform.clock.advance(1)
            now, shop = self.platform.clock.now(), await self.platform.shop()
            samples = tuple(
                Sample(
                    workspace="default",
                    deployment="shop",
                    revision=a.revision,
                    at_s=now,
                    span_s=1,
                    arrivals=a.weight,
                    codes={"5xx" if a.revision == failing else "2xx": a.weight},
                    latency={20: a.weight},
                )
                for a in shop.status.rollout.assignments
                if a.weight
            )
            self.ring.add(traffic_types.Traffic(cloud="local", samples=samples))
            await self.platform.report()
            await self.platform.reconciler.reconcile(SHOP)
        return await self.platform.shop()


async def canary(platform: Platform, **rules: object) -> Traffic:
    """Revision 1 serves, with traffic; revision 2 is a canary."""
    traffic = Traffic(platform)
    await platform.deploy(0, wanted=2)
    await platform.settle()
    await traffic.seconds(10)
    shop = await platform.shop()
    rollout = Rollout(canary=Canary(**{"steps": (50,), "step_s": 5, "min_calls": 20, **rules}))
    spec = shop.spec.model_copy(update={"template": template(1), "rollout": rollout})
    await platform.store.update_spec(shop, spec)
    return traffic


async def test_a_canary_that_answers_worse_is_rolled_back_and_reported(platform: Platform) -> None:
    traffic = await canary(platform)
    shop = await traffic.seconds(15, failing=2)
    assert (shop.status.rollout.state, shop.status.rollout.stable) == (RolloutState.STOPPED, 1)
    assert {a.revision: a.replicas for a in shop.status.rollout.assignments} == {1: 2}
    last = (await platform.store.events("default"))[-1]
    assert (last.reason, last.level) == ("RolledBack", EventLevel.WARNING)
    assert "answers worse than revision 1" in last.message
    assert "calls failed (100 %)" in last.message
    decision = (await platform.store.journal(*SHOP, "rollout"))[-1]
    assert (decision.before, decision.after) == ("revision 2", "revision 1")
    assert decision.figures["new"]["failed"] == decision.figures["new"]["calls"] > 0
    assert decision.figures["errors"]["verdict"] == "worse"
    outcomes = {r.spec.number: r.status for r in await platform.store.list_all("revision")}
    assert {number: status.outcome for number, status in outcomes.items()} == {1: "served", 2: "rolled back"}
    assert outcomes[2].reason == shop.status.rollout.reason
    version = await platform.store.version()
    await platform.reconciler.reconcile(SHOP)
    assert await platform.store.version() == version


async def test_a_good_canary_is_looked_at_again_and_again_until_it_serves(platform: Platform) -> None:
    traffic = await canary(platform)
    await traffic.seconds(1)
    again = await platform.reconciler.reconcile(SHOP)
    assert again is not None
    assert again.after_s <= 2
    shop = await traffic.seconds(30)
    assert (shop.status.rollout.state, shop.status.rollout.stable) == (RolloutState.STABLE, 2)
    told = [d.reason for d in await platform.store.journal(*SHOP, "rollout")]
    assert any(reason.startswith("Revision 2 passed step 1 with ") for reason in told)
    assert "CanaryStep" in await platform.told()


async def test_a_canary_that_is_replaced_before_it_took_over_is_withdrawn(platform: Platform) -> None:
    traffic = await canary(platform)
    await traffic.seconds(2)
    await platform.deploy(0, wanted=2)
    shop = await traffic.seconds(5)
    assert (shop.status.rollout.state, shop.status.rollout.stable, shop.status.rollout.canary) == (
        RolloutState.STABLE,
        1,
        None,
    )
    second = await platform.store.get("revision", "default", "shop-2")
    assert second.status.outcome == "withdrawn"


async def test_a_template_that_is_only_a_shadow_gets_a_revision_and_a_replica_and_no_call(platform: Platform) -> None:
    await platform.deploy(0)
    await platform.settle()
    shop = await platform.shop()
    await platform.store.update_spec(shop, shop.spec.model_copy(update={"shadow": Shadow(template=template(1))}))
    shop = await platform.settle()
    assert (shop.status.rollout.state, shop.status.rollout.stable, shop.status.rollout.shadow) == (
        RolloutState.STABLE,
        1,
        2,
    )
    assert {a.revision: (a.replicas, a.weight) for a in shop.status.rollout.assignments} == {1: (1, 100), 2: (1, 0)}
    shop = await platform.settle(lambda revision: Phase.READY if revision == 1 else Phase.CRASHED, restarts=5)
    assert shop.status.rollout.state is RolloutState.STABLE
    held = {c.type: c.holds for c in shop.status.conditions}
    assert (held["Ready"], held["Shadow"]) == (True, False)
    await platform.store.update_spec(shop, shop.spec.model_copy(update={"shadow": None}))
    shop = await platform.settle()
    assert [a.revision for a in shop.status.rollout.assignments] == [1]


async def reasons(platform: Platform) -> dict[str, str]:
    """Conditions that do not hold, and why."""
    return {c.type: c.reason for c in (await platform.shop()).status.conditions if not c.holds}


async def told(platform: Platform) -> list[str]:
    return [event.reason for event in await platform.store.events("default", "deployment", "shop")]


async def test_what_the_edge_cannot_route_is_a_condition_and_an_event_until_it_can(platform: Platform) -> None:
    await platform.deploy()
    await platform.reconciler.reconcile(SHOP)
    cloud = await platform.store.get("cloud", "", "local")
    refused = EdgeStatus(running=True, refused={"default/shop": "its path is too long"})
    await platform.store.update_status(cloud, CloudStatus(report=Report(cloud="local", edge=refused)))
    change = [Change(version=1, kind="cloud", workspace="", name="local")]
    assert SHOP in await platform.reconciler.affected(change)
    assert SHOP not in await platform.reconciler.affected(change)
    await platform.reconciler.reconcile(SHOP)
    assert (await reasons(platform))["Routed"] == "its path is too long"
    cloud = await platform.store.get("cloud", "", "local")
    await platform.store.update_status(cloud, CloudStatus(report=Report(cloud="local")))
    assert SHOP in await platform.reconciler.affected(change)
    await platform.reconciler.reconcile(SHOP)
    assert "Routed" not in await reasons(platform)
    assert [reason for reason in await told(platform) if "Routed" in reason] == ["NotRouted", "Routed"]


async def test_what_could_not_be_planned_is_a_condition_and_an_event_until_it_can(platform: Platform) -> None:
    await platform.deploy()
    await platform.reconciler.reconcile(SHOP)
    spec = PlanSpec(hash="")
    left_out = PlanStatus(left_out={"default/shop": "timeout_s: too small"})
    plan = await platform.store.create("plan", "", "local", spec, left_out)
    change = [Change(version=1, kind="plan", workspace="", name="local")]
    assert await platform.reconciler.affected(change) == {SHOP}
    assert await platform.reconciler.affected(change) == set()
    await platform.reconciler.reconcile(SHOP)
    assert (await reasons(platform))["Planned"] == "timeout_s: too small"
    await platform.store.update_status(plan, PlanStatus())
    assert await platform.reconciler.affected(change) == {SHOP}
    await platform.reconciler.reconcile(SHOP)
    assert "Planned" not in await reasons(platform)
    assert [reason for reason in await told(platform) if "Planned" in reason] == ["NotPlanned", "Planned"]
