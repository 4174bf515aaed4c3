"""The whole agent in simulated time, on the fake driver."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.replicas import replica_spec, route_to
from tests.waiting import turns

from kaon.agent.agent import Agent
from kaon.agent.ports import AgentCall
from kaon.clock import FakeClock
from kaon.drivers.fake import FAULTS, Behaviour, FakeDriver, FakePlace, FakeReplicas, Fault
from kaon.drivers.port import PlaceObservation
from kaon.errors import Unavailable
from kaon.types.key import Access
from kaon.types.knobs import Knobs, PlannedKnobs
from kaon.types.model import Address, content_hash
from kaon.types.names import DeploymentKey
from kaon.types.place import PlaceHealth, PlaceState
from kaon.types.plan import EdgeStatus, NamedPlan, Plan, Report
from kaon.types.replica import Phase
from kaon.types.route import ReplicaEndpoint, Route


class Memory:
    """Control plane and edge in memory."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.wanted: Plan | None = None
        self.reports: list[Report] = []
        self.behind_edge: set[str] = set()
        self.away = False
        self.calls: list[AgentCall] = []
        self.answers: dict[str, list[bytes]] = {}

    async def plan(self, after: str, wait_s: float) -> NamedPlan | None:
        if self.away:
            raise Unavailable("away")
        for _ in range(int(wait_s)):
            if self.wanted and content_hash(self.wanted) != after:
                return NamedPlan(name=content_hash(self.wanted), plan=self.wanted)
            await self.clock.sleep(1.0)
        return None

    async def report(self, report: Report) -> None:
        if self.away:
            raise Unavailable("away")
        self.reports.append(report)

    async def artifact(self, digest: str) -> Path:
        raise AssertionError("the fake driver fetches nothing")

    async def secrets(self, replica: str) -> dict[str, str]:
        return {}

    async def next_call(self, wait_s: float) -> AgentCall | None:
        await self.clock.sleep(1.0)
        return self.calls.pop() if self.calls else None

    async def answer(self, call: str, lines: AsyncIterator[bytes]) -> None:
        self.answers[call] = [line async for line in lines]

    async def apply(
        self, routes: tuple[Route, ...], endpoints: Mapping[DeploymentKey, tuple[ReplicaEndpoint, ...]]
    ) -> None:
        self.behind_edge = {endpoint.replica for group in endpoints.values() for endpoint in group}

    async def status(self) -> EdgeStatus:
        return EdgeStatus(running=True)

    async def in_flight(self) -> dict[Address, int]:
        return {}

    def phases(self) -> dict[str, Phase]:
        return {status.name: status.phase for status in self.reports[-1].replicas} if self.reports else {}


ROUTE = route_to(1)


def plan_of(*ordinals: int, **more: Any) -> Plan:
    specs = tuple(replica_spec(n) for n in ordinals)
    return Plan(cloud="local", replicas=specs, access={"default/shop": Access(public=True)}, **more)


async def pass_time(clock: FakeClock, seconds: float, step_s: float = 0.05) -> None:
    for _ in range(round(seconds / step_s)):
        await clock.advance(step_s)
        await turns(10)


async def simulated(
    tmp_path: Path, script: Callable[[int], Behaviour], scenario: Callable[[Memory, FakePlace, FakeClock], object]
) -> None:
    clock = FakeClock()
    place = FakePlace(clock, script=lambda workload: script(workload.spec.ordinal))
    driver, memory = FakeDriver(place), Memory(clock)
    agent = Agent("local", memory, driver, memory, clock, tmp_path, "http://edge", replicas=FakeReplicas(place))
    running = asyncio.create_task(agent.run())
    try:
        await scenario(memory, place, clock)  # type: ignore[misc]
        assert not running.done()
    finally:
        running.cancel()
        await asyncio.wait([running])


