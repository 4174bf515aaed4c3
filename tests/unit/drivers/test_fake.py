"""The fake place, where the contract suite does not look."""

from __future__ import annotations

import asyncio

from tests.waiting import turns

from kaon.clock import FakeClock
from kaon.drivers.fake import Behaviour, FakeDriver, FakePlace
from kaon.drivers.port import Stage
from kaon.testing.drivers import sample_workload

ARTIFACT = f"sha256:{'0' * 64}"


async def test_a_place_that_queues_starts_the_next_one_when_there_is_room() -> None:
    clock = FakeClock()
    driver = FakeDriver(FakePlace(clock, room=1, queues=True))
    first, second = sample_workload(ARTIFACT, Behaviour(ends_after_s=5.0)), sample_workload(ARTIFACT, ordinal=1)
    await driver.start(first)
    await driver.start(second)
    before = await driver.observe()
    assert before.replicas[second.spec.id].stage is Stage.WAITING
    assert before.replicas[second.spec.id].reason == "No capacity left: 1 replicas run here."
    changed = asyncio.create_task(driver.changed(before.version))
    await turns()
    await clock.advance(4)
    assert not changed.done()
    await clock.advance(2)
    await turns()
    assert changed.done()
    after = await driver.observe()
    assert after.replicas[first.spec.id].stage is Stage.EXITED
    assert after.replicas[second.spec.id].stage is Stage.STARTING
