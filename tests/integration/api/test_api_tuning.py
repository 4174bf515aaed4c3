"""How people see and steer the tuner, over the API."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kaon.laws.tune.values_in_force import commanded
from kaon.store.port import AuditQuery
from kaon.types.artifact import ArtifactSpec, ArtifactStatus, Manifest
from kaon.types.deployment import DeploymentSpec, Scaling, Template
from kaon.types.key import Role
from kaon.types.knobs import figure
from kaon.types.objective import Objective, Weights
from kaon.types.service import Batch, EndpointSpec, ServiceSpec
from kaon.types.tuning import MOST_COMMANDS, Reach, Recommendation, TrialStatus, TuningMode, TuningState, TuningStatus

from .world import DIGEST as PLAIN
from .world import World, populate, world_of

WEB = "/workspaces/default/deployments/web/tuning"
DIGEST = "sha256:" + "b" * 64
ENDPOINT = EndpointSpec(name="embed", method="POST", path="/embed", batch=Batch(max_size=32, max_wait_s=0.02))
SERVICE = ServiceSpec(
    name="Embed", entry="app:Embed", endpoints=(ENDPOINT,), objective=Objective(weights=Weights(cost=2))
)
STATE = TuningState(
    workspace="default", deployment="web", mode=TuningMode.RECOMMEND, state="still", reason="nothing found"
)


@pytest.fixture
async def world(tmp_path: Path) -> Any:
    async with world_of(tmp_path) as made:
        await populate(made)
        manifest = Manifest(kaon="0", python="3.11", service=SERVICE, files=())
        await made.store.create(
            "artifact",
            "default",
            DIGEST,
            ArtifactSpec(digest=DIGEST, size_bytes=1, manifest=manifest),
            ArtifactStatus(),
        )
        found = await made.store.get("deployment", "default", "web")
        spec = DeploymentSpec(template=Template(artifact=DIGEST), scaling=Scaling(min=1, max=4))
        await made.store.update_spec(found, spec)
        made.app.state.context.live_status.keep_tuning("default", "web", lambda: STATE)
        yield made


@pytest.fixture
async def root(world: World) -> Any:
    async with world.client(world.keys["root"]) as client:
        yield client


async def tuning(world: World) -> TuningStatus:
    """The tuner's part of the status after the tuner has carried out all requests."""
    found = await world.store.get("deployment", "default", "web")
    status = commanded(found.status.tuning, found.spec.tuning.commands)
    await world.store.update_status(found, found.status.model_copy(update={"tuning": status}))
    return status


async def stand(world: World, **tuned: Any) -> None:
    """Let the tuner's part of the status be so."""
    found = await world.store.get("deployment", "default", "web")
    changed = TuningStatus.model_validate(found.status.tuning.model_dump() | tuned)
    await world.store.update_status(found, found.status.model_copy(update={"tuning": changed}))


BETTER = Recommendation(values={"max_batch": 16}, gain=0.06, least=0.02, at=1)
TRIAL = TrialStatus(reach=Reach.REPLICA, after={"max_batch": 16}, since=1, replicas=1, until=9)


async def test_the_tuners_state_is_updated_by_newer_parts_of_the_store(world: World, root: Any) -> None:
    await stand(world, values={"max_batch": 4}, recommended=BETTER, trial=TRIAL)
    got = TuningState.model_validate((await root.get(WEB)).json())
    assert (got.state, got.reason, got.trial) == ("still", "nothing found", TRIAL)
    assert [(k.name, k.tuned, k.value, k.tried, k.recommended) for k in got.knobs] == [
        ("max_batch", True, 4, 16, 16),
        ("budget_share", True, 0.25, None, None),
        ("contest_share", True, 0.1, None, None),
        ("max_wait_s", False, 0.02, None, None),
        ("margin", False, 1, None, None),
    ]
    assert got.weights.cost == 2


async def test_a_deployment_whose_tuner_has_not_run_says_so_and_takes_values(world: World, root: Any) -> None:
    world.app.state.context.live_status.forget_tuning("default", "web")
    got = (await root.post(WEB, json={"set": {"max_batch": 2}})).json()
    assert (got["mode"], got["state"], got["knobs"][0]["value"]) == ("recommend", "learning", 2)


