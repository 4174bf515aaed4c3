"""Three times more than can be served, on the real processes: QUALITY.md R11."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path

import pytest
from benchmarks.overload.storm import Callers, Tally, back_to_normal, peak, storm
from tests.figures import at_least, at_most

from kaon.types.key import Priority

from .world import World

APP = Path(__file__).parents[2] / "benchmarks/overload/apps/scarce.py"
BODIES: dict[str, object] = {"plain": {"text": "a"}, "batched": {"texts": ["a"]}}
pytestmark = [pytest.mark.timeout(600)]


def callers(world: World, endpoint: str, key: str, name: str = "", rps: float = 0.0) -> Callers:
    return Callers(name, f"{world.url}/scarce/{endpoint}", key, BODIES[endpoint], rps)


@pytest.fixture
def scarce(platform: World) -> World:
    platform.kaon("deploy", f"{APP}:Scarce", "--replicas", "2")
    return platform


def test_r11_in_a_storm_of_retries_calls_are_answered_and_the_rest_is_told_when_to_come_back(scarce: World) -> None:
    keys = {
        priority: scarce.kaon("key", "create", priority.value, "--priority", priority.value).stdout.strip()
        for priority in Priority
    }

    async def weather(endpoint: str) -> tuple[float, dict[str, Tally], float]:
        calm = callers(scarce, endpoint, keys[Priority.NORMAL])
        best = await peak(calm, clients=32, seconds=2)
        shares = {Priority.HIGH: 0.4, Priority.NORMAL: 0.3, Priority.LOW: 2.3}
        groups = [callers(scarce, endpoint, keys[p], p.value, rps=share * best) for p, share in shares.items()]
        return best, await storm(groups, seconds=4), await back_to_normal(calm, within_s=60)

    for endpoint in BODIES:
        best, tallies, normal_s = asyncio.run(weather(endpoint))
        whole = Tally()
        for tally in tallies.values():
            whole.add(tally)
        assert set(whole.statuses) <= {200, 429, 504}
        assert whole.good
        assert whole.without_retry_after == 0
        assert whole.broken == 0
        assert normal_s != math.inf, "it never was as before again"
        at_least("goodput, of the peak's", len(whole.good) / (best * 4), 0.8)
        at_least("refused for each that was answered", whole.statuses[429] / whole.statuses[200], 1)
        at_least("of the important calls", tallies["high"].good_share, 0.99)
        at_most("of the unimportant calls", tallies["low"].good_share, tallies["normal"].good_share)
        at_most("seconds until all is as before", normal_s, 10)
    for replica in scarce.ready("scarce"):
        assert replica["restarts"] == 0
