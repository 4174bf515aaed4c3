"""S2, S7, S13, S14: swapped ids, added fields, hostile names and texts, guesses, foreign hosts and pages."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from tests.waiting import lasts

from kaon.api import problems
from kaon.errors import PROBLEM_JSON
from kaon.types.key import Role

from .world import DIGEST, REPLICA, World, populate, world_of

SPEC = {"template": {"artifact": DIGEST}}
OWN_SPEC = {"template": {"artifact": DIGEST, "secrets": {"TOKEN": "token"}}}
"""What `web` has already."""
HOSTILE = [
    "$(touch /tmp/x)",
    "`id`",
    "; rm -rf /",
    "| cat /etc/passwd",
    "{{7*7}}",
    "${jndi:ldap://x}",
    "<script>alert(1)</script>",
    "' OR '1'='1",
    "x'; DROP TABLE resources; --",
    "a\r\nSet-Cookie: x=1",
    "a\nb",
    "a\x00b",
    "\x1b[2J\x1b]0;owned\x07",
    "..",
    "../../etc/passwd",
    "..%2f..%2fetc%2fpasswd",
    "%2e%2e/x",
    "/etc/passwd",
    "C:\\x",
    "~root",
    "-rf",
    "--help",
    "web ",
    " web",
    "WEB",
    "wéb",
    "w\u202eb",
    "\uff57eb",
    "a" * 41,
    "a" * 5000,
    "identity-web/..",
    "",
    ".",
    "a" * 40 + "\n",
]


@pytest.fixture
async def world(tmp_path: Path) -> Any:
    async with world_of(tmp_path) as made:
        await populate(made)
        async with made.client(made.keys["root"]) as root:
            await root.post("/workspaces", json={"name": "foreign"})
        yield made


# S2: identities come from the address and the key, never from the body


@pytest.mark.parametrize(
    "extra",
    [
        {"workspace": "foreign"},
        {"name": "other"},
        {"kind": "key"},
        {"uid": "x"},
        {"owner": "root"},
        {"role": "admin"},
        {"status": {"state": "Stable"}},
        {"version": 1},
        {"generation": 99},
        {"hash": "0" * 64},
    ],
)
async def test_fields_that_are_not_the_callers_to_say_are_refused(world: World, extra: dict[str, Any]) -> None:
    async with world.client(world.keys["root"]) as root:
        before = await world.store.version()
        bodies = {
            ("PUT", "/workspaces/default/deployments/web"): SPEC,
            ("PUT", "/workspaces/default/secrets/token"): {"value": "new"},
            ("POST", "/workspaces/default/deployments/web/scale"): {"min": 1, "max": 2},
            ("POST", "/workspaces/default/deployments/web/undo"): {"revision": 1},
            ("PUT", "/workspaces/default/deployments/web/shadow"): SPEC,
            ("POST", "/workspaces"): {"name": "new"},
            ("POST", "/workspaces/default/keys"): {"name": "new", "role": "viewer"},
        }
        for (method, path), body in bodies.items():
            if set(extra) & set(body):
                continue  # its own field
            answer = await root.request(method, path, json={**body, **extra})
            assert answer.status_code == 422, (path, extra, answer.text)
            nested = json.loads(json.dumps(body))
            if isinstance(nested.get("template"), dict):
                nested["template"].update(extra)
                assert (await root.request(method, path, json=nested)).status_code == 422
        assert await world.store.version() == before


async def test_a_key_cannot_make_one_that_may_more(world: World) -> None:
    wanted = [
        {"name": "k", "role": "admin", "everywhere": True},
        {"name": "k", "role": "agent", "cloud": "local"},
    ]
    local = await world.key("local-admin", workspace="default")
    scoped = await world.key("scoped-admin", workspace="default", deployments=("web",))
    for key, asks in (
        (local, wanted),
        (scoped, [*wanted, {"name": "k", "role": "viewer"}, {"name": "k", "role": "viewer", "deployments": ["other"]}]),
    ):
        async with world.client(key) as client:
            for body in asks:
                answer = await client.post("/workspaces/default/keys", json=body)
                assert answer.status_code == 403, body
    async with world.client(scoped) as client:
        made = await client.post(
            "/workspaces/default/keys", json={"name": "k", "role": "viewer", "deployments": ["web"]}
        )
        assert made.status_code == 201


async def test_a_key_cannot_see_or_revoke_one_that_may_more(world: World) -> None:
    local = await world.key("local-admin", workspace="default")
    async with world.client(local) as client:
        names = [k["name"] for k in (await client.get("/workspaces/default/keys")).json()["items"]]
        assert names == ["local-admin"]
        assert (await client.delete("/workspaces/default/keys/root")).status_code == 404
    async with world.client(world.keys["root"]) as root:
        assert (await root.get("/whoami")).status_code == 200


async def test_a_scoped_key_cannot_read_a_secret_by_deploying_with_it(world: World) -> None:
    scoped = await world.key("scoped", Role.EDITOR, workspace="default", deployments=("other",))
    async with world.client(scoped) as client:
        spec = {"template": {"artifact": DIGEST, "secrets": {"STOLEN": "token"}}}
        assert (await client.put("/workspaces/default/deployments/other", json=spec)).status_code == 403
        spec = {"template": {"artifact": DIGEST}}
        assert (await client.put("/workspaces/default/deployments/other", json=spec)).status_code == 200


WAYS = {
    "deploy": ("PUT", "", SPEC),
    "deploy again": ("PUT", "", OWN_SPEC),
    "undo": ("POST", "/undo", {"revision": 1}),
    "shadow": ("PUT", "/shadow", {"template": {"artifact": DIGEST}}),
    "scale": ("POST", "/scale", {"min": 1, "max": 2}),
    "restart": ("POST", "/restart", None),
    "pause": ("POST", "/pause", None),
    "old shadow": ("PUT", "/shadow", {"revision": 1}),
}
CHOOSE_CODE = {"deploy", "deploy again", "undo", "shadow"}


@pytest.mark.parametrize("way", WAYS)
async def test_the_key_that_chooses_the_code_becomes_the_owner(world: World, way: str) -> None:
    scoped = await world.key("scoped", Role.EDITOR, workspace="default", deployments=("web",))
    uid = (await world.resource_of_key("scoped")).uid
    method, path, body = WAYS[way]
    async with world.client(world.keys["root"]) as root:
        answer = await root.put("/workspaces/default/deployments/web", json=OWN_SPEC)
        assert answer.is_success, answer.text
    async with world.client(scoped) as client:
        answer = await client.request(method, f"/workspaces/default/deployments/web{path}", json=body)
        assert answer.is_success, answer.text
    owner = (await world.store.get("deployment", "default", "web")).spec.owner_uid
    root_uid = (await world.resource_of_key("root")).uid
    assert owner == (uid if way in CHOOSE_CODE else root_uid)


async def test_the_event_of_a_revoked_key_lists_its_deployments(world: World) -> None:
    ci = await world.key("ci", Role.EDITOR, workspace="default")
    async with world.client(ci) as client:
        assert (await client.put("/workspaces/default/deployments/web", json=OWN_SPEC)).is_success
    async with world.client(world.keys["root"]) as root:
        await root.delete("/workspaces/default/keys/ci")
        events = (await root.get("/workspaces/default/events", params={"kind": "key", "name": "ci"})).json()["items"]
    assert "These have no owner until an admin adopts them: default/web." in events[-1]["message"]


@pytest.mark.parametrize("secret", ["identity-web", "identity-other"])
async def test_a_spec_cannot_name_the_secret_of_another_services_key(world: World, secret: str) -> None:
    async with world.client(world.keys["root"]) as root:
        spec = {"template": {"artifact": DIGEST, "secrets": {"STOLEN": secret}}}
        assert (await root.put("/workspaces/default/deployments/other", json=spec)).status_code == 422
        own = {"template": {"artifact": DIGEST, "secrets": {"KAON_KEY": "token"}}}
        assert (await root.put("/workspaces/default/deployments/other", json=own)).status_code == 422
        assert (await root.put(f"/workspaces/default/secrets/{secret}", json={"value": "mine"})).status_code == 422
        assert (await root.delete(f"/workspaces/default/secrets/{secret}")).status_code == 422


async def test_names_of_the_platforms_own_keys_are_kept(world: World) -> None:
    async with world.client(world.keys["root"]) as root:
        body = {"name": "identity-web", "role": "admin"}
        assert (await root.post("/workspaces/default/keys", json=body)).status_code == 422


async def test_what_another_workspace_has_cannot_be_named(world: World) -> None:
    stranger = await world.key("stranger", home="foreign", workspace="foreign")
    async with world.client(stranger) as client:
        answer = await client.put("/workspaces/foreign/deployments/web", json=SPEC)
        assert answer.status_code == 422
        assert "kaon deploy" in answer.json()["hint"]
        for path in (f"/workspaces/foreign/artifacts/{DIGEST}", "/workspaces/foreign/deployments/web/logs"):
            assert (await client.get(path)).status_code == 404
        for path in ("replicas", "events", "artifacts", "secrets", "deployments"):
            items = (await client.get(f"/workspaces/foreign/{path}")).json()["items"]
            assert [i for i in items if i["name"] != "foreign"] == []


async def test_an_agent_gets_only_what_its_plan_names(world: World) -> None:
    async with world.client(world.keys["root"]) as root:
        await root.put("/workspaces/default/secrets/unused", json={"value": "not for the agent"})
    agent = await world.key("agent", Role.AGENT, cloud="local")
    async with world.client(agent) as client:
        own = await client.get(f"/clouds/local/replicas/{REPLICA}/secrets")
        assert own.json() == {"TOKEN": "a-canary-of-a-secret", "KAON_KEY": "kaon_identity_of_web"}
        assert (await client.get(f"/clouds/local/replicas/{'0' * 12}/secrets")).status_code == 404
        assert (await client.get(f"/clouds/local/artifacts/sha256:{'0' * 64}")).status_code == 404
        answer = await client.post("/clouds/local/report", json={"cloud": "elsewhere"})
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid-input")
        answer = await client.post("/clouds/local/traffic", json={"cloud": "elsewhere"})
        assert answer.status_code == 422
        assert await world.store.find("cloud", "", "elsewhere") is None


async def test_what_an_agent_reports_of_others_is_dropped(world: World) -> None:
    names = {"name": "web-1-0", "workspace": "default", "deployment": "web", "revision": 1, "phase": "Crashed"}
    own, others = names | {"id": REPLICA}, names | {"id": "f" * 12, "deployment": "payroll"}
    report = {"cloud": "local", "replicas": [own, others], "held": {"default/web": 2, "default/payroll": 1}}
    sample = {"workspace": "default", "revision": 1, "at_s": world.clock.now(), "span_s": 1, "arrivals": 1}
    traffic = {"cloud": "local", "samples": [sample | {"deployment": name} for name in ("web", "payroll")]}
    async with world.client(await world.key("agent", Role.AGENT, cloud="local")) as agent:
        assert (await agent.post("/clouds/local/report", json=report)).status_code == 204
        taken = await agent.post("/clouds/local/traffic", json=traffic)
        assert taken.json()["until_s"] == sample["at_s"], "what was dropped is not asked for again"
        only = {"cloud": "local", "samples": [sample | {"deployment": "payroll", "at_s": sample["at_s"] + 1}]}
        taken = await agent.post("/clouds/local/traffic", json=only)
        assert taken.json()["until_s"] == sample["at_s"] + 1
    kept = (await world.store.get("cloud", "", "local")).status.report
    assert [replica.id for replica in kept.replicas] == [REPLICA]
    assert kept.held == {"default/web": 2}
    assert world.app.state.context.traffic.deployments() == [("default", "web")]


# S7: names and texts


@pytest.mark.parametrize("text", HOSTILE, ids=[f"hostile-{n}" for n in range(len(HOSTILE))])
async def test_hostile_names_are_refused_everywhere(world: World, text: str) -> None:
    from urllib.parse import quote

    before = await world.store.version()
    quoted = quote(text, safe="")
    raw = f"http://localhost/api/v1/workspaces/default/deployments/{quoted}"
    async with world.client(world.keys["root"]) as root:
        answers = [
            await root.put(raw, json=SPEC),
            await root.post("/workspaces", json={"name": text}),
            await root.post("/workspaces/default/keys", json={"name": text, "role": "viewer"}),
            await root.post("/workspaces/default/keys", json={"name": "k", "role": text}),
            await root.post("/workspaces/default/keys", json={"name": "k", "role": "viewer", "deployments": [text]}),
            await root.put("/workspaces/default/deployments/x", json={"template": {"artifact": text}}),
            await root.put(
                "/workspaces/default/deployments/x", json={"template": SPEC["template"] | {"secrets": {"A": text}}}
            ),
            await root.put(
                "/workspaces/default/deployments/x", json={"template": SPEC["template"] | {"env": {text: "v"}}}
            ),
            await root.put(f"http://localhost/api/v1/workspaces/default/secrets/{quoted}", json={"value": "v"}),
            await root.get(raw),
            await root.get(f"http://localhost/api/v1/workspaces/{quoted}/deployments"),
            await root.get("/workspaces/default/events", params={"name": text, "kind": text}),
            await root.get("/workspaces/default/deployments/web/logs", params={"replica": text}),
        ]
    for number, answer in enumerate(answers):
        if text == "WEB" and number == 7:
            continue  # a good name for a variable, and a deployment `x` was made with it
        if text in ("", ".", "..") and number in (9, 10):
            continue  # another address
        assert 400 <= answer.status_code < 500, (number, answer.status_code, answer.text)
        assert answer.headers["content-type"] == PROBLEM_JSON
        assert "set-cookie" not in answer.headers
        assert "Traceback" not in answer.text
    if text != "WEB":
        assert await world.store.version() == before


async def test_values_of_variables_are_kept_as_they_are(world: World) -> None:
    env = {f"V{n}": text for n, text in enumerate(HOSTILE) if "\0" not in text}
    async with world.client(world.keys["root"]) as root:
        put = await root.put("/workspaces/default/deployments/x", json={"template": SPEC["template"] | {"env": env}})
        assert put.status_code == 201
        got = await root.get("/workspaces/default/deployments/x")
        assert got.json()["spec"]["template"]["env"] == env
        bad = await root.put(
            "/workspaces/default/deployments/x", json={"template": SPEC["template"] | {"env": {"V": "\0"}}}
        )
        assert bad.status_code == 422


async def test_a_description_cannot_carry_terminal_escapes(world: World) -> None:
    async with world.client(world.keys["root"]) as root:
        answer = await root.post("/workspaces", json={"name": "w", "description": "\x1b[2Jowned"})
        assert answer.status_code == 422


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
        b'{"template":' * 900 + b"1" + b"}" * 900,
        b'{"drain_s": NaN}',
        b'{"drain_s": Infinity}',
        b'{"drain_s": 1e999}',
        b'{"drain_s": ' + b"9" * 5000 + b"}",
        b"\xff\xfe{}",
        b'{"template": "\\ud800"}',
        b"",
        b"nothing",
        b"{}{}",
        b"'pickle'",
        b"\x80\x04\x95",
    ],
    ids=range(14),
)
async def test_what_is_not_plain_json_is_refused(world: World, body: bytes) -> None:
    async with world.client(world.keys["root"]) as root:
        answer = await root.put(
            "/workspaces/default/deployments/x", content=body, headers={"content-type": "application/json"}
        )
        assert answer.status_code == 422, answer.text
        assert answer.headers["content-type"] == PROBLEM_JSON
        assert len(answer.content) < 4000


async def test_nan_is_refused_in_an_otherwise_good_body(world: World) -> None:
    good = json.dumps({"template": {"artifact": DIGEST, "restarted_at": 3.0}})  # a number without bounds
    for number in ("NaN", "Infinity", "-Infinity", "1e999"):
        async with world.client(world.keys["root"]) as root:
            answer = await root.put(
                "/workspaces/default/deployments/x",
                content=good.replace("3.0", number),
                headers={"content-type": "application/json"},
            )
        assert answer.status_code == 422


async def test_a_body_over_one_megabyte_is_refused_however_it_comes(world: World) -> None:
    async def pieces() -> Any:
        for _ in range(40):
            yield b" " * 2**15

    async with world.client(world.keys["root"]) as root:
        headers = {"content-type": "application/json"}
        path = "/workspaces/default/deployments/x"
        assert (await root.put(path, content=b" " * (2**20 + 1), headers=headers)).status_code == 413
        assert (await root.put(path, content=pieces(), headers=headers)).status_code == 413


async def test_forms_and_other_media_types_are_not_json(world: World) -> None:
    async with world.client(world.keys["root"]) as root:
        for media in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/x-yaml"):
            answer = await root.put(
                "/workspaces/default/deployments/x", content=json.dumps(SPEC), headers={"content-type": media}
            )
            assert answer.status_code == 422, media


# S13: guesses


async def test_an_address_has_ten_wrong_keys_a_minute(world: World) -> None:
    async def guess(number: int, peer: str) -> int:
        async with world.client(f"kaon_guess_{number}", peer=peer) as client:
            return (await client.get("/whoami")).status_code

    statuses = [await guess(n, "192.0.2.1") for n in range(60)]
    assert statuses == [401] * 10 + [429] * 50
    assert await guess(0, "192.0.2.2") == 401
    async with world.client("kaon_guess", peer="192.0.2.1") as client:
        assert 1 <= int((await client.get("/whoami")).headers["retry-after"]) <= 60
    async with world.client(world.keys["root"], peer="192.0.2.1") as neighbour:
        assert (await neighbour.get("/whoami")).status_code == 200, "a right key is let in from everywhere"
    await world.clock.advance(61)
    assert await guess(0, "192.0.2.1") == 401


async def test_a_flood_of_wrong_keys_shares_one_small_read_of_the_store(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    changes = world.store.changes

    async def counted(after: int) -> Any:
        read.append("changes")
        await lasts(0.01)
        return await changes(after)

    async def refused(*_: Any, **__: Any) -> Any:
        read.append("all")

    async def guess(number: int) -> int:
        async with world.client(f"kaon_guess_{number}", peer="192.0.2.1") as client:
            return (await client.get("/whoami")).status_code

    monkeypatch.setattr(world.store, "changes", counted)
    monkeypatch.setattr(world.store, "list_all", refused)
    statuses = await asyncio.gather(*(guess(number) for number in range(60)))
    assert sorted(statuses) == [401] * 10 + [429] * 50
    assert "all" not in read
    assert len(read) < 60
    monkeypatch.undo()
    new = await world.key("new", Role.VIEWER)
    async with world.client(new, peer="192.0.2.1") as neighbour:
        assert (await neighbour.get("/whoami")).status_code == 200


async def test_a_network_caller_cannot_choose_its_address(world: World) -> None:
    statuses = []
    for number in range(12):
        headers = {"x-forwarded-for": f"198.51.100.{number}"}
        async with world.client("kaon_guess", peer="192.0.2.1", headers=headers) as client:
            statuses.append((await client.get("/whoami")).status_code)
    assert statuses[-2:] == [429, 429]


async def test_behind_the_edge_only_the_address_that_the_edge_saw_counts(world: World) -> None:
    """Over the unix socket there is no peer address; the edge appends what it saw to what the caller wrote."""
    statuses = []
    for number in range(12):
        headers = {"x-forwarded-for": f"198.51.100.{number}, 192.0.2.1"}
        async with world.client("kaon_guess", peer="", headers=headers) as client:
            statuses.append((await client.get("/whoami")).status_code)
    assert statuses[-2:] == [429, 429]
    async with world.client(world.keys["root"], peer="", headers={"x-forwarded-for": "192.0.2.7"}) as other:
        assert (await other.get("/whoami")).status_code == 200


# S14: hosts, origins, headers


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost.evil.example",
        "evil.example:8080",
        "127.0.0.1.nip.io",
        "[::2]",
        "[::1]evil.example",
        "[::1].evil.example:8080",
        "localhost@evil.example",
        "localhost:evil.example",
        "kaon.local",
        "",
    ],
)
async def test_foreign_hosts_are_refused(world: World, host: str) -> None:
    async with world.client(world.keys["root"]) as root:
        answer = await root.get("/whoami", headers={"host": host})
        assert answer.status_code == 403
        assert answer.headers["content-type"] == PROBLEM_JSON


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8080", "127.0.0.1:9", "[::1]:8080"])
async def test_own_hosts_are_answered(world: World, host: str) -> None:
    async with world.client(world.keys["root"]) as root:
        assert (await root.get("/whoami", headers={"host": host})).status_code == 200


async def test_the_sockets_own_host_is_for_the_socket(world: World) -> None:
    async with world.client(world.keys["root"], peer="") as here:
        assert (await here.get("/whoami", headers={"host": "kaon.local"})).status_code == 200
        forwarded = {"host": "kaon.local", "x-forwarded-for": "192.0.2.1"}
        assert (await here.get("/whoami", headers=forwarded)).status_code == 403


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost:1", "http://localhost.evil", "x"])
async def test_pages_of_other_origins_are_refused(world: World, origin: str) -> None:
    async with world.client(world.keys["root"]) as root:
        for method in ("GET", "POST", "OPTIONS"):
            answer = await root.request(method, "/workspaces", headers={"origin": origin})
            assert answer.status_code == 403
            assert "access-control-allow-origin" not in answer.headers


async def test_the_own_page_is_answered(world: World) -> None:
    async with world.client(world.keys["root"]) as root:
        headers = {"host": "localhost:8080", "origin": "http://localhost:8080"}
        assert (await root.get("/whoami", headers=headers)).status_code == 200


async def test_every_answer_has_strict_headers_and_a_request_id(world: World) -> None:
    async with world.client(world.keys["root"]) as root:
        for path in ("/health", "/whoami", "/nothing", "/workspaces/nowhere/keys"):
            answer = await root.get(path, headers={"x-request-id": "abcdefgh-1234"})
            assert answer.headers["content-security-policy"].startswith("default-src 'none'")
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["cache-control"] == "no-store"
            assert answer.headers["x-request-id"] == "abcdefgh-1234"
            if not answer.is_success:
                assert answer.json()["request_id"] == "abcdefgh-1234"
        answer = await root.get("/nothing", headers={"x-request-id": "a b\tc<script>"})
        assert answer.headers["x-request-id"] == answer.json()["request_id"]
        assert "script" not in answer.text


@pytest.mark.parametrize(
    "path", ["/docs", "/redoc", "/openapi.json", "/", "/api", "/api/v1", "/api/v1/health/", "//api/v1/health"]
)
async def test_there_is_nothing_but_the_doors(world: World, path: str) -> None:
    async with world.client(world.keys["root"]) as root:
        assert (await root.get(f"http://localhost{path}")).status_code == 404


async def test_a_path_that_hides_another_is_not_it(world: World) -> None:
    """The right of the matched route counts, and a path is matched as it is, after one decoding."""
    viewer = await world.key("viewer", Role.VIEWER, workspace="default")
    async with world.client(viewer) as client:
        for path in (
            "/workspaces/default/deployments/..%2fkeys",
            "/workspaces/default/deployments/web%2f..%2f..%2fkeys",
            "/workspaces/default/events/../keys",
            "/workspaces/default;x/keys",
            "/workspaces/default/keys%00",
            "/workspaces/default/keys%3fx=1",
        ):
            answer = await client.get(f"http://localhost/api/v1{path}")
            assert answer.status_code in (403, 404, 422), (path, answer.text)


@pytest.mark.parametrize(
    "body",
    [
        {"template": {"artifact": DIGEST}, **{f"k{n}": 1 for n in range(30_000)}},
        {"template": {"artifact": DIGEST, "env": dict.fromkeys((f"A{n}" for n in range(30_000)), 1)}},
    ],
    ids=["surplus keys", "wrong values"],
)
async def test_a_body_with_countless_mistakes_is_refused_before_each_becomes_an_error(world: World, body: Any) -> None:
    made = 0
    errors = problems._where_and_why

    def counted(error: Any) -> Any:
        nonlocal made
        made += 1
        return errors(error)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(problems, "_where_and_why", counted)
        async with world.client(world.keys["root"]) as root:
            answer = await root.put("/workspaces/default/deployments/web", json=body)
    assert (answer.status_code, made) == (422, 0)
    assert 1 <= len(answer.json()["errors"]) <= 20
    assert len(answer.content) < 10_000
