"""From deployments, revisions and keys to a plan."""

from __future__ import annotations

from typing import Any

import pytest
from tests.bad_manifests import BAD, Place, named, spoilt
from tests.plans import kept_plan
from tests.statuses import status_with

from kaon.clock import FakeClock
from kaon.control.loop import Again
from kaon.control.plan_parts import PlanInputs
from kaon.control.planning import PlanningController, plan
from kaon.store.memory import MemoryStore
from kaon.store.records import assemble
from kaon.types.artifact import ArtifactSpec, Manifest
from kaon.types.cloud import CloudSpec
from kaon.types.deployment import (
    Assignment,
    Cors,
    DeploymentSpec,
    DeploymentStatus,
    Placement,
    RevisionSpec,
    Rollout,
    Template,
    template_hash,
)
from kaon.types.key import KeySpec, KeyStatus, Priority, Role, key_hash
from kaon.types.knobs import Knobs, PlannedKnobs
from kaon.types.plan import Plan
from kaon.types.replica import replica_id
from kaon.types.resource import Unreadable
from kaon.types.secret import SecretSpec
from kaon.types.service import EndpointKind, EndpointSpec, Resources, ServiceSpec
from kaon.types.tuning import Reach, TrialStatus, TuningStatus

NOW = 1000.0
DIGEST = f"sha256:{'0' * 64}"
OTHER = f"sha256:{'1' * 64}"
TEMPLATE = Template(artifact=DIGEST, env={"MODE": "fast"}, secrets={"TOKEN": "hub-token"})


def kept(kind: str, name: str, spec: Any, status: Any = None, workspace: str = "default") -> Any:
    fields = {"version": 1, "generation": 1, "created_at": NOW, "updated_at": NOW}
    return assemble(kind, spec, status, workspace=workspace, name=name, uid=f"uid-{name}", **fields)


def deployment(name: str = "shop", *assignments: Assignment, **spec: Any) -> Any:
    status = status_with(assignments=assignments)
    return kept("deployment", name, DeploymentSpec(**{"template": TEMPLATE, **spec}), status)


def assigned(revision: int, *ordinals: int, weight: int = 100) -> Assignment:
    return Assignment(revision=revision, replicas=len(ordinals), ordinals=ordinals, weight=weight)


def revision(number: int, template: Template = TEMPLATE, of: str = "shop") -> Any:
    hashed = template_hash(template)
    spec = RevisionSpec(
        deployment=of, deployment_uid=f"uid-{of}", number=number, template=template, template_hash=hashed
    )
    return kept("revision", f"{of}-{number}", spec)


def artifact(digest: str = DIGEST, *endpoints: EndpointSpec, mounts: tuple[str, ...] = ()) -> Any:
    resources = Resources(cpus=2, memory_bytes=2**30)
    service = ServiceSpec(name="Shop", entry="shop:Shop", endpoints=endpoints, mounts=mounts, resources=resources)
    manifest = Manifest(kaon="0", python="3.11", service=service, files=())
    return kept("artifact", digest, ArtifactSpec(digest=digest, size_bytes=1, manifest=manifest))


def key(name: str, role: Role = Role.CALLER, status: KeyStatus | None = None, **spec: Any) -> Any:
    fields = {"hash": key_hash(name), "hint": "k", "role": role, "workspace": "default", **spec}
    return kept("key", name, KeySpec(**fields), status)


def planned(*deployments: Any, revisions: Any = (), artifacts: Any = (), keys: Any = ()) -> Plan:
    return plan("local", PlanInputs(deployments, revisions or [revision(1)], artifacts or [artifact()], keys), NOW).plan


