"""The life of a pipeline: which steps are submitted next, and how it ends. Pure.

    Waiting -> Submitted -> Passed | Refused (by its gate) | Failed | Cancelled
       |-> Reused | Refused   its code, parameters and inputs are those of an earlier run
       |-> Skipped | Cancelled

A step is submitted when all steps before it have passed. When one does not pass, the steps behind it are skipped, and
the others run to their end. A pipeline that was cancelled sets no label any more.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from kaon.errors import InvalidInput, did_you_mean
from kaon.types.dataset import DatasetVersionRef
from kaon.types.job import JobResult, JobSpec, JobState
from kaon.types.model import hash_of_json
from kaon.types.pipeline import (
    Gate,
    PipelineSpec,
    PipelineState,
    PipelineStatus,
    PipelineStep,
    StepState,
    StepStatus,
)

_NAME_MAX = 40


class StepJob(NamedTuple):
    """The job of a submitted step."""

    state: JobState
    reason: str = ""
    result: JobResult | None = None


class Advance(NamedTuple):
    """What follows from the state of a pipeline's jobs."""

    status: PipelineStatus
    submit: Mapping[str, JobSpec]
    """Job -> its spec. A job that exists already is left alone."""
    cancel: tuple[str, ...]
    """Jobs to cancel."""
    labels: tuple[tuple[DatasetVersionRef, str], ...]
    """Versions and the label that each gets."""


def job_name(pipeline: str, step: str) -> str:
    """The name of a step's job."""
    return f"{pipeline}-{step}"


def check(pipeline: str, spec: PipelineSpec) -> None:
    """Raises `InvalidInput` for a graph that cannot run: unknown steps or outputs, cycles, gates without limits."""
    steps: dict[str, PipelineStep] = {}
    for step in spec.steps:
        if step.name in steps:
            raise InvalidInput(f"Two steps are named '{step.name}'.", hint="Rename one of them.")
        steps[step.name] = step
    for step in spec.steps:
        _check_step(pipeline, step, steps)
    passed: set[str] = set()
    while ready := [name for name, step in steps.items() if name not in passed and before(step) <= passed]:
        passed.update(ready)
    if waiting := sorted(steps.keys() - passed):
        listed = ", ".join(waiting)
        raise InvalidInput(
            f"The steps form a cycle, so that these never start: {listed}.", hint="Remove an input or an 'after'."
        )


def _check_step(pipeline: str, step: PipelineStep, steps: Mapping[str, PipelineStep]) -> None:
    if len(job_name(pipeline, step.name)) > _NAME_MAX:
        raise InvalidInput(
            f"The name '{pipeline}-{step.name}' of a job has more than {_NAME_MAX} characters.",
            hint="Shorten the name of the pipeline or of the step.",
        )
    for name in sorted(before(step)):
        if name not in steps:
            listed = ", ".join(steps)
            raise InvalidInput(
                f"Step '{step.name}' refers to an unknown step '{name}'.",
                hint=f"{did_you_mean(name, steps)}Steps of this pipeline: {listed}.",
            )
    for source in step.inputs.values():
        known = steps[source.step].job.outputs
        _check_output(step.name, source.step, source.output, known)
    if step.label is not None:
        _check_output(step.name, step.name, step.label.output, step.job.outputs)
    if step.gate is not None and step.gate.at_least is None and step.gate.at_most is None:
        raise InvalidInput(f"The gate of step '{step.name}' has no limit.", hint="Add at_least or at_most.")


def _check_output(step: str, of: str, output: str, outputs: Iterable[str]) -> None:
    if output not in (known := list(outputs)):
        listed = ", ".join(known) or "none"
        raise InvalidInput(
            f"Step '{step}' refers to an unknown output '{output}' of step '{of}'.", hint=f"Its outputs: {listed}."
        )


def before(step: PipelineStep) -> set[str]:
    """The steps that have to pass before a step."""
    return {*step.after, *(source.step for source in step.inputs.values())}


def fingerprint(spec: JobSpec) -> str:
    """The hash of all that a step's result depends on; equal ones give the same result."""
    call = spec.model_dump(mode="json", include={"artifact", "function", "entry", "command", "parameters", "outputs"})
    environment = {"env": spec.env, "secrets": spec.secrets}
    return hash_of_json({**call, **environment, "inputs": {name: ref.manifest for name, ref in spec.inputs.items()}})


def advance(
    name: str,
    spec: PipelineSpec,
    status: PipelineStatus,
    jobs: Mapping[str, StepJob],
    earlier: Mapping[str, JobResult],
) -> Advance:
    """The next status of pipeline `name`, and the jobs and labels that it needs.

    `jobs`: step -> its job, if it exists. `earlier`: fingerprint -> what such a step made before and still exists.
    """
    steps = {step.name: status.steps.get(step.name, StepStatus()) for step in spec.steps}
    submit: dict[str, JobSpec] = {}
    labels: list[tuple[DatasetVersionRef, str]] = []
    for step in _in_order(spec):
        now = steps[step.name]
        if now.state.ended:
            continue
        after, job = _next(name, spec, step, now, steps, jobs.get(step.name), earlier, cancelled=status.cancelled)
        steps[step.name] = after
        if job is not None:
            submit[job_name(name, step.name)] = job
        if after.state.passed and step.label is not None and not status.cancelled:
            labels.append((after.outputs[step.label.output], step.label.label))
    cancel = [step for step, now in steps.items() if status.cancelled and now.state is StepState.SUBMITTED]
    state, reason = _end(steps, cancelled=status.cancelled)
    changed = status.model_copy(update={"steps": steps, "state": state, "reason": reason})
    return Advance(changed, submit, tuple(job_name(name, step) for step in cancel), tuple(labels))


