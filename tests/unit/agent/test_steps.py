"""What the agent decides, one look after the other."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.replicas import replica_spec, route_to

from kaon.agent.decide.inputs import (
    AdmitIt,
    AgentInputs,
    ForgetIt,
    ProbedHealth,
    RefusedStart,
    RefuseIt,
    ReplicaHistory,
    StartIt,
    StopIt,
)
from kaon.agent.decide.replicas import AgentDecision, step
from kaon.drivers.port import ReplicaObservation, Stage
from kaon.types.flight import Flight
from kaon.types.key import Access, Grant
from kaon.types.launch import EXIT_CONFIG, ReplicaHealth
from kaon.types.plan import Plan
from kaon.types.refusals import Refusals
from kaon.types.replica import Phase, ReplicaSpec, Restart

OPEN = Access(public=True).named()
KEY = ("default", "shop")
HUNG = "It did not answer for 10 s, and no call in flight has time left; the stacks of its threads are in its log."


def plan(*replicas: ReplicaSpec, access: Access = OPEN) -> Plan:
    return Plan(cloud="local", replicas=replicas, routes=(route_to(1),), access={"default/shop": access})


A = replica_spec(0)


class World:
    """Observations and history of an agent, with a clock."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.observed: dict[str, ReplicaObservation] = {}
        self.health: dict[str, ProbedHealth] = {}
        self.histories: dict[str, ReplicaHistory] = {}
        self.at_edge: frozenset[str] | None = frozenset()
        self.flights: dict[str, tuple[Flight, ...] | None] = {}
        self.refusals: dict[tuple[str, str], Refusals] = {}
        self.failures: dict[tuple[str, str], str] = {}
        self.last: AgentDecision | None = None

    def runs(self, one: ReplicaSpec = A, *, phase: str = "Ready", in_flight: int = 0, zeros: int = 9) -> None:
        self.observed[one.id] = ReplicaObservation(
            id=one.id,
            stage=Stage.STARTING,
            pid=7,
            started_at=1.0,
            service_address=f"unix:/r/{one.id}/service.sock",
            control_address=f"unix:/r/{one.id}/control.sock",
        )
        answer = ReplicaHealth(phase=phase, in_flight=in_flight, access=OPEN.version)
        self.health[one.id] = ProbedHealth(answer=answer, asked_at=self.now, zeros=0 if in_flight else zeros)

    def ends(self, one: ReplicaSpec = A, code: int | None = 1, reason: str = "It crashed.") -> None:
        self.health.pop(one.id, None)
        self.observed[one.id] = ReplicaObservation(
            id=one.id, stage=Stage.EXITED, exit_code=code, reason=reason, last_lines=("boom",)
        )

    def answers(self, one: ReplicaSpec = A, **said: str) -> None:
        health = self.health[one.id]
        assert health.answer
        self.health[one.id] = replace(health, answer=health.answer.model_copy(update=said))

    def silent(self, one: ReplicaSpec = A, *, for_s: float, misses: int = 9) -> None:
        self.health[one.id] = replace(self.health[one.id], misses=misses, silent_since=self.now - for_s)

    def look(
        self,
        wanted: Plan,
        *,
        busy: frozenset[str] = frozenset(),
        edge_busy: frozenset[str] = frozenset(),
        refused: dict[str, RefusedStart] | None = None,
        follow_edge: bool = True,
    ) -> AgentDecision:
        inputs = AgentInputs(
            now=self.now,
            wall=self.now + 1e9,
            observed=self.observed,
            health=self.health,
            refused=refused or {},
            failures=self.failures,
            flights=self.flights,
            refusals=self.refusals,
            busy=busy,
            at_edge=self.at_edge,
            edge_busy=edge_busy,
        )
        self.last = step(wanted, inputs, self.histories)
        self.histories = self.last.histories
        if follow_edge:
            self.at_edge = frozenset(e.replica for group in self.last.endpoints.values() for e in group)
        return self.last

    def phase(self, one: ReplicaSpec = A) -> Phase:
        assert self.last
        return next(status.phase for status in self.last.statuses if status.id == one.id)


