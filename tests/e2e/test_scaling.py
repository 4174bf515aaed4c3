"""Load on a real platform: the number of replicas follows it within its bounds, and no call fails."""

from __future__ import annotations

import pytest
from tests.waiting import eventually

from .traffic import traffic
from .world import World

pytestmark = [pytest.mark.timeout(600)]

WORKER = "/workspaces/default/deployments/worker"


def test_load_rises_and_ends_and_no_call_fails(platform: World) -> None:
    platform.kaon("deploy", "worker.py:Worker", "--min", "0", "--max", "4", "--set", "scaling.keep_alive_s=4s")
    # Calls of 0.1 s, where a replica takes two at a time: 14 a second are seven tenths of one, too much to be safe.
    with traffic(f"{platform.url}/worker", platform.bearer, rps=14) as busy:
        eventually(lambda: len(platform.ready("worker")) >= 2, "replicas rise with the load")
        eventually(lambda: len(busy.ended) > 100, "they serve")
        assert len(platform.replicas("worker")) <= 4
    assert busy.failed == []

    explanation = platform.kaon("explain", "worker", "--since", "5m").stdout
    assert "calls/s at" in explanation
    assert "headroom" in explanation

    eventually(lambda: not platform.replicas("worker"), "without calls no replica is left")
    assert platform.get(WORKER)["status"]["scaling"]["wanted"] == 0
    assert platform.call("/worker").status_code == 200, "a call at zero waits for a replica and is answered"
    entries = platform.get(f"{WORKER}/decisions?concern=scaling&limit=100")["items"]
    assert all(0 <= int(entry["after"]) <= 4 for entry in entries)
    assert [e["reason"] for e in entries if (e["before"], e["after"]) == ("0", "1")] == ["a caller waits for a replica"]


def test_a_scale_down_ends_no_call_that_has_begun(platform: World) -> None:
    platform.kaon("deploy", "worker.py:Worker", "--replicas", "3")
    with traffic(f"{platform.url}/worker?seconds=1.5", platform.bearer, rps=3) as calls:
        eventually(lambda: len(calls.started) >= 6, "all three work")
        platform.kaon("scale", "worker", "1")
        eventually(lambda: len(platform.replicas("worker")) == 1, "two are gone")
    assert calls.failed == []
