"""A service whose state is in a folder: never two replicas at once, and in the end the one that is wanted."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from kaon.laws import rollout
from kaon.laws.replica_states import ReplicaState
from kaon.types.deployment import DeploymentSpec, RolloutState, RolloutStatus, Scaling, ScalingStatus, Template
from kaon.types.replica import Phase

SPEC = DeploymentSpec(template=Template(artifact=f"sha256:{'a' * 64}"))
moves = st.lists(
    st.tuples(st.integers(1, 4), st.sampled_from(["start", "ready", "stop", "crash", "nothing"]), st.integers(0, 3)),
    max_size=60,
)


class Machine:
    """Replicas that start and end some time after the plan says so."""

    def __init__(self) -> None:
        self.running: dict[tuple[int, int], Phase] = {}

    def act(self, planned: set[tuple[int, int]], what: str, which: int) -> None:
        ordered = sorted(planned - self.running.keys()) if what == "start" else sorted(self.running)
        if not ordered:
            return
        one = ordered[which % len(ordered)]
        match what:
            case "start":
                self.running[one] = Phase.STARTING
            case "ready":
                self.running[one] = Phase.READY
            case "crash":
                self.running[one] = Phase.CRASHED
            case "stop" if one not in planned:
                del self.running[one]

    def states(self) -> list[ReplicaState]:
        return [ReplicaState(revision=r, ordinal=o, phase=phase) for (r, o), phase in self.running.items()]


def planned(status: RolloutStatus) -> set[tuple[int, int]]:
    return {(a.revision, ordinal) for a in status.assignments for ordinal in a.ordinals}


@settings(max_examples=300, deadline=None)
@given(moves, st.integers(1, 3))
def test_never_two_at_once(history: list[tuple[int, str, int]], high: int) -> None:
    machine, status, now = Machine(), RolloutStatus(), 1000.0
    spec, target = SPEC.model_copy(update={"scaling": Scaling(min=1, max=high)}), 1
    scaling = ScalingStatus(wanted=high)

    def look() -> RolloutStatus:
        return rollout.step(spec, 1, status, scaling, target, machine.states(), now, alone=True)

    for wanted, what, which in history:
        target, now = wanted, now + 1
        status = look()
        assert len(planned(status)) <= 1
        machine.act(planned(status), what, which)
        assert len(machine.running) <= 1
    for _ in range(10):
        now += 1
        status = look()
        for one in sorted(machine.running.keys() - planned(status)):
            machine.act(planned(status), "stop", sorted(machine.running).index(one))
        machine.act(planned(status), "start", 0)
        machine.running = dict.fromkeys(machine.running, Phase.READY)
        assert len(machine.running) <= 1
    assert machine.running.keys() == planned(status) == {(target, 0)}
    assert status.state is RolloutState.STABLE