def test_a_replica_that_is_wanted_and_not_there_is_started() -> None:
    world = World()
    assert world.look(plan(A)).actions == (StartIt(A),)
    assert world.phase() == Phase.INSTALLING


def test_a_start_under_way_is_not_begun_twice() -> None:
    world = World()
    assert world.look(plan(A), busy=frozenset({A.id})).actions == ()


def test_only_ready_replicas_are_behind_the_edge() -> None:
    world = World()
    world.runs(phase="Loading")
    assert world.look(plan(A)).endpoints == {KEY: ()}
    assert world.phase() == Phase.LOADING
    world.runs()
    [endpoint] = world.look(plan(A)).endpoints[KEY]
    assert (endpoint.replica, endpoint.revision) == (A.id, 1)
    assert endpoint.address == f"unix:/r/{A.id}/service.sock"
    assert world.phase() == Phase.READY


def test_a_crash_is_tried_again_after_one_second_then_two_then_four() -> None:
    world = World()
    world.look(plan(A))
    for wait_s in (1.0, 2.0, 4.0):
        world.ends()
        decided = world.look(plan(A))
        assert decided.actions == ()
        assert decided.again_in_s == wait_s
        assert world.phase() == Phase.CRASHED
        world.now += wait_s - 0.01
        assert world.look(plan(A)).actions == ()
        world.now += 0.01
        assert world.look(plan(A)).actions == (StartIt(A),)
    [status] = world.look(plan(A), busy=frozenset({A.id})).statuses
    assert (status.restarts, status.exit_code, status.last_lines) == (3, 1, ("boom",))


def test_a_minute_of_being_ready_forgives_earlier_crashes() -> None:
    world = World()
    world.look(plan(A))
    for _ in range(3):
        world.ends()
        world.look(plan(A))
        world.now += 10
        world.look(plan(A))
    world.runs()
    world.look(plan(A))
    world.now += 60
    world.ends()
    assert world.look(plan(A)).again_in_s == 1.0


def test_what_cannot_be_configured_is_tried_again_after_thirty_seconds() -> None:
    world = World()
    world.look(plan(A))
    world.ends(code=EXIT_CONFIG, reason="PRICE is missing")
    decided = world.look(plan(A))
    assert decided.again_in_s == 30.0
    assert world.phase() == Phase.CONFIG_ERROR
    assert decided.statuses[0].reason == "PRICE is missing"


def test_a_start_that_is_refused_says_why_and_is_tried_again() -> None:
    world = World()
    world.look(plan(A))
    decided = world.look(plan(A), refused={A.id: RefusedStart(Phase.NO_CAPACITY, "No CPUs left.")})
    assert decided.actions == ()
    assert (world.phase(), decided.statuses[0].reason) == (Phase.NO_CAPACITY, "No CPUs left.")
    world.now += 1
    assert world.look(plan(A)).actions == (StartIt(A),)
    assert world.phase() == Phase.NO_CAPACITY, "until the driver says otherwise"


def test_a_refused_start_of_what_crashed_is_one_failure_not_two() -> None:
    world = World()
    world.look(plan(A))
    world.ends()
    world.look(plan(A))
    world.now += 1
    world.look(plan(A))
    world.look(plan(A), refused={A.id: RefusedStart(Phase.NO_CAPACITY, "full")})
    assert world.look(plan(A)).histories[A.id].failures == 2


def test_a_replica_that_misses_two_probes_gets_no_requests_and_comes_back_when_it_answers() -> None:
    world = World()
    world.runs()
    world.look(plan(A))
    world.silent(for_s=0.5, misses=1)
    assert world.look(plan(A)).endpoints[KEY] != ()
    world.silent(for_s=1.0, misses=2)
    assert world.look(plan(A)).endpoints[KEY] == ()
    assert world.look(plan(A)).actions == ()
    world.runs()
    assert world.look(plan(A)).endpoints[KEY] != ()


