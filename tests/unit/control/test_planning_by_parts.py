"""A plan that is made of the parts of the one before is the same as one that is made of nothing."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from tests.statuses import status_with

from kaon.control.callers import callers_of
from kaon.control.plan_parts import PlanInputs
from kaon.control.planning import Planned, plan
from kaon.laws.rights import effective_rights
from kaon.store.records import assemble
from kaon.types.artifact import ArtifactSpec, Manifest
from kaon.types.deployment import (
    Assignment,
    DeploymentSpec,
    RevisionSpec,
    Template,
    template_hash,
)
from kaon.types.key import KeySpec, KeyStatus, Right, Role, key_hash
from kaon.types.secret import SecretSpec
from kaon.types.service import EndpointSpec, ServiceSpec
from kaon.types.tuning import Reach, TrialStatus, TuningStatus

NOW = 1000.0
DIGESTS = tuple(f"sha256:{digit * 64}" for digit in "01")
NAMES = ("shop", "blog", "zoo")
OWNERS = ("boss", "ann")


class Stored:
    """What is stored, each with a version that no other has."""

    def __init__(self) -> None:
        self.version = 0
        self.now = NOW
        self.rows: dict[tuple[str, str], Any] = {}
        for digest in DIGESTS:
            self.artifact(digest, 60.0)
        for name in NAMES:
            self.deployment(name)
            for number in (1, 2):
                self.revision(name, number, DIGESTS[0])
        for name in OWNERS:
            self.key(name)

    def put(self, kind: str, name: str, spec: Any, status: Any = None) -> None:
        self.version += 1
        fields = {"generation": 1, "created_at": NOW, "updated_at": NOW, "version": self.version}
        made = assemble(kind, spec, status, workspace="default", name=name, uid=f"uid-{name}", **fields)
        self.rows[kind, name] = made

    def artifact(self, digest: str, timeout_s: float) -> None:
        endpoints = (EndpointSpec(name="ask", method="POST", path="/ask", timeout_s=timeout_s),)
        service = ServiceSpec(name="Shop", entry="shop:Shop", endpoints=endpoints)
        manifest = Manifest(kaon="0", python="3.11", service=service, files=())
        self.put("artifact", digest, ArtifactSpec(digest=digest, size_bytes=1, manifest=manifest))

    def revision(self, name: str, number: int, digest: str) -> None:
        template = Template(artifact=digest, secrets={"TOKEN": "token"})
        spec = RevisionSpec(
            deployment=name,
            deployment_uid=f"uid-{name}",
            number=number,
            template=template,
            template_hash=template_hash(template),
        )
        self.put("revision", f"{name}-{number}", spec)

    def deployment(self, name: str, replicas: int = 1, public: bool = False, until: float = 0.0) -> None:
        spec = DeploymentSpec(template=Template(artifact=DIGESTS[0]), public=public, scaling={"min": 0, "max": 9})
        serving = Assignment(revision=1, replicas=replicas, ordinals=tuple(range(replicas)), weight=100)
        trial = TrialStatus(reach=Reach.POOL, after={"max_batch": 2}, since=NOW, until=until) if until else None
        status = status_with(stable=1, target=1, assignments=(serving,), tuning=TuningStatus(trial=trial))
        self.put("deployment", name, spec, status)

    def key(self, name: str, revoked: bool = False, expires_at: float | None = None, of: tuple[str, ...] | None = None):
        owner = "" if name == "boss" else "uid-boss"
        spec = KeySpec(
            hash=key_hash(name),
            hint="k",
            role=Role.CALLER,
            workspace="default",
            expires_at=expires_at,
            deployments=of,
            owner_uid=owner,
        )
        self.put("key", name, spec, KeyStatus(revoked_at=1.0 if revoked else None))

    def secret(self) -> None:
        self.put("secret", "token", SecretSpec(ciphertext="", key_id=""))

    def world(self) -> PlanInputs:
        kinds = ("deployment", "revision", "artifact", "key", "secret")
        return PlanInputs(*([row for (kind, _), row in self.rows.items() if kind == wanted] for wanted in kinds))


NAME = st.sampled_from(NAMES)
TIMES = st.sampled_from([NOW + 5, NOW + 10, NOW + 15])
CHANGES: st.SearchStrategy[Callable[[Stored], object]] = st.one_of(
    st.builds(
        lambda name, replicas, public, until: lambda s: s.deployment(name, replicas, public, until),
        NAME,
        st.integers(0, 2),
        st.booleans(),
        st.just(0.0) | TIMES,
    ),
    st.builds(lambda name: lambda s: s.rows.pop(("deployment", name), None), NAME),
    st.builds(
        lambda name, number, digest: lambda s: s.revision(name, number, digest),
        NAME,
        st.integers(1, 2),
        st.sampled_from(DIGESTS),
    ),
    st.builds(lambda name: lambda s: s.rows.pop(("revision", f"{name}-1"), None), NAME),
    st.builds(
        lambda digest, timeout: lambda s: s.artifact(digest, timeout), st.sampled_from(DIGESTS), st.floats(1, 100)
    ),
    st.builds(
        lambda name, revoked, at, of: lambda s: s.key(name, revoked, at, of),
        st.sampled_from(OWNERS),
        st.booleans(),
        st.none() | TIMES,
        st.none() | st.lists(NAME, unique=True).map(tuple),
    ),
    st.just(Stored.secret),
    st.builds(lambda after_s: lambda s: setattr(s, "now", s.now + after_s), st.floats(0, 6)),
)


@given(st.lists(CHANGES, max_size=12))
def test_a_plan_made_of_earlier_parts_is_the_same_as_one_made_from_scratch(
    changes: list[Callable[[Stored], object]],
) -> None:
    stored = Stored()
    before: Planned | None = None
    for change in (lambda _: None, *changes):
        change(stored)
        last = before.plan if before else None
        anew = plan("local", stored.world(), stored.now, last)
        before = plan("local", stored.world(), stored.now, last, before=before)
        assert (before.plan, before.left_out, before.digests) == (anew.plan, anew.left_out, anew.digests)


@given(st.lists(CHANGES, max_size=6))
def test_groups_have_exactly_the_keys_that_may_call(changes: list[Callable[[Stored], object]]) -> None:
    stored = Stored()
    for change in changes:
        change(stored)
    made = plan("local", stored.world(), stored.now).plan
    keys = {key.uid: key for key in stored.world().keys}
    for name, access in made.access.items():
        workspace, _, deployment = name.partition("/")
        may = {
            key.name
            for key in keys.values()
            if effective_rights(key, keys, stored.now).may(Right.CALL, workspace, deployment)
        }
        assert {grant.key for grant in access.grants} == may


def test_one_change_makes_one_part_again() -> None:
    stored = Stored()
    first = plan("local", stored.world(), NOW)
    stored.deployment("blog", replicas=2)
    second = plan("local", stored.world(), NOW, first.plan, before=first)
    again = {name for name, part in second.plan.parts.items() if part is not first.plan.parts[name]}
    assert again == {"default/blog"}
    assert second.callers is first.callers


def test_callers_are_looked_at_again_when_one_of_them_expires() -> None:
    stored = Stored()
    stored.key("ann", expires_at=NOW + 5)
    first = callers_of(stored.world().keys, NOW)
    assert callers_of(stored.world().keys, NOW + 4.9, first) is first
    later = callers_of(stored.world().keys, NOW + 5, first)
    assert {grant.key for group in later.grants.values() for grant in group} == {"boss"}
    assert math.isinf(later.until)


def size(deployments: int, keys: int, of_their_own: bool) -> int:
    stored = Stored()
    stored.rows = {place: row for place, row in stored.rows.items() if place[0] == "artifact"}
    for number in range(keys):
        stored.key(f"user-{number}")
    for number in range(deployments):
        name = f"service-{number}"
        stored.deployment(name, replicas=2)
        stored.revision(name, 1, DIGESTS[0])
        stored.key(f"identity-{name}", of=(f"service-{number // 2}", name) if of_their_own else None)
    return len(plan("local", stored.world(), NOW).plan.model_dump_json())


def test_a_plans_size_grows_with_its_deployments_and_keys_and_not_with_their_product() -> None:
    for of_their_own in (False, True):
        small, large = size(10, 50, of_their_own), size(80, 50, of_their_own)
        assert large < 9 * small
        assert size(10, 400, of_their_own) - small < 400 * 250, "a grant is said once"
