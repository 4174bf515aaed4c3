"""The agent's link against the real API on a unix socket."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvicorn
from tests.waiting import until

from kaon.agent.control_plane import ControlPlaneClient
from kaon.errors import NotFound, Unauthenticated, Unavailable
from kaon.types.key import Role
from kaon.types.plan import Report
from kaon.types.traffic import Sample, Traffic

from .world import DIGEST, REPLICA, World, artifact_bytes, populate, world_of


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with world_of(tmp_path) as made:
        await populate(made)
        await made.key("agent", Role.AGENT, cloud="local")
        config = uvicorn.Config(made.app, uds=str(tmp_path / "api.sock"), lifespan="off", log_config=None)
        server = uvicorn.Server(config)
        running = asyncio.ensure_future(server.serve())
        await until(lambda: server.started)
        yield made
        server.should_exit = True
        await running


@pytest.fixture
async def link(world: World) -> AsyncIterator[ControlPlaneClient]:
    async with link_with(world, world.keys["agent"]) as link:
        yield link


def link_with(world: World, key: str) -> ControlPlaneClient:
    home = world.settings.home
    return ControlPlaneClient("http://localhost", key, "local", home / "downloads", socket=home / "api.sock")


async def test_the_plan_comes_once_and_then_only_when_it_changes(world: World, link: ControlPlaneClient) -> None:
    named = await link.plan("", 5)
    assert named
    assert [spec.id for spec in named.plan.replicas] == [REPLICA]
    assert await link.plan(named.name, 0) is None


async def test_a_report_lands_in_the_clouds_status(world: World, link: ControlPlaneClient) -> None:
    report = Report(cloud="local", plan="0" * 64)
    await link.report(report)
    assert (await world.store.get("cloud", "", "local")).status.report == report


async def test_traffic_goes_into_the_ring_and_the_answer_has_its_last_second(
    world: World, link: ControlPlaneClient
) -> None:
    at_s = world.clock.now()
    sample = Sample(
        workspace="default", deployment="web", revision=1, at_s=at_s, span_s=1.0, arrivals=3, latency={4: 3}
    )
    body = Traffic(cloud="local", samples=(sample,)).model_dump_json().encode()
    assert (await link.traffic(body)).until_s == at_s
    assert (await link.traffic(body)).until_s == at_s
    assert world.app.state.context.traffic.since("default", "web", 0) == [sample]
    gap = Traffic(cloud="local", samples=(sample.model_copy(update={"at_s": at_s + 3}),), after_s=at_s + 2)
    assert (await link.traffic(gap.model_dump_json().encode())).until_s == at_s


async def test_an_artifact_is_fetched_whole_and_what_was_left_behind_is_gone(
    world: World, link: ControlPlaneClient
) -> None:
    left = world.settings.home / "downloads" / f"{'1' * 64}.tar.gz"
    left.parent.mkdir(exist_ok=True)
    left.touch()
    file = await link.artifact(DIGEST)
    assert file.read_bytes() == artifact_bytes()
    assert [f.name for f in file.parent.iterdir()] == [file.name]
    file.unlink()
    assert (await link.artifact(DIGEST)).read_bytes() == artifact_bytes(), "it is the driver's to delete"


def part_of(world: World, data: bytes) -> Path:
    """What a cut download left."""
    part = world.settings.home / "downloads" / f"{DIGEST.removeprefix('sha256:')}.tar.gz.part"
    part.parent.mkdir(exist_ok=True)
    part.write_bytes(data)
    return part


@pytest.mark.parametrize("arrived", [1, 100, len(artifact_bytes()) - 1, len(artifact_bytes())])
async def test_a_cut_download_continues_where_it_stopped(world: World, link: ControlPlaneClient, arrived: int) -> None:
    part_of(world, artifact_bytes()[:arrived])
    file = await link.artifact(DIGEST)
    assert file.read_bytes() == artifact_bytes()
    assert [f.name for f in file.parent.iterdir()] == [file.name]


@pytest.mark.parametrize("wrong", [b"x" * 10, artifact_bytes() + b"more"])
async def test_a_download_that_was_damaged_begins_anew(world: World, link: ControlPlaneClient, wrong: bytes) -> None:
    part_of(world, wrong)

    async def fetched() -> bytes:
        try:
            return (await link.artifact(DIGEST)).read_bytes()
        except Unavailable:
            return b""

    assert await until(fetched) == artifact_bytes()


async def test_an_old_part_of_a_download_is_deleted(world: World, link: ControlPlaneClient) -> None:
    part = part_of(world, b"x")
    other = part.with_name(f"{'2' * 64}.tar.gz.part")
    other.write_bytes(b"x")
    os.utime(other, (1, 1))
    with pytest.raises(NotFound):
        await link.artifact(f"sha256:{'0' * 64}")
    assert [file.name for file in part.parent.iterdir()] == [part.name]


async def test_an_artifact_that_is_not_there_is_not_found_and_leaves_no_file(
    world: World, link: ControlPlaneClient
) -> None:
    with pytest.raises(NotFound):
        await link.artifact(f"sha256:{'0' * 64}")
    assert list((world.settings.home / "downloads").iterdir()) == []


async def test_secrets_of_a_replica_come_with_its_own_key(world: World, link: ControlPlaneClient) -> None:
    secrets = await link.secrets(REPLICA)
    assert secrets == {"TOKEN": "a-canary-of-a-secret", "KAON_KEY": "kaon_identity_of_web"}
    with pytest.raises(NotFound):
        await link.secrets("f" * 12)


async def test_a_revision_that_declares_what_it_uses_gets_a_key_of_its_own(
    world: World, link: ControlPlaneClient
) -> None:
    artifact = await world.store.get("artifact", "default", DIGEST)
    manifest = artifact.spec.manifest
    declaring = manifest.model_copy(update={"service": manifest.service.model_copy(update={"uses": ("mail",)})})
    await world.store.update_spec(artifact, artifact.spec.model_copy(update={"manifest": declaring}))
    with pytest.raises(NotFound):
        await link.secrets(REPLICA)  # never the key of others in its place
    own = world.vault.seal("default", "identity-web.1", "kaon_of_revision_1")
    await world.store.create("secret", "default", "identity-web.1", own)
    assert (await link.secrets(REPLICA))["KAON_KEY"] == "kaon_of_revision_1"


async def test_calls_are_fetched_and_answered_line_by_line(world: World, link: ControlPlaneClient) -> None:
    async def lines() -> AsyncIterator[bytes]:
        for text in ("one", "two"):
            yield json.dumps({"replica": REPLICA, "text": text, "at": None}).encode() + b"\n"

    async def answer() -> dict[str, Any]:
        call = await link.next_call(5)
        assert call
        await link.answer(call.id, lines())
        return call.arguments

    assert await link.next_call(0) is None
    answering = asyncio.create_task(answer())
    transport = httpx2.AsyncHTTPTransport(uds=str(world.settings.home / "api.sock"), verify=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost/api/v1") as client:
        told = await client.get(
            "/workspaces/default/deployments/web/logs",
            params={"tail": 7},
            headers={"authorization": f"Bearer {world.keys['root']}"},
        )
    assert [json.loads(line)["text"] for line in told.text.splitlines()] == ["one", "two"]
    arguments = await answering
    assert (arguments["replicas"], arguments["tail"]) == ([REPLICA], 7)


async def test_a_bad_key_is_refused_and_a_control_plane_that_is_away_is_unavailable(world: World) -> None:
    async with link_with(world, "kaon_wrong") as link:
        with pytest.raises(Unauthenticated):
            await link.plan("", 0)
    async with ControlPlaneClient(
        "http://localhost", "k", "local", Path("unused"), socket=Path("/no/such.sock")
    ) as link:
        with pytest.raises(Unavailable):
            await link.plan("", 0)
        with pytest.raises(Unavailable):
            await link.report(Report(cloud="local"))


@pytest.mark.parametrize(
    ("header", "start"),
    [("bytes=5-", 5), ("bytes=0-", 0), ("", 0), ("bytes=5-9", 0), ("bytes=-5", 0), ("bytes=9999999-", 0), ("x=1-", 0)],
)
async def test_an_artifact_s_bytes_are_read_from_an_offset(world: World, header: str, start: int) -> None:
    async with world.client(world.keys["agent"]) as agent:
        answer = await agent.get(f"/clouds/local/artifacts/{DIGEST}", headers={"range": header} if header else {})
    data = artifact_bytes()
    assert (answer.status_code, answer.content) == (206 if start else 200, data[start:])
    assert answer.headers.get("content-range") == (f"bytes {start}-{len(data) - 1}/{len(data)}" if start else None)
