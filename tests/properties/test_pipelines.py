"""Random pipelines whose jobs end in random ways: every step ends once, and none starts before its inputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaon.errors import InvalidInput
from kaon.laws import pipelines as law
from kaon.types.dataset import DatasetVersionRef
from kaon.types.job import JobResult, JobSpec, JobState
from kaon.types.pipeline import (
    Gate,
    PipelineSpec,
    PipelineState,
    PipelineStatus,
    PipelineStep,
    StepLabel,
    StepOutput,
    StepState,
)

DIGEST = "sha256:" + "a" * 64
GOOD, BAD = 0.5, 0.3
ENDS = ("good", "bad", JobState.FAILED, JobState.TIMED_OUT, JobState.CANCELLED)


def step(name: str, *needs: str, **more: Any) -> PipelineStep:
    job = JobSpec(artifact=DIGEST, function=name, outputs={"table": f"d-{name}"[:40]})
    return PipelineStep(name=name, job=job, inputs={n: StepOutput(step=n, output="table") for n in needs}, **more)


def made(name: str, score: float = GOOD) -> JobResult:
    ref = DatasetVersionRef(dataset=f"d-{name}", number=1, manifest="sha256:" + "b" * 64)
    return JobResult(result={"score": score}, outputs={"table": ref})


def succeeded(name: str, score: float = GOOD) -> law.StepJob:
    return law.StepJob(JobState.SUCCEEDED, "", made(name, score))


@st.composite
def graphs(draw: st.DrawFn) -> PipelineSpec:
    """Acyclic graphs, listed in any order."""
    names = [f"s{number}" for number in range(draw(st.integers(1, 7)))]
    steps = []
    for at, name in enumerate(names):
        needs = draw(st.sets(st.sampled_from(names[:at]))) if at else set()
        after = draw(st.sets(st.sampled_from(names[:at]))) if at else set()
        gate = Gate(metric="score", at_least=0.4) if draw(st.booleans()) else None
        label = StepLabel(output="table", label="prod") if draw(st.booleans()) else None
        steps.append(step(name, *sorted(needs), after=tuple(sorted(after)), gate=gate, label=label))
    return PipelineSpec(steps=tuple(draw(st.permutations(steps))))


class Run:
    """A pipeline and its jobs."""

    def __init__(self, spec: PipelineSpec, earlier: Mapping[str, JobResult] | None = None) -> None:
        law.check("p", spec)
        self.spec, self.earlier = spec, earlier or {}
        self.status = PipelineStatus()
        self.jobs: dict[str, law.StepJob] = {}
        self.specs: dict[str, JobSpec] = {}
        self.labels: list[tuple[DatasetVersionRef, str]] = []
        self.to_cancel: set[str] = set()

    def advance(self) -> None:
        before = self.status
        found = law.advance("p", self.spec, before, self.jobs, self.earlier)
        self.status = found.status
        for name, was in before.steps.items():
            assert not was.state.ended or self.status.steps[name] == was, "what has ended does not change"
        by_name = {each.name: each for each in self.spec.steps}
        for job, spec in found.submit.items():
            needs = law.before(by_name[spec.step])
            assert all(self.status.steps[name].state.passed for name in needs), "inputs come first"
            assert spec.step not in self.jobs, "each step is submitted once"
            assert not before.cancelled, "nothing starts after a cancellation"
            assert job == f"p-{spec.step}"
            self.jobs[spec.step], self.specs[spec.step] = law.StepJob(JobState.QUEUED), spec
        self.to_cancel |= {name.removeprefix("p-") for name in found.cancel}
        assert not (before.cancelled and found.labels), "a cancelled pipeline promotes nothing"
        self.labels += found.labels

    @property
    def open(self) -> list[str]:
        return sorted(name for name, job in self.jobs.items() if not job.state.ended)


@given(graphs(), st.data())
def test_every_step_ends_once_and_none_starts_before_its_inputs(spec: PipelineSpec, data: st.DataObject) -> None:
    run = Run(spec)
    run.advance()
    for _ in range(3 * len(spec.steps) + 3):
        if not run.open:
            break
        if data.draw(st.integers(0, 9)) == 0:
            run.status = run.status.model_copy(update={"cancelled": True})
            run.advance()
            assert set(run.open) <= run.to_cancel
        name, end = data.draw(st.sampled_from(run.open)), data.draw(st.sampled_from(ENDS))
        if isinstance(end, JobState):
            run.jobs[name] = law.StepJob(end, "It ended so.")
        else:
            run.jobs[name] = succeeded(name, GOOD if end == "good" else BAD)
        run.advance()
    assert run.status.state.ended
    assert run.status.steps.keys() == {each.name for each in spec.steps}
    for each in spec.steps:
        status = run.status.steps[each.name]
        assert status.state.ended
        if status.state is StepState.SKIPPED:
            assert any(not run.status.steps[name].state.passed for name in law.before(each))
        if not status.state.passed:
            assert status.reason
    labelled = [each for each in spec.steps if each.label and run.status.steps[each.name].state.passed]
    assert len(run.labels) <= len(labelled), "a label is set once, for a step that has passed"
    assert len(run.labels) == len(labelled) or run.status.cancelled
    good = all(status.state.passed for status in run.status.steps.values())
    assert good == (run.status.state is PipelineState.SUCCEEDED)
    settled = run.status
    run.advance()
    assert run.status == settled


@given(graphs())
def test_a_second_run_takes_every_step_from_the_first(spec: PipelineSpec) -> None:
    first = Run(spec)
    first.advance()
    while first.open:
        for name in first.open:
            first.jobs[name] = succeeded(name)
        first.advance()
    earlier = {law.fingerprint(first.specs[name]): made(name) for name in first.specs}
    second = Run(spec, earlier)
    second.advance()
    assert second.status.state is PipelineState.SUCCEEDED
    assert not second.jobs
    assert {status.state for status in second.status.steps.values()} == {StepState.REUSED}
    fresh = Run(spec.model_copy(update={"fresh": True}), earlier)
    fresh.advance()
    assert fresh.jobs


def test_a_changed_parameter_or_input_runs_a_step_again() -> None:
    spec = step("a").job
    other = DatasetVersionRef(dataset="d", number=1, manifest="sha256:" + "c" * 64)
    changes: tuple[dict[str, Any], ...] = (
        {"artifact": "sha256:" + "d" * 64},
        {"parameters": {"epochs": 2}},
        {"inputs": {"d": other}},
        {"env": {"A": "1"}},
        {"function": "b"},
        {"outputs": {"table": "elsewhere"}},
    )
    marks = {law.fingerprint(spec.model_copy(update=change)) for change in changes}
    assert len(marks | {law.fingerprint(spec)}) == len(changes) + 1
    assert law.fingerprint(spec.model_copy(update={"priority": 9})) == law.fingerprint(spec)


def test_a_changed_gate_judges_the_result_of_an_earlier_run() -> None:
    before = Run(PipelineSpec(steps=(step("train"),)))
    before.advance()
    earlier = {law.fingerprint(before.specs["train"]): made("train", BAD)}
    run = Run(PipelineSpec(steps=(step("train", gate=Gate(metric="score", at_least=0.4)),)), earlier)
    run.advance()
    assert run.status.steps["train"].state is StepState.REFUSED
    assert not run.jobs


def test_a_step_whose_job_was_deleted_fails() -> None:
    run = Run(PipelineSpec(steps=(step("a"), step("b", "a"))))
    run.advance()
    del run.jobs["a"]
    run.advance()
    assert run.status.reason == "Step 'a': Its job was deleted."
    assert run.status.state is PipelineState.FAILED


def test_a_gate_stops_what_is_behind_it_and_nothing_is_labelled() -> None:
    gated = step("train", gate=Gate(metric="score", at_least=0.4), label=StepLabel(output="table", label="prod"))
    run = Run(PipelineSpec(steps=(gated, step("report", "train"))))
    run.advance()
    run.jobs["train"] = succeeded("train", BAD)
    run.advance()
    assert run.status.state is PipelineState.REFUSED
    assert run.status.reason == "Step 'train': score is 0.3; the gate requires at least 0.4."
    assert run.status.steps["report"].state is StepState.SKIPPED
    assert not run.labels


@pytest.mark.parametrize("result", [None, 1, {}, {"score": "0.9"}, {"score": True}, {"score": float("nan")}])
def test_a_gate_refuses_a_result_without_its_number(result: Any) -> None:
    assert law.refused(Gate(metric="score", at_least=0), JobResult(result=result)) == (
        "Its result has no number 'score'."
    )


@pytest.mark.parametrize(
    ("steps", "text"),
    [
        ((step("a", "b"), step("b", "a")), "cycle"),
        ((step("a", "a"),), "cycle"),
        ((step("a", after=("b",)),), "unknown step 'b'"),
        ((step("a"), step("a")), "Two steps"),
        ((step("a"), step("b").model_copy(update={"inputs": {"x": StepOutput(step="a", output="no")}})), "output 'no'"),
        ((step("a", label=StepLabel(output="no", label="prod")),), "output 'no'"),
        ((step("a", gate=Gate(metric="score")),), "no limit"),
        ((step("a" * 39),), "more than 40 characters"),
    ],
)
def test_a_graph_that_cannot_run_is_refused(steps: tuple[PipelineStep, ...], text: str) -> None:
    with pytest.raises(InvalidInput, match=text):
        law.check("p", PipelineSpec(steps=steps))
