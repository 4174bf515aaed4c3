"""Knobs on a real platform: running replicas apply them, and so do replicas that are started later."""

from __future__ import annotations

import pytest
from tests.waiting import eventually

from .world import World

pytestmark = [pytest.mark.timeout(600)]


def answered(platform: World, calls: int = 12) -> tuple[set[int], set[int]]:
    """The processes that answer, and the batch sizes that they report for eight rows."""
    answers = [platform.post("/counter/rows", {"numbers": list(range(8))}) for _ in range(calls)]
    assert [answer.status_code for answer in answers] == [200] * calls
    found = [answer.json() for answer in answers]
    return {pid for rows in found for pid, _ in rows}, {size for rows in found for _, size in rows}


def answered_by_all(platform: World, pids: set[int]) -> tuple[set[int], set[int]]:
    """The same, over as many calls as it takes until each of these processes has answered: the edge balances at random,
    and on a busy machine its health checks reach some replicas later than others."""
    by: set[int] = set()
    sizes: set[int] = set()

    def all_have() -> bool:
        some, taken = answered(platform)
        by.update(some)
        sizes.update(taken)
        return by >= pids

    eventually(all_have, "each of them answers")
    return by, sizes


def test_the_largest_batch_changes_without_a_restart_and_survives_one(platform: World) -> None:
    platform.kaon("deploy", "counter.py:Counter", "--replicas", "2")
    pids = {replica["pid"] for replica in platform.ready("counter")}
    assert answered_by_all(platform, pids) == (pids, {8})

    platform.kaon("tune", "counter", "--set", "max_batch=2")
    eventually(lambda: answered(platform) == (pids, {2}), "the same processes make smaller batches")

    gone = platform.kill(platform.ready("counter")[0]["id"])
    eventually(lambda: len({r["pid"] for r in platform.ready("counter")} - {gone}) == 2, "another one is ready")
    pids = {replica["pid"] for replica in platform.ready("counter")}
    eventually(lambda: answered(platform) == (pids, {2}), "both apply the new size")

    platform.kaon("tune", "counter", "--undo")
    eventually(lambda: answered(platform) == (pids, {8}), "the old size again, without a restart")
