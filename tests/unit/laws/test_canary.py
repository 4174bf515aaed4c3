"""A canary's way: worked examples. What always holds is in tests/properties/test_rollout.py."""

from __future__ import annotations

from itertools import pairwise

import pytest

from kaon.laws.replica_states import ReplicaState
from kaon.laws.rollout import next_look_at, step
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

FAST, SLOW = 20, 40
"""Buckets of about 32 ms and 1 s."""


class Story:
    """Four replicas of revision 1 serve; revision 2 is new. A second at a time, agents obey and calls are answered."""

    def __init__(self, rps: int = 100, **rules: object) -> None:
        canary = Canary(**{"steps": (5, 25, 50), "step_s": 10, "min_calls": 20, **rules})
        self.spec = DeploymentSpec(
            template=Template(artifact=f"sha256:{'0' * 64}"),
            scaling=Scaling(min=4, max=4),
            rollout=Rollout(canary=canary, progress_deadline_s=60),
        )
        self.now, self.target, self.rps, self.generation, self.shadow = 1000.0, 1, rps, 1, None
        self.status = RolloutStatus()
        self.world: dict[tuple[int, int], ReplicaState] = {}
        self.samples: list[Sample] = []
        self.broken: dict[int, Phase] = {}
        self.failing = self.slow = self.outage = 0.0
        """Shares of the new revision's calls; of all calls."""
        self.hangs_for = 0
        """Seconds after which the new revision's callers give up; 0: it answers."""
        self.open: list[float] = []
        self.told: list[RolloutStatus] = []
        while self.second().state is not RolloutState.STABLE:
            pass
        self.seconds(20)

    def second(self) -> RolloutStatus:
        self.now += 1
        for assignment in self.status.assignments:
            self._answer(assignment.revision, assignment.weight)
        running = {(a.revision, o) for a in self.status.assignments for o in a.ordinals}
        self.world = {
            (r, o): ReplicaState(
                revision=r, ordinal=o, phase=self.broken.get(r, Phase.READY), begun_at=self.now, restarts=9
            )
            for r, o in running
        }
        seen, generation = list(self.world.values()), self.generation
        self.status = step(
            self.spec, generation, self.status, ScalingStatus(), self.target, seen, self.now, self.samples, self.shadow
        )
        self.told.append(self.status)
        return self.status

    def _answer(self, revision: int, percent: int) -> None:
        calls = round(self.rps * percent / 100)
        if not calls:
            return
        failing, slow = (round(calls * s) if revision == 2 else 0 for s in (self.failing, self.slow))
        failing = max(failing, round(calls * self.outage))
        answered = calls
        if revision == 2 and self.hangs_for:
            self.open = [at for at in self.open if at > self.now - self.hangs_for] + [self.now] * calls
            answered = 0
        self.samples.append(
            Sample(
                workspace="default",
                deployment="shop",
                revision=revision,
                at_s=self.now,
                span_s=1,
                arrivals=calls,
                codes={"2xx": answered - failing, "5xx": failing} if answered else {},
                latency={FAST: answered - slow, SLOW: slow} if answered else {},
                in_flight=len(self.open) if revision == 2 else 0,
            )
        )

    def seconds(self, number: int) -> RolloutStatus:
        for _ in range(number):
            self.second()
        return self.status

    def change(self, **fields: object) -> None:
        self.spec = self.spec.model_copy(update=fields)
        self.generation += 1

    def deploy(self, target: int = 2) -> Story:
        self.target = target
        self.generation += 1
        return self

    def until(self, state: RolloutState, within_s: int = 300) -> RolloutStatus:
        for _ in range(within_s):
            if self.second().state is state:
                return self.status
        raise AssertionError(f"not {state} within {within_s} s: {self.status.reason}")

    def shares(self) -> dict[int, int]:
        return {a.revision: a.weight for a in self.status.assignments}

    def counts(self) -> dict[int, int]:
        return {a.revision: a.replicas for a in self.status.assignments}