async def test_a_replica_is_behind_the_edge_once_it_is_ready_and_not_before(tmp_path: Path) -> None:
    async def scenario(memory: Memory, place: FakePlace, clock: FakeClock) -> None:
        memory.wanted = plan_of(0)
        await pass_time(clock, 4)
        assert memory.phases() == {"shop-1-0": Phase.LOADING}
        assert memory.behind_edge == set()
        await pass_time(clock, 4)
        assert memory.phases() == {"shop-1-0": Phase.READY}
        assert memory.behind_edge == {replica_spec(0).id}

    await simulated(tmp_path, lambda _: Behaviour(ready_after_s=5), scenario)


async def test_a_crashing_replica_is_started_ever_more_seldom(tmp_path: Path) -> None:
    async def scenario(memory: Memory, place: FakePlace, clock: FakeClock) -> None:
        memory.wanted = plan_of(0)
        await pass_time(clock, 130, step_s=0.1)
        # ends at 0.5 s each time; waits of 1, 2, 4, 8, 16, 32, 60: the eighth start is at about 127 s
        assert place.pids - 1000 == 8
        assert memory.phases() == {"shop-1-0": Phase.CRASHED}

    await simulated(tmp_path, lambda _: Behaviour(ends_after_s=0.5), scenario)


async def test_what_is_full_is_told_as_no_capacity_and_filled_when_there_is_room(tmp_path: Path) -> None:
    async def scenario(memory: Memory, place: FakePlace, clock: FakeClock) -> None:
        place.room = 1
        memory.wanted = plan_of(0, 1)
        await pass_time(clock, 6)
        assert sorted(memory.phases().values()) == [Phase.NO_CAPACITY, Phase.READY]
        place.room = 2
        await pass_time(clock, 10)
        assert set(memory.phases().values()) == {Phase.READY}

    await simulated(tmp_path, lambda _: Behaviour(), scenario)


async def test_replicas_are_drained_one_by_one_as_they_get_quiet(tmp_path: Path) -> None:
    async def scenario(memory: Memory, place: FakePlace, clock: FakeClock) -> None:
        memory.wanted = plan_of(0, 1)
        await pass_time(clock, 4)
        place.replicas[replica_spec(1).id].in_flight = 1
        memory.wanted = plan_of()
        await pass_time(clock, 4)
        assert memory.behind_edge == set()
        assert set(place.replicas) == {replica_spec(1).id}
        place.replicas[replica_spec(1).id].in_flight = 0
        await pass_time(clock, 2)
        assert place.replicas == {}

    await simulated(tmp_path, lambda _: Behaviour(), scenario)


async def test_while_the_control_plane_is_away_the_world_is_kept_and_then_told(tmp_path: Path) -> None:
    async def scenario(memory: Memory, place: FakePlace, clock: FakeClock) -> None:
        memory.wanted = plan_of(0)
        await pass_time(clock, 4)
        memory.away = True
        reported = len(memory.reports)
        place.replicas[replica_spec(0).id].behaviour = Behaviour(ends_after_s=0)
        await pass_time(clock, 60, step_s=0.1)
        assert place.pids - 1000 > 1, "restarted by the agent alone"
        assert len(memory.reports) == reported
        memory.away = False
        await pass_time(clock, 6)
        assert len(memory.reports) > reported

    await simulated(tmp_path, lambda _: Behaviour(), scenario)


