"""S1: every route x every kind of key. What may not pass gets no 2xx and changes nothing; what may, passes."""

from __future__ import annotations

import asyncio
import base64
import json
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.plans import keep_plan, kept_plan
from tests.statuses import status_with
from tests.watching import Reader, Refused

from kaon.api.app import COLLECTIONS, ROUTES, create_app
from kaon.api.authorizer import Open
from kaon.api.router import AuthorizedRoute
from kaon.errors import PROBLEM_JSON
from kaon.types.cloud import CloudSpec
from kaon.types.dataset import DatasetManifest, DatasetUse, DatasetVersionRef
from kaon.types.deployment import CanaryStatus, RevisionSpec, template_hash
from kaon.types.job import Attempt, JobSpec, JobState, JobStatus
from kaon.types.key import RIGHTS, KeyStatus, Right, Role
from kaon.types.kind import Kind, Verb
from kaon.types.kinds import KINDS
from kaon.types.model import content_hash
from kaon.types.plan import Plan
from kaon.types.traffic import Sample, Traffic

from .world import DIGEST, REPLICA, World, artifact_bytes, digest_of, populate, world_of

WS = "/workspaces/{ws}"
ONE = WS + "/deployments/{deployment}"


def place_of(kind: Kind) -> str:
    """The path of one resource."""
    collection = COLLECTIONS.get(kind.name)
    return f"{kind.path}/{{{collection.parameter if collection else 'name'}}}"