def test_each_assigned_replica_is_planned_with_all_that_it_needs() -> None:
    made = planned(deployment("shop", assigned(1, 0, 2), drain_s=7))
    first, second = made.replicas
    assert first.id == replica_id("default", "uid-shop", 1, 0)
    assert (first.name, second.name, second.ordinal) == ("shop-1-0", "shop-1-2", 2)
    assert (first.artifact, first.env, first.drain_s) == (DIGEST, {"MODE": "fast"}, 7)
    assert first.secrets == ("KAON_KEY", "TOKEN")
    assert first.resources == Resources(cpus=2, memory_bytes=2**30)


def test_a_replica_drains_for_as_long_as_its_longest_call_unless_the_spec_has_another_time() -> None:
    made = [artifact(DIGEST, EndpointSpec(name="train", method="POST", path="/train", timeout_s=300))]
    for given, found in ((None, 300), (7, 7)):
        [replica] = planned(deployment("shop", assigned(1, 0), drain_s=given), artifacts=made).replicas
        assert replica.drain_s == found


def test_a_start_may_take_as_long_as_its_rollout_allows() -> None:
    slow = Rollout(progress_deadline_s=900)
    assert [r.start_s for r in planned(deployment("shop", assigned(1, 0), rollout=slow)).replicas] == [900]


def test_a_template_overrides_the_resources_of_its_class() -> None:
    template = TEMPLATE.model_copy(update={"resources": Resources(cpus=8)})
    (replica,) = planned(deployment("shop", assigned(1, 0)), revisions=[revision(1, template)]).replicas
    assert replica.resources == Resources(cpus=8)


def test_revisions_of_an_earlier_deployment_of_the_name_are_no_part_of_it() -> None:
    stranger = revision(1).model_copy(update={"spec": revision(1).spec.model_copy(update={"deployment_uid": "old"})})
    made = planned(deployment("shop", assigned(1, 0)), revisions=[stranger])
    assert made.replicas == ()
    assert made.routes[0].backends == ()


def test_there_is_a_route_even_while_nothing_runs() -> None:
    (route,) = planned(deployment()).routes
    assert (route.prefix, route.backends) == ("/shop", ())


def test_a_route_shares_traffic_between_revisions() -> None:
    shop = deployment("shop", assigned(1, 0, weight=60), assigned(2, 0, weight=40))
    (route,) = planned(shop, revisions=[revision(1), revision(2)]).routes
    assert [(b.revision, b.weight) for b in route.backends] == [(1, 60), (2, 40)]


ENDPOINTS = (
    EndpointSpec(name="get", method="GET", path="/", idempotent=True),
    EndpointSpec(name="add", method="POST", path="/", timeout_s=90),
    EndpointSpec(name="embed", method="POST", path="/embed", idempotent=True, retry=True),
    EndpointSpec(name="chat", method="POST", path="/chat", kind=EndpointKind.STREAM, timeout_s=500),
    EndpointSpec(name="talk", method="GET", path="/talk", kind=EndpointKind.WEBSOCKET),
    EndpointSpec(name="slow", method="POST", path="/slow", timeout_s=None),
)


def test_a_route_has_the_paths_that_may_be_sent_again_and_those_that_may_last() -> None:
    made = planned(deployment("shop", assigned(1, 0)), artifacts=[artifact(DIGEST, *ENDPOINTS, mounts=("/app",))])
    (route,) = made.routes
    assert route.retry_paths == ("/embed",)  # POST / does not say so, and GET alone is not enough
    assert route.stream_paths == ("/app", "/chat", "/slow", "/talk")
    assert route.timeout_s == 95


def test_a_path_is_sent_again_only_when_every_running_revision_allows_it() -> None:
    once = EndpointSpec(name="embed", method="POST", path="/embed")
    shop = deployment("shop", assigned(1, 0), assigned(2, 0))
    made = planned(
        shop,
        revisions=[revision(1), revision(2, Template(artifact=OTHER))],
        artifacts=[artifact(DIGEST, *ENDPOINTS), artifact(OTHER, once)],
    )
    assert made.routes[0].retry_paths == ()