async def test_a_trial_ends_by_itself_within_ten_seconds_of_the_control_planes_death(tmp_path: Path) -> None:
    async def scenario(memory: Memory, place: FakePlace, clock: FakeClock) -> None:
        force, tried = Knobs(max_batch=8).named(), Knobs(max_batch=2).named()

        def in_force() -> list[Knobs]:
            return [place.replicas[replica_spec(ordinal).id].knobs for ordinal in (0, 1)]

        planned = PlannedKnobs(force=force, trial=tried, replicas=(replica_spec(0).id,))
        memory.wanted = plan_of(0, 1, knobs={"default/shop": planned})
        await pass_time(clock, 4)
        assert in_force() == [tried, force]
        await pass_time(clock, 60)
        assert in_force() == [tried, force], "while the control plane answers it goes on"
        memory.away = True
        await pass_time(clock, 10)
        assert in_force() == [force, force]
        pids = {id_: fake.pid for id_, fake in place.replicas.items()}
        memory.away = False
        await pass_time(clock, 7)
        assert in_force() == [tried, force], "it is heard again, and still wants it tried"
        place.replicas[replica_spec(0).id].behaviour = Behaviour(ends_after_s=0)
        await pass_time(clock, 0.5)
        place.replicas[replica_spec(0).id].behaviour = Behaviour()
        await pass_time(clock, 5)
        assert place.replicas[replica_spec(0).id].workload.launch.knobs == force, (
            "whoever is started anew starts with what is safe"
        )
        assert in_force() == [force, force], "and does not try again what it ended with"
        assert place.replicas[replica_spec(1).id].pid == pids[replica_spec(1).id]

    await simulated(tmp_path, lambda _: Behaviour(), scenario)


async def test_an_agent_that_starts_while_the_control_plane_is_away_tries_nothing(tmp_path: Path) -> None:
    tried = PlannedKnobs(force=Knobs(max_batch=8), trial=Knobs(max_batch=2))
    kept = plan_of(0, knobs={"default/shop": tried})
    (tmp_path / "plan.json").write_text(kept.flat().text())  # as the release before kept it

    async def scenario(memory: Memory, place: FakePlace, clock: FakeClock) -> None:
        memory.away = True
        await pass_time(clock, 5)
        assert place.replicas[replica_spec(0).id].knobs == Knobs(max_batch=8).named()

    await simulated(tmp_path, lambda _: Behaviour(), scenario)


async def test_a_silent_replica_is_ended_once_its_last_call_is_overdue_and_its_stacks_are_told_before(
    tmp_path: Path,
) -> None:
    async def scenario(memory: Memory, place: FakePlace, clock: FakeClock) -> None:
        memory.wanted = plan_of(0, routes=(ROUTE,))
        await pass_time(clock, 4)
        one = place.replicas[replica_spec(0).id]
        one.flights["long"] = clock.monotonic() - one.began + 40
        one.frozen = True
        await pass_time(clock, 38)
        assert memory.phases() == {"shop-1-0": Phase.STARTING}
        assert memory.behind_edge == {replica_spec(0).id}, "who calls now waits, and is answered when it is done"
        await pass_time(clock, 10)
        assert place.replicas[replica_spec(0).id].pid == one.pid
        assert memory.behind_edge == set(), "it should have answered by now"
        await pass_time(clock, 6)
        again = place.replicas[replica_spec(0).id]
        assert again.pid != one.pid
        assert again.lines[0].startswith("Current thread ")
        [status] = memory.reports[-1].replicas
        assert status.restarts == 1

    await simulated(tmp_path, lambda _: Behaviour(), scenario)


async def test_a_silent_replica_that_answers_again_goes_on_as_if_nothing_had_been(tmp_path: Path) -> None:
    async def scenario(memory: Memory, place: FakePlace, clock: FakeClock) -> None:
        memory.wanted = plan_of(0)
        await pass_time(clock, 4)
        one = place.replicas[replica_spec(0).id]
        one.flights["long"] = clock.monotonic() - one.began + 40
        one.frozen = True
        await pass_time(clock, 30)
        one.frozen = False
        one.flights.clear()
        await pass_time(clock, 3)
        assert place.replicas[replica_spec(0).id] is one
        assert memory.phases() == {"shop-1-0": Phase.READY}

    await simulated(tmp_path, lambda _: Behaviour(), scenario)


