"""The contract of drivers as tests: inherit `DriverContract` and give it a place.

    class TestMyDriver(DriverContract):
        @pytest.fixture
        async def place(self, tmp_path):
            place = MyPlace(tmp_path)
            yield place
            await place.close()

A place makes driver objects over the same set of replicas (`driver()`), and has an artifact whose replicas follow the
`Behaviour` in their environment: by `kaon.testing.stand_in` in place of the runtime, or by a script. Tests wait for
conditions with a time limit, never for a fixed time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

import pytest

from kaon.agent.act.workloads import workload_of
from kaon.drivers.fake import BEHAVIOUR, CONFIG_ERROR, Behaviour
from kaon.drivers.port import Addresses, Driver, LogLine, Mount, ReplicaObservation, Stage, Workload
from kaon.errors import WorkloadRefused
from kaon.types.flight import Flight
from kaon.types.launch import EXIT_CONFIG
from kaon.types.place import PlaceState
from kaon.types.plan import Plan
from kaon.types.replica import ReplicaSpec, WorkloadKind, replica_id

WITHIN_S = 20.0
WELL = Behaviour()


class DriverPlace(Protocol):
    """Where a driver's replicas run."""

    artifact: str

    def driver(self) -> Driver:
        """A new driver object, as after a restart of the agent. The previous one is no longer used."""
        ...


def sample_workload(artifact: str, behaviour: Behaviour = WELL, ordinal: int = 0) -> Workload:
    """A workload whose replica behaves so."""
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
    return workload_of(Plan(cloud="local"), spec, {}, control_token="token")  # noqa: S106 - of a test


def with_spec(workload: Workload, changes: dict[str, object]) -> Workload:
    """A workload with a changed spec, and the launch that follows from it."""
    spec = workload.spec.model_copy(update=changes)
    return workload_of(Plan(cloud="local"), spec, workload.secrets, control_token=workload.launch.control_token)


def with_launch(workload: Workload, changes: dict[str, object]) -> Workload:
    """A workload with a changed launch."""
    return workload.model_copy(update={"launch": workload.launch.model_copy(update=changes)})


def with_secrets(workload: Workload, values: dict[str, str]) -> Workload:
    """A workload with these secrets."""
    return workload.model_copy(update={"secrets": values})


async def observed(driver: Driver, replica: str, condition: Callable[[ReplicaObservation], bool]) -> ReplicaObservation:
    """The first observation of `replica` that fulfils `condition`, woken by `changed` alone."""
    async with asyncio.timeout(WITHIN_S):
        while True:
            observation = await driver.observe()
            found = observation.replicas.get(replica)
            if found and condition(found):
                return found
            await driver.changed(observation.version)


def running(found: ReplicaObservation) -> bool:
    """Whether its process exists."""
    return found.stage == Stage.STARTING


def ended(found: ReplicaObservation) -> bool:
    """Whether it has ended."""
    return found.stage == Stage.EXITED