DATASET = WS + "/datasets/{name}"
VERSION = WS + "/dataset-versions/{name}"
MANIFEST = {"files": [{"path": "a", "size_bytes": 4, "digest": digest_of(b"data")}]}
PUSH = f"sha256:{content_hash(DatasetManifest.model_validate(MANIFEST))}"
SPEC = {"template": {"artifact": DIGEST}}
NO_BODY: dict[str, Any] = {}
GOOD: dict[tuple[str, str], dict[str, Any]] = {
    **{("GET", kind.path): NO_BODY for kind in KINDS.values() if Verb.LIST in kind.rights},
    **{("GET", place_of(kind)): NO_BODY for kind in KINDS.values() if Verb.GET in kind.rights},
    ("GET", "/health"): NO_BODY,
    ("GET", "/whoami"): NO_BODY,
    ("GET", "/openapi.json"): NO_BODY,
    ("POST", "/workspaces"): {"json": {"name": "new"}},
    ("DELETE", "/workspaces/{ws}"): NO_BODY,
    ("DELETE", WS + "/artifacts/{digest}"): NO_BODY,
    ("POST", WS + "/artifacts"): {"content": artifact_bytes(b"x = 1\n")},
    ("PUT", WS + "/artifacts/{digest}"): NO_BODY,
    ("GET", WS + "/uploads/{digest}"): NO_BODY,
    ("PUT", WS + "/uploads/{digest}"): {
        "params": {"size": len(artifact_bytes())},
        "content": artifact_bytes(),
    },
    ("PUT", ONE): {"json": SPEC},
    ("DELETE", ONE): NO_BODY,
    ("POST", ONE + "/scale"): {"json": {"min": 1, "max": 3}},
    ("POST", ONE + "/restart"): NO_BODY,
    ("POST", ONE + "/pause"): NO_BODY,
    ("POST", ONE + "/resume"): NO_BODY,
    ("GET", ONE + "/revisions"): NO_BODY,
    ("POST", ONE + "/undo"): {"json": {"revision": 1}},
    ("GET", ONE + "/decisions"): NO_BODY,
    ("POST", ONE + "/promote"): NO_BODY,
    ("POST", ONE + "/adopt"): NO_BODY,
    ("PUT", ONE + "/shadow"): {"json": SPEC},
    ("DELETE", ONE + "/shadow"): NO_BODY,
    ("GET", ONE + "/shadow"): NO_BODY,
    ("GET", ONE + "/replicas"): NO_BODY,
    ("GET", ONE + "/stats"): {"params": {"span_s": 60}},
    ("GET", ONE + "/tuning"): NO_BODY,
    ("POST", ONE + "/tuning"): {"json": {"mode": "auto"}},
    ("GET", ONE + "/advice"): NO_BODY,
    ("GET", WS + "/advice"): NO_BODY,
    ("GET", "/metrics"): NO_BODY,
    ("GET", "/gc"): NO_BODY,
    ("POST", "/gc"): NO_BODY,
    ("GET", ONE + "/logs"): {"params": {"tail": 1}},
    ("GET", "/audit"): NO_BODY,
    ("GET", WS + "/audit"): NO_BODY,
    ("POST", WS + "/keys"): {"json": {"name": "new", "role": "viewer"}},
    ("DELETE", WS + "/keys/{name}"): NO_BODY,
    ("PUT", WS + "/secrets/{name}"): {"json": {"value": "something else"}},
    ("DELETE", WS + "/secrets/{name}"): NO_BODY,
    ("POST", WS + "/jobs"): {"json": {"artifact": DIGEST, "command": ["true"]}},
    ("POST", WS + "/jobs/{name}/cancel"): NO_BODY,
    ("POST", WS + "/jobs/{name}/retry"): NO_BODY,
    ("DELETE", WS + "/jobs/{name}"): NO_BODY,
    ("GET", WS + "/jobs/{name}/result"): NO_BODY,
    ("GET", WS + "/jobs/{name}/metrics"): NO_BODY,
    ("GET", WS + "/jobs/{name}/progress"): NO_BODY,
    ("GET", WS + "/jobs/{name}/logs"): NO_BODY,
    ("POST", "/clouds/{name}/cordon"): NO_BODY,
    ("POST", "/clouds/{name}/uncordon"): NO_BODY,
    ("DELETE", "/clouds/{name}"): NO_BODY,
    ("GET", "/clouds/{cloud}/plan"): NO_BODY,
    ("POST", "/clouds/{cloud}/report"): {"json": {"cloud": "local"}},
    ("POST", "/clouds/{cloud}/traffic"): {"json": {"cloud": "local"}},
    ("GET", "/clouds/{cloud}/artifacts/{digest}"): NO_BODY,
    ("GET", "/clouds/{cloud}/replicas/{id}/secrets"): NO_BODY,
    ("GET", "/clouds/{cloud}/owners"): NO_BODY,
    ("POST", "/clouds/{cloud}/attempts/{id}/news"): {"json": {"progress": {"fraction": 0.5}}},
    ("POST", "/clouds/{cloud}/attempts/{id}/end"): {"json": {"exit_code": 0}},
    ("GET", "/clouds/{cloud}/attempts/{id}/secrets"): NO_BODY,
    ("POST", "/clouds/{cloud}/attempts/{id}/missing-files"): {"json": {"digests": [DIGEST]}},
    ("PUT", "/clouds/{cloud}/attempts/{id}/files/{digest}"): {"content": artifact_bytes()},
    ("GET", "/clouds/{cloud}/datasets/{manifest}"): NO_BODY,
    ("GET", "/clouds/{cloud}/datasets/{manifest}/files"): {"params": {"first": 0, "count": 1}},
    ("PUT", DATASET): {"json": {"keep": 3}},
    ("DELETE", DATASET): NO_BODY,
    ("POST", DATASET + "/pushes"): {"json": MANIFEST},
    ("PUT", DATASET + "/pushes/{push}/files"): {"params": {"first": 0, "count": 1}, "content": b"data"},
    ("PUT", DATASET + "/pushes/{push}/files/{digest}"): NO_BODY,
    ("POST", DATASET + "/versions"): {"json": {"push": PUSH}},
    ("GET", DATASET + "/versions/{ref}"): NO_BODY,
    ("PUT", DATASET + "/labels/{label}"): {"json": {"number": 1}},
    ("DELETE", DATASET + "/labels/{label}"): NO_BODY,
    ("GET", VERSION + "/manifest"): NO_BODY,
    ("GET", VERSION + "/files"): {"params": {"first": 0, "count": 1}},
    ("GET", VERSION + "/difference"): {"params": {"base": "spare@1"}},
    ("POST", VERSION + "/verify"): {"params": {"first": 0, "count": 1}},
    ("DELETE", VERSION): NO_BODY,
    ("GET", "/clouds/{cloud}/calls"): {"params": {"wait_s": 0}},
    ("POST", "/clouds/{cloud}/calls/{id}"): {"content": b"{}\n"},
}
"""Every route, and a request to it that succeeds for whoever may."""