async def test_a_deployment_without_batching_or_bounds_has_only_what_people_set(world: World, root: Any) -> None:
    await world.store.create("deployment", "default", "plain", DeploymentSpec(template=Template(artifact=PLAIN)))
    got = (await root.get("/workspaces/default/deployments/plain/tuning")).json()
    assert [(k["name"], k["tuned"]) for k in got["knobs"]] == [("concurrency", False)]
    tried = await root.post("/workspaces/default/deployments/plain/tuning", json={"attempt": {"concurrency": 4}})
    assert (tried.status_code, tried.json()["hint"]) == (
        422,
        "Put it in force at once: kaon tune plain --set concurrency=4",
    )
    put = await root.post("/workspaces/default/deployments/plain/tuning", json={"set": {"concurrency": 4}})
    assert put.status_code == 200


async def test_what_only_people_set_is_put_in_force(world: World, root: Any) -> None:
    assert (await root.post(WEB, json={"set": {"max_wait_s": 0.01}})).status_code == 200
    assert (await tuning(world)).values == {"max_wait_s": 0.01}
    assert (await root.post(WEB, json={"set": {"max_wait_s": 0.03}})).status_code == 422


async def test_the_mode_is_a_part_of_the_spec_and_is_noted_once_with_the_key(world: World, root: Any) -> None:
    for _ in range(2):
        assert (await root.post(WEB, json={"mode": "auto"})).json()["mode"] == "auto"
    found = await world.store.get("deployment", "default", "web")
    assert found.spec.tuning.mode is TuningMode.AUTO
    events = [e for e in await world.store.events("default") if e.reason == "TuningMode"]
    assert [e.message.endswith("By key 'root'.") for e in events] == [True]


async def test_off_is_visible_at_once_whatever_the_tuners_last_state(world: World, root: Any) -> None:
    assert (await root.post(WEB, json={"mode": "off"})).json()["state"] == "off"


async def test_on_is_visible_at_once_too(world: World, root: Any) -> None:
    off = STATE.model_copy(update={"mode": TuningMode.OFF, "state": "off"})
    world.app.state.context.live_status.keep_tuning("default", "web", lambda: off)
    got = (await root.post(WEB, json={"mode": "auto"})).json()
    assert (got["state"], got["reason"]) == ("learning", "it was switched on just now")


async def test_a_recommendation_is_applied_and_can_be_undone(world: World, root: Any) -> None:
    await stand(world, values={"budget_share": 0.5}, recommended=BETTER)
    got = (await root.post(WEB, json={"apply": True})).json()
    assert ([k["value"] for k in got["knobs"][:2]], got["recommended"]) == ([16, 0.5], None)
    kept = await tuning(world)
    assert (kept.values, kept.before, kept.changed_by) == (
        {"budget_share": 0.5, "max_batch": 16},
        ({"budget_share": 0.5},),
        "root",
    )
    event = (await world.store.events("default"))[-1]
    assert (event.reason, event.message) == (
        "Tuned",
        "As recommended: max_batch=16. By key 'root'.",
    )
    await root.post(WEB, json={"undo": True})
    assert ((await tuning(world)).values, (await tuning(world)).before) == ({"budget_share": 0.5}, ())


async def test_values_put_in_force_by_hand_end_a_trial_and_a_recommendation(world: World, root: Any) -> None:
    await stand(world, recommended=BETTER, trial=TRIAL, asked={"max_batch": 3}, asked_by="ops")
    assert (await root.post(WEB, json={"set": {"budget_share": 0.3}})).status_code == 200
    kept = await tuning(world)
    assert (kept.values, kept.trial, kept.recommended, kept.asked) == ({"budget_share": 0.3}, None, None, None)


async def test_undo_ends_a_trial_first_and_leaves_what_is_in_force(world: World, root: Any) -> None:
    await stand(world, values={"max_batch": 4}, before=({},), trial=TRIAL)
    await root.post(WEB, json={"undo": True})
    assert ((await tuning(world)).values, (await tuning(world)).trial) == ({"max_batch": 4}, None)
    await root.post(WEB, json={"undo": True})
    assert (await tuning(world)).values == {}