def test_calls_are_hedged_only_where_everything_at_the_path_may_happen_twice() -> None:
    hedged = (
        EndpointSpec(name="get", method="GET", path="/", idempotent=True, hedge_s=0.05),
        EndpointSpec(name="find", method="POST", path="/find", idempotent=True, hedge_s=0.1),
        EndpointSpec(name="add", method="POST", path="/"),
    )
    shop = deployment("shop", assigned(1, 0))
    assert planned(shop, artifacts=[artifact(DIGEST, *hedged)]).routes[0].hedges == {"/find": 0.1}
    assert planned(shop, artifacts=[artifact(DIGEST, *hedged[:2])]).routes[0].hedges == {"/": 0.05, "/find": 0.1}
    assert planned(shop, artifacts=[artifact(DIGEST, *ENDPOINTS)]).routes[0].hedges == {}


def test_grants_say_whose_calls_go_first() -> None:
    keys = [key("ann", priority=Priority.HIGH), key("ben", priority=Priority.LOW), key("cem")]
    grants = planned(deployment(), keys=keys).access["default/shop"].grants
    assert [(g.key, g.priority.value) for g in grants] == [("ann", "high"), ("ben", "low"), ("cem", "normal")]


def test_keys_that_may_call_are_granted_with_their_expiry() -> None:
    keys = [
        key("alice", expires_at=NOW + 5),
        key("bob", Role.ADMIN, workspace=None),
        key("carol", Role.EDITOR, deployments=("shop",)),
        key("dave", Role.VIEWER),
        key("erin", deployments=("other",)),
        key("frank", workspace="elsewhere"),
        key("grace", status=KeyStatus(revoked_at=NOW - 1)),
        key("heidi", expires_at=NOW),
        key("ivan", Role.AGENT, workspace=None),
        key("judy", owner="grace", owner_uid="uid-grace"),
    ]
    access = planned(deployment(), keys=keys).access["default/shop"]
    assert [(grant.key, grant.expires_at) for grant in access.grants] == [
        ("alice", NOW + 5),
        ("bob", None),
        ("carol", None),
    ]
    assert access.grants[0].hash == key_hash("alice")
    assert not access.public
    assert planned(deployment(public=True)).access["default/shop"].public


def test_equal_worlds_give_equal_plans_in_whatever_order_they_come() -> None:
    worlds = [deployment("shop", assigned(1, 0)), deployment("blog", assigned(1, 0))]
    revisions = [revision(1), revision(1, of="blog")]
    keys = [key("alice"), key("bob")]
    there = plan("local", PlanInputs(worlds, revisions, [artifact()], keys), NOW)
    back = plan("local", PlanInputs(worlds[::-1], revisions[::-1], [artifact()], keys[::-1]), NOW + 1)
    assert there.plan == back.plan
    assert there.digests == back.digests


@pytest.fixture
async def store() -> Any:
    store = MemoryStore()
    await store.create("cloud", "", "local", CloudSpec())
    status = DeploymentStatus(placement=Placement(cloud="local"))
    await store.create("deployment", "default", "shop", DeploymentSpec(template=TEMPLATE), status)
    return store


async def plan_of(store: MemoryStore, cloud: str) -> Plan:
    await PlanningController(store, FakeClock()).reconcile(("", cloud))
    found = await kept_plan(store, cloud)
    assert found is not None
    return found.plan


async def test_a_deployment_is_in_the_plan_of_the_cloud_where_it_is_placed_and_in_no_other(store: MemoryStore) -> None:
    await store.create("cloud", "", "another", CloudSpec())
    assert "default/shop" in (await plan_of(store, "local")).access
    assert (await plan_of(store, "another")).access == {}