async def test_a_request_that_two_replicas_crashed_of_is_refused_by_all_for_ten_minutes(tmp_path: Path) -> None:
    async def scenario(memory: Memory, place: FakePlace, clock: FakeClock) -> None:
        memory.wanted = plan_of(0, 1, 2)
        await pass_time(clock, 4)
        for ordinal, flights in enumerate(({"bad": 60.0, "good": 60.0}, {"bad": 60.0, "other": 60.0})):
            assert memory.reports[-1].refusals == {}
            one = place.replicas[replica_spec(ordinal).id]
            one.flights.update(flights)
            one.behaviour = Behaviour(ends_after_s=0, exit_code=-11)
            await pass_time(clock, 0.5)
            one.behaviour = Behaviour()
            await pass_time(clock, 6)
        assert memory.reports[-1].refusals == {"default/shop": ("bad",)}
        assert [fake.refusals.request_ids for fake in place.replicas.values()] == [("bad",)] * 3
        await pass_time(clock, 610, step_s=0.5)
        assert memory.reports[-1].refusals == {}
        assert [fake.refusals.request_ids for fake in place.replicas.values()] == [()] * 3

    await simulated(tmp_path, lambda _: Behaviour(), scenario)


async def test_an_end_that_fails_is_told_and_tried_again_with_a_back_off(tmp_path: Path) -> None:
    async def scenario(memory: Memory, place: FakePlace, clock: FakeClock) -> None:
        memory.wanted = plan_of(0)
        await pass_time(clock, 4)
        place.unkillable = "Processes [7] do not end, even when killed."
        memory.wanted = plan_of()
        await pass_time(clock, 60, step_s=0.1)
        [status] = memory.reports[-1].replicas
        assert (status.phase, status.reason) == (Phase.CRASHED, f"It cannot be ended: {place.unkillable}")
        assert 5 <= place.stops <= 10
        place.unkillable = ""
        await pass_time(clock, 40, step_s=0.1)
        assert place.replicas == {}

    await simulated(tmp_path, lambda _: Behaviour(), scenario)


# Drivers that fail

METHODS = ("health", "start", "stop", "observe", "changed", "flights", "show_stacks", "forget", "logs")
HEALED_S = 160.0
"""Longer than every limit and back-off of the agent."""


async def heals(clock: FakeClock, is_well: Callable[[], bool]) -> None:
    """Let time pass until all has been well for 20 s."""
    deadline, well_s = clock.monotonic() + HEALED_S, 0
    while well_s < 20 and clock.monotonic() < deadline:
        await pass_time(clock, 1, step_s=1.0)
        well_s = well_s + 1 if is_well() else 0


def fail(place: FakePlace, method: str, fault: Fault) -> None:
    place.faults = dict.fromkeys(METHODS if method == "all" else (method,), fault)


@pytest.mark.parametrize("method", [*METHODS, "all"])
@pytest.mark.parametrize("fault", FAULTS)
async def test_whatever_a_driver_does_wrong_the_agent_goes_on_and_keeps_what_runs(
    tmp_path: Path, method: str, fault: str
) -> None:
    async def scenario(memory: Memory, place: FakePlace, clock: FakeClock) -> None:
        memory.wanted = plan_of(0, 1)
        await pass_time(clock, 4)
        kept, frozen = place.replicas[replica_spec(0).id], place.replicas[replica_spec(1).id]
        fail(place, method, FAULTS[fault])
        frozen.frozen = True  # so that its flights are read, its stacks are shown, and it is ended
        memory.calls = [AgentCall(id="logs", call="logs", arguments={"replicas": [replica_spec(0).id]})]
        await pass_time(clock, 20, step_s=1.0)
        memory.wanted = plan_of(0, 2)
        await pass_time(clock, 20, step_s=1.0)
        assert place.replicas[replica_spec(0).id] is kept
        assert replica_spec(0).id in memory.behind_edge, "what answers is served, whatever its place says"
        place.faults = {}
        refused = fault == "refused" and method in ("start", "all")
        left, phase = (
            ({replica_spec(0).id}, Phase.CONFIG_ERROR)
            if refused
            else ({replica_spec(0).id, replica_spec(2).id}, Phase.READY)
        )
        await heals(
            clock,
            lambda: (
                place.replicas.keys() == left
                and memory.phases()["shop-1-2"] is phase
                and memory.reports[-1].place.state is PlaceState.OK
            ),
        )
        assert place.replicas[replica_spec(0).id] is kept
        assert place.replicas.keys() == left
        assert memory.phases()["shop-1-2"] == phase
        assert memory.reports[-1].place.state is PlaceState.OK

    await simulated(tmp_path, lambda _: Behaviour(), scenario)