def test_a_frozen_replica_is_ended_after_ten_seconds_and_counts_as_crashed() -> None:
    world = World()
    world.runs()
    world.look(plan(A))
    world.silent(for_s=9.9)
    assert world.look(plan(A)).actions == ()
    world.silent(for_s=10.0)
    [stop] = world.look(plan(A)).actions
    assert stop == StopIt(A.id, 0.0, HUNG, stacks=True)
    world.ends(code=-9)
    decided = world.look(plan(A))
    assert (world.phase(), decided.statuses[0].reason) == (Phase.CRASHED, HUNG)
    assert decided.again_in_s == 1.0


def test_a_stop_that_did_not_get_through_is_asked_for_again() -> None:
    world = World()
    world.runs()
    world.look(plan(A))
    world.silent(for_s=10.0)
    world.look(plan(A))
    assert world.look(plan(A), busy=frozenset({A.id})).actions == ()
    assert world.look(plan(A)).again_in_s == 0.5
    world.now += 0.5
    assert isinstance(world.look(plan(A)).actions[0], StopIt)


def test_a_start_may_be_silent_for_as_long_as_it_may_take_and_for_a_minute_at_least() -> None:
    for start_s, patience_s in ((300.0, 300), (5.0, 60)):
        world, one = World(), A.model_copy(update={"start_s": start_s})
        world.runs(phase="Loading")
        world.silent(for_s=patience_s - 1)
        assert world.look(plan(one)).actions == ()
        world.silent(for_s=patience_s)
        assert isinstance(world.look(plan(one)).actions[0], StopIt)


def test_a_silent_replica_is_not_ended_while_a_call_in_flight_is_in_time() -> None:
    world = World()
    world.runs()
    world.look(plan(A))
    world.silent(for_s=500)
    world.flights[A.id] = (Flight(request_id="one", left_s=0.1), Flight(request_id="two", left_s=-400))
    decided = world.look(plan(A))
    assert decided.actions == ()
    assert decided.statuses[0].reason == "It does not answer; 1 call is still within the time limit."
    world.flights[A.id] = (Flight(request_id="one", left_s=-9.9), Flight(request_id="two", left_s=-410))
    assert world.look(plan(A)).actions == ()
    world.flights[A.id] = (Flight(request_id="one", left_s=-10), Flight(request_id="two", left_s=-410))
    assert isinstance(world.look(plan(A)).actions[0], StopIt)


def test_a_busy_replica_that_is_not_wanted_drains_and_is_not_ended_at_once() -> None:
    world = World()
    world.runs(in_flight=1)
    world.look(plan(A))
    world.silent(for_s=20)
    world.flights[A.id] = (Flight(request_id="one", left_s=5),)
    assert world.look(plan(), edge_busy=frozenset({A.id})).actions == ()
    assert world.phase() == Phase.DRAINING
    world.flights[A.id] = ()
    assert world.look(plan(), edge_busy=frozenset({A.id})).actions == (), "its next probe may find it well"
    world.now += 10
    [stop] = world.look(plan(), edge_busy=frozenset({A.id})).actions
    assert isinstance(stop, StopIt)
    assert (stop.grace_s, stop.stacks) == (0.0, True)


def test_a_replica_whose_long_call_has_just_ended_has_time_to_answer() -> None:
    world = World()
    world.runs()
    world.look(plan(A))
    world.silent(for_s=300)
    world.flights[A.id] = (Flight(request_id="one", left_s=5),)
    assert world.look(plan(A)).actions == ()
    world.flights[A.id] = ()
    world.now += 9.9
    assert world.look(plan(A)).actions == ()
    world.now += 0.1
    [stop] = world.look(plan(A)).actions
    assert isinstance(stop, StopIt)


def test_a_silent_replica_whose_calls_cannot_be_read_is_not_ended() -> None:
    world = World()
    world.runs()
    world.look(plan(A))
    world.silent(for_s=10_000)
    world.flights[A.id] = None
    assert world.look(plan(A)).actions == ()
    assert world.phase() == Phase.STARTING


# Places that refuse, and workloads that end