NAMES = {
    "ws": "default",
    "deployment": "web",
    "digest": DIGEST,
    "cloud": "local",
    "id": REPLICA,
    "push": PUSH,
    "manifest": PUSH,
    "ref": "latest",
    "label": "prod",
}
ROUTES = [(next(iter(route.methods or ())), route.path.removeprefix("/api/v1"), route) for route in ROUTES]
IDS = [f"{method} {path}" for method, path, _ in ROUTES]
FOR_ROUTE = pytest.mark.parametrize(("method", "path", "route"), ROUTES, ids=IDS)

GLOBAL_ONLY = {
    ("POST", "/workspaces"),
    ("DELETE", "/workspaces/{ws}"),
    ("POST", "/clouds/{name}/cordon"),
    ("POST", "/clouds/{name}/uncordon"),
    ("DELETE", "/clouds/{name}"),
    ("GET", "/gc"),
    ("POST", "/gc"),
}
"""For admins of every workspace."""
SHARED_WRITES = {("PUT", WS + "/secrets/{name}"), ("DELETE", WS + "/secrets/{name}")}
SHARED_WRITES |= {(method, path) for method, path in GOOD if path.startswith((DATASET, VERSION)) and method != "GET"}
"""What belongs to the whole workspace, so that a key for some deployments may not."""


@pytest.fixture
async def world(tmp_path: Path) -> Any:
    async with world_of(tmp_path) as made:
        await populate(made)
        await made.key("victim", Role.VIEWER, workspace="default")
        await made.store.create("cloud", "", "spare", CloudSpec())
        await jobs_of(made)
        async with made.client(made.keys["root"]) as root:
            for name in ("spare", "elsewhere"):
                await root.put(f"/workspaces/default/secrets/{name}", json={"value": "spare"})
            await root.post("/workspaces", json={"name": "foreign"})
            await push_spare(root)
            assert (await root.get("/metrics")).status_code == 200
        made.clock.jump(1)
        sample = Sample(workspace="default", deployment="web", revision=1, at_s=made.clock.now(), span_s=1.0)
        made.app.state.context.traffic.add(Traffic(cloud="local", samples=(sample,)))
        yield made


RUNNING = "4" * 12
"""The id of an attempt that runs in cloud `local`."""


async def jobs_of(world: World) -> None:
    """A job that has succeeded, and one that runs."""
    done = Attempt(number=1, id="3" * 12, cloud="local", state=JobState.SUCCEEDED)
    runs = Attempt(number=1, id=RUNNING, cloud="local", state=JobState.RUNNING)
    spec = JobSpec(artifact=DIGEST, command=("true",), secrets={"TOKEN": "token"})
    for name, attempt in (("spare", done), ("runs", runs)):
        status = JobStatus(state=attempt.state, attempts=(attempt,))
        await world.store.create("job", "default", name, spec, status)


async def push_spare(root: httpx2.AsyncClient) -> None:
    """The dataset `spare` with a version; its push is begun again."""
    dataset = "/workspaces/default/datasets/spare"
    for made in range(2):
        assert (await root.post(f"{dataset}/pushes", json=MANIFEST)).is_success
        if not made:
            sent = {"params": {"first": 0, "count": 1}, "content": b"data"}
            assert (await root.put(f"{dataset}/pushes/{PUSH}/files", **sent)).is_success
            assert (await root.post(f"{dataset}/versions", json={"push": PUSH})).is_success


async def plan_spare(world: World) -> None:
    """Let the plan's replica have the dataset `spare`."""
    named = await kept_plan(world.store)
    assert named
    version = DatasetVersionRef(dataset="spare", number=1, manifest=PUSH)
    replicas = [
        r.model_copy(update={"datasets": (DatasetUse(name="d", version=version),)}) for r in named.plan.replicas
    ]
    await keep_plan(world.store, Plan(cloud="local", replicas=tuple(replicas)))  # type: ignore[call-arg]


