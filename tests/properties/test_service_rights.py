"""Nobody gains by deploying what they could not do themselves when they deployed it, whatever happens in what order.

People make keys of every role and scope, revoke them, let them expire, deploy, go back, try shadows, adopt and delete,
all through the API; the reconcilers make services' own keys and the plan of them. What each of these keys opens is then
compared with a model that is written anew here: what its artifact declares, and what whoever deployed it may call.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.figures import examples
from tests.integration.api.world import World, world_of

from kaon.control.deployments import DeploymentController
from kaon.control.plan_parts import PlanInputs as Planned
from kaon.control.planning import plan
from kaon.types.artifact import ArtifactSpec, Manifest
from kaon.types.key import Role, identity_deployment
from kaon.types.resource import Artifact, Deployment
from kaon.types.service import EndpointSpec, ServiceSpec

NAMES = ("a", "b", "c")
USES: tuple[tuple[str, ...] | None, ...] = (None, (), ("a",), ("b",), ("a", "b"), ("c",))
DIGESTS = tuple(f"sha256:{n:064x}" for n in range(len(USES)))
ENDS_IN_S = 100.0

whose = st.integers(0, 5)
name = st.sampled_from(NAMES)
artifact = st.sampled_from(range(len(USES)))
step = st.one_of(
    st.tuples(
        st.just("make key"),
        whose,
        st.sampled_from(["admin", "editor", "editor", "caller", "viewer"]),
        st.none() | st.sets(name, min_size=1).map(sorted),
        st.booleans(),
    ),
    st.tuples(st.just("revoke"), whose, st.booleans()),
    st.tuples(st.just("deploy"), whose, name, artifact),
    st.tuples(st.just("deploy"), whose, name, artifact),
    st.tuples(st.just("shadow"), whose, name, artifact),
    st.tuples(st.just("undo"), whose, name),
    st.tuples(st.just("adopt"), whose, name),
    st.tuples(st.just("delete"), whose, name),
    st.tuples(st.just("wait")),
)


@dataclass
class Made:
    """A key in the model."""

    text: str
    name: str
    role: str
    scope: set[str] | None
    owner: Made | None
    ends_at: float | None = None
    revoked: bool = False

    def alive(self, now: float) -> bool:
        ended = self.revoked or (self.ends_at is not None and now >= self.ends_at)
        return not ended and (self.owner is None or self.owner.alive(now))

    def may(self, right: str, target: str, now: float) -> bool:
        roles = {"call": ("admin", "editor", "caller"), "write": ("admin", "editor"), "admin": ("admin",)}[right]
        own = self.alive(now) and self.role in roles and (self.scope is None or target in self.scope)
        return own and (self.owner is None or self.owner.may(right, target, now))


@dataclass
class Model:
    """Everybody's keys, and the world they act on."""

    world: World
    keys: list[Made]
    reconciler: DeploymentController
    owners: dict[str, Made] = field(default_factory=dict)
    """Deployment -> the key that answers for it."""

    def now(self) -> float:
        return self.world.clock.now()

    async def ask(self, key: Made, method: str, path: str, body: Any = None) -> int:
        async with self.world.client(key.text) as client:
            answer = await client.request(method, f"/workspaces/default{path}", json=body)
            assert answer.status_code < 500, answer.text
            return answer.status_code

    def key(self, number: int) -> Made:
        return self.keys[number % len(self.keys)]

    async def make_key(self, whose: int, role: str, scope: list[str] | None, ends: bool) -> None:
        owner = self.key(whose)
        ends_at = self.now() + ENDS_IN_S if ends else None
        body = {"name": f"k{len(self.keys)}", "role": role, "deployments": scope, "expires_at": ends_at}
        async with self.world.client(owner.text) as client:
            answer = await client.post("/workspaces/default/keys", json=body)
        if answer.status_code == 201:
            found = None if scope is None else set(scope)
            self.keys.append(Made(answer.json()["key"], body["name"], role, found, owner, ends_at))

    async def revoke(self, whose: int, and_deployments: bool) -> None:
        ended = self.key(whose)
        if ended.owner is None:  # somebody must stay
            return
        path = f"/keys/{ended.name}" + ("?with_deployments=true" if and_deployments else "")
        if await self.ask(self.keys[0], "DELETE", path) == 204:
            ended.revoked = True
            gone = [name for name, owner in self.owners.items() if and_deployments and ended in self.line(owner)]
            for name in gone:
                del self.owners[name]

    def line(self, key: Made | None) -> Iterable[Made]:
        while key is not None:
            yield key
            key = key.owner

    async def deploy(self, whose: int, name: str, number: int) -> None:
        body = {"template": {"artifact": DIGESTS[number]}, "scaling": {"min": 1, "max": 1}}
        await self.choose(self.key(whose), name, USES[number], ("PUT", f"/deployments/{name}", body))

    async def shadow(self, whose: int, name: str, number: int) -> None:
        request = ("PUT", f"/deployments/{name}/shadow", {"template": {"artifact": DIGESTS[number]}})
        await self.choose(self.key(whose), name, USES[number], request)

    async def undo(self, whose: int, name: str) -> None:
        key = self.key(whose)
        if await self.ask(key, "POST", f"/deployments/{name}/undo") == 200:
            after = await self.world.store.get("deployment", "default", name)
            uses = USES[DIGESTS.index(after.spec.template.artifact)]
            self.hold_to_deployer(key, name, uses)

    async def choose(self, key: Made, name: str, uses: tuple[str, ...] | None, request: tuple[str, str, Any]) -> None:
        before = await self.world.store.find("deployment", "default", name)
        if await self.ask(key, *request) not in (200, 201):
            return
        after = await self.world.store.get("deployment", "default", name)
        templates = [d and (d.spec.template, d.spec.shadow and d.spec.shadow.template) for d in (before, after)]
        if templates[0] != templates[1]:
            self.hold_to_deployer(key, name, uses)
        elif all(key.may("call", target, self.now()) for target in self.used(after)):
            self.owners[name] = key

    def used(self, deployment: Deployment) -> set[str]:
        digests = [deployment.spec.template.artifact]
        if deployment.spec.shadow and deployment.spec.shadow.template:
            digests.append(deployment.spec.shadow.template.artifact)
        return {target for digest in digests for target in USES[DIGESTS.index(digest)] or ()}

    def hold_to_deployer(self, key: Made, name: str, uses: tuple[str, ...] | None) -> None:
        """The promise, at the time of deploying."""
        assert key.may("write", name, self.now())
        assert all(key.may("call", target, self.now()) for target in uses or ())
        self.owners[name] = key

    async def adopt(self, whose: int, name: str) -> None:
        key = self.key(whose)
        if await self.ask(key, "POST", f"/deployments/{name}/adopt") == 200:
            assert key.may("admin", name, self.now())
            self.owners[name] = key

    async def delete(self, whose: int, name: str) -> None:
        if await self.ask(self.key(whose), "DELETE", f"/deployments/{name}") == 204:
            self.owners.pop(name, None)

    async def wait(self) -> None:
        self.world.clock.jump(ENDS_IN_S / 2)

    async def check(self) -> None:
        """The promise, of every service's own key, once the reconcilers have looked."""
        store, version = self.world.store, -1
        while version != await store.version():
            version = await store.version()
            for key in await self.reconciler.keys():
                await self.reconciler.reconcile(key)
        deployments = {d.name: d for d in await store.list_all("deployment")}
        revisions = {(r.spec.deployment, r.spec.number): r for r in await store.list_all("revision")}
        assert deployments.keys() == self.owners.keys()
        keys, artifacts = await store.list_all("key"), await store.list_all("artifact")
        made = plan("local", Planned(list(deployments.values()), list(revisions.values()), artifacts, keys), self.now())
        expected: dict[str, set[str]] = {}
        for name, deployment in deployments.items():
            owner = self.owners[name]
            gone = [c.reason for c in deployment.status.conditions if c.type == "OwnerGone" and c.holds]
            assert bool(gone) != owner.alive(self.now()), gone
            for assignment in deployment.status.rollout.assignments:
                uses = USES[DIGESTS.index(revisions[name, assignment.revision].spec.template.artifact)]
                if uses is None:
                    expected[f"identity-{name}"] = {t for t in NAMES if owner.may("call", t, self.now())}
                else:
                    expected[f"identity-{name}.{assignment.revision}"] = set(uses)
        found: dict[str, set[str]] = {k.name: set() for k in keys if identity_deployment(k.name)}
        for place, access in made.plan.access.items():
            for grant in access.grants:
                if grant.key in found:
                    found[grant.key].add(place.partition("/")[2])
        assert found.keys() == expected.keys()
        assert found == {own: targets & deployments.keys() for own, targets in expected.items()}


