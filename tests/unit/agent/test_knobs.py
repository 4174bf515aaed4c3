"""When a replica is sent its knobs, and when a trial ends by itself."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from tests.replicas import replica_spec

from kaon.agent.decide.inputs import AdmitIt, AgentInputs, ProbedHealth, ReplicaHistory, StartIt, StopIt, TuneIt
from kaon.agent.decide.replicas import AgentDecision, step
from kaon.drivers.port import ReplicaObservation, Stage
from kaon.types.key import Access
from kaon.types.knobs import LEASE_S, Knobs, PlannedKnobs
from kaon.types.launch import ReplicaHealth
from kaon.types.plan import Plan
from kaon.types.replica import ReplicaSpec

OPEN = Access(public=True).named()
USUAL, FORCE, TRIED = Knobs().named(), Knobs(max_batch=8).named(), Knobs(max_batch=2).named()
AGAIN_S = 0.5


A, B = replica_spec(0), replica_spec(1)
BOTH = (A, B)


def plan(planned: PlannedKnobs | None = None, *replicas: ReplicaSpec) -> Plan:
    knobs = {} if planned is None else {"default/shop": planned}
    return Plan(cloud="local", replicas=replicas or BOTH, access={"default/shop": OPEN}, knobs=knobs)


CANARY = plan(PlannedKnobs(force=FORCE, trial=TRIED, replicas=(A.id,)))
FOR_ALL = plan(PlannedKnobs(force=FORCE, trial=TRIED))
SAFE = plan(PlannedKnobs(force=FORCE))


class World:
    """Two replicas with knobs in force, and a control plane that answered at some time."""

    def __init__(self, **knobs: Knobs) -> None:
        self.now = 1000.0
        self.answered_at = 1000.0
        self.knobs = {one.id: knobs.get(name, FORCE).version for name, one in (("a", A), ("b", B))}
        self.access = OPEN.version
        self.running = {A.id, B.id}
        self.ended: set[str] = set()
        self.busy: frozenset[str] = frozenset()
        self.histories: dict[str, ReplicaHistory] = {}

    def look(self, wanted: Plan) -> AgentDecision:
        health = {
            id_: ProbedHealth(
                answer=ReplicaHealth(phase="Ready", access=self.access, knobs=self.knobs[id_]), asked_at=1
            )
            for id_ in self.running
        }
        observed = {
            id_: ReplicaObservation(id=id_, stage=Stage.STARTING, control_address="unix:/c") for id_ in self.running
        }
        observed |= {id_: ReplicaObservation(id=id_, stage=Stage.EXITED, exit_code=1) for id_ in self.ended}
        inputs = AgentInputs(
            now=self.now,
            wall=self.now + 1e9,
            observed=observed,
            health=health,
            refused={},
            busy=self.busy,
            answered_at=self.answered_at,
        )
        decided = step(wanted, inputs, self.histories)
        self.histories = decided.histories
        return decided

    def ends(self, one: ReplicaSpec, wanted: Plan) -> None:
        """It ends by itself, and is started anew with what is in force."""
        self.running.discard(one.id)
        self.ended = {one.id}
        self.look(wanted)
        self.now += 1.0
        self.answered_at = self.now
        assert StartIt(one) in self.look(wanted).actions
        self.ended = set()
        self.running.add(one.id)
        self.knobs[one.id] = wanted.knobs["default/shop"].force.version

    def obeys(self, wanted: Plan) -> dict[str, Knobs]:
        """Apply what each replica is sent; returns the knobs sent."""
        sent = {a.replica: a.knobs for a in self.look(wanted).actions if isinstance(a, TuneIt)}
        self.knobs |= {id_: knobs.version for id_, knobs in sent.items()}
        return sent


def test_a_replica_with_other_knobs_than_the_plan_has_is_told_once() -> None:
    world = World()
    assert world.look(SAFE).actions == ()
    assert world.obeys(plan()) == {A.id: USUAL, B.id: USUAL}
    assert world.look(plan()).actions == ()


def test_a_canary_is_told_the_trial_and_the_others_are_left_as_they_are() -> None:
    world = World()
    assert world.obeys(CANARY) == {A.id: TRIED}
    assert world.look(CANARY).actions == ()
    assert world.obeys(SAFE) == {A.id: FORCE}


def test_a_trial_for_all_reaches_all() -> None:
    assert World().obeys(FOR_ALL) == {A.id: TRIED, B.id: TRIED}


def test_a_trial_of_which_the_control_plane_says_no_more_is_taken_back_when_its_lease_is_over() -> None:
    world = World()
    world.obeys(CANARY)
    world.now = world.answered_at + LEASE_S - 0.25
    assert world.look(CANARY).again_in_s == 0.25
    assert world.obeys(CANARY) == {}
    world.now = world.answered_at + LEASE_S
    assert world.obeys(CANARY) == {A.id: FORCE}
    world.now += 100
    decided = world.look(CANARY)
    assert (decided.actions, decided.again_in_s) == ((), None)


def test_it_is_tried_again_when_the_control_plane_is_heard_and_still_has_it() -> None:
    world = World()
    world.now += 60
    assert world.obeys(CANARY) == {}
    world.answered_at = world.now
    assert world.obeys(CANARY) == {A.id: TRIED}


def test_an_agent_that_has_never_heard_the_control_plane_tries_nothing() -> None:
    world = World(a=TRIED)
    world.answered_at = AgentInputs(now=0, wall=0, observed={}, health={}, refused={}).answered_at
    assert world.obeys(CANARY) == {A.id: FORCE}


def test_what_is_in_force_outlives_the_lease() -> None:
    world = World()
    world.now += 1e6
    assert world.look(SAFE).actions == ()


def test_a_replica_that_somebody_started_anew_is_told_again() -> None:
    world = World()
    world.obeys(CANARY)
    world.running = {B.id}
    assert [type(action) for action in world.look(CANARY).actions] == [StartIt]
    world.running = {A.id, B.id}
    world.knobs[A.id] = FORCE.version
    world.now += AGAIN_S
    assert world.obeys(CANARY) == {A.id: TRIED}


def test_a_replica_that_ended_while_it_tried_something_does_not_try_that_again() -> None:
    world = World()
    world.obeys(CANARY)
    world.ends(A, CANARY)
    assert world.obeys(CANARY) == {}
    world.now += 60
    world.answered_at = world.now
    assert world.obeys(CANARY) == {}
    other = plan(PlannedKnobs(force=FORCE, trial=USUAL, replicas=(A.id,)))
    assert world.obeys(other) == {A.id: USUAL}, "something else it may try"
    assert world.obeys(CANARY) == {A.id: TRIED}, "and the same in another trial"
    world.ends(A, CANARY)
    assert world.obeys(plan(PlannedKnobs(force=TRIED))) == {A.id: TRIED, B.id: TRIED}, "what is in force is for all"


def test_a_replica_that_ends_without_trying_anything_may_try_later() -> None:
    world = World()
    world.look(SAFE)
    world.ends(A, SAFE)
    assert world.obeys(CANARY) == {A.id: TRIED}


def test_a_replica_that_refuses_is_asked_again_ever_more_seldom_and_not_at_every_look() -> None:
    world = World()
    assert world.look(CANARY).actions == (TuneIt(A.id, TRIED),)
    world.now += AGAIN_S - 0.01
    assert world.look(CANARY).actions == ()
    assert world.look(FOR_ALL).actions == (TuneIt(B.id, TRIED),)
    assert world.look(plan()).actions == (TuneIt(A.id, USUAL), TuneIt(B.id, USUAL)), "something else is told at once"
    world.now += AGAIN_S
    assert world.look(CANARY).actions == (TuneIt(A.id, TRIED),)
    for wait_s in (0.5, 1, 2, 4, 8, 16, 30, 30):
        assert world.look(CANARY).actions == ()
        world.now += wait_s
        world.answered_at = world.now
        assert world.look(CANARY).actions == (TuneIt(A.id, TRIED),)


def test_a_replica_that_does_not_tell_its_knobs_is_older_than_they_are_and_is_left_alone() -> None:
    world = World()
    world.knobs[A.id] = ""
    assert world.look(FOR_ALL).actions == (TuneIt(B.id, TRIED),)


def test_who_may_call_is_told_before_knobs_are() -> None:
    world = World()
    world.access = Access().named().version
    assert world.look(CANARY).actions == (AdmitIt(A.id, OPEN), AdmitIt(B.id, OPEN))


def test_what_is_being_done_to_a_replica_is_waited_for() -> None:
    world = World()
    world.busy = frozenset({A.id})
    assert world.look(FOR_ALL).actions == (TuneIt(B.id, TRIED),)


def test_a_replica_that_is_not_wanted_any_more_is_told_nothing() -> None:
    world = World()
    planned = PlannedKnobs(force=FORCE, trial=TRIED)
    world.histories = world.look(plan(planned, B)).histories
    actions = world.look(plan(planned, B)).actions
    assert not [a for a in actions if isinstance(a, TuneIt | StopIt) and a.replica == A.id]


KNOBS = st.sampled_from([USUAL, FORCE, TRIED])
PLANS = st.builds(
    lambda force, trial, who: plan(PlannedKnobs(force=force, trial=trial, replicas=who)),
    KNOBS,
    st.none() | KNOBS,
    st.sampled_from([None, (A.id,), (A.id, B.id)]),
)


@given(st.lists(st.tuples(PLANS, st.floats(0, 12), st.booleans()), min_size=1, max_size=8))
def test_whatever_happens_no_replica_keeps_a_trial_beyond_its_lease(looks: list[tuple[Plan, float, bool]]) -> None:
    world = World()
    for wanted, passed_s, heard in looks:
        world.now += passed_s
        world.answered_at = world.now if heard else world.answered_at
        world.obeys(wanted)
        planned = wanted.knobs["default/shop"]
        for one in BOTH:
            meant = planned.of(one.id) if world.now < world.answered_at + LEASE_S else planned.force
            assert world.knobs[one.id] == meant.version