def address(method: str, path: str) -> str:
    collection = path.removesuffix("/{name}").rpartition("/")[2]
    names = dict(
        NAMES,
        name={"keys": "victim", "clouds": "local", "replicas": "web-1-0", "revisions": "web-1"}.get(
            collection, "spare"
        ),
    )
    if path.endswith("/calls/{id}"):
        names["id"] = "0" * 32
    if "/attempts/" in path:
        names["id"] = RUNNING
    if "/pushes/" in path:
        names["digest"] = digest_of(b"data")
    if "/dataset-versions/" in path:
        names["name"] = "spare@1"
    return path.format(**names)


async def ask(client: httpx2.AsyncClient, method: str, path: str, **more: Any) -> httpx2.Response:
    good = dict(GOOD[method, path])
    headers = more.pop("headers", {})
    params = {**good.pop("params", {}), **more.pop("params", {})}
    return await client.request(method, address(method, path), headers=headers, params=params, **good, **more)


def test_every_route_is_in_the_matrix() -> None:
    assert {(method, path) for method, path, _ in ROUTES} == set(GOOD)


METHODS = {Verb.LIST: "GET", Verb.GET: "GET", Verb.PUT: "PUT", Verb.DELETE: "DELETE"}
VERBS = [(kind, verb) for kind in KINDS.values() for verb in kind.rights]


@pytest.mark.parametrize(("kind", "verb"), VERBS, ids=[f"{verb} {kind.name}" for kind, verb in VERBS])
def test_a_kind_s_route_needs_the_right_that_its_declaration_names(kind: Kind, verb: Verb) -> None:
    """So the matrix of routes and roles below is one of kinds, verbs and roles."""
    path = kind.path if verb is Verb.LIST else place_of(kind)
    routes = [route for method, at, route in ROUTES if (method, at) == (METHODS[verb], path)]
    assert [route.right for route in routes] == [kind.rights[verb]]


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("kind", [kind for kind in KINDS.values() if kind.rights], ids=lambda kind: kind.name)
async def test_a_role_may_watch_exactly_what_it_may_list(world: World, kind: Kind, role: Role) -> None:
    scope = {"cloud": "local"} if role is Role.AGENT else {"workspace": "default"}
    key = await world.key("watcher", role, **scope)
    reader = Reader(world.app, kind, kind.path.format(ws="default"), key)
    if kind.rights[Verb.LIST] not in RIGHTS[role]:
        with pytest.raises(Refused, match="403"):
            await reader.connect()
        return
    await reader.connect()
    while not any(event.name == "synced" for event in reader.events):
        assert await reader.read()
    async with world.client(key) as client:
        listed = (await client.get(kind.path.format(ws="default"))).json()["items"]
    assert [json.loads(event.data) for event in reader.events if event.name == "added"] == listed
    await reader.cut()


async def test_a_watch_ends_with_its_key(world: World) -> None:
    key = await world.key("watcher", Role.VIEWER, workspace="default")
    reader = Reader(world.app, KINDS["deployment"], "/workspaces/default/deployments", key)
    await reader.connect()
    revoked = KeyStatus(revoked_at=world.clock.now())
    await world.store.update_status(await world.resource_of_key("watcher"), revoked)
    while await reader.read():
        pass
    with pytest.raises(Refused, match="401"):
        await reader.connect()


async def test_a_key_has_so_many_watches_at_once_and_no_more(world: World) -> None:
    path, key = "/workspaces/default/deployments", world.keys["root"]
    readers = [Reader(world.app, KINDS["deployment"], path, key) for _ in range(17)]
    for reader in readers[:16]:
        await reader.connect()
    with pytest.raises(Refused, match="429"):
        await readers[16].connect()
    await readers[0].cut()
    await readers[16].connect()
    for reader in readers[1:]:
        await reader.cut()