def _in_order(spec: PipelineSpec) -> list[PipelineStep]:
    """The steps, each behind those that it needs."""
    found: dict[str, PipelineStep] = {}
    while ready := [step for step in spec.steps if step.name not in found and before(step) <= found.keys()]:
        found.update((step.name, step) for step in ready)
    return list(found.values())


def _next(
    name: str,
    spec: PipelineSpec,
    step: PipelineStep,
    now: StepStatus,
    steps: Mapping[str, StepStatus],
    job: StepJob | None,
    earlier: Mapping[str, JobResult],
    *,
    cancelled: bool,
) -> tuple[StepStatus, JobSpec | None]:
    """The next status of a step that has not ended, and the job to submit."""
    if now.state is StepState.SUBMITTED:
        return _followed(step, now, job, cancelled=cancelled), None
    if cancelled:
        return now.model_copy(update={"state": StepState.CANCELLED, "reason": "Cancelled."}), None
    for other in sorted(before(step)):
        if steps[other].state.ended and not steps[other].state.passed:
            reason = f"Step '{other}' did not pass."
            return now.model_copy(update={"state": StepState.SKIPPED, "reason": reason}), None
    if not all(steps[other].state.passed for other in before(step)):
        return now, None
    made = {parameter: steps[source.step].outputs[source.output] for parameter, source in step.inputs.items()}
    inputs = {**step.job.inputs, **made}
    ready = step.job.model_copy(update={"inputs": inputs, "pipeline": name, "step": step.name})
    mark = fingerprint(ready)
    known = None if spec.fresh else earlier.get(mark)
    if known is not None and known.outputs.keys() >= step.job.outputs.keys():
        return _judged(step, now.model_copy(update={"fingerprint": mark}), known, StepState.REUSED), None
    return now.model_copy(update={"state": StepState.SUBMITTED, "fingerprint": mark}), ready


def _followed(step: PipelineStep, now: StepStatus, job: StepJob | None, *, cancelled: bool) -> StepStatus:
    """The status of a submitted step after that of its job."""
    if job is None:
        state = StepState.CANCELLED if cancelled else StepState.FAILED
        return now.model_copy(update={"state": state, "reason": "Its job was deleted."})
    if not job.state.ended:
        return now
    if job.state is JobState.SUCCEEDED:
        return _judged(step, now, job.result or JobResult(), StepState.PASSED)
    state = StepState.CANCELLED if job.state is JobState.CANCELLED else StepState.FAILED
    return now.model_copy(update={"state": state, "reason": job.reason})


def _judged(step: PipelineStep, now: StepStatus, result: JobResult, passed: StepState) -> StepStatus:
    """The status of a step that has a result: `passed`, or refused by its gate."""
    if missing := sorted(step.job.outputs.keys() - result.outputs.keys()):
        reason = f"Its job made no output '{missing[0]}'."
        return now.model_copy(update={"state": StepState.FAILED, "reason": reason})
    refusal = refused(step.gate, result) if step.gate is not None else ""
    state = StepState.REFUSED if refusal else passed
    return now.model_copy(update={"state": state, "reason": refusal, "outputs": result.outputs})


def refused(gate: Gate, result: JobResult) -> str:
    """Why a gate refuses a result; '': it does not."""
    value = result.result.get(gate.metric) if isinstance(result.result, dict) else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return f"Its result has no number '{gate.metric}'."
    if gate.at_least is not None and value < gate.at_least:
        return f"{gate.metric} is {value:g}; the gate requires at least {gate.at_least:g}."
    if gate.at_most is not None and value > gate.at_most:
        return f"{gate.metric} is {value:g}; the gate requires at most {gate.at_most:g}."
    return ""


def _end(steps: Mapping[str, StepStatus], *, cancelled: bool) -> tuple[PipelineState, str]:
    """The state of a pipeline with these steps, and why."""
    if not all(step.state.ended for step in steps.values()):
        return PipelineState.RUNNING, "It is being cancelled." if cancelled else ""
    if all(step.state.passed for step in steps.values()):
        return PipelineState.SUCCEEDED, ""
    if cancelled:
        return PipelineState.CANCELLED, "Cancelled."
    ends = (
        (StepState.FAILED, PipelineState.FAILED),
        (StepState.CANCELLED, PipelineState.CANCELLED),
        (StepState.REFUSED, PipelineState.REFUSED),
    )
    for step_state, state in ends:
        for name, step in steps.items():
            if step.state is step_state:
                return state, f"Step '{name}': {step.reason}"
    return PipelineState.FAILED, "A step did not run."