async def test_a_requested_trial_is_stored_for_the_tuner_with_the_key(world: World, root: Any) -> None:
    assert (await root.post(WEB, json={"attempt": {"max_batch": 16}})).json()["asked"] == {"max_batch": 16}
    kept = await tuning(world)
    assert (kept.asked, kept.asked_by, kept.values) == ({"max_batch": 16}, "root", {})
    await root.post(WEB, json={"undo": True})
    assert (await tuning(world)).asked is None


async def test_a_request_is_written_to_the_spec_with_its_audit_record_and_event_and_the_status_stays(
    world: World, root: Any
) -> None:
    before = await world.store.get("deployment", "default", "web")
    assert (await root.post(WEB, json={"set": {"max_batch": 8}})).json()["knobs"][0]["value"] == 8
    after = await world.store.get("deployment", "default", "web")
    (command,) = after.spec.tuning.commands
    assert (command.id, command.action, command.values, command.by) == (1, "set", {"max_batch": 8}, "root")
    assert (after.status, after.spec.template) == (before.status, before.spec.template)
    record = (await world.store.audit(AuditQuery()))[0]
    assert (record.name, record.actor, record.before == record.after) == ("web", "root", False)
    assert (await world.store.events("default"))[-1].message == "Set by hand: max_batch=8. By key 'root'."


async def test_a_request_replaces_those_that_are_carried_out_and_its_id_is_a_higher_one(
    world: World, root: Any
) -> None:
    for rows in (4, 8):
        await root.post(WEB, json={"set": {"max_batch": rows}})
    assert (await tuning(world)).command == 2
    await root.post(WEB, json={"set": {"max_batch": 16}})
    found = await world.store.get("deployment", "default", "web")
    assert [(command.id, command.values) for command in found.spec.tuning.commands] == [(3, {"max_batch": 16})]


async def test_a_tuner_that_does_not_run_gets_a_bounded_number_of_requests(world: World, root: Any) -> None:
    for rows in range(1, MOST_COMMANDS + 1):
        assert (await root.post(WEB, json={"set": {"max_batch": rows}})).status_code == 200
    refused = await root.post(WEB, json={"set": {"max_batch": 32}})
    assert (refused.status_code, "has not carried out" in refused.json()["detail"]) == (409, True)
    await tuning(world)
    assert (await root.post(WEB, json={"set": {"max_batch": 32}})).status_code == 200


async def test_a_spec_that_is_deployed_again_keeps_the_requests_and_brings_none(world: World, root: Any) -> None:
    await root.post(WEB, json={"attempt": {"max_batch": 16}})
    web, other = "/workspaces/default/deployments/web", "/workspaces/default/deployments/other"
    body = (await root.get(web)).json()["spec"] | {"owner": "", "owner_uid": ""}
    commands = body["tuning"].pop("commands")
    assert (await root.put(web, json=body)).json()["spec"]["tuning"]["commands"] == commands
    body["tuning"]["commands"] = [commands[0] | {"id": 9, "values": {"max_batch": 1}}]
    assert (await root.put(web, json=body)).json()["spec"]["tuning"]["commands"] == commands
    assert (await root.put(other, json=body)).json()["spec"]["tuning"]["commands"] == []