def test_every_route_of_the_app_is_a_door_with_a_right(tmp_path: Path) -> None:
    app = create_app(store=None, blobs=None, vault=None, settings=_settings(tmp_path), clock=None)  # type: ignore[arg-type]
    assert app.routes
    assert all(type(route) is AuthorizedRoute for route in app.routes)
    assert all(isinstance(route.right, Right | Open) for route in app.routes if isinstance(route, AuthorizedRoute))
    assert [r.path for r in app.routes if isinstance(r, AuthorizedRoute) and r.right is Open.TO_ALL] == [
        "/api/v1/health"
    ]


def test_a_route_without_a_right_cannot_be_added(tmp_path: Path) -> None:
    app = create_app(store=None, blobs=None, vault=None, settings=_settings(tmp_path), clock=None)  # type: ignore[arg-type]

    async def forgotten() -> str:
        return "open to all"

    with pytest.raises(TypeError, match="right"):
        app.get("/api/v1/forgotten")(forgotten)


# Nobody, and keys that give no access


async def _lapsed_keys(world: World) -> dict[str, str]:
    """Admins' keys of every kind that no longer counts."""
    now = world.clock.now()
    keys = {
        "expired": await world.key("expired", expires_at=now - 1),
        "expires-now": await world.key("e", expires_at=now),
    }
    keys["revoked"] = await world.key("revoked")
    await world.store.update_status(await world.resource_of_key("revoked"), KeyStatus(revoked_at=now))
    for state, spec in {"owner-expired": {"expires_at": now - 1}, "owner-revoked": {}, "owner-deleted": {}}.items():
        await world.key(f"{state}-boss", **spec)
        boss = await world.resource_of_key(f"{state}-boss")
        keys[state] = await world.key(state, owner=boss.name, owner_uid=boss.uid)
    await world.store.update_status(await world.resource_of_key("owner-revoked-boss"), KeyStatus(revoked_at=now))
    await world.store.delete(await world.resource_of_key("owner-deleted-boss"))
    again = await world.key("owner-deleted-boss")  # the name lives again, with another key: the old one's do not
    assert again
    boss = await world.resource_of_key("owner-expired")
    keys["owner-of-owner-expired"] = await world.key("grandchild", owner=boss.name, owner_uid=boss.uid)
    return keys


@FOR_ROUTE
async def test_keys_that_give_no_access_give_none(world: World, method: str, path: str, route: AuthorizedRoute) -> None:
    root = world.keys["root"]
    basic = base64.b64encode(f"root:{root}".encode()).decode()
    ways: dict[str, dict[str, Any]] = {
        "no key": {},
        "empty": {"headers": {"authorization": ""}},
        "scheme alone": {"headers": {"authorization": "Bearer"}},
        "no scheme": {"headers": {"authorization": root}},
        "other scheme": {"headers": {"authorization": f"Token {root}"}},
        "basic": {"headers": {"authorization": f"Basic {basic}"}},
        "own header": {"headers": {"x-api-key": root}},
        "cookie": {"headers": {"cookie": f"key={root}; authorization=Bearer {root}"}},
        "query": {"params": {"key": root}},
        "query as oauth": {"params": {"access_token": root, "authorization": f"Bearer {root}"}},
        "garbage": {"headers": {"authorization": "Bearer \x7f' OR 1=1 --"}},
        "hash of the key": {"headers": {"authorization": f"Bearer {(await world.resource_of_key('root')).spec.hash}"}},
        "prefix of the key": {"headers": {"authorization": f"Bearer {root[:-1]}"}},
        "more than the key": {"headers": {"authorization": f"Bearer {root}x"}},
        "other case": {"headers": {"authorization": f"Bearer {root.upper()}"}},
        "very long": {"headers": {"authorization": "Bearer " + "k" * 5000}},
    }
    ways |= {name: {"headers": {"authorization": f"Bearer {key}"}} for name, key in (await _lapsed_keys(world)).items()}
    before = await world.store.version()
    for number, (name, way) in enumerate(ways.items()):
        async with world.client(peer=f"10.1.0.{number}") as nobody:
            answer = await ask(nobody, method, path, **way)
        if route.right is Open.TO_ALL:
            assert answer.status_code == (400 if "params" in way else 200)
            continue
        assert answer.status_code == 401, name
        assert answer.headers["content-type"] == PROBLEM_JSON
        assert answer.headers["www-authenticate"] == "Bearer"
    assert await world.store.version() == before


