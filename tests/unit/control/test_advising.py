"""Advice by the minute, on a fake clock: what stands, what is written down, what a restart knows."""

from __future__ import annotations

import asyncio

import pytest
from tests.statuses import status_with

from kaon.clock import FakeClock
from kaon.control.advising import AdviceController
from kaon.control.scaling import ScalingController
from kaon.control.supervisor import Supervisor
from kaon.store.live_status import LiveStatus
from kaon.store.memory import MemoryStore
from kaon.store.traffic import TrafficRing
from kaon.types.advice import Advice, Finding
from kaon.types.artifact import ArtifactSpec, Manifest
from kaon.types.deployment import DeploymentSpec, Template
from kaon.types.deployment import Scaling as Bounds
from kaon.types.objective import Objective
from kaon.types.service import Resources, ServiceSpec
from kaon.types.traffic import ColdStart, Sample

SHOP = ("default", "shop")
DIGEST = f"sha256:{'0' * 64}"
MIB = 2**20
BEGIN = 1_700_000_040.0  # a whole minute


class World:
    """A deployment, and its minutes as the store would have them."""

    def __init__(self) -> None:
        self.clock = FakeClock(BEGIN)
        self.store = MemoryStore(self.clock)
        self.live_status = LiveStatus()
        self.advising = self.anew()

    def anew(self) -> AdviceController:
        """As after a restart of the control plane."""
        self.live_status = LiveStatus()
        scaling = ScalingController(self.store, self.clock, TrafficRing(), self.live_status)
        self.advising = AdviceController(self.store, self.clock, self.live_status, scaling)
        return self.advising

    async def deploy(self, low: int = 4, high: int = 8) -> None:
        spec = DeploymentSpec(template=Template(artifact=DIGEST), scaling=Bounds(min=low, max=high))
        found = await self.store.find("deployment", *SHOP)
        if found is not None:
            await self.store.update_spec(found, spec)
        else:
            service = ServiceSpec(
                name="shop", entry="s:S", resources=Resources(memory_bytes=512 * MIB), objective=Objective(latency_s=1)
            )
            manifest = Manifest(kaon="0", python="3.11", service=service, files=())
            artifact = ArtifactSpec(digest=DIGEST, manifest=manifest, size_bytes=1)
            await self.store.create("artifact", "default", DIGEST, artifact)
            await self.store.create("deployment", *SHOP, spec)
        await self.advising.reconcile(SHOP)

    async def lives(self, minutes: int, *, judged: bool = True, **figures: object) -> None:
        for _ in range(minutes):
            await self.clock.advance(60)
            await self.store.keep_traffic([sample(self.clock.now(), **figures)])
            if judged:
                await self.advising.tick()

    def standing(self) -> list[Finding] | None:
        found = self.live_status.advice(*SHOP)
        return None if found is None else [a.finding for a in found]

    async def journalled(self) -> list[tuple[str, str]]:
        return [(e.before, e.after) for e in await self.store.journal(*SHOP, "advice")]


def sample(at_s: float, *, busy: float = 0.7, revision: int = 1, ready: int = 4, **figures: object) -> Sample:
    given = {"workspace": "default", "deployment": "shop", "revision": revision, "at_s": at_s, "span_s": 60}
    given |= {"arrivals": 600, "codes": {"2xx": 600}, "latency": {20: 600}, "queue_s": 1, "began": 600}
    given |= {"busy_s": 60 * ready * busy, "ready": ready, "ready_s": 60 * ready, "memory_bytes": 100 * MIB}
    return Sample.model_validate(given | figures)


@pytest.fixture
async def world() -> World:
    made = World()
    await made.deploy()
    return made


async def test_there_are_no_figures_before_the_first_minute_and_then_no_findings(world: World) -> None:
    assert world.standing() is None
    await world.advising.tick()
    assert world.standing() is None
    await world.lives(30)
    assert world.standing() == []
    assert await world.journalled() == []