def test_a_good_one_goes_up_step_by_step_and_takes_over() -> None:
    story = Story().deploy()
    story.until(RolloutState.STABLE)
    assert (story.status.stable, story.counts(), story.status.canary) == (2, {2: 4}, None)
    given = [next((a.weight for a in s.assignments if a.revision == 2), 0) for s in story.told]
    stages = [after for before, after in pairwise([0, *given]) if after != before]
    assert stages[:3] == [5, 25, 50]
    assert all(given.count(percent) >= 10 for percent in (5, 25, 50))
    on_trial = [s for s in story.told if s.canary and s.canary.step < 3]
    assert all(a.replicas == 4 for s in on_trial for a in s.assignments if a.revision == 1)
    assert {a.replicas for s in on_trial for a in s.assignments if a.revision == 2} == {1, 2}


@pytest.mark.parametrize(("harm", "said"), [("failing", "calls failed"), ("slow", "took longer than")])
@pytest.mark.parametrize("share", [0.2, 1.0])
def test_a_worse_one_goes_back_at_once_with_the_figures(harm: str, said: str, share: float) -> None:
    story = Story(rps=400).deploy()
    setattr(story, harm, share)
    status = story.until(RolloutState.STOPPED, within_s=20)
    assert said in status.reason
    assert status.reason.startswith("Revision 2 answers worse than revision 1: ")
    assert story.shares().get(2, 0) == 0
    story.seconds(3)
    assert (story.counts(), story.status.state, story.status.stable) == ({1: 4}, RolloutState.STOPPED, 1)
    assert story.status.reason == status.reason
    story.seconds(60)
    assert story.counts() == {1: 4}  # it is not tried again by itself


@pytest.mark.parametrize("patience_s", [2, 60])
def test_one_that_never_answers_goes_back_though_nothing_is_answered(patience_s: int) -> None:
    story = Story().deploy()
    story.hangs_for = patience_s
    status = story.until(RolloutState.STOPPED, within_s=30)
    assert "calls failed" in status.reason if patience_s == 2 else "took longer than" in status.reason


def test_slow_first_calls_of_new_replicas_are_not_held_against_it() -> None:
    story = Story().deploy()
    story.slow = 1.0
    story.seconds(4)
    story.slow = 0.0
    assert story.until(RolloutState.STABLE).stable == 2


def test_harm_that_meets_both_revisions_is_not_the_new_ones() -> None:
    story = Story().deploy()
    for outage in (0.0, 1.0, 0.4):
        story.outage = outage
        story.seconds(5)
    story.outage = 0.0
    assert story.until(RolloutState.STABLE).stable == 2


def test_without_calls_it_waits_and_the_reason_names_promote() -> None:
    story = Story(rps=0).deploy()
    status = story.seconds(600)
    assert (status.state, story.shares()) == (RolloutState.PROGRESSING, {1: 95, 2: 5})
    assert status.reason == (
        "Step 1 of 3, 5 % of the calls: it has answered no call yet; without calls, only `promote` continues."
    )
    assert story.second() == status  # nothing to write down


def test_few_calls_are_waited_for() -> None:
    story = Story(rps=20, min_calls=40).deploy()
    assert "of 40 calls answered" in story.seconds(20).reason
    assert story.shares()[2] == 5
    story.seconds(35)
    assert story.shares()[2] == 25


def test_a_short_step_is_no_way_around_the_judgement_of_times() -> None:
    story = Story(step_s=1, min_calls=20).deploy()
    story.slow = 1.0
    assert "took longer than" in story.until(RolloutState.STOPPED, within_s=40).reason
    assert max(s.canary.step for s in story.told if s.canary) == 0


def test_promotion_skips_the_rest() -> None:
    story = Story(rps=0).deploy()
    story.seconds(5)
    assert story.status.canary
    story.spec = story.spec.model_copy(update={"promoted": story.status.canary.revision})
    assert story.until(RolloutState.STABLE, within_s=20).stable == 2


