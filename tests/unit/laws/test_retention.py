"""What may go, and what holds everything else."""

from __future__ import annotations

from typing import Any

import pytest

from kaon.laws.retention import BLOBS_S, DAY_S, Blob, Garbage, Keep, Stored, may_go
from kaon.types.artifact import ArtifactSpec, ArtifactStatus, Manifest
from kaon.types.deployment import DeploymentSpec, RevisionSpec, Shadow, Template
from kaon.types.key import KeySpec, KeyStatus, Role
from kaon.types.plan import Plan, PlanPartSpec, PlanSpec
from kaon.types.replica import ReplicaSpec
from kaon.types.resource import Artifact, Deployment, Key, PlanPartResource, PlanResource, Revision
from kaon.types.service import ServiceSpec

NOW = 1e9
KEEP = Keep()
DIGEST = f"sha256:{'a' * 64}"
OTHER = f"sha256:{'b' * 64}"
LONG_AGO = NOW - KEEP.artifacts_s
TEMPLATE = Template(artifact=DIGEST)


def made(kind: Any, spec: Any, name: str = "shop", **fields: Any) -> Any:
    known = {"workspace": "default", "uid": f"uid-of-{name}", "version": 1, "generation": 1, "updated_at": 0.0}
    return kind.model_validate(
        {"kind": "x", "name": name, "created_at": LONG_AGO, "status": {}, **known, "spec": spec, **fields}
    )


def artifact(digest: str = DIGEST, **fields: Any) -> Artifact:
    manifest = Manifest(kaon="0", python="3.11", service=ServiceSpec(name="s", entry="s:S"), files=())
    return made(Artifact, ArtifactSpec(digest=digest, size_bytes=1, manifest=manifest), digest, **fields)


def deployment(name: str = "shop", template: Template = TEMPLATE, **spec: Any) -> Deployment:
    return made(Deployment, DeploymentSpec(template=template, **spec), name)


def plan(**parts: Any) -> PlanResource:
    names = {"id": "0" * 12, "name": "shop-1-0", "workspace": "default", "deployment": "shop", "revision": 1}
    replica = ReplicaSpec(**names, ordinal=0, artifact=DIGEST)
    there = Plan(cloud="local", **dict.fromkeys(parts, (replica,)))
    return made(PlanResource, PlanSpec(plan=there, hash="x"), "local")


def plan_part(**parts: Any) -> PlanPartResource:
    """As this release keeps plans."""
    (part,) = plan(**parts).spec.plan.parts.values()
    return made(PlanPartResource, PlanPartSpec(digest="x", part=part), "local/default/shop")


def going(*artifacts: Artifact, **stored: Any) -> list[str]:
    return [a.name for a in may_go(Stored(artifacts=artifacts, **stored), KEEP, NOW).artifacts]


def test_what_nothing_is_made_of_goes_once_its_time_is_over_the_oldest_first() -> None:
    fresh = artifact(f"sha256:{'c' * 64}", created_at=LONG_AGO + 1)
    used = artifact(f"sha256:{'d' * 64}", status=ArtifactStatus(used_at=LONG_AGO + 1))
    older = artifact(OTHER, created_at=LONG_AGO - 1)
    assert going(artifact(), fresh, used, older) == [OTHER, DIGEST]


REVISION = RevisionSpec(deployment="shop", number=1, template=TEMPLATE, template_hash="0" * 16)
HOLDS: dict[str, dict[str, Any]] = {
    "a deployment": {"deployments": [deployment()]},
    "a shadow": {"deployments": [deployment(template=Template(artifact=OTHER), shadow=Shadow(template=TEMPLATE))]},
    "a revision": {"revisions": [made(Revision, REVISION, "shop-1")]},
    "a replica of a plan": {"plans": [plan(replicas=True)]},
    "a replica that may be wanted": {"plans": [plan(standby=True)]},
    "a replica of a part of a plan": {"plan_parts": [plan_part(replicas=True)]},
    "a replica of a part that may be wanted": {"plan_parts": [plan_part(standby=True)]},
    "a deployment that cannot be read": {"unreadable": [("deployment", "default", "shop")]},
    "a revision that cannot be read": {"unreadable": [("revision", "default", "shop-1")]},
    "a plan that cannot be read": {"unreadable": [("plan", "", "local")]},
    "a part of a plan that cannot be read": {"unreadable": [("plan_part", "", "local/default/shop")]},
}


@pytest.mark.parametrize("what", HOLDS)
def test_it_stays_for(what: str) -> None:
    assert going(artifact()) == [DIGEST]
    assert going(artifact(), **HOLDS[what]) == []


@pytest.mark.parametrize("what", ["a deployment", "a deployment that cannot be read"])
def test_what_is_in_another_workspace_holds_nothing(what: str) -> None:
    assert going(artifact(workspace="other"), **HOLDS[what]) == [DIGEST]


def test_bytes_go_when_no_artifact_of_any_workspace_names_them_and_none_is_about_to() -> None:
    old, fresh = Blob(DIGEST, 5, NOW - BLOBS_S), Blob(OTHER, 5, NOW - BLOBS_S + 1)
    part = Blob(".0123456789abcdef.part", 5, NOW - BLOBS_S)
    assert may_go(Stored(blobs=[old, fresh, part]), KEEP, NOW).blobs == (part, old)
    assert may_go(Stored(blobs=[old], artifacts=[artifact(workspace="other", created_at=NOW)]), KEEP, NOW) == Garbage()
    assert may_go(Stored(blobs=[old], unreadable=[("artifact", "other", DIGEST)]), KEEP, NOW) == Garbage()


def key(name: str, owner: str = "root", *, revoked_at: float | None = None, **spec: Any) -> Key:
    found = KeySpec(hash="0" * 64, hint="kaon_", role=Role.EDITOR, owner_uid=owner and f"uid-of-{owner}", **spec)
    return made(Key, found, name, status=KeyStatus(revoked_at=revoked_at), updated_at=NOW)


def gone(*keys: Key, **stored: Any) -> list[str]:
    return [k.name for k in may_go(Stored(keys=keys, **stored), KEEP, NOW).keys]


ENDED = NOW - KEEP.keys_s


def test_keys_go_some_time_after_their_end_or_that_of_a_key_above_them() -> None:
    root = key("root", "")
    ended = [key("a", revoked_at=ENDED), key("b", expires_at=ENDED), key("c", revoked_at=ENDED + 1)]
    assert gone(root, *ended) == ["a", "b"]
    assert gone(root, key("a", revoked_at=ENDED), key("child", "a")) == ["a", "child"]
    assert gone(key("orphan", "nobody")) == [], "it is not known when its maker went, but it was not long before"


def test_the_platforms_own_keys_stay_for_they_would_be_made_again() -> None:
    assert gone(key("admin", "", revoked_at=ENDED)) == []


def test_a_key_stays_while_it_or_one_that_it_made_owns_a_deployment() -> None:
    keys = (key("root", ""), key("a", revoked_at=ENDED), key("b", "a"), key("c", revoked_at=ENDED))
    assert gone(*keys) == ["a", "b", "c"]
    assert gone(*keys, deployments=[deployment(owner="b", owner_uid="uid-of-b")]) == ["c"]
    assert gone(*keys, unreadable=[("deployment", "other", "x")]) == []


def test_a_day_has_so_many_seconds() -> None:
    assert (KEEP.artifacts_s, KEEP.keys_s) == (7 * DAY_S, 30 * DAY_S)