@pytest.mark.parametrize("method", ["health", "start", "observe", "all"])
@pytest.mark.parametrize("fault", FAULTS)
async def test_an_agent_that_starts_while_its_driver_fails_takes_nothing_from_the_edge(
    tmp_path: Path, method: str, fault: str
) -> None:
    async def scenario(memory: Memory, place: FakePlace, clock: FakeClock) -> None:
        memory.wanted = plan_of(0)
        await pass_time(clock, 4)
        kept = place.replicas[replica_spec(0).id]
        fail(place, method, FAULTS[fault])
        again = Agent("local", memory, FakeDriver(place), memory, clock, tmp_path, "", replicas=FakeReplicas(place))
        running = asyncio.create_task(again.run())
        try:
            for _ in range(20):
                await pass_time(clock, 1, step_s=0.25)
                assert memory.behind_edge == {replica_spec(0).id}
            place.faults = {}
            await heals(clock, lambda: memory.phases() == {"shop-1-0": Phase.READY})
            assert memory.phases() == {"shop-1-0": Phase.READY}
            assert place.replicas == {replica_spec(0).id: kept}
            assert not running.done()
        finally:
            running.cancel()
            await asyncio.wait([running])

    await simulated(tmp_path, lambda _: Behaviour(), scenario)


async def test_each_error_of_a_driver_has_a_phase_of_its_own(tmp_path: Path) -> None:
    async def scenario(memory: Memory, place: FakePlace, clock: FakeClock) -> None:
        memory.wanted = plan_of(0)
        for fault, phase, reason in (
            ("full", Phase.NO_CAPACITY, "No capacity left."),
            ("away", Phase.STARTING, "The place cannot be reached: The place does not answer."),
            ("refused", Phase.CONFIG_ERROR, "It can never run here."),
        ):
            place.faults = {"start": FAULTS[fault]}
            await pass_time(clock, 70, step_s=0.5)
            [status] = memory.reports[-1].replicas
            assert (status.phase, status.reason, status.restarts) == (phase, reason, 0)
        place.faults = {}
        await pass_time(clock, HEALED_S, step_s=1.0)
        assert place.replicas == {}, "what can never run is not tried again"

    await simulated(tmp_path, lambda _: Behaviour(), scenario)


async def test_while_the_place_cannot_be_observed_the_report_says_so(tmp_path: Path) -> None:
    async def scenario(memory: Memory, place: FakePlace, clock: FakeClock) -> None:
        memory.wanted = plan_of(0)
        await pass_time(clock, 4)
        place.faults = {"observe": FAULTS["away"]}
        await pass_time(clock, 12, step_s=0.5)
        assert memory.reports[-1].place == PlaceHealth(
            state=PlaceState.UNAVAILABLE, reason="The place does not answer."
        )
        assert memory.phases() == {"shop-1-0": Phase.READY}

    await simulated(tmp_path, lambda _: Behaviour(), scenario)


async def test_where_nothing_changes_the_agent_looks_about_once_a_second(tmp_path: Path) -> None:
    looks = 0

    class Counted(FakeDriver):
        async def observe(self) -> PlaceObservation:
            nonlocal looks
            looks += 1
            return await super().observe()

    clock = FakeClock()
    place, memory = FakePlace(clock, script=lambda _: Behaviour()), Memory(clock)
    memory.wanted = plan_of(0, 1)
    agent = Agent("local", memory, Counted(place), memory, clock, tmp_path, "", replicas=FakeReplicas(place))
    running = asyncio.create_task(agent.run())
    await pass_time(clock, 10)
    looks = 0
    await pass_time(clock, 100, step_s=0.5)
    running.cancel()
    await asyncio.wait([running])
    assert 50 < looks <= 110