def artifact_row(number: int) -> ArtifactSpec:
    endpoint = EndpointSpec(name="echo", method="POST", path="/echo")
    service = ServiceSpec(name="s", entry="s:S", endpoints=(endpoint,), uses=USES[number])
    manifest = Manifest(kaon="0", python="3.11", service=service, files=())
    return ArtifactSpec(digest=DIGESTS[number], size_bytes=1, manifest=manifest)


async def lived(steps: list[tuple[Any, ...]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with world_of(Path(folder)) as world:
            for number, digest in enumerate(DIGESTS):
                made: Artifact = await world.store.create("artifact", "default", digest, artifact_row(number))
                assert made.spec.manifest.service.uses == USES[number]
            root = Made(world.keys["root"], "root", "admin", None, None)
            model = Model(world, [root], DeploymentController(world.store, world.vault, world.clock))
            editor = await world.key("ci", Role.EDITOR, workspace="default", deployments=("a",))
            model.keys.append(Made(editor, "ci", "editor", {"a"}, None))
            for what, *arguments in steps:
                await getattr(model, what.replace(" ", "_"))(*arguments)
                await model.check()


@pytest.mark.timeout(6 * examples(100))
@settings(max_examples=examples(100), deadline=None, suppress_health_check=list(HealthCheck))
@example([("deploy", 0, "a", 3), ("shadow", 1, "a", 3)])  # what the other key deployed and this one could not
@given(st.lists(step, min_size=3, max_size=15))
def test_a_service_may_call_what_it_declares_and_its_deployer_could_call(steps: list[tuple[Any, ...]]) -> None:
    asyncio.run(lived(steps))