async def test_only_ten_changes_can_be_undone(world: World, root: Any) -> None:
    for rows in range(1, 13):
        await root.post(WEB, json={"set": {"max_batch": rows}})
    assert [values["max_batch"] for values in (await tuning(world)).before] == list(range(2, 12))


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ({"apply": True}, 422, "Nothing is recommended"),
        ({"undo": True}, 422, "nothing to undo"),
        ({"set": {"beta": 1}}, 422, "no such knob; the knobs are: max_batch, budget_share, contest_share"),
        ({"set": {"max_batch": 33}}, 422, "must be 1 to 32, whole numbers"),
        ({"set": {"max_batch": 1e300}}, 422, "must be 1 to 32, whole numbers"),
        ({"set": {"max_batch": 2.5}}, 422, "must be 1 to 32, whole numbers"),
        ({"set": {"max_wait_s": 1}}, 422, "must be 0 to 0.02 s"),
        ({"attempt": {"max_batch": 16, "budget_share": 0}}, 422, 'budget_share", "message": "must be 0.'),
        ({"attempt": {"max_batch": 32}}, 422, "in force for 'web' already"),
        ({"set": {}}, 422, "give at least one knob"),
        ({}, 422, "give exactly one of"),
        ({"mode": "auto", "undo": True}, 422, "give exactly one of"),
        ({"mode": "wild"}, 422, "mode"),
        ({"set": {"Max Batch": 1}}, 422, "Max Batch"),
        ({"set": {"max_batch": "many"}}, 422, "max_batch"),
    ],
)
async def test_what_cannot_be_is_refused_with_what_there_is_and_changes_nothing(
    world: World, root: Any, body: dict[str, Any], status: int, says: str
) -> None:
    answer = await root.post(WEB, json=body)
    assert (answer.status_code, says in answer.text) == (status, True), answer.text
    assert await tuning(world) == TuningStatus()


async def test_nothing_is_tried_beside_a_trial_or_while_the_tuner_is_off(world: World, root: Any) -> None:
    await stand(world, trial=TRIAL)
    assert (await root.post(WEB, json={"attempt": {"max_batch": 4}})).status_code == 409
    await stand(world, trial=None, off_until=world.clock.now() + 7000)
    waits = await root.post(WEB, json={"attempt": {"max_batch": 4}})
    assert (waits.status_code, "for another 117 minutes" in waits.json()["detail"]) == (409, True)
    await stand(world, off_until=0)
    await root.post(WEB, json={"mode": "off"})
    refused = await root.post(WEB, json={"attempt": {"max_batch": 4}})
    assert (refused.status_code, refused.json()["hint"]) == (422, "Switch it on: kaon tune web --recommend")


async def test_a_viewer_sees_and_does_not_steer(world: World) -> None:
    async with world.client(await world.key("viewer", Role.VIEWER)) as viewer:
        assert (await viewer.get(WEB)).status_code == 200
        assert (await viewer.post(WEB, json={"mode": "off"})).status_code == 403


@pytest.mark.parametrize(
    ("value", "told"), [(16, "16"), (1_000_000, "1000000"), (0.00001, "0.00001"), (0.25, "0.25"), (-0.0, "-0")]
)
def test_values_are_shown_as_people_type_them_never_in_powers_of_ten(value: float, told: str) -> None:
    assert figure(value) == told


VALUES = st.dictionaries(
    st.sampled_from(["max_batch", "budget_share", "beta", "", "x" * 60]),
    st.one_of(st.integers(-5, 50), st.floats(), st.text(max_size=3), st.none()),
    max_size=4,
)
BODIES = st.fixed_dictionaries(
    {},
    optional={
        "mode": st.sampled_from(["off", "recommend", "auto", "AUTO", None]),
        "apply": st.booleans(),
        "undo": st.booleans(),
        "set": VALUES,
        "attempt": VALUES,
        "force": st.booleans(),
    },
)


async def test_no_request_moves_a_knob_out_of_its_range_or_fails_unexpectedly(world: World, root: Any) -> None:
    loop = asyncio.get_running_loop()
    ranges = {knob["name"]: (knob["low"], knob["high"]) for knob in (await root.get(WEB)).json()["knobs"]}
    low, high = ranges["budget_share"]

    @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(BODIES, max_size=4))
    def asks(bodies: list[dict[str, Any]]) -> None:
        async def each() -> None:
            for body in bodies:
                answer = await root.post(WEB, content=json.dumps(body), headers={"content-type": "application/json"})
                assert answer.status_code in (200, 400, 409, 422), answer.text
            kept = await tuning(world)
            for values in (kept.values, kept.asked or {}, *kept.before):
                assert set(values) <= {"max_batch", "budget_share"}
                assert values.get("max_batch", 1) in range(1, 33)
                assert low <= values.get("budget_share", low) <= high

        asyncio.run_coroutine_threadsafe(each(), loop).result(20)

    await asyncio.to_thread(asks)