async def test_two_authorization_headers_are_none(world: World) -> None:
    root = world.keys["root"]
    async with world.client() as client:
        headers = [("authorization", f"Bearer {root}"), ("authorization", "Bearer other")]
        assert (await client.get("/whoami", headers=headers)).status_code == 401


# Roles


def expected(route: AuthorizedRoute, role: Role) -> bool:
    return route.right in (Open.TO_ALL, Open.TO_KEYS) or route.right in RIGHTS[role]


async def prepared(world: World, method: str, path: str, exits: AsyncExitStack) -> str | None:
    """Whatever a good request needs beside it; another address when it is not known before."""
    if path.endswith("/logs"):
        agent = asyncio.ensure_future(answer_calls(world))
        exits.callback(agent.cancel)
    if path.endswith("/promote"):
        web = await world.store.get("deployment", "default", "web")
        if await world.store.find("revision", "default", "web-2") is None:
            hashed, template = template_hash(web.spec.template), web.spec.template
            spec = RevisionSpec(deployment="web", number=2, template=template, template_hash=hashed)
            await world.store.create("revision", "default", "web-2", spec)
        on_trial = {"observed_generation": web.generation, "canary": CanaryStatus(revision=2, since=1)}
        await world.store.update_status(web, status_with(web.status, **on_trial))
    if (method, path) == ("DELETE", WS + "/artifacts/{digest}"):
        async with world.client(world.keys["root"]) as root:
            unused = await root.post("/workspaces/default/artifacts", content=artifact_bytes(b"unused = 1\n"))
        return f"/workspaces/default/artifacts/{unused.json()['name']}"
    if "{manifest}" in path:
        await plan_spare(world)
    if (method, path) == ("PUT", WS + "/artifacts/{digest}"):
        data = artifact_bytes(b"uploaded = 1\n")
        async with world.client(world.keys["root"]) as root:
            sent = {"params": {"size": len(data)}, "content": data}
            await root.put(f"/workspaces/default/uploads/{digest_of(data)}", **sent)
        return f"/workspaces/default/artifacts/{digest_of(data)}"
    if (method, path) == ("DELETE", "/workspaces/{ws}"):
        return "/workspaces/foreign"
    if path.endswith("/calls/{id}"):
        question = exits.enter_context(world.app.state.context.broker.ask("local", "logs", {}))
        return f"/clouds/local/calls/{question.call.id}"
    return None


async def answer_calls(world: World) -> None:
    """An agent that answers one call with one line."""
    if "answering" not in world.keys:
        await world.key("answering", Role.AGENT, cloud="local")
    async with world.client(world.keys["answering"], peer="10.9.9.9") as agent:
        call = (await agent.get("/clouds/local/calls", params={"wait_s": 5})).json()
        line = b'{"replica": "%s", "text": "hello", "at": 1}\n' % REPLICA.encode()
        await agent.post(f"/clouds/local/calls/{call['id']}", content=line)


@FOR_ROUTE
@pytest.mark.parametrize("role", list(Role))
async def test_a_role_opens_what_it_names_and_nothing_else(
    world: World, method: str, path: str, route: AuthorizedRoute, role: Role
) -> None:
    scope = {"cloud": "local"} if role is Role.AGENT else {"workspace": "default"}
    if role is Role.ADMIN and (method, path) in GLOBAL_ONLY:
        scope = {}
    key = await world.key("tester", role, **scope)
    async with AsyncExitStack() as exits:
        client = await exits.enter_async_context(world.client(key))
        if expected(route, role):
            other = await prepared(world, method, path, exits)
            good = GOOD[method, path]
            answer = await client.request(method, other or address(method, path), **good)
            assert answer.is_success, answer.text
        else:
            before = await world.store.version()
            answer = await ask(client, method, path)
            assert answer.status_code == 403, answer.text
            assert await world.store.version() == before