def test_a_full_place_and_one_that_is_away_are_tried_again_and_are_no_restarts() -> None:
    for phase in (Phase.NO_CAPACITY, Phase.STARTING):
        world = World()
        for _ in range(6):
            assert isinstance(world.look(plan(A)).actions[0], StartIt)
            decided = world.look(plan(A), refused={A.id: RefusedStart(phase, "why not")})
            assert decided.actions == ()
            assert decided.again_in_s is not None
            assert (world.phase(), decided.statuses[0].restarts) == (phase, 0)
            world.now += 60
        world.look(plan(A))
        world.runs()
        assert world.look(plan(A)).statuses[0].phase == Phase.READY


def test_what_a_place_refuses_is_not_tried_again_until_the_spec_is_another() -> None:
    world = World()
    world.look(plan(A))
    world.look(plan(A), refused={A.id: RefusedStart(Phase.CONFIG_ERROR, "It can never run here.", final=True)})
    world.now += 10_000
    decided = world.look(plan(A))
    assert decided.actions == ()
    assert (world.phase(), decided.statuses[0].reason) == (Phase.CONFIG_ERROR, "It can never run here.")
    other = A.model_copy(update={"drain_s": 31.0})
    assert world.look(plan(other)).actions == (StartIt(other),)


def test_a_place_that_starts_it_later_has_no_capacity_now() -> None:
    world = World()
    world.look(plan(A))
    world.observed[A.id] = ReplicaObservation(id=A.id, stage=Stage.WAITING, reason="No node has room.")
    decided = world.look(plan(A))
    assert (world.phase(), decided.statuses[0].reason) == (Phase.NO_CAPACITY, "No node has room.")
    [stop] = world.look(plan()).actions
    assert isinstance(stop, StopIt)
    assert stop.grace_s == 0.0


@pytest.mark.parametrize(("code", "phase"), [(0, Phase.COMPLETED), (1, Phase.CRASHED), (None, Phase.CRASHED)])
def test_what_is_never_restarted_stays_as_it_ended_also_for_a_new_agent(code: int | None, phase: Phase) -> None:
    job = A.model_copy(update={"restart": Restart.NEVER})
    world = World()
    world.runs(job)
    world.look(plan(job))
    world.ends(job, code)
    for _ in range(3):
        assert world.look(plan(job)).actions == ()
        assert (world.phase(), world.last and world.last.statuses[0].exit_code) == (phase, code)
        world.now += 1000
    world.histories = {}
    assert world.look(plan(job)).actions == ()
    assert world.phase() == phase


def test_the_last_replica_of_a_revision_stays_behind_the_edge_while_it_is_busy_others_do_not() -> None:
    b = replica_spec(1)
    world = World()
    world.runs(A)
    world.runs(b)
    world.look(plan(A, b))
    for one in (A, b):
        world.silent(one, for_s=3)
        world.flights[one.id] = (Flight(request_id="one", left_s=5),)
    assert len(world.look(plan(A, b)).endpoints[KEY]) == 2
    world.runs(b)
    assert [endpoint.replica for endpoint in world.look(plan(A, b)).endpoints[KEY]] == [b.id]
    world.flights[A.id] = ()
    assert world.look(plan(A)).endpoints[KEY] == ()


def test_the_refused_requests_are_told_to_every_replica_of_the_deployment_until_it_has_them() -> None:
    world = World()
    world.runs()
    wanted = Refusals(request_ids=("bad",)).named()
    world.refusals = {KEY: wanted}
    assert world.look(plan(A)).actions == (), "a replica that knows no refusals is left alone"
    world.answers(refusals=Refusals().named().version)
    assert world.look(plan(A)).actions == (RefuseIt(A.id, wanted),)
    world.answers(refusals=wanted.version)
    assert world.look(plan(A)).actions == ()
    world.refusals = {}
    assert world.look(plan(A)).actions == (RefuseIt(A.id, Refusals().named()),)


def test_an_end_that_fails_is_told_and_tried_again_ever_more_seldom() -> None:
    world = World()
    world.runs()
    world.look(plan(A))
    world.look(plan())
    world.look(plan())  # the edge has let go of it
    world.now += 1
    world.runs()
    assert isinstance(world.look(plan()).actions[0], StopIt)
    world.failures[A.id, "StopIt"] = "It does not end."
    tries = []
    for _ in range(1, 9):
        decided = world.look(plan())
        assert decided.actions == ()
        assert (decided.statuses[0].phase, decided.statuses[0].reason) == (
            Phase.CRASHED,
            "It cannot be ended: It does not end.",
        )
        assert decided.again_in_s
        tries.append(decided.again_in_s)
        world.now += decided.again_in_s
        assert isinstance(world.look(plan()).actions[0], StopIt)
    assert tries == [0.5, 1, 2, 4, 8, 16, 30, 30]