async def test_a_deployment_of_an_older_kaon_stays_in_its_plan_until_it_is_placed(store: MemoryStore) -> None:
    await plan_of(store, "local")
    await store.create("cloud", "", "another", CloudSpec())
    shop = await store.get("deployment", "default", "shop")
    await store.update_status(shop, DeploymentStatus())
    assert "default/shop" in (await plan_of(store, "local")).access
    assert (await plan_of(store, "another")).access == {}


async def test_a_plan_is_kept_and_written_only_when_it_changes(store: MemoryStore) -> None:
    planning = PlanningController(store, FakeClock())
    assert list(await planning.keys()) == [("", "local")]
    await planning.reconcile(("", "local"))
    first = await store.get("plan", "", "local")
    assert "default/shop" in first.spec.parts
    await planning.reconcile(("", "local"))
    assert await store.get("plan", "", "local") == first
    await store.create("key", "default", "alice", key("alice").spec)
    await planning.reconcile(("", "local"))
    assert (await store.get("plan", "", "local")).spec.hash != first.spec.hash


async def test_the_plan_of_a_cloud_that_left_goes(store: MemoryStore) -> None:
    planning = PlanningController(store, FakeClock())
    await planning.reconcile(("", "local"))
    await store.delete(await store.get("cloud", "", "local"))
    assert list(await planning.keys()) == [("", "local")]
    await planning.reconcile(("", "local"))
    assert await store.find("plan", "", "local") is None


async def test_a_report_is_no_reason_to_plan_again(store: MemoryStore) -> None:
    planning = PlanningController(store, FakeClock())
    await planning.keys()
    watching = store.watch(0)
    changes = await anext(watching)
    await watching.aclose()
    assert await planning.affected(changes)
    assert await planning.affected([change for change in changes if change.kind == "cloud"]) == ()


def at_zero(**status: Any) -> Any:
    spec = DeploymentSpec(template=TEMPLATE, scaling={"min": 0, "max": 3, "hold_s": 20})
    return kept("deployment", "shop", spec, status_with(**status))


def test_at_zero_the_way_stays_calls_are_held_and_the_replica_that_they_wake_is_named() -> None:
    made = planned(at_zero(stable=1, target=1))
    (route,) = made.routes
    assert route.hold_s == 20
    assert [(b.revision, b.weight) for b in route.backends] == [(1, 100)]
    assert made.replicas == ()
    awake = planned(at_zero(stable=1, target=1).model_copy(update={"status": deployment("x", assigned(1, 0)).status}))
    assert [spec.id for spec in made.standby] == [spec.id for spec in awake.replicas]
    assert awake.standby == ()


def test_a_standby_replica_shows_when_one_of_its_secrets_changes() -> None:
    def version(**secrets: int) -> str:
        world = [(name.replace("_", "-"), version) for name, version in secrets.items()]
        held = [
            kept("secret", name, SecretSpec(ciphertext="", key_id="")).model_copy(update={"version": v})
            for name, v in world
        ]
        made = plan(
            "local", PlanInputs([at_zero(stable=1, target=1)], [revision(1)], [artifact()], secrets=held), NOW
        ).plan
        return made.standby[0].secrets_version

    first = version(hub_token=3, identity_shop=4, other=5)
    assert first == version(hub_token=3, identity_shop=4, other=6) != ""
    assert first != version(hub_token=6, identity_shop=4)
    assert first != version(hub_token=3, identity_shop=7)
    assert planned(deployment("shop", assigned(1, 0))).replicas[0].secrets_version == ""


def test_which_replica_is_woken_is_left_to_the_control_plane_while_a_revision_is_new() -> None:
    assert planned(at_zero(stable=1, target=2), revisions=[revision(1), revision(2)]).standby == ()


@pytest.mark.parametrize("scaling", [{"min": 1, "max": 3}, {"min": 0, "max": 0}])
def test_a_deployment_that_may_not_be_at_zero_or_is_switched_off_holds_no_calls(scaling: dict[str, int]) -> None:
    made = planned(deployment("shop", scaling=scaling))
    assert made.routes[0].hold_s == 0
    assert made.standby == ()


