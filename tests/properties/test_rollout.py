"""What holds of every rollout, whatever people, replicas and reports do."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kaon.laws.rollout import Seen, next_look_at, step, wanted
from kaon.types.deployment import DeploymentSpec, DeploymentStatus, Rollout, RolloutState, Scaling, Template
from kaon.types.replica import Phase

DEADLINE_S = 30.0
BROKEN = frozenset({3, 5})
"""Revisions whose replicas never become ready."""

Replica = tuple[int, int]

actions = st.lists(
    st.one_of(
        st.tuples(st.just("deploy"), st.integers(1, 5)),
        st.tuples(st.just("scale"), st.integers(0, 4)),
        st.tuples(st.just("bounds"), st.integers(0, 24)),
        st.tuples(st.just("want"), st.integers(0, 4)),
        st.tuples(st.just("surge"), st.integers(1, 3)),
        st.tuples(st.just("pause"), st.booleans()),
        st.tuples(st.just("obey"), st.just(0)),
        st.tuples(st.just("advance"), st.integers(0, 11)),
        st.tuples(st.just("crash"), st.integers(0, 11)),
        st.tuples(st.just("report"), st.just(0)),
        st.tuples(st.just("wait"), st.integers(1, 40)),
        st.tuples(st.just("look"), st.just(0)),
    ),
    max_size=60,
)


class World:
    """Replicas as they are, as they were last reported, and the law's decisions, each of them checked."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.generation = 1
        self.target = 1
        self.spec = DeploymentSpec(
            template=Template(artifact=f"sha256:{'0' * 64}"),
            scaling=Scaling(min=2, max=4),
            rollout=Rollout(progress_deadline_s=DEADLINE_S),
        )
        self.status = DeploymentStatus()
        self.real: dict[Replica, Seen] = {}
        self.reported: tuple[Seen, ...] = ()

    def do(self, action: str, argument: int) -> None:
        match action:
            case "deploy":
                self.target = argument
                self.generation += 1
            case "scale":
                self.change(scaling=Scaling(min=argument, max=argument))
            case "bounds":
                low, high = sorted(divmod(argument, 5))
                self.change(scaling=Scaling(min=low, max=high))
            case "want":
                self.status = self.status.model_copy(update={"wanted": argument})
            case "surge":
                self.change(rollout=Rollout(max_surge=argument, progress_deadline_s=DEADLINE_S))
            case "pause":
                self.change(paused=bool(argument))
            case "obey":
                self.obey()
            case "advance":
                self.advance(argument)
            case "crash":
                self.crash(argument)
            case "report":
                self.reported = tuple(self.real.values())
            case "wait":
                self.now += argument
            case "look":
                self.look()

    def change(self, **fields: object) -> None:
        self.spec = self.spec.model_copy(update=fields)
        self.generation += 1

    def assigned(self) -> set[Replica]:
        return {(a.revision, o) for a in self.status.assignments for o in a.ordinals}

    def obey(self) -> None:
        for replica in self.real.keys() - self.assigned():
            del self.real[replica]
        for replica in sorted(self.assigned() - self.real.keys()):
            self.real[replica] = self.seen(replica, Phase.STARTING)

    def seen(self, replica: Replica, phase: Phase, restarts: int = 0) -> Seen:
        return Seen(revision=replica[0], ordinal=replica[1], phase=phase, begun_at=self.now, restarts=restarts)

    def pick(self, number: int) -> Replica | None:
        replicas = sorted(self.real)
        return replicas[number % len(replicas)] if replicas else None

    def advance(self, number: int) -> None:
        if replica := self.pick(number):
            restarts = self.real[replica].restarts
            phase = Phase.CRASHED if replica[0] in BROKEN else Phase.READY
            self.real[replica] = self.seen(replica, phase, min(9, restarts + (phase is Phase.CRASHED)))

    def crash(self, number: int) -> None:
        if replica := self.pick(number):
            self.real[replica] = self.seen(replica, Phase.CRASHED, self.real[replica].restarts + 1)

    def ready(self) -> set[Replica]:
        """Assigned and, as far as anybody knows, ready."""
        return {(s.revision, s.ordinal) for s in self.reported if s.phase is Phase.READY} & self.assigned()

    def look(self) -> None:
        before, ready_before = self.assigned(), len(self.ready())
        count, surge = wanted(self.spec, self.status), self.spec.rollout.max_surge
        arguments = (self.spec, self.generation, self.status, self.target, self.reported, self.now)
        self.status = step(*arguments)
        assert step(*arguments) == self.status, "the same world, another decision"
        assert len(self.ready()) >= min(count, ready_before), "fewer ready than wanted, by the law's own hand"
        assert len(self.assigned()) <= max(count + surge, len(before)), "more than wanted and surge"
        assert all(a.replicas == len(a.ordinals) for a in self.status.assignments)
        assert sum(a.weight for a in self.status.assignments) in (0, 100)
        begun = self.assigned() - before
        assert not begun & {(s.revision, s.ordinal) for s in self.reported}, "an ordinal that is still in use"
        if self.status.state is RolloutState.STABLE:
            assert len(self.ready()) >= count
        look_at = next_look_at(self.spec, self.status, self.reported, self.now)
        assert look_at is None or look_at > self.now

    def heal(self) -> None:
        """A quiet, healthy world: agents obey and report, all but broken revisions' replicas come up."""
        if self.spec.paused:
            self.change(paused=False)
        quiet = 0
        for _ in range(200):
            before = self.status
            self.look()
            self.obey()
            for number in range(len(self.real)):
                replica = self.pick(number)
                if replica and self.real[replica].phase is not Phase.READY:
                    self.advance(number)
            self.reported = tuple(self.real.values())
            self.now += 1
            quiet = quiet + 1 if self.status == before else 0
            if quiet == 8:
                return
        raise AssertionError(f"it does not come to rest: {self.status}")


@settings(max_examples=500, suppress_health_check=[HealthCheck.too_slow])
@given(actions)
def test_a_rollout_is_safe_at_each_step_and_comes_to_rest_in_a_healthy_world(todo: list[tuple[str, int]]) -> None:
    world = World()
    for action, argument in todo:
        world.do(action, argument)
    world.heal()
    status, count = world.status, wanted(world.spec, world.status)
    if world.target not in BROKEN or count == 0:
        assert status.state is RolloutState.STABLE
        assert {a.revision: a.ready for a in status.assignments} == ({world.target: count} if count else {})
    else:
        assert status.state is RolloutState.STOPPED
        ready = {a.revision: a.ready for a in status.assignments if a.ready}
        assert ready == ({status.stable: count} if status.stable else {})