def test_a_failed_action_keeps_no_start_back() -> None:
    world = World()
    world.runs()
    closed = Access(grants=(Grant(hash="0" * 64, key="k"),)).named()
    for _ in range(9):
        world.look(plan(A, access=closed))
        world.now += 30
    world.ends()
    world.look(plan(A, access=closed))
    world.now += 1
    assert world.look(plan(A, access=closed)).actions == (StartIt(A),)


def test_a_replica_whose_access_list_is_old_is_told_the_new_one() -> None:
    world = World()
    world.runs()
    closed = Access(grants=(Grant(hash="0" * 64, key="k"),)).named()
    assert world.look(plan(A)).actions == ()
    assert world.look(plan(A, access=closed)).actions == (AdmitIt(A.id, closed),)


def test_a_replica_of_a_deployment_without_access_list_is_closed() -> None:
    world = World()
    world.runs()
    bare = Plan(cloud="local", replicas=(A,))
    assert world.look(bare).actions == (AdmitIt(A.id, Access().named()),)


def test_a_replica_leaves_the_edge_then_gets_quiet_then_is_stopped_then_forgotten() -> None:
    world = World()
    world.runs(in_flight=1)
    world.look(plan(A))
    assert world.at_edge == {A.id}
    nobody = plan()
    decided = world.look(nobody)
    assert decided.endpoints[KEY] == ()
    assert decided.actions == (), "the edge still has it"
    assert world.phase() == Phase.DRAINING
    assert world.look(nobody).actions == (), "a request is in flight"
    world.now += 1
    world.runs(zeros=1)
    assert world.look(nobody).actions == (), "one reading may be between two requests"
    world.runs(zeros=2)
    assert world.look(nobody, edge_busy=frozenset({A.id})).actions == ()
    [stop] = world.look(nobody).actions
    assert isinstance(stop, StopIt)
    assert stop.grace_s == 29.0
    assert world.look(nobody, busy=frozenset({A.id})).actions == ()
    world.ends(code=0)
    assert world.look(nobody).actions == (ForgetIt(A.id),)
    del world.observed[A.id]
    assert world.look(nobody).statuses == ()


def test_readings_from_before_the_edge_let_go_do_not_count_as_quiet() -> None:
    world = World()
    world.runs()
    world.look(plan(A))
    world.look(plan())
    assert world.look(plan()).actions == (), "its last readings are older than that"
    world.now += 0.2
    world.runs()
    assert isinstance(world.look(plan()).actions[0], StopIt)


def test_requests_that_take_too_long_are_given_their_drain_time_and_no_more() -> None:
    world = World()
    world.runs(in_flight=3)
    world.look(plan(A))
    world.look(plan())
    world.look(plan())
    world.now += 29.9
    assert world.look(plan()).actions == ()
    world.now += 0.1
    assert world.look(plan()).actions == (StopIt(A.id, 1.0, "It is not wanted any more."),)


def test_an_edge_that_cannot_be_told_does_not_keep_a_replica_for_ever() -> None:
    world = World()
    world.runs()
    world.look(plan(A))
    world.look(plan(), follow_edge=False)
    world.now += 30
    assert world.look(plan(), follow_edge=False).actions == ()
    world.now += 5
    assert isinstance(world.look(plan(), follow_edge=False).actions[0], StopIt)


def test_nothing_is_stopped_before_the_edge_was_told_once() -> None:
    world = World()
    world.at_edge = None
    world.runs()
    assert world.look(plan(), follow_edge=False).actions == ()
    assert world.look(plan(), follow_edge=False).actions == ()


