"""What starts take, from the phases that a replica goes through."""

from __future__ import annotations

from tests.replicas import replica_status

from kaon.agent.observe.starts import Starts, follow
from kaon.types.replica import Phase, ReplicaStatus
from kaon.types.traffic import ColdStart


def status(phase: Phase, since: float, reason: str = "") -> ReplicaStatus:
    return replica_status("a", phase, since=since, reason=reason)


def measured(*statuses: ReplicaStatus) -> list[ColdStart]:
    starts: Starts = {}
    found = []
    for one in statuses:
        starts, done = follow(starts, [one])
        found += done.values()
    return found


def test_each_phase_is_a_part_of_the_start() -> None:
    (start,) = measured(
        status(Phase.INSTALLING, 10),
        status(Phase.STARTING, 12),
        status(Phase.STARTING, 12),
        status(Phase.LOADING, 13),
        status(Phase.READY, 17.5),
        status(Phase.READY, 17.5),
    )
    assert (start.install_s, start.start_s, start.load_s, start.total_s) == (2, 1, 4.5, 7.5)


def test_phases_that_nobody_saw_take_no_time() -> None:
    (start,) = measured(status(Phase.INSTALLING, 10), status(Phase.READY, 11))
    assert (start.install_s, start.start_s, start.load_s) == (1, 0, 0)


def test_one_that_was_ready_when_it_was_first_seen_tells_nothing() -> None:
    assert measured(status(Phase.READY, 10)) == []


def test_time_in_back_off_is_not_part_of_the_next_start() -> None:
    (start,) = measured(
        status(Phase.INSTALLING, 0),
        status(Phase.STARTING, 1),
        status(Phase.CRASHED, 2),
        status(Phase.STARTING, 60),
        status(Phase.LOADING, 61),
        status(Phase.READY, 64),
    )
    assert start.total_s == 4


def test_a_replica_that_does_not_answer_for_a_moment_did_not_start_anew() -> None:
    assert measured(
        status(Phase.LOADING, 1),
        status(Phase.READY, 2),
        status(Phase.STARTING, 5, "It does not answer."),
        status(Phase.READY, 6),
    ) == [ColdStart(replica="a", load_s=1)]


def test_a_clock_that_goes_back_makes_no_negative_time() -> None:
    (start,) = measured(status(Phase.INSTALLING, 100), status(Phase.LOADING, 50), status(Phase.READY, 51))
    assert (start.install_s, start.load_s) == (0, 1)