def test_one_that_is_held_waits_after_its_last_step_and_is_still_watched() -> None:
    story = Story(hold=True).deploy()
    status = story.seconds(120)
    assert (status.state, story.shares()[2]) == (RolloutState.PROGRESSING, 50)
    assert status.reason == "All steps are passed, 50 % of the calls: it waits for `promote`."
    story.failing = 0.5
    assert "calls failed" in story.until(RolloutState.STOPPED, within_s=20).reason


def test_a_paused_one_keeps_its_share_and_goes_back_all_the_same_when_it_is_worse() -> None:
    story = Story().deploy()
    story.seconds(5)
    story.change(paused=True)
    assert story.seconds(60).reason == "Paused, with 5 % of the calls."
    assert story.shares() == {1: 95, 2: 5}
    story.failing = 1.0
    story.until(RolloutState.STOPPED, within_s=20)


def test_more_replicas_wanted_in_its_middle_are_more_of_both() -> None:
    story = Story(steps=(50,), step_s=100).deploy()
    story.seconds(5)
    assert story.counts() == {1: 4, 2: 2}
    story.change(scaling=Scaling(min=8, max=8))
    story.seconds(5)
    assert (story.counts(), story.shares()) == ({1: 8, 2: 4}, {1: 50, 2: 50})
    story.change(scaling=Scaling(min=2, max=2))
    story.seconds(5)
    assert (story.counts(), story.shares()) == ({1: 2, 2: 1}, {1: 50, 2: 50})


def test_an_undo_in_its_middle_touches_no_replica_that_served() -> None:
    story = Story().deploy()
    story.seconds(5)
    before = next(a.ordinals for a in story.status.assignments if a.revision == 1)
    story.deploy(1).seconds(3)
    assert (story.counts(), story.status.state, story.status.canary) == ({1: 4}, RolloutState.STABLE, None)
    assert story.status.assignments[0].ordinals == before


def test_one_that_never_gets_ready_gets_no_call_and_goes_back() -> None:
    story = Story().deploy()
    story.broken[2] = Phase.CRASHED
    assert "does not start" in story.until(RolloutState.STOPPED, within_s=5).reason
    assert all(a.weight in (0, 100) for s in story.told for a in s.assignments)


def test_it_goes_back_to_replicas_that_are_well_when_one_of_these_is_dead() -> None:
    story = Story(rps=400).deploy()
    story.seconds(6)
    story.failing = 1.0
    story.until(RolloutState.STOPPED, within_s=20)
    assert story.shares()[1] == 100


def test_a_shadow_runs_beside_with_no_share_of_the_calls_and_may_become_a_canary() -> None:
    story = Story()
    story.shadow = 2
    story.change(shadow=Shadow(revision=2, percent=40))
    story.seconds(2)
    assert (story.counts(), story.shares(), story.status.state) == ({1: 4, 2: 2}, {1: 100, 2: 0}, RolloutState.STABLE)
    story.broken[2] = Phase.CRASHED
    story.seconds(2)
    assert (story.shares(), story.status.state) == ({1: 100, 2: 0}, RolloutState.STABLE)
    story.broken.clear()
    shadows = next(a.ordinals for a in story.status.assignments if a.revision == 2)
    story.shadow = None
    story.change(shadow=None)
    story.deploy().seconds(3)
    assert story.shares() == {1: 95, 2: 5}
    assert next(a.ordinals for a in story.status.assignments if a.revision == 2) == shadows[:1]


def test_a_shadow_that_is_dropped_goes_at_once() -> None:
    story = Story()
    story.shadow = 2
    story.change(shadow=Shadow(revision=2))
    story.seconds(2)
    story.shadow = None
    story.change(shadow=None)
    story.second()
    assert story.counts() == {1: 4}


def test_it_is_looked_at_every_two_seconds() -> None:
    story = Story(rps=0).deploy()
    story.seconds(10)
    assert next_look_at(story.spec, story.status, list(story.world.values()), story.now) == story.now + 2