def test_a_replica_that_is_wanted_again_while_it_stops_is_started_anew_without_delay() -> None:
    world = World()
    world.runs()
    world.look(plan(A))
    world.look(plan())
    world.look(plan())
    world.look(plan())  # the edge has let go of it
    world.now += 1
    world.runs()
    assert isinstance(world.look(plan()).actions[0], StopIt)
    decided = world.look(plan(A), busy=frozenset({A.id}))
    assert decided.actions == ()
    assert decided.endpoints[KEY] == ()
    world.ends(code=0)
    assert world.look(plan(A)).actions == (StartIt(A),)
    assert world.histories[A.id].failures == 0


def test_a_replica_that_is_wanted_again_before_its_stop_goes_back_behind_the_edge() -> None:
    world = World()
    world.runs(in_flight=1)
    world.look(plan(A))
    world.look(plan())
    assert world.look(plan(A)).endpoints[KEY] != ()
    assert world.histories[A.id].retired_at is None


def test_a_replica_still_installing_is_stopped_at_once() -> None:
    world = World()
    world.look(plan(A))
    world.observed[A.id] = ReplicaObservation(id=A.id, stage=Stage.INSTALLING)
    assert world.look(plan()).actions == (StopIt(A.id, 0.0, "It is not wanted any more."),)


def test_an_equal_look_tells_equal_things() -> None:
    world = World()
    world.runs()
    world.look(plan(A))
    first = world.look(plan(A))
    world.now += 5
    assert world.look(plan(A)).statuses == first.statuses


SPECS = [replica_spec(n, revision) for n in range(2) for revision in (1, 2)]
STATES = st.sampled_from(["gone", "installing", "starting", "loading", "ready", "silent", "exited", "config"])
LOOKS = st.lists(
    st.tuples(
        st.lists(STATES, min_size=len(SPECS), max_size=len(SPECS)),
        st.lists(st.sampled_from(SPECS), unique_by=lambda s: s.id),
        st.sets(st.sampled_from([s.id for s in SPECS])),
        st.sampled_from([0.0, 0.3, 1.0, 12.0, 70.0]),
    ),
    max_size=12,
)


def put(world: World, one: ReplicaSpec, state: str) -> None:
    world.observed.pop(one.id, None)
    world.health.pop(one.id, None)
    match state:
        case "installing":
            world.observed[one.id] = ReplicaObservation(id=one.id, stage=Stage.INSTALLING)
        case "starting":
            world.runs(one)
            world.health[one.id] = ProbedHealth()
        case "loading":
            world.runs(one, phase="Loading")
        case "ready":
            world.runs(one)
        case "silent":
            world.runs(one)
            world.silent(one, for_s=11)
        case "exited":
            world.ends(one)
        case "config":
            world.ends(one, code=EXIT_CONFIG)


@given(LOOKS)
def test_whatever_is_seen_the_rules_hold(looks: list[tuple[list[str], list[ReplicaSpec], set[str], float]]) -> None:
    world = World()
    for states, wanted, busy, passed_s in looks:
        world.now += passed_s
        for one, state in zip(SPECS, states, strict=True):
            put(world, one, state)
        decided = world.look(plan(*wanted), busy=frozenset(busy))
        ids = {one.id for one in wanted}
        behind = {e.replica for group in decided.endpoints.values() for e in group}
        ready = {one.id for one, state in zip(SPECS, states, strict=True) if state == "ready"}
        started = {a.spec.id for a in decided.actions if isinstance(a, StartIt)}
        forgotten = {a.replica for a in decided.actions if isinstance(a, ForgetIt)}
        stopped = {a.replica for a in decided.actions if isinstance(a, StopIt)}
        acted = started | forgotten | stopped | {a.replica for a in decided.actions if isinstance(a, AdmitIt)}
        assert behind <= ready & ids, "only what is wanted and ready gets requests"
        assert not acted & busy, "one operation at a time"
        assert len(decided.actions) == len(acted)
        assert started <= ids, "only what is wanted is started"
        assert not started & {i for i, s in world.observed.items() if s.stage != Stage.EXITED}
        assert not forgotten & ids, "what is wanted is not forgotten"
        assert not (stopped & behind), "nothing is stopped while it gets requests"
        assert {s.id for s in decided.statuses} >= ids, "each wanted replica is told of"
