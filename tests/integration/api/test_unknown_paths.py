"""Calls of paths where nothing is deployed: a suggestion, of names that the caller's key may know."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.integration.api.world import DIGEST, World, world_of

from kaon.api.unknown_paths import nearest
from kaon.clock import SystemClock
from kaon.errors import Unauthenticated
from kaon.runtime.access_list import AccessList
from kaon.types.deployment import DeploymentSpec, Template
from kaon.types.key import Access, Role
from kaon.types.workspace import WorkspaceSpec

NAMES = (("default", "embedder"), ("default", "vision"), ("lab", "ranker"))


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with world_of(tmp_path) as made:
        await made.store.create("workspace", "", "lab", WorkspaceSpec())
        for workspace, name in NAMES:
            await made.store.create("deployment", workspace, name, DeploymentSpec(template=Template(artifact=DIGEST)))
        yield made


async def call(world: World, key: str | None, path: str, method: str = "POST", **headers: str) -> httpx2.Response:
    async with world.client(key) as client:
        return await client.request(method, f"http://edge.example{path}", headers=headers)


def hint_of(answer: httpx2.Response) -> Any:
    assert (answer.status_code, answer.json()["detail"]) == (404, "Nothing is deployed at this path.")
    return answer.json()["hint"]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/embeder/embed", "/embedder"),
        ("/Embedder", "/embedder"),
        ("/default/embeder/embed", "/embedder"),
        ("/~default/embedder", "/embedder"),
        ("/~lab/rankr/x", "/~lab/ranker"),
        ("/lab/ranker", "/~lab/ranker"),
        ("/ranker/rank", "/~lab/ranker"),
        ("/~lab/embedder", "/embedder"),
        ("/something/else", ""),
        ("/~lab", ""),
        ("/", ""),
    ],
)
async def test_names_that_are_nearly_right_get_a_suggestion(world: World, path: str, expected: str) -> None:
    hint = hint_of(await call(world, world.keys["root"], path))
    assert hint == f"{f'Did you mean {expected}? ' if expected else ''}List the deployments: kaon ps"


async def test_no_key_learns_of_what_it_may_not_know(world: World) -> None:
    of_lab = await world.key("of-lab", Role.CALLER, workspace="lab")
    of_one = await world.key("of-one", Role.CALLER, workspace="default", deployments=("vision",))
    assert "Did you mean" not in hint_of(await call(world, of_lab, "/embeder"))
    assert "/~lab/ranker" in hint_of(await call(world, of_lab, "/~lab/rankr"))
    assert "Did you mean" not in hint_of(await call(world, of_one, "/embeder"))
    assert "/vision" in hint_of(await call(world, of_one, "/vison"))


@pytest.mark.parametrize("authorization", ["Basic a2V5", "Bearer kaon_wrong", "Bearer "])
async def test_a_wrong_key_is_answered_as_by_a_deployment_that_exists(world: World, authorization: str) -> None:
    answer = await call(world, None, "/embeder", authorization=authorization)
    with pytest.raises(Unauthenticated) as by_a_replica:
        AccessList(Access(), SystemClock()).check(authorization.encode())
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert (answer.json()["detail"], answer.json()["hint"]) == (by_a_replica.value.cause, by_a_replica.value.hint)


async def test_any_host_origin_and_method_get_the_same_answer(world: World) -> None:
    for method in ("GET", "POST", "DELETE", "OPTIONS"):
        answer = await call(
            world, world.keys["root"], "/embeder", method, origin="https://page", **{"x-request-id": "r"}
        )
        assert "/embedder" in hint_of(answer)
        assert answer.json()["request_id"] == answer.headers["x-request-id"] == "r"
    async with world.client(world.keys["root"]) as client:
        assert (await client.get("http://edge.example/api/v1/nothing")).status_code == 403


def test_many_names_and_long_ones_are_compared() -> None:
    many = [("default", f"name-{number}") for number in range(2000)]
    assert nearest(f"/{'x' * 5000}/{'y' * 5000}", many) == ""
