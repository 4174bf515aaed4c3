"""Traffic by the minute, from the ring into the store."""

from __future__ import annotations

from kaon.clock import FakeClock
from kaon.control.minutes import MinutesController
from kaon.store.memory import MemoryStore
from kaon.store.traffic import TrafficRing
from kaon.types.traffic import Sample, Traffic

BEGIN = 1_700_000_040.0  # a whole minute


class World:
    def __init__(self) -> None:
        self.clock = FakeClock(BEGIN)
        self.store = MemoryStore(self.clock)
        self.ring = TrafficRing()
        self.minutes = MinutesController(self.store, self.clock, self.ring)
        self.sent = 0.0

    def send(self, *ats: float, revision: int = 1, **fields: object) -> None:
        samples = tuple(
            Sample.model_validate(
                {"workspace": "default", "deployment": "shop", "revision": revision, "at_s": BEGIN + at, "span_s": 1}
                | {"arrivals": 2, "ready": 3, "cloud": "here", "codes": {"2xx": 2}}
                | fields
            )
            for at in ats
        )
        self.ring.add(Traffic(cloud="here", samples=samples))

    async def at(self, seconds: float) -> None:
        self.clock.jump(BEGIN + seconds - self.clock.now())
        await self.minutes.tick()

    async def kept(self) -> list[tuple[float, int, int | None, float]]:
        found = await self.store.traffic("default", "shop", 0)
        return [(m.at_s - BEGIN, m.revision, m.arrivals, m.span_s) for m in found]


async def test_a_minute_is_written_when_it_is_over_and_its_last_samples_have_come() -> None:
    world = World()
    world.send(*range(1, 63))
    await world.at(63)
    assert await world.kept() == []
    await world.at(66)
    assert await world.kept() == [(60, 1, 118, 59)]  # what ends with the minute is of the next one
    (minute,) = await world.store.traffic("default", "shop", 0)
    assert (minute.ready, minute.ready_s, minute.cloud, minute.codes) == (3, 177, "", {"2xx": 118})


async def test_minutes_are_of_one_revision_each_over_all_clouds() -> None:
    world = World()
    world.send(1, 2)
    world.send(3, revision=2)
    await world.at(70)
    assert await world.kept() == [(60, 1, 4, 2), (60, 2, 2, 1)]


async def test_a_minute_of_which_more_comes_later_is_written_again() -> None:
    world = World()
    world.send(*range(1, 31))
    await world.at(70)
    assert await world.kept() == [(60, 1, 60, 30)]
    world.send(*range(31, 60))
    await world.at(90)
    assert await world.kept() == [(60, 1, 118, 59)]


async def test_a_minute_that_the_store_has_more_of_is_left_alone() -> None:
    world = World()
    world.send(*range(1, 60))
    await world.at(70)
    restarted = TrafficRing()
    world.ring, world.minutes = restarted, MinutesController(world.store, world.clock, restarted)
    world.send(*range(40, 120))
    await world.at(130)
    assert await world.kept() == [(60, 1, 118, 59), (120, 1, 120, 60)]


async def test_nothing_new_writes_nothing() -> None:
    world = World()
    world.send(1)
    await world.at(70)
    world.store.keep_traffic = None  # type: ignore[assignment]
    await world.at(80)
    await world.at(200)