class DriverContract:
    """The contract suite; tests get `place` from the fixture of a subclass."""

    async def test_a_started_replica_is_observed_with_its_addresses(self, place: DriverPlace) -> None:
        driver, workload = place.driver(), sample_workload(place.artifact)
        assert (await driver.observe()).replicas == {}
        await driver.start(workload)
        found = await observed(driver, workload.spec.id, running)
        assert found.service_address
        assert found.control_address
        assert found.service_address != found.control_address
        assert found.started_at is not None
        assert found.exit_code is None

    async def test_a_replica_exists_when_start_returns(self, place: DriverPlace) -> None:
        driver, workload = place.driver(), sample_workload(place.artifact)
        await driver.start(workload)
        assert workload.spec.id in (await driver.observe()).replicas

    async def test_starting_what_runs_leaves_it_alone(self, place: DriverPlace) -> None:
        driver, workload = place.driver(), sample_workload(place.artifact)
        await driver.start(workload)
        first = await observed(driver, workload.spec.id, running)
        await driver.start(workload)
        assert (await driver.observe()).replicas[workload.spec.id] == first

    async def test_a_place_is_healthy_and_reports_what_is_in_use(self, place: DriverPlace) -> None:
        driver, workload = place.driver(), sample_workload(place.artifact)
        before = await driver.health()
        assert (before.state, before.reason) == (PlaceState.OK, "")
        await driver.start(workload)
        await observed(driver, workload.spec.id, running)
        after = await driver.health()
        if before.used and after.used:
            assert after.used.cpus == before.used.cpus + workload.spec.resources.cpus

    async def test_what_the_place_cannot_do_is_refused(self, place: DriverPlace) -> None:
        driver, workload = place.driver(), sample_workload(place.artifact)
        if not driver.capabilities().mounts:
            mounted = workload.model_copy(update={"mounts": (Mount(source="/data", path="/data"),)})
            with pytest.raises(WorkloadRefused):
                await driver.start(mounted)
        if driver.capabilities().addresses is Addresses.TCP:
            no_token = workload.launch.model_copy(update={"control_token": ""})
            with pytest.raises(WorkloadRefused):
                await driver.start(workload.model_copy(update={"launch": no_token}))
        assert (await driver.observe()).replicas == {}

    async def test_a_job_has_no_address_for_calls_and_its_end_is_its_own(self, place: DriverPlace) -> None:
        driver = place.driver()
        behaviour = Behaviour(ends_after_s=0.2, exit_code=0, lines=("done",))
        job = with_spec(sample_workload(place.artifact, behaviour), {"kind": WorkloadKind.JOB})
        await driver.start(job)
        assert (await observed(driver, job.spec.id, lambda s: s.stage != Stage.INSTALLING)).service_address is None
        found = await observed(driver, job.spec.id, ended)
        assert (found.exit_code, found.last_lines, found.blamed) == (0, ("done",), ())
        assert found.control_address is None
        assert found.started_at is not None
        assert found.ended_at is not None
        assert found.started_at <= found.ended_at

    async def test_the_folder_of_a_job_holds_what_it_wrote_until_it_is_forgotten(self, place: DriverPlace) -> None:
        driver = place.driver()
        behaviour = Behaviour(
            ends_after_s=0.05, exit_code=0, outputs={"model/a/b.txt": "weights"}, result="7", progress=("{}",)
        )
        job = with_spec(sample_workload(place.artifact, behaviour), {"kind": WorkloadKind.JOB})
        await driver.start(job)
        await observed(driver, job.spec.id, ended)
        folder = place.driver().job_dir(job.spec.id)
        assert (folder / "outputs/model/a/b.txt").read_text() == "weights"
        assert (folder / "result.json").read_text() == "7"
        assert (folder / "progress.jsonl").read_text() == "{}\n"
        driver = place.driver()
        await driver.forget(job.spec.id)
        assert not folder.exists()

    async def test_two_readers_see_the_same_and_each_is_woken(self, place: DriverPlace) -> None:
        driver, workload = place.driver(), sample_workload(place.artifact)
        readers = [asyncio.create_task(observed(driver, workload.spec.id, running)) for _ in range(2)]
        await asyncio.sleep(0)
        await driver.start(workload)
        one, other = await asyncio.gather(*readers)
        assert one == other
        first = await driver.observe()
        assert await driver.observe() == first, "observing changes nothing"

    async def test_a_reader_that_was_late_misses_no_change(self, place: DriverPlace) -> None:
        driver, workload = place.driver(), sample_workload(place.artifact)
        before = await driver.observe()
        await driver.start(workload)
        async with asyncio.timeout(WITHIN_S):
            await driver.changed(before.version)

    async def test_the_next_driver_observes_how_it_ended(self, place: DriverPlace) -> None:
        behaviour = Behaviour(ends_after_s=0.05, exit_code=3, lines=("loading", "no such model"))
        first, workload = place.driver(), sample_workload(place.artifact, behaviour)
        await first.start(workload)
        found = await observed(first, workload.spec.id, ended)
        assert (await place.driver().observe()).replicas == {workload.spec.id: found}

    async def test_stop_ends_a_replica_and_may_be_repeated(self, place: DriverPlace) -> None:
        driver, workload = place.driver(), sample_workload(place.artifact)
        await driver.start(workload)
        await observed(driver, workload.spec.id, running)
        await driver.stop(workload.spec.id, 10)
        assert ended((await driver.observe()).replicas[workload.spec.id])
        await driver.stop(workload.spec.id, 10)
        await driver.stop("0123456789ab", 10)

    async def test_a_replica_that_ignores_signals_is_killed_when_its_time_is_over(self, place: DriverPlace) -> None:
        driver, workload = place.driver(), sample_workload(place.artifact, Behaviour(deaf=True))
        await driver.start(workload)
        await observed(driver, workload.spec.id, running)
        await driver.stop(workload.spec.id, 0.1)
        assert ended((await driver.observe()).replicas[workload.spec.id])

    async def test_an_end_is_observed_with_exit_code_reason_and_last_lines(self, place: DriverPlace) -> None:
        crash = Behaviour(ends_after_s=0.05, exit_code=3, lines=("loading", "no such model"))
        driver, workload = place.driver(), sample_workload(place.artifact, crash)
        await driver.start(workload)
        found = await observed(driver, workload.spec.id, ended)
        assert found.exit_code == 3
        assert found.reason
        assert found.last_lines[-2:] == ("loading", "no such model")

    async def test_calls_in_flight_are_read_without_asking_the_replica(self, place: DriverPlace) -> None:
        driver, workload = (
            place.driver(),
            sample_workload(place.artifact, Behaviour(flights={"one": 600.0, "two": -600.0})),
        )
        id_ = workload.spec.id
        assert await driver.flights(id_) == ()
        await driver.start(workload)
        noted = {flight.request_id: flight.left_s for flight in await self._noted(driver, id_)}
        assert noted.keys() == {"one", "two"}
        assert 0 < noted["one"] <= 600
        assert noted["two"] <= -600

    async def test_a_crashed_replica_has_the_calls_that_were_in_flight(self, place: DriverPlace) -> None:
        driver, workload = (
            place.driver(),
            sample_workload(place.artifact, Behaviour(ends_after_s=0.2, flights={"one": 60.0})),
        )
        await driver.start(workload)
        assert (await observed(driver, workload.spec.id, ended)).blamed == ("one",)

    async def test_a_replica_that_was_stopped_blames_nothing(self, place: DriverPlace) -> None:
        driver, workload = place.driver(), sample_workload(place.artifact, Behaviour(deaf=True, flights={"one": 60.0}))
        await driver.start(workload)
        await self._noted(driver, workload.spec.id)
        await driver.stop(workload.spec.id, 0.1)
        assert (await driver.observe()).replicas[workload.spec.id].blamed == ()

    async def test_the_stacks_of_a_replica_are_in_its_log_and_it_runs_on(self, place: DriverPlace) -> None:
        driver, workload = place.driver(), sample_workload(place.artifact, Behaviour(flights={"one": 60.0}))
        id_ = workload.spec.id
        await driver.show_stacks(id_)
        await driver.start(workload)
        await self._noted(driver, id_)  # now it handles the signal
        await driver.show_stacks(id_)
        async with asyncio.timeout(WITHIN_S):
            async for line in driver.logs(id_, tail=100, follow=True):
                if line.text.startswith("Current thread "):
                    break
        assert running((await driver.observe()).replicas[id_])

    async def _noted(self, driver: Driver, replica: str) -> tuple[Flight, ...]:
        async with asyncio.timeout(WITHIN_S):
            while True:
                if noted := await driver.flights(replica):
                    return noted
                await asyncio.sleep(0.01)

    async def test_a_configuration_error_is_recognised_by_its_exit_code(self, place: DriverPlace) -> None:
        driver, workload = place.driver(), sample_workload(place.artifact, CONFIG_ERROR)
        await driver.start(workload)
        assert (await observed(driver, workload.spec.id, ended)).exit_code == EXIT_CONFIG

    async def test_what_has_ended_is_observed_until_it_is_forgotten(self, place: DriverPlace) -> None:
        driver, workload = place.driver(), sample_workload(place.artifact, Behaviour(ends_after_s=0.05))
        await driver.start(workload)
        await observed(driver, workload.spec.id, ended)
        assert workload.spec.id in (await place.driver().observe()).replicas
        driver = place.driver()
        await driver.forget(workload.spec.id)
        assert (await driver.observe()).replicas == {}
        await driver.forget(workload.spec.id)

    async def test_what_has_ended_can_be_started_again(self, place: DriverPlace) -> None:
        driver = place.driver()
        await driver.start(sample_workload(place.artifact, Behaviour(ends_after_s=0.05)))
        again = sample_workload(place.artifact)
        await observed(driver, again.spec.id, ended)
        await driver.start(again)
        found = await observed(driver, again.spec.id, running)
        assert found.exit_code is None
        assert found.last_lines == ()

    async def test_what_runs_is_not_forgotten(self, place: DriverPlace) -> None:
        driver, workload = place.driver(), sample_workload(place.artifact)
        await driver.start(workload)
        await observed(driver, workload.spec.id, running)
        await driver.forget(workload.spec.id)
        assert running((await driver.observe()).replicas[workload.spec.id])

    async def test_a_new_driver_observes_and_stops_all_that_runs(self, place: DriverPlace) -> None:
        first = place.driver()
        workloads = [sample_workload(place.artifact, ordinal=n) for n in range(3)]
        for workload in workloads:
            await first.start(workload)
        before = {s.spec.id: await observed(first, s.spec.id, running) for s in workloads}
        second = place.driver()
        after = (await second.observe()).replicas
        assert {id_: (s.pid, s.service_address, s.control_address) for id_, s in after.items()} == {
            id_: (s.pid, s.service_address, s.control_address) for id_, s in before.items()
        }
        await second.stop(workloads[0].spec.id, 10)
        assert {id_ for id_, s in (await second.observe()).replicas.items() if running(s)} == {
            s.spec.id for s in workloads[1:]
        }

    async def test_logs_are_the_requested_last_lines(self, place: DriverPlace) -> None:
        driver, workload = place.driver(), sample_workload(place.artifact, Behaviour(lines=("one", "two", "three")))
        await driver.start(workload)
        id_ = workload.spec.id
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
