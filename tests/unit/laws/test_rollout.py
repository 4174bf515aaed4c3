"""How a new revision takes over: worked examples. What always holds is in tests/properties/test_rollout.py."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from kaon.laws.rollout import ReplicaState, describe, next_look_at, step
from kaon.types.deployment import DeploymentSpec, Rollout, RolloutState, RolloutStatus, Scaling, ScalingStatus, Template
from kaon.types.replica import INSTALL_LIMIT_S, Phase

DIGEST = f"sha256:{'0' * 64}"


def spec(wanted: int = 3, *, surge: int = 1, deadline_s: float = 60, paused: bool = False) -> DeploymentSpec:
    return DeploymentSpec(
        template=Template(artifact=DIGEST),
        scaling=Scaling(min=wanted, max=wanted),
        rollout=Rollout(max_surge=surge, progress_deadline_s=deadline_s),
        paused=paused,
    )


class Story:
    """One deployment through time: what is wanted, what the replicas do, what the law says."""

    def __init__(self, wanted: int = 3, **options: int) -> None:
        self.spec = spec(wanted, **options)
        self.generation = 1
        self.target = 1
        self.status, self.scaling = RolloutStatus(), ScalingStatus()
        self.world: dict[tuple[int, int], ReplicaState] = {}
        self.now = 1000.0

    def change(self, new: DeploymentSpec | None = None, *, target: int | None = None) -> None:
        self.spec, self.target = new or self.spec, target or self.target
        self.generation += 1

    def step(self) -> RolloutStatus:
        self.status = step(
            self.spec, self.generation, self.status, self.scaling, self.target, list(self.world.values()), self.now
        )
        return self.status

    def put(self, revision: int, ordinal: int, phase: Phase, **seen: object) -> None:
        fields = {"begun_at": self.now, **seen}
        self.world[revision, ordinal] = ReplicaState(revision=revision, ordinal=ordinal, phase=phase, **fields)

    def obey(self, phase: Phase = Phase.READY, revisions: Iterable[int] | None = None) -> None:
        """Start what is assigned, in `phase`, and end what is not."""
        assigned = {(a.revision, o) for a in self.status.assignments for o in a.ordinals}
        for revision, ordinal in assigned - self.world.keys():
            if revisions is None or revision in revisions:
                self.put(revision, ordinal, phase)
        self.world = {key: seen for key, seen in self.world.items() if key in assigned}

    def settle(self) -> RolloutStatus:
        """Let healthy replicas come up until nothing changes."""
        for _ in range(50):
            before = self.status, dict(self.world)
            self.step()
            self.obey()
            if before == (self.status, self.world):
                return self.status
        raise AssertionError("it does not settle")

    def counts(self) -> dict[int, int]:
        return {a.revision: a.replicas for a in self.status.assignments}


@pytest.fixture
def served() -> Story:
    """Revision 1 serves with three replicas."""
    story = Story()
    assert story.settle().state is RolloutState.STABLE
    return story


def test_the_first_revision_gets_all_replicas_at_once_and_becomes_stable() -> None:
    story = Story()
    status = story.step()
    assert (status.state, status.stable, story.counts()) == (RolloutState.PROGRESSING, None, {1: 3})
    assert status.reason == "0 of 3 replicas of revision 1 are ready."
    status = story.settle()
    assert (status.state, status.stable, status.reason) == (RolloutState.STABLE, 1, "")
    assert [(a.ready, a.weight) for a in status.assignments] == [(3, 100)]


def test_a_first_revision_that_fails_has_the_reason_and_is_retried() -> None:
    story = Story()
    story.step()
    for ordinal in range(3):
        story.put(1, ordinal, Phase.CRASHED, restarts=9, exit_code=1, last_line="KeyError: 'x'")
    status = story.step()
    assert (status.state, status.stable, story.counts()) == (RolloutState.STOPPED, None, {1: 3})
    assert "exit code 1; 9 restarts; last line: KeyError: 'x'" in status.reason
    for ordinal in range(3):
        story.put(1, ordinal, Phase.STARTING, restarts=1)
    assert story.step().state is RolloutState.STOPPED  # until it is ready
    for ordinal in range(3):
        story.put(1, ordinal, Phase.READY, restarts=10)
    assert (story.step().state, story.status.stable, story.status.reason) == (RolloutState.STABLE, 1, "")


def test_a_second_revision_takes_over_from_a_first_that_never_came_up() -> None:
    story = Story()
    story.step()
    for ordinal in range(3):
        story.put(1, ordinal, Phase.CONFIG_ERROR)
    assert story.step().state is RolloutState.STOPPED
    story.change(target=2)
    assert story.settle().stable == 2


def test_a_new_revision_replaces_one_after_another_and_never_goes_below_three(served: Story) -> None:
    served.change(target=2)
    moves = []
    while served.step().stable != 2:
        moves.append(served.counts())
        assert sum(a.ready for a in served.status.assignments) >= 3
        served.obey()
    assert moves == [{1: 3, 2: 1}, {1: 2, 2: 2}, {1: 1, 2: 3}]
    assert (served.status.state, served.counts()) == (RolloutState.STABLE, {2: 3})


def test_a_larger_surge_moves_more_at_once(served: Story) -> None:
    served.change(spec(surge=5), target=2)
    served.step()
    assert served.counts() == {1: 3, 2: 3}


def test_weights_are_shares_of_ready_replicas_and_add_up(served: Story) -> None:
    served.change(target=2)
    served.step()
    assert [a.weight for a in served.status.assignments] == [100, 0]
    served.obey()
    served.step()
    assert [a.weight for a in served.status.assignments] == [67, 33]


def test_nothing_moves_while_a_new_replica_loads(served: Story) -> None:
    served.change(target=2)
    served.step()
    served.obey(Phase.LOADING)
    before = served.step()
    served.now += 59
    assert served.step() == before
    assert next_look_at(served.spec, before, list(served.world.values()), served.now) == 1060


@pytest.mark.parametrize(
    ("phase", "seen", "said"),
    [
        (Phase.CONFIG_ERROR, {"reason": "setting TOKEN is missing", "exit_code": 78}, "setting TOKEN is missing"),
        (Phase.CRASHED, {"restarts": 3, "exit_code": -9}, "exit code -9"),
    ],
)
def test_a_new_revision_that_fails_is_taken_away_and_the_old_one_serves(
    served: Story, phase: Phase, seen: dict[str, object], said: str
) -> None:
    served.change(target=2)
    served.step()
    served.obey()
    served.step()  # one new replica is ready, one old is gone, a second new one begins
    served.obey(Phase.LOADING)
    served.put(2, 1, phase, **seen)
    status = served.step()
    assert status.state is RolloutState.STOPPED
    assert said in status.reason
    for _ in range(5):
        assert sum(a.ready for a in served.status.assignments) >= 3
        served.obey()
        served.step()
    assert (served.counts(), served.status.state, served.status.stable) == ({1: 3}, RolloutState.STOPPED, 1)
    assert said in served.status.reason


def test_a_new_revision_that_is_not_ready_in_time_is_taken_away(served: Story) -> None:
    served.change(target=2)
    served.step()
    served.obey(Phase.LOADING)
    served.now += 60
    status = served.step()
    assert (status.state, served.counts()) == (RolloutState.STOPPED, {1: 3})
    assert status.reason == "Revision 2 is not ready after 60 s: replica 0 is Loading."


def test_a_silent_agent_is_no_failure_of_the_revision(served: Story) -> None:
    served.change(target=2)
    served.step()
    served.now += 3600
    assert served.step().state is RolloutState.PROGRESSING
    served.obey(Phase.LOADING)
    assert served.step().state is RolloutState.PROGRESSING


def _stopped(story: Story) -> None:
    story.change(target=2)
    story.step()
    story.put(2, 0, Phase.CONFIG_ERROR)
    assert story.step().state is RolloutState.STOPPED
    assert story.step().state is RolloutState.STOPPED
    story.obey()


def test_a_stopped_rollout_is_tried_again_when_its_rules_change(served: Story) -> None:
    _stopped(served)
    served.change(served.spec.model_copy(update={"rollout": Rollout(progress_deadline_s=600)}))
    assert served.step().state is RolloutState.PROGRESSING
    assert served.settle().stable == 2


def test_more_replicas_do_not_try_a_stopped_rollout_again(served: Story) -> None:
    _stopped(served)
    served.change(served.spec.model_copy(update={"scaling": Scaling(min=4, max=4), "public": True}))
    status = served.settle()
    assert (status.state, status.stable, served.counts()) == (RolloutState.STOPPED, 1, {1: 4})


def test_an_undo_of_a_failed_revision_touches_no_replica(served: Story) -> None:
    served.change(target=2)
    served.step()
    served.put(2, 0, Phase.CONFIG_ERROR)
    served.step()
    served.obey()
    served.change(target=1)
    status = served.step()
    assert (status.state, served.counts()) == (RolloutState.STABLE, {1: 3})
    assert status.assignments[0].ordinals == (0, 1, 2)


def test_a_third_revision_takes_over_from_a_second_that_never_came_up(served: Story) -> None:
    served.change(target=2)
    served.step()
    served.obey(Phase.LOADING)
    served.change(target=3)
    served.step()
    assert served.counts() == {1: 3, 3: 1}
    assert served.settle().stable == 3


def test_a_dead_old_replica_goes_first_and_blocks_nothing(served: Story) -> None:
    served.put(1, 0, Phase.CRASHED, restarts=50)
    served.change(target=2)
    served.step()
    served.obey()
    served.step()
    assert {a.revision: a.ordinals for a in served.status.assignments} == {1: (1, 2), 2: (0, 1)}
    assert served.settle().stable == 2


def test_one_dead_replica_is_a_degraded_service_not_an_ended_one(served: Story) -> None:
    served.put(1, 1, Phase.CRASHED, restarts=50, exit_code=1)
    status = served.step()
    assert (status.state, served.counts(), status.assignments[0].ready) == (RolloutState.DEGRADED, {1: 3}, 2)
    served.put(1, 1, Phase.READY, restarts=50)
    assert served.step().state is RolloutState.STABLE


def test_scaling_up_is_progress_and_scaling_down_takes_the_dead_first(served: Story) -> None:
    served.change(spec(5))
    assert (served.step().state, served.counts()) == (RolloutState.PROGRESSING, {1: 5})
    served.settle()
    served.put(1, 0, Phase.CRASHED)
    served.change(spec(2))
    served.step()
    assert served.status.assignments[0].ordinals == (1, 2)


def test_scaling_to_zero_and_back(served: Story) -> None:
    served.change(spec(0))
    status = served.step()
    assert (status.state, status.assignments, status.stable) == (RolloutState.STABLE, (), 1)
    served.obey()
    served.change(spec(2))
    assert served.settle().assignments[0].ready == 2


def test_more_replicas_than_a_moment_ago_are_progress_and_no_fall(served: Story) -> None:
    served.change(spec().model_copy(update={"scaling": Scaling(min=0, max=5)}))
    for wanted in (0, 1, 3):
        served.scaling = ScalingStatus(wanted=wanted)
        served.step()
        assert served.step().state is (RolloutState.PROGRESSING if wanted else RolloutState.STABLE)
        assert served.settle().state is RolloutState.STABLE
        assert served.counts() == ({1: wanted} if wanted else {})


def test_a_replica_that_was_started_for_waiting_callers_is_taken_over(served: Story) -> None:
    served.change(spec().model_copy(update={"scaling": Scaling(min=0, max=5)}))
    served.scaling = ScalingStatus(wanted=0)
    served.settle()
    served.put(1, 0, Phase.LOADING)
    served.put(1, 1, Phase.DRAINING)
    served.scaling = ScalingStatus(wanted=2)
    assert served.step().assignments[0].ordinals == (0, 2)


def test_a_revision_that_arrived_at_zero_replicas_has_not_proved_itself(served: Story) -> None:
    served.change(spec(0), target=2)
    assert (served.settle().state, served.status.stable) == (RolloutState.STABLE, 1)
    served.change(spec(1))
    served.step()
    served.put(2, 0, Phase.CONFIG_ERROR)
    assert (served.step().state, served.counts()) == (RolloutState.STOPPED, {1: 1})


def test_a_paused_rollout_holds_where_it_is(served: Story) -> None:
    served.change(target=2)
    served.step()
    served.obey()
    served.step()
    before = served.counts()
    served.change(spec(paused=True))
    served.obey()
    status = served.step()
    assert (served.counts(), status.reason, status.state) == (before, "Paused.", RolloutState.PROGRESSING)
    served.change(spec())
    assert served.settle().stable == 2


def test_a_replica_is_never_given_the_ordinal_of_one_that_is_still_ending(served: Story) -> None:
    served.change(spec(1))
    served.step()
    served.put(1, 2, Phase.DRAINING)
    served.world.pop((1, 1))
    served.change(spec(3))
    served.step()
    assert served.status.assignments[0].ordinals == (0, 1, 3)


def test_the_last_line_is_not_repeated_when_the_reason_contains_it() -> None:
    words = "`s` cannot start: URL is not set. Set URL."
    seen = ReplicaState(
        revision=1, ordinal=0, phase=Phase.CONFIG_ERROR, reason=words, begun_at=0.0, last_line=f"ConfigError: {words}"
    )
    assert describe(seen).count("URL is not set") == 1
    ended = "It ended with exit code 1: ValueError: no"
    seen = ReplicaState(
        revision=1, ordinal=0, phase=Phase.CRASHED, reason=ended, begun_at=0.0, exit_code=1, last_line="ValueError: no"
    )
    assert describe(seen).count("exit code") == describe(seen).count("ValueError") == 1


def elastic(served: Story, wanted: int) -> None:
    """The scaling law wants so many."""
    served.spec = served.spec.model_copy(update={"scaling": Scaling(min=1, max=9)})
    served.scaling = ScalingStatus(wanted=wanted)


def test_more_replicas_that_the_law_wants_are_progress_and_no_degradation(served: Story) -> None:
    elastic(served, 5)
    assert (served.step().state, served.counts()) == (RolloutState.PROGRESSING, {1: 5})
    served.obey(Phase.LOADING)
    assert served.step().state is RolloutState.PROGRESSING
    for ordinal in (3, 4):
        served.put(1, ordinal, Phase.READY)
    assert served.step().state is RolloutState.STABLE
    served.put(1, 4, Phase.CRASHED, restarts=1)
    assert served.step().state is RolloutState.DEGRADED


def test_a_paused_rollout_moves_no_replicas_but_starts_those_that_the_load_needs(served: Story) -> None:
    elastic(served, 3)
    served.change(target=2)
    served.step()
    served.obey()
    served.step()
    held = served.counts()
    served.change(served.spec.model_copy(update={"paused": True}))
    elastic(served, 7)
    served.step()
    assert served.counts() == {1: 7 - held[2], 2: held[2]}
    elastic(served, 1)
    served.step()
    assert served.counts() == {1: 7 - held[2], 2: held[2]}


def test_a_new_revision_of_a_deployment_at_zero_proves_itself_and_goes_to_zero(served: Story) -> None:
    served.spec = served.spec.model_copy(update={"scaling": Scaling(min=0, max=9)})
    served.scaling = ScalingStatus(wanted=0)
    assert served.settle().assignments == ()
    served.change(target=2)
    assert (served.step().state, served.counts()) == (RolloutState.PROGRESSING, {2: 1})
    served.obey()
    assert (served.step().state, served.status.stable) == (RolloutState.STABLE, 2)
    assert served.settle().assignments == ()


def test_a_new_revision_that_fails_at_zero_is_found_before_the_first_call(served: Story) -> None:
    served.spec = served.spec.model_copy(update={"scaling": Scaling(min=0, max=9)})
    served.scaling = ScalingStatus(wanted=0)
    served.settle()
    served.change(target=2)
    served.step()
    served.put(2, 0, Phase.CONFIG_ERROR)
    assert (served.step().state, served.status.stable) == (RolloutState.STOPPED, 1)
    for _ in range(3):
        served.obey()
        served.step()
    assert (served.status.state, served.counts()) == (RolloutState.STOPPED, {})


def test_installing_does_not_use_up_the_deadline_of_a_start(served: Story) -> None:
    served.change(target=2)
    served.step()
    served.obey(Phase.INSTALLING)
    installing = dict(served.world)
    served.now += 600
    assert served.step().state is RolloutState.PROGRESSING
    for (revision, ordinal), seen in installing.items():
        if seen.phase is Phase.INSTALLING:
            served.put(revision, ordinal, Phase.LOADING)
    served.now += 59
    assert served.step().state is RolloutState.PROGRESSING
    served.now += 1
    status = served.step()
    assert status.state is RolloutState.STOPPED
    assert status.reason.startswith("Revision 2 is not ready after 60 s: replica 0 is Loading")


def test_an_installation_has_a_limit_and_a_reason_of_its_own(served: Story) -> None:
    served.change(target=2)
    served.step()
    served.obey(Phase.INSTALLING)
    served.put(2, 0, Phase.INSTALLING, reason="installing torch 2.13, 800MiB (3 of 4 downloads done, 14 packages)")
    began = served.status.since
    assert next_look_at(served.spec, served.status, list(served.world.values()), served.now) == began + INSTALL_LIMIT_S
    served.now = began + INSTALL_LIMIT_S - 1
    assert served.step().state is RolloutState.PROGRESSING
    served.now += 1
    status = served.step()
    assert status.state is RolloutState.STOPPED
    assert status.reason.startswith(
        "Revision 2 is not installed after 30 minutes: replica 0 is Installing; installing to"
    )
