"""The life of a job."""

from __future__ import annotations

from typing import Any

import pytest

from kaon.laws import jobs as law
from kaon.store.records import assemble
from kaon.types.dataset import DatasetManifest
from kaon.types.job import AttemptEnd, JobSpec, JobState, JobStatus, MetricPoint
from kaon.types.launch import EXIT_CONFIG
from kaon.types.replica import Phase

DIGEST = f"sha256:{'0' * 64}"


def job(status: JobStatus | None = None, **spec: Any) -> Any:
    fields = {"version": 1, "generation": 1, "created_at": 0.0, "updated_at": 0.0}
    made = JobSpec(artifact=DIGEST, entry="m:f", **spec)
    return assemble("job", made, status, workspace="default", name="train", uid="uid", **fields)


def begun(of: Any, now: float = 0.0) -> Any:
    status = law.begun(of, "local", now)
    assert status is not None
    return of.model_copy(update={"status": status})


def ended(of: Any, now: float = 10.0, **end: Any) -> JobStatus:
    status = law.ended(of.spec, of.status, of.status.attempts[-1].id, AttemptEnd(**end), {}, now, 0.0)
    assert status is not None
    return status


def test_a_failure_is_repeated_later_each_time_until_no_retries_are_left() -> None:
    runs, waits = begun(job(retries=2)), []
    for _ in range(2):
        status = ended(runs, exit_code=1)
        assert status.state is JobState.QUEUED
        waits.append(status.retry_at - 10.0)
        runs = runs.model_copy(update={"status": status})
        assert law.begun(runs, "local", status.retry_at - 0.1) is None
        runs = begun(runs, status.retry_at)
    assert waits == [1.0, 2.0]
    status = ended(runs, exit_code=1)
    assert (status.state, status.reason) == (JobState.FAILED, "It ended with exit code 1.")


@pytest.mark.parametrize(
    ("end", "state"),
    [
        ({"exit_code": 0, "result": {"a": 1}}, JobState.SUCCEEDED),
        ({"exit_code": 0}, JobState.SUCCEEDED),
        ({"exit_code": 1}, JobState.FAILED),
        ({"exit_code": 0, "reason": "It wrote nothing."}, JobState.FAILED),
        ({"exit_code": -9, "timed_out": True}, JobState.TIMED_OUT),
        ({"exit_code": 0, "result": "x" * 2**20}, JobState.FAILED),
    ],
)
def test_the_end_of_the_last_attempt_is_that_of_the_job(end: dict[str, Any], state: JobState) -> None:
    status = ended(begun(job()), **end)
    assert (status.state, status.attempts[-1].state, status.ended_at) == (state, state, 10.0)


def test_a_missing_output_is_a_failure() -> None:
    status = ended(
        begun(job(outputs={"model": "shop-model", "report": "r"})), exit_code=0, outputs={"report": _empty()}
    )
    assert status.reason == "It wrote nothing to output 'model'."


def _empty() -> DatasetManifest:
    return DatasetManifest()


def test_a_wrong_configuration_is_not_repeated() -> None:
    assert ended(begun(job(retries=5)), exit_code=EXIT_CONFIG).state is JobState.FAILED


def test_what_runs_once_only_is_never_begun_again() -> None:
    runs = begun(job(once=True))
    failed = runs.model_copy(update={"status": ended(runs, exit_code=1)})
    assert failed.status.state is JobState.FAILED
    queued = failed.model_copy(update={"status": law.again(failed.status)})
    assert law.begun(queued, "local", 99.0) is None


def test_a_cancelled_job_publishes_nothing_even_if_it_succeeded_meanwhile() -> None:
    runs = begun(job())
    cancelled = runs.model_copy(update={"status": law.cancelled(runs.status, 1.0)})
    planned = law.planned(cancelled)
    assert planned is not None
    assert planned.cancelled == "Cancelled"
    status = ended(cancelled, exit_code=0, result=1)
    assert (status.state, status.result) == (JobState.CANCELLED, None)


def test_a_queued_job_is_cancelled_at_once() -> None:
    assert law.cancelled(JobStatus(), 1.0).state is JobState.CANCELLED


def test_what_an_attempt_reports_that_was_given_up_is_refused() -> None:
    runs = begun(job())
    first = runs.status.attempts[-1].id
    status = law.given_up(runs.spec, runs.status, "Its cloud was deleted.", 5.0, 0.0)
    assert status.state is JobState.QUEUED
    again = begun(runs.model_copy(update={"status": status}), 6.0)
    assert again.status.attempts[-1].id != first
    assert law.ended(again.spec, again.status, first, AttemptEnd(exit_code=0), {}, 7.0, 0.0) is None


def test_a_loss_of_a_cloud_uses_up_no_retry_but_is_not_repeated_for_ever() -> None:
    runs = begun(job(retries=0))
    for number in range(law.LOSSES_MAX):
        status = law.given_up(runs.spec, runs.status, "Lost.", float(number), 0.0)
        assert status.state is JobState.QUEUED
        runs = begun(runs.model_copy(update={"status": status}), float(number))
    assert law.given_up(runs.spec, runs.status, "Lost.", 99.0, 0.0).state is JobState.FAILED


def test_an_attempt_that_its_agent_does_not_end_is_ended_by_the_control_plane() -> None:
    runs = begun(job(timeout_s=10.0))
    status = law.reported(runs.status, runs.status.attempts[-1].id, Phase.READY, "", 100.0)
    assert (status.state, status.started_at) == (JobState.RUNNING, 100.0)
    assert law.overdue(runs.spec, status, 110.0 + law.LATE_S - 1) is status
    assert law.overdue(runs.spec, status, 110.0 + law.LATE_S).attempts[-1].stop == "TimedOut"


def test_a_phase_that_is_reported_late_does_not_take_a_job_back() -> None:
    runs = begun(job())
    id_ = runs.status.attempts[-1].id
    running = law.reported(runs.status, id_, Phase.READY, "", 1.0)
    assert law.reported(running, id_, Phase.INSTALLING, "installing", 1.0).state is JobState.RUNNING


def test_a_retry_by_a_person_counts_failures_anew() -> None:
    runs = begun(job(retries=0))
    failed = ended(runs, exit_code=1)
    runs = begun(runs.model_copy(update={"status": law.again(failed)}), 20.0)
    assert runs.status.attempts[-1].number == 2
    assert ended(runs, exit_code=1).state is JobState.FAILED


def test_many_points_are_thinned_evenly_and_end_with_the_last() -> None:
    points = [MetricPoint(step=n, at=float(n), values={"loss": 1.0}) for n in range(5000)]
    kept = law.thinned(points)
    assert len(kept) == 100
    assert (kept[0].step, kept[-1].step) == (0, 4999)
