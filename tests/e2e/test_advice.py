"""Advice on a real platform: from a past that its store has, to a command that is typed and an advice that is gone."""

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
    said = json.loads(platform.kaon("advise", "worker", "-o", "json").stdout)
    return {one["finding"]: one["command"] for one in said}


def remember(platform: World) -> None:
    """Let the store have forty idle minutes of three replicas, as if the deployment were so old."""
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

    # First older, then with a past: traffic from before a deployment was made would be of another one.
    with sqlite3.connect(platform.settings.database.removeprefix("sqlite:///"), timeout=60) as database:
        database.execute("UPDATE resources SET created_at = created_at - 7200 WHERE kind = 'deployment'")
    asyncio.run(keep())


def test_what_a_restarted_platform_advises_is_typed_and_is_gone(platform: World) -> None:
    platform.kaon("deploy", "worker.py:Worker", "--replicas", "3")
    assert advice(platform) == {}
    platform.down()
    remember(platform)
    platform.up()
    said = eventually(lambda: advice(platform), "what stood is known again")
    assert said == {"oversized": "kaon scale worker --min 1"}
    platform.kaon(*shlex.split(said["oversized"])[1:])
    eventually(lambda: advice(platform) == {}, "what was done is not advised any more")
    scaling = platform.get("/workspaces/default/deployments/worker")["spec"]["scaling"]
    assert (scaling["min"], scaling["max"]) == (1, 3)
    assert platform.call("/worker").status_code == 200
