"""What every driver must do: inherit `DriverContract` and give it a place.

    class TestMyDriver(DriverContract):
        @pytest.fixture
        async def place(self, tmp_path):
            place = MyPlace(tmp_path)
            yield place
            await place.close()

A place makes driver objects over one and the same set of replicas (`driver()`), and knows an artifact whose
replicas do what the `Behaviour` in their environment says: by `kaon.testing.stand_in` in place of the runtime, or
by a script. Nothing here waits for a fixed time: each wait is for a condition, with a bound.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from kaon.drivers.fake import BEHAVIOUR, CONFIG_ERROR, Behaviour
from kaon.drivers.port import Driver, LogLine, Sighting, Stage, Start
from kaon.types.flight import Flight
from kaon.types.launch import EXIT_CONFIG
from kaon.types.replica import ReplicaSpec, replica_id

WITHIN_S = 20.0
WELL = Behaviour()


class Place(Protocol):
    """Where a driver's replicas run."""

    artifact: str

    def driver(self) -> Driver:
        """A new driver object, as after a restart of the agent. The one before is not used any more."""
        ...


def start_of(artifact: str, behaviour: Behaviour = WELL, ordinal: int = 0) -> Start:
    """What it takes to start a replica that behaves so."""
    spec = ReplicaSpec(
        id=replica_id("default", "contract", 1, ordinal),
        name=f"contract-1-{ordinal}",
        workspace="default",
        deployment="contract",
        revision=1,
        ordinal=ordinal,
        artifact=artifact,
        env={BEHAVIOUR: behaviour.model_dump_json()},
    )
    return Start(replica=spec)


async def seen(driver: Driver, replica: str, true: Callable[[Sighting], bool]) -> Sighting:
    """The first sighting of `replica` for which `true` holds, woken by `changed` alone."""
    async with asyncio.timeout(WITHIN_S):
        while True:
            sighting = (await driver.observe()).get(replica)
            if sighting and true(sighting):
                return sighting
            await driver.changed()


def running(sighting: Sighting) -> bool:
    """Whether its process exists."""
    return sighting.stage == Stage.STARTING


def ended(sighting: Sighting) -> bool:
    """Whether it has ended."""
    return sighting.stage == Stage.EXITED