def tuned(tuning: TuningStatus, *assignments: Assignment) -> Any:
    made = deployment("shop", *assignments)
    return made.model_copy(update={"status": status_with(made.status, stable=1, tuning=tuning)})


TRIAL = TrialStatus(reach=Reach.REPLICA, after={"max_batch": 2}, since=NOW, until=NOW + 30)


def test_a_plan_has_the_knobs_of_every_deployment_with_a_version() -> None:
    shop, other = tuned(TuningStatus(values={"max_batch": 4}), assigned(1, 0)), deployment("zoo", assigned(1, 0))
    assert planned(shop, other).knobs == {
        "default/shop": PlannedKnobs(force=Knobs(max_batch=4)).named(),
        "default/zoo": PlannedKnobs().named(),
    }


def test_the_canary_is_the_first_replica_of_the_revision_that_serves() -> None:
    shop = tuned(TuningStatus(trial=TRIAL), assigned(2, 0, 1), assigned(1, 3, 5))
    made = planned(shop, revisions=[revision(1), revision(2)])
    first = replica_id("default", "uid-shop", 1, 3)
    assert made.knobs == {"default/shop": PlannedKnobs(trial=Knobs(max_batch=2), replicas=(first,)).named()}


async def test_a_trial_that_is_not_extended_leaves_the_plan_when_its_time_is_over(store: MemoryStore) -> None:
    clock = FakeClock(now=NOW)
    status = tuned(TuningStatus(trial=TRIAL), assigned(1, 0, 1)).status
    status = status.model_copy(update={"placement": Placement(cloud="local")})
    made = await store.create("deployment", "default", "tried", DeploymentSpec(template=TEMPLATE), status)
    numbered = RevisionSpec(
        deployment="tried",
        deployment_uid=made.uid,
        number=1,
        template=TEMPLATE,
        template_hash=template_hash(TEMPLATE),
    )
    await store.create("revision", "default", "tried-1", numbered)
    planning = PlanningController(store, clock)
    again = await planning.reconcile(("", "local"))
    assert again == Again(30.0)
    assert (await kept_plan(store)).plan.knobs["default/tried"].trial == Knobs(max_batch=2).named()
    await clock.advance(30)
    assert await planning.reconcile(("", "local")) is None
    assert (await kept_plan(store)).plan.knobs["default/tried"].trial is None


MADE_BY = {
    "an admin of all": (key("boss", Role.ADMIN, workspace=None), {"shop", "other"}),
    "an editor of the workspace": (key("boss", Role.EDITOR, workspace="default"), {"shop", "other"}),
    "an editor of one deployment": (key("boss", Role.EDITOR, workspace="default", deployments=("shop",)), {"shop"}),
    "a key that was revoked": (key("boss", Role.ADMIN, KeyStatus(revoked_at=NOW - 1), workspace=None), set()),
    "a key that has expired": (key("boss", Role.ADMIN, workspace=None, expires_at=NOW - 1), set()),
    "a key that may not call any more": (key("boss", Role.VIEWER, workspace="default"), set()),
    "a key of another workspace": (key("boss", Role.ADMIN, workspace="elsewhere"), set()),
    "a key that is gone": (None, set()),
}


@pytest.mark.parametrize("who", MADE_BY)
def test_a_service_may_call_what_the_key_that_deployed_it_may_call_now(who: str) -> None:
    boss, expected = MADE_BY[who]
    own = key("identity-shop", Role.CALLER, workspace="default", owner_uid="uid-boss")
    keys = [own] if boss is None else [own, boss]
    made = plan("local", PlanInputs([deployment("shop"), deployment("other")], keys=keys), NOW).plan
    may_call = {
        name.removeprefix("default/")
        for name, access in made.access.items()
        if "identity-shop" in {grant.key for grant in access.grants}
    }
    assert may_call == expected


