"""S11, S12: what is secret is in no byte at rest, no answer, no error, no event, no log."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import structlog

from kaon import log
from kaon.store import open_store
from kaon.types.key import Role

from .world import DIGEST, REPLICA, World, populate, world_of

SECRET = "canary-Zx81-secret-value/with+signs=="
SPEC = {"template": {"artifact": DIGEST, "secrets": {"TOKEN": "canary"}}}


def forms(text: str) -> list[bytes]:
    """A text as it might be written."""
    raw = text.encode()
    return [raw, base64.b64encode(raw).rstrip(b"=")[:-1], raw.hex().encode(), quote(text, safe="").encode(), raw[::-1]]


@pytest.fixture
async def world(tmp_path: Path) -> Any:
    log.configure()
    structlog.configure(cache_logger_on_first_use=False)  # a kept logger would write to this test's output for ever
    async with world_of(tmp_path, open_store(f"sqlite:///{tmp_path / 'kaon.db'}")) as made:
        await populate(made)
        yield made


async def _use_everything(world: World, sent: list[bytes]) -> list[str]:
    """Set the secret, use it, make keys, and make every mistake with them; returns the keys."""
    async with world.client(world.keys["root"]) as root:
        made = await root.post("/workspaces/default/keys", json={"name": "canary", "role": "editor"})
        key = made.json()["key"]
        headers = {"content-type": "application/json"}
        async with world.client(key) as editor:
            put = "/workspaces/default/secrets/canary"
            answers = [
                await editor.put(put, json={"value": SECRET}),
                await editor.put(put, json={"value": SECRET, "extra": SECRET}),
                await editor.put(put, json={"wrong": SECRET}),
                await editor.put(put, json=[SECRET]),
                await editor.put(put, json={"value": [SECRET]}),
                await editor.put(put, json={"value": SECRET * 5000}),
                await editor.put(put, content=('{"value": "' + SECRET).encode(), headers=headers),
                await editor.put("/workspaces/default/secrets/BAD", json={"value": SECRET}),
                await editor.put("/workspaces/default/deployments/user", json=SPEC),
                await editor.put("/workspaces/default/deployments/user", json={**SPEC, "drain_s": SECRET}),
                await editor.put("/workspaces/default/deployments/user", json={"template": SECRET}),
                await editor.get("/workspaces/default/deployments/user"),
                await editor.get("/workspaces/default/deployments/user/revisions"),
                await editor.get("/workspaces/default/deployments/user/logs"),
                await editor.get("/workspaces/default/secrets"),
                await editor.get("/workspaces/default/secrets/canary"),
                await editor.get("/workspaces/default/events"),
                await editor.delete("/workspaces/default/secrets/canary"),
                await editor.get("/whoami"),
                await editor.get("/whoami", params={"key": key}),
                await editor.get(f"/{key}"),
                await root.get("/workspaces/default/keys"),
                await root.get("/workspaces/default/events"),
                await root.get("/clouds"),
                await root.delete("/workspaces/default/keys/canary"),
                await editor.get("/whoami"),
            ]
    sent += [a.content + repr(a.headers.raw).encode() for a in answers]
    return [key, world.keys["root"]]


async def test_secrets_and_keys_are_in_no_answer_no_file_and_no_log(
    world: World, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    sent: list[bytes] = []
    keys = await _use_everything(world, sent)

    def broken(*_: Any) -> Any:
        raise RuntimeError(f"a bug that carries {SECRET}")

    async with world.client(world.keys["root"]) as root:
        monkeypatch.setattr(type(world.vault), "seal", broken)
        failed = await root.put("/workspaces/default/secrets/canary", json={"value": SECRET})
        assert failed.status_code == 500
        sent.append(failed.content)
        monkeypatch.undo()
    out, err = capfd.readouterr()
    events = await world.store.events("default", limit=1000)
    emitted = [*sent, out.encode(), err.encode(), *(e.model_dump_json().encode() for e in events)]
    canaries = [form for text in (SECRET, *keys) for form in forms(text)]
    assert [c for e in emitted for c in canaries if c in e] == []
    await world.store.close()  # folds the write-ahead log in
    at_rest = {p: p.read_bytes() for p in world.settings.home.rglob("*") if p.is_file()}
    assert any(p.name == "kaon.db" and len(content) > 1000 for p, content in at_rest.items())
    assert [(p.name, c) for p, content in at_rest.items() for c in canaries if c in content] == []


async def test_files_that_are_written_while_it_runs_hold_no_canary(world: World) -> None:
    """Before the write-ahead log is folded in."""
    keys = await _use_everything(world, [])
    canaries = [form for text in (SECRET, *keys) for form in forms(text)]
    files = [p for p in world.settings.home.rglob("*") if p.is_file()]
    assert any(p.name.endswith("-wal") for p in files)
    assert [(p.name, c) for p in files for c in canaries if c in p.read_bytes()] == []


async def test_the_agent_alone_gets_the_value_and_only_for_its_replica(world: World) -> None:
    async with world.client(world.keys["root"]) as root:
        await root.put("/workspaces/default/secrets/token", json={"value": SECRET})
    async with world.client(await world.key("agent", Role.AGENT, cloud="local")) as agent:
        answer = await agent.get(f"/clouds/local/replicas/{REPLICA}/secrets")
        assert answer.json()["TOKEN"] == SECRET
        assert answer.headers["cache-control"] == "no-store"
        assert SECRET not in (await agent.get("/clouds/local/plan")).text


async def test_a_secret_moved_to_another_name_does_not_open(world: World) -> None:
    """Whoever can write the database cannot make one secret appear under another's name."""
    async with world.client(world.keys["root"]) as root:
        await root.put("/workspaces/default/secrets/victim", json={"value": SECRET})
    victim = await world.store.get("secret", "default", "victim")
    await world.store.update_spec(await world.store.get("secret", "default", "token"), victim.spec)
    async with world.client(await world.key("agent", Role.AGENT, cloud="local")) as agent:
        answer = await agent.get(f"/clouds/local/replicas/{REPLICA}/secrets")
        assert answer.status_code == 500
        assert SECRET not in answer.text


def test_what_is_kept_is_for_its_owner_only(tmp_path: Path) -> None:
    import asyncio

    async def run() -> None:
        async with world_of(tmp_path) as made:
            await populate(made)

    asyncio.run(run())
    modes = {p: os.stat(p).st_mode & 0o077 for p in (tmp_path / "blobs").rglob("*")}
    assert modes
    assert set(modes.values()) == {0}