async def test_the_start_and_the_end_of_a_finding_are_recorded_once_with_figures_and_command(world: World) -> None:
    await world.lives(10, memory_bytes=500 * MIB)
    assert world.standing() == [Finding.MEMORY]
    await world.lives(10)
    assert world.standing() == []
    assert await world.journalled() == [("", "memory"), ("memory", "settled")]
    entry = (await world.store.journal(*SHOP, "advice"))[0]
    assert "500 of 512 MiB" in entry.reason
    assert entry.figures["command"] == "kaon set shop template.resources.memory_bytes=768MiB"
    events = [(e.reason, e.level) for e in await world.store.events("default")]
    assert events == [("Advice", "warning"), ("AdviceSettled", "normal")]


async def test_advice_that_was_followed_ends_as_soon_as_the_spec_changes(world: World) -> None:
    await world.lives(40, busy=0.05)
    assert world.standing() == [Finding.OVERSIZED]
    await world.deploy(low=1)
    assert world.standing() == []
    assert (await world.journalled())[-1] == ("oversized", "settled")


async def test_a_restart_finds_active_advice_again_and_records_nothing(world: World) -> None:
    await world.lives(40, busy=0.05)
    [before] = world.live_status.advice(*SHOP) or ()
    world.anew()
    await world.advising.reconcile(SHOP)
    assert world.standing() is None
    await world.advising.tick()
    assert world.live_status.advice(*SHOP) == (before,), "since the same minute"
    assert await world.journalled() == [("", "oversized")]
    await world.lives(5, busy=0.7)
    assert await world.journalled() == [("", "oversized"), ("oversized", "settled")]


async def test_minutes_between_two_ticks_are_judged_one_by_one(world: World) -> None:
    await world.lives(1, busy=0.05)
    await world.lives(40, judged=False, busy=0.05)
    await world.advising.tick()
    assert world.standing() == [Finding.OVERSIZED]


async def test_copies_of_calls_and_minutes_of_an_earlier_deployment_are_none_of_it(world: World) -> None:
    found = await world.store.get("deployment", *SHOP)
    await world.store.update_status(found, status_with(found.status, shadow=2))
    await world.advising.reconcile(SHOP)
    for _ in range(20):
        await world.lives(1)
        await world.store.keep_traffic([sample(world.clock.now(), revision=2, memory_bytes=511 * MIB)])
    assert world.standing() == []
    await world.store.delete(await world.store.get("deployment", *SHOP))
    await world.advising.reconcile(SHOP)
    assert world.live_status.advice(*SHOP) is None
    await world.store.create("deployment", *SHOP, found.spec)
    await world.advising.reconcile(SHOP)
    await world.advising.tick()
    assert world.standing() is None


async def test_callers_that_waited_at_zero_are_counted_by_calls_without_a_revision(world: World) -> None:
    await world.deploy(low=0)
    start = ColdStart(replica="r", start_s=5)
    for _ in range(20):
        await world.lives(1, ready=0, starts=(start,), judged=False)
        held = Sample(workspace="default", deployment="shop", revision=0, at_s=world.clock.now(), span_s=60)
        await world.store.keep_traffic([held.model_copy(update={"arrivals": 30, "codes": {"2xx": 30}})])
        await world.advising.tick()
    advice: tuple[Advice, ...] = world.live_status.advice(*SHOP) or ()
    assert [a.finding for a in advice] == [Finding.COLD_STARTS]
    assert "600 of 12,600 calls" in advice[0].evidence


async def test_one_deployments_failure_is_not_the_others(world: World) -> None:
    await world.store.create("deployment", "default", "other", (await world.store.get("deployment", *SHOP)).spec)
    await world.advising.reconcile(("default", "other"))
    world.advising._advised["default", "other"].state = None  # type: ignore[assignment]
    await world.lives(10, memory_bytes=500 * MIB)
    assert world.standing() == [Finding.MEMORY]


async def test_each_minute_is_judged_when_the_store_has_it(world: World) -> None:
    running = asyncio.ensure_future(Supervisor(world.clock).keep("advising", world.advising.next_tick))
    try:
        for _ in range(8):
            await world.lives(1, judged=False, memory_bytes=500 * MIB)
        await world.clock.advance(30)
        assert world.standing() == [Finding.MEMORY]
    finally:
        running.cancel()