# --- parts: one that cannot be made is left out alone ---


def with_manifest(**fields: Any) -> Any:
    """The shop's artifact, with a service that says what no manifest may say, as if an older Kaon had let it in."""
    made = artifact()
    service = made.spec.manifest.service.model_copy(update=fields)
    manifest = made.spec.manifest.model_copy(update={"service": service})
    return made.model_copy(update={"spec": made.spec.model_copy(update={"manifest": manifest})})


def unchecked(place: Place, value: Any) -> Any:
    """The shop's artifact with one bad value, past all validation."""
    document = spoilt(place, value)["service"]
    endpoints = tuple(EndpointSpec.model_construct(**{**good_endpoint(), **e}) for e in document["endpoints"])
    resources = Resources.model_construct(**document["resources"])
    return with_manifest(**{**document, "endpoints": endpoints, "resources": resources})


def good_endpoint() -> dict[str, Any]:
    return EndpointSpec(name="a", method="GET", path="/a").model_dump()


OF_SERVICES = [case for case in BAD if case[0][0] == "service"]


@pytest.mark.parametrize(("place", "value"), OF_SERVICES, ids=map(named, OF_SERVICES))
def test_one_bad_manifest_does_not_keep_others_from_being_planned_and_revoked_keys_from_ending(
    place: Place, value: Any
) -> None:
    shop = deployment("shop", assigned(1, 0))
    other = deployment("other", assigned(1, 0), template=Template(artifact=OTHER))
    revisions = [revision(1), revision(1, Template(artifact=OTHER), of="other")]
    keys = [key("alice"), key("bob")]
    before = plan("local", PlanInputs([shop, other], revisions, [artifact(), artifact(OTHER)], keys), NOW)
    world = PlanInputs([shop, other], revisions, [unchecked(place, value), artifact(OTHER)], keys[:1])
    after = plan("local", world, NOW, before.plan)
    assert "default/other" not in after.left_out
    assert [r for r in after.plan.routes if r.deployment == "other"] == [before.plan.routes[0]]
    assert [r.name for r in after.plan.replicas] == ["other-1-0", "shop-1-0"]
    for access in after.plan.access.values():
        assert [grant.key for grant in access.grants] == ["alice"]
    assert Plan.model_validate_json(after.plan.model_dump_json()) == after.plan  # the agent can read it


def test_a_part_that_cannot_be_made_is_that_of_the_last_plan_with_the_reason() -> None:
    shop = deployment("shop", assigned(1, 0))
    first = plan("local", PlanInputs([shop], [revision(1)], [artifact(DIGEST, *ENDPOINTS)]), NOW)
    bad = unchecked(("service", "endpoints", 0, "timeout_s"), -100.0)
    second = plan("local", PlanInputs([shop], [revision(1)], [bad]), NOW, first.plan)
    assert second.plan == first.plan
    assert "timeout_s" in second.left_out["default/shop"]
    third = plan("local", PlanInputs([shop], [revision(1)], [artifact(DIGEST, *ENDPOINTS)]), NOW, second.plan)
    assert third == first


def test_a_part_that_was_never_made_is_left_out_altogether() -> None:
    bad = unchecked(("service", "endpoints", 0, "timeout_s"), -100.0)
    made = plan("local", PlanInputs([deployment("shop", assigned(1, 0))], [revision(1)], [bad]), NOW)
    assert (made.plan.replicas, made.plan.routes) == ((), ())
    assert made.left_out.keys() == made.plan.access.keys() == {"default/shop"}


def test_a_deployment_made_again_keeps_nothing_of_its_predecessor() -> None:
    old = deployment("shop", assigned(1, 0))
    first = plan("local", PlanInputs([old], [revision(1)], [artifact()]), NOW)
    new = old.model_copy(update={"uid": "another"})
    revised = revision(1)
    mine = revised.model_copy(update={"spec": revised.spec.model_copy(update={"deployment_uid": "another"})})
    bad = unchecked(("service", "endpoints", 0, "timeout_s"), -100.0)
    made = plan("local", PlanInputs([new], [mine], [bad]), NOW, first.plan)
    assert (made.plan.replicas, made.plan.routes) == ((), ())


