"""What holds of every rollout, whatever people, replicas and reports do."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kaon.laws.canary import passed
from kaon.laws.replica_states import ReplicaState
from kaon.laws.rollout import desired_replicas, next_look_at, step
from kaon.types.deployment import (
    Canary,
    DeploymentSpec,
    Rollout,
    RolloutState,
    RolloutStatus,
    Scaling,
    ScalingStatus,
    Shadow,
    Template,
)
from kaon.types.replica import Phase
from kaon.types.traffic import Sample

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
        st.tuples(st.just("canary"), st.integers(0, 2)),
        st.tuples(st.just("shadow"), st.integers(0, 5)),
        st.tuples(st.just("promote"), st.just(0)),
        st.tuples(st.just("calls"), st.integers(0, 2)),
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
        self.status, self.scaling = RolloutStatus(), ScalingStatus()
        self.real: dict[Replica, ReplicaState] = {}
        self.reported: tuple[ReplicaState, ...] = ()
        self.samples: tuple[Sample, ...] = ()

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
                self.scaling = ScalingStatus(wanted=argument)
            case "surge":
                self.change(rollout=self.spec.rollout.model_copy(update={"max_surge": argument}))
            case "pause":
                self.change(paused=bool(argument))
            case "canary":
                rules = Canary(steps=(10, 50), step_s=1, min_calls=20, hold=argument == 2) if argument else None
                self.change(rollout=self.spec.rollout.model_copy(update={"canary": rules}))
            case "shadow":
                self.change(shadow=Shadow(revision=argument, percent=50) if argument else None)
            case "promote":
                self.promote()
            case "calls":
                self.calls(failing=argument == 2)
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

    def promote(self) -> None:
        if self.status.canary:
            canary = self.status.canary.model_copy(update={"promoted": True})
            self.status = self.status.model_copy(update={"canary": canary})

    def calls(self, *, failing: bool) -> None:
        """All revisions answered 30 calls; those of the target failed, if so."""
        codes = {r: {"5xx" if failing and r == self.target else "2xx": 30} for r in self.weights()}
        self.samples += tuple(
            Sample(
                workspace="default",
                deployment="shop",
                revision=revision,
                at_s=self.now,
                span_s=1,
                arrivals=30,
                codes=found,
                latency={10: 30},
            )
            for revision, found in codes.items()
        )

    def weights(self) -> dict[int, int]:
        return {a.revision: a.weight for a in self.status.assignments if a.weight}

    def assigned(self) -> set[Replica]:
        """What runs, and is no shadow."""
        return {r for r in self.running() if r[0] != self.status.shadow}

    def running(self) -> set[Replica]:
        return {(a.revision, o) for a in self.status.assignments for o in a.ordinals}

    def obey(self) -> None:
        for replica in self.real.keys() - self.running():
            del self.real[replica]
        for replica in sorted(self.running() - self.real.keys()):
            self.real[replica] = self.seen(replica, Phase.STARTING)

    def seen(self, replica: Replica, phase: Phase, restarts: int = 0) -> ReplicaState:
        return ReplicaState(revision=replica[0], ordinal=replica[1], phase=phase, begun_at=self.now, restarts=restarts)

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
        """Assigned and, by the reports, ready."""
        return {(s.revision, s.ordinal) for s in self.reported if s.phase is Phase.READY} & self.assigned()

    def look(self) -> None:
        before, ready_before, status = self.assigned(), len(self.ready()), self.status
        running, shares = self.running(), self.weights()
        count, surge = desired_replicas(self.spec, self.status, self.scaling), self.spec.rollout.max_surge
        shadow = self.spec.shadow.revision if self.spec.shadow else None
        decided_by = (self.spec, self.generation, status, self.scaling, self.target, self.reported, self.now)
        self.status = step(*decided_by, self.samples, shadow)
        assert step(*decided_by, self.samples, shadow) == self.status, "the same world, another decision"
        assert len(self.ready()) >= min(count, ready_before), "fewer ready than wanted, by the law's own hand"
        on_trial = self.on_trial()
        surge = max(surge, -(-count * on_trial // 100))
        if status.shadow != self.target:  # else its shadow's replicas have begun to serve
            assert len(self.assigned()) <= max(count + surge, len(before)), "more than wanted and surge"
        assert all(a.replicas == len(a.ordinals) for a in self.status.assignments)
        assert sum(a.weight for a in self.status.assignments if a.revision != self.status.shadow) in (0, 100)
        assert self.status.shadow not in self.weights(), "a shadow has a share of the calls"
        begun = self.running() - running
        assert not begun & {(s.revision, s.ordinal) for s in self.reported}, "an ordinal that is still in use"
        if on_trial:
            self.check_trial(status, shares, before, count, on_trial)
        if self.status.state is RolloutState.STABLE:
            assert len(self.ready()) >= count
        look_at = next_look_at(self.spec, self.status, self.reported, self.now)
        assert look_at is None or look_at > self.now

    def on_trial(self) -> int:
        """Per cent of the calls that the new revision may have at most; 0: it is not on trial."""
        canary, rules = self.status.canary, self.spec.rollout.canary
        if not canary or not rules or self.status.state is not RolloutState.PROGRESSING or passed(rules, canary):
            return 0
        return rules.steps[min(canary.step, len(rules.steps) - 1)]

    def check_trial(
        self, was: RolloutStatus, shares: dict[int, int], before: set[Replica], count: int, percent: int
    ) -> None:
        stable, weights = self.status.stable, self.weights()
        serving = {r for r in self.assigned() if r[0] != self.target}
        if serving:
            assert weights.get(self.target, 0) <= percent, "more calls than its step allows"
        if self.spec.paused and serving and was.target == self.target and was.state is RolloutState.PROGRESSING:
            assert weights.get(self.target, 0) <= shares.get(self.target, 0), "a paused canary got more calls"
        kept = sum(r[0] == stable for r in self.ready())
        had = len(
            {(s.revision, s.ordinal) for s in self.reported if s.phase is Phase.READY and s.revision == stable} & before
        )
        assert kept >= min(had, -(-count * (100 - weights.get(self.target, 0)) // 100)), "stable cannot take its share"

    def heal(self) -> None:
        """A quiet, healthy world: agents obey and report, all but broken revisions' replicas come up."""
        self.change(paused=False)  # and what was sent back is tried again
        quiet = 0
        for _ in range(200):
            before = self.status
            self.look()
            self.obey()
            self.calls(failing=False)
            if self.spec.rollout.canary and self.spec.rollout.canary.hold:
                self.promote()
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
    status, count = world.status, desired_replicas(world.spec, world.status, world.scaling)
    if world.target not in BROKEN or world.spec.scaling.max == 0:
        assert status.state is RolloutState.STABLE
        running = {a.revision: a.ready for a in status.assignments if a.revision != status.shadow}
        assert running == ({world.target: count} if count else {})
    else:
        assert status.state is RolloutState.STOPPED
        ready = {a.revision: a.ready for a in status.assignments if a.ready and a.revision != status.shadow}
        assert ready == ({status.stable: count} if status.stable and count else {})