@pytest.mark.parametrize(("method", "path", "route"), [r for r in ROUTES if isinstance(r[2].right, Right)])
async def test_a_right_that_the_owner_lost_is_lost(
    world: World, method: str, path: str, route: AuthorizedRoute
) -> None:
    await world.key("boss", Role.CALLER, workspace="default")
    boss = await world.resource_of_key("boss")
    key = await world.key("tester", Role.ADMIN, workspace="default", owner="boss", owner_uid=boss.uid)
    async with world.client(key) as client:
        assert (await ask(client, method, path)).status_code == 403


# Other workspaces, other deployments, other clouds


@FOR_ROUTE
@pytest.mark.parametrize("role", [Role.ADMIN, Role.EDITOR, Role.VIEWER])
async def test_another_workspace_does_not_exist(
    world: World, method: str, path: str, route: AuthorizedRoute, role: Role
) -> None:
    key = await world.key("stranger", role, home="foreign", workspace="foreign")
    before = await world.store.version()
    async with world.client(key) as client:
        answer = await ask(client, method, path)
        if "{ws}" in path:
            assert answer.status_code == 404
            missing = await client.request(
                method, address(method, path).replace("default", "nowhere"), **GOOD[method, path]
            )
            assert missing.status_code == 404
            assert _stable(missing, "nowhere") == _stable(answer, "default"), "existence shows"
        elif answer.is_success and method == "GET" and "openapi" not in path:
            assert not {"web", "token", "victim", REPLICA} & set(_said(answer))
    if "{ws}" in path or (method, path) in GLOBAL_ONLY:
        assert await world.store.version() == before


def _stable(answer: httpx2.Response, workspace: str) -> dict[str, Any]:
    members = answer.json()
    members.pop("request_id")
    return {k: v.replace(workspace, "X") if isinstance(v, str) else v for k, v in members.items()}


def _said(answer: httpx2.Response) -> list[str]:
    """Every text of an answer; of one that is no JSON, what stands in quotes."""
    if answer.headers["content-type"].startswith("text/"):
        return answer.text.split('"')
    return _texts(answer.json())


def _texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [t for pair in value.items() for part in pair for t in _texts(part)]
    if isinstance(value, list):
        return [t for part in value for t in _texts(part)]
    return [value] if isinstance(value, str) else []


@FOR_ROUTE
@pytest.mark.parametrize("role", [Role.ADMIN, Role.EDITOR, Role.VIEWER])
async def test_a_key_for_another_deployment_neither_sees_nor_touches(
    world: World, method: str, path: str, route: AuthorizedRoute, role: Role
) -> None:
    key = await world.key("scoped", role, workspace="default", deployments=("other",))
    before = await world.store.version()
    async with world.client(key) as client:
        answer = await ask(client, method, path)
    if "{digest}" in path and route.right not in RIGHTS[role]:
        assert answer.status_code == 403  # whatever it names
    elif "/uploads/" in path:
        assert answer.json()["received_bytes"] == (0 if method == "GET" else len(artifact_bytes())), "it has its own"
    elif "{deployment}" in path or ("{digest}" in path and "{ws}" in path and "/pushes/" not in path):
        assert answer.status_code == 404
    elif (method, path) in SHARED_WRITES | GLOBAL_ONLY | {("DELETE", WS + "/keys/{name}"), ("POST", WS + "/keys")}:
        assert answer.status_code in (403, 404)
    elif answer.is_success and "openapi" not in path:
        assert not {"web", "token", "victim", DIGEST, REPLICA, "web-1-0"} & set(_said(answer))
    if not answer.is_success or method == "GET":
        assert await world.store.version() == before


@FOR_ROUTE
async def test_an_agent_has_its_own_cloud_only(world: World, method: str, path: str, route: AuthorizedRoute) -> None:
    elsewhere = await world.key("elsewhere", Role.AGENT, cloud="elsewhere")
    nowhere = await world.key("nowhere", Role.AGENT)
    before = await world.store.version()
    for key in (elsewhere, nowhere):
        async with world.client(key) as client:
            answer = await ask(client, method, path)
        if isinstance(route.right, Right):
            assert answer.status_code == (404 if "{cloud}" in path else 403)
            assert _stable(answer, "x")["code"] in ("not-found", "forbidden")
    assert await world.store.version() == before


def _settings(home: Path) -> Any:
    from kaon.settings import Settings

    return Settings(home=home)