class DriverContract:
    """The contract suite; tests get `place` from the fixture of a subclass."""

    async def test_a_started_replica_is_seen_with_its_addresses(self, place: Place) -> None:
        driver, start = place.driver(), start_of(place.artifact)
        assert await driver.observe() == {}
        await driver.start(start, {})
        sighting = await seen(driver, start.replica.id, running)
        assert sighting.service_address
        assert sighting.control_address
        assert sighting.service_address != sighting.control_address
        assert sighting.started_at is not None
        assert sighting.exit_code is None

    async def test_a_replica_is_there_from_the_moment_that_start_returns(self, place: Place) -> None:
        driver, start = place.driver(), start_of(place.artifact)
        await driver.start(start, {})
        assert start.replica.id in await driver.observe()

    async def test_starting_what_runs_leaves_it_alone(self, place: Place) -> None:
        driver, start = place.driver(), start_of(place.artifact)
        await driver.start(start, {})
        first = await seen(driver, start.replica.id, running)
        await driver.start(start, {})
        assert (await driver.observe())[start.replica.id] == first

    async def test_stop_ends_a_replica_and_may_be_asked_again(self, place: Place) -> None:
        driver, start = place.driver(), start_of(place.artifact)
        await driver.start(start, {})
        await seen(driver, start.replica.id, running)
        await driver.stop(start.replica.id, 10)
        assert ended((await driver.observe())[start.replica.id])
        await driver.stop(start.replica.id, 10)
        await driver.stop("0123456789ab", 10)

    async def test_a_replica_that_does_not_listen_is_ended_when_its_time_is_over(self, place: Place) -> None:
        driver, start = place.driver(), start_of(place.artifact, Behaviour(deaf=True))
        await driver.start(start, {})
        await seen(driver, start.replica.id, running)
        await driver.stop(start.replica.id, 0.1)
        assert ended((await driver.observe())[start.replica.id])

    async def test_an_end_is_seen_with_exit_code_reason_and_last_lines(self, place: Place) -> None:
        crash = Behaviour(ends_after_s=0.05, exit_code=3, lines=("loading", "no such model"))
        driver, start = place.driver(), start_of(place.artifact, crash)
        await driver.start(start, {})
        sighting = await seen(driver, start.replica.id, ended)
        assert sighting.exit_code == 3
        assert sighting.reason
        assert sighting.last_lines[-2:] == ("loading", "no such model")

    async def test_calls_in_flight_are_read_without_asking_the_replica(self, place: Place) -> None:
        driver, start = place.driver(), start_of(place.artifact, Behaviour(flights={"one": 600.0, "two": -600.0}))
        id_ = start.replica.id
        assert await driver.flights(id_) == ()
        await driver.start(start, {})
        noted = {flight.request_id: flight.left_s for flight in await self._noted(driver, id_)}
        assert noted.keys() == {"one", "two"}
        assert 0 < noted["one"] <= 600
        assert noted["two"] <= -600

    async def test_a_replica_that_ended_by_its_own_fault_tells_what_was_in_flight(self, place: Place) -> None:
        driver, start = place.driver(), start_of(place.artifact, Behaviour(ends_after_s=0.2, flights={"one": 60.0}))
        await driver.start(start, {})
        assert (await seen(driver, start.replica.id, ended)).blamed == ("one",)

    async def test_a_replica_that_was_stopped_blames_nothing(self, place: Place) -> None:
        driver, start = place.driver(), start_of(place.artifact, Behaviour(deaf=True, flights={"one": 60.0}))
        await driver.start(start, {})
        await self._noted(driver, start.replica.id)
        await driver.stop(start.replica.id, 0.1)
        assert (await driver.observe())[start.replica.id].blamed == ()

    async def test_the_stacks_of_a_replica_are_in_its_log_and_it_runs_on(self, place: Place) -> None:
        driver, start = place.driver(), start_of(place.artifact, Behaviour(flights={"one": 60.0}))
        id_ = start.replica.id
        await driver.show_stacks(id_)
        await driver.start(start, {})
        await self._noted(driver, id_)  # by now it listens to the signal
        await driver.show_stacks(id_)
        async with asyncio.timeout(WITHIN_S):
            async for line in driver.logs(id_, tail=100, follow=True):
                if line.text.startswith("Current thread "):
                    break
        assert running((await driver.observe())[id_])

    async def _noted(self, driver: Driver, replica: str) -> tuple[Flight, ...]:
        async with asyncio.timeout(WITHIN_S):
            while True:
                if noted := await driver.flights(replica):
                    return noted
                await asyncio.sleep(0.01)

    async def test_a_replica_that_cannot_be_configured_is_told_by_its_exit_code(self, place: Place) -> None:
        driver, start = place.driver(), start_of(place.artifact, CONFIG_ERROR)
        await driver.start(start, {})
        assert (await seen(driver, start.replica.id, ended)).exit_code == EXIT_CONFIG

    async def test_what_has_ended_stays_in_sight_until_it_is_forgotten(self, place: Place) -> None:
        driver, start = place.driver(), start_of(place.artifact, Behaviour(ends_after_s=0.05))
        await driver.start(start, {})
        await seen(driver, start.replica.id, ended)
        assert start.replica.id in await place.driver().observe()
        driver = place.driver()
        await driver.forget(start.replica.id)
        assert await driver.observe() == {}
        await driver.forget(start.replica.id)

    async def test_what_has_ended_can_be_started_again(self, place: Place) -> None:
        driver = place.driver()
        await driver.start(start_of(place.artifact, Behaviour(ends_after_s=0.05)), {})
        again = start_of(place.artifact)
        await seen(driver, again.replica.id, ended)
        await driver.start(again, {})
        sighting = await seen(driver, again.replica.id, running)
        assert sighting.exit_code is None
        assert sighting.last_lines == ()

    async def test_what_runs_is_not_forgotten(self, place: Place) -> None:
        driver, start = place.driver(), start_of(place.artifact)
        await driver.start(start, {})
        await seen(driver, start.replica.id, running)
        await driver.forget(start.replica.id)
        assert running((await driver.observe())[start.replica.id])

    async def test_a_new_driver_sees_all_that_runs_and_can_stop_it(self, place: Place) -> None:
        first = place.driver()
        starts = [start_of(place.artifact, ordinal=n) for n in range(3)]
        for start in starts:
            await first.start(start, {})
        before = {s.replica.id: await seen(first, s.replica.id, running) for s in starts}
        second = place.driver()
        after = await second.observe()
        assert {id_: (s.pid, s.service_address, s.control_address) for id_, s in after.items()} == {
            id_: (s.pid, s.service_address, s.control_address) for id_, s in before.items()
        }
        await second.stop(starts[0].replica.id, 10)
        assert {id_ for id_, s in (await second.observe()).items() if running(s)} == {s.replica.id for s in starts[1:]}

    async def test_logs_are_the_last_lines_asked_for(self, place: Place) -> None:
        driver, start = place.driver(), start_of(place.artifact, Behaviour(lines=("one", "two", "three")))
        await driver.start(start, {})
        id_ = start.replica.id
        assert await self._logged(driver, id_, 3, follow=True) == ["one", "two", "three"]
        assert await self._logged(driver, id_, 2, follow=False) == ["two", "three"]
        assert [line async for line in driver.logs(id_, tail=0, follow=False)] == []
        assert [line async for line in driver.logs("0123456789ab", tail=9, follow=False)] == []

    async def _logged(self, driver: Driver, replica: str, count: int, *, follow: bool) -> list[str]:
        lines: list[LogLine] = []
        async with asyncio.timeout(WITHIN_S):
            async for line in driver.logs(replica, tail=count, follow=follow):
                lines.append(line)
                if len(lines) == count:
                    break
        assert all(line.replica == replica for line in lines)
        return [line.text for line in lines]
