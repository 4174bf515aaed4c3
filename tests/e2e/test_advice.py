"""Advice on a real platform: from stored traffic to the advised command, after which the advice is gone."""

from __future__ import annotations

import asyncio
import json
import shlex
import sqlite3
import time

import pytest
from tests.waiting import eventually

from kaon.store import open_store
from kaon.types.traffic import Sample

from .world import World

pytestmark = [pytest.mark.timeout(600)]

MINUTES = 40


def advice(platform: World) -> dict[str, str]:
    """Finding -> command."""
    found = json.loads(platform.kaon("advise", "worker", "-o", "json").stdout)
    return {one["finding"]: one["command"] for one in found}


def store_idle_minutes(platform: World) -> None:
    """Write forty idle minutes of three replicas into the store, and make the deployment two hours older."""
    end = time.time() // 60 * 60
    minutes = [
        Sample(
            workspace="default",
            deployment="worker",
            revision=1,
            at_s=end - 60 * back,
            span_s=60,
            arrivals=60,
            codes={"2xx": 60},
            latency={26: 60},
            busy_s=6,
            ready=3,
            ready_s=180,
        )
        for back in range(MINUTES)
    ]

    async def keep() -> None:
        store = open_store(platform.settings.database)
        await store.open()
        await store.keep_traffic(minutes)
        await store.close()

    # Older first: traffic from before a deployment was created belongs to another deployment.
    with sqlite3.connect(platform.settings.database.removeprefix("sqlite:///"), timeout=60) as database:
        database.execute("UPDATE resources SET created_at = created_at - 7200 WHERE kind = 'deployment'")
    asyncio.run(keep())


def test_a_restarted_platform_advises_from_its_store_until_the_command_is_run(platform: World) -> None:
    platform.kaon("deploy", "worker.py:Worker", "--replicas", "3")
    assert advice(platform) == {}
    platform.down()
    store_idle_minutes(platform)
    platform.up()
    found = eventually(lambda: advice(platform), "the stored minutes lead to advice")
    assert found == {"oversized": "kaon scale worker --min 1"}
    platform.kaon(*shlex.split(found["oversized"])[1:])
    eventually(lambda: advice(platform) == {}, "the advice is gone")
    scaling = platform.get("/workspaces/default/deployments/worker")["spec"]["scaling"]
    assert (scaling["min"], scaling["max"]) == (1, 3)
    assert platform.call("/worker").status_code == 200