@pytest.mark.parametrize(
    ("kind", "name"), [("artifact", DIGEST), ("revision", "shop-1"), ("deployment", "shop")], ids=str
)
def test_an_unreadable_row_keeps_its_last_part_and_stops_no_others(kind: str, name: str) -> None:
    shop, other = deployment("shop", assigned(1, 0)), deployment("other", assigned(1, 0))
    revisions = [revision(1), revision(1, Template(artifact=OTHER), of="other")]
    artifacts = [artifact(), artifact(OTHER)]
    first = plan("local", PlanInputs([shop, other], revisions, artifacts, [key("alice"), key("bob")]), NOW).plan
    lost = Unreadable(kind, "default", name, "timeout_s: too small")
    world = PlanInputs(
        [d for d in (shop, other) if (kind, name) != ("deployment", d.name)],
        [r for r in revisions if (kind, name) != ("revision", r.name)],
        [a for a in artifacts if (kind, name) != ("artifact", a.name)],
        [key("alice")],
        unreadable=[lost],
    )
    made = plan("local", world, NOW, first)
    assert made.left_out.keys() == {"default/shop"}
    assert "timeout_s: too small" in made.left_out["default/shop"]
    assert (made.plan.replicas, made.plan.routes) == (first.replicas, first.routes)
    assert {tuple(grant.key for grant in access.grants) for access in made.plan.access.values()} == {("alice",)}


def test_the_newest_of_a_workspace_with_too_many_routes_is_left_out() -> None:
    old, young = deployment("young"), deployment("old")
    young = young.model_copy(update={"created_at": NOW + 1})
    large = artifact(
        DIGEST,
        *(EndpointSpec(name="e", method="POST", path=f"/{n}" * 9, retry=True, idempotent=True) for n in range(200)),
    )
    made = plan("local", PlanInputs([young, old], [], [large]), NOW, routes_bytes=10_000)
    assert made.left_out.keys() == {"default/old"}
    assert "KAON_ROUTES_BYTES" in made.left_out["default/old"]
    assert [route.deployment for route in made.plan.routes] == ["young"]
    assert plan("local", PlanInputs([young, old], [], [large]), NOW).left_out == {}


async def test_the_plans_status_has_what_was_left_out_as_long_as_it_is(store: MemoryStore) -> None:
    planning = PlanningController(store, FakeClock())
    bad = await store.create(
        "artifact", "default", DIGEST, unchecked(("service", "endpoints", 0, "timeout_s"), -100.0).spec
    )
    await planning.reconcile(("", "local"))
    kept = await store.get("plan", "", "local")
    assert kept.status.left_out.keys() == {"default/shop"}
    await planning.reconcile(("", "local"))
    assert await store.get("plan", "", "local") == kept
    await store.delete(bad)
    await store.create("artifact", "default", DIGEST, artifact().spec)
    await planning.reconcile(("", "local"))
    assert (await store.get("plan", "", "local")).status.left_out == {}


def test_a_route_has_what_browsers_may_do_and_whether_it_is_closed() -> None:
    shop = deployment("shop", assigned(1, 0))
    (closed,) = planned(shop).routes
    assert (closed.closed, closed.cors_origins, closed.hosts, closed.sandbox) == (True, (), (), False)
    more = {"public": True, "cors": Cors(origins=("*",)), "hosts": ("shop.example",), "isolate_html": True}
    (told,) = planned(shop.model_copy(update={"spec": shop.spec.model_copy(update=more)})).routes
    assert (told.closed, told.cors_origins, told.hosts, told.sandbox) == (False, ("*",), ("shop.example",), True)
