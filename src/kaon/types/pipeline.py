"""A pipeline: one run of a graph of jobs, of which a step takes what earlier steps have made."""

from __future__ import annotations

from pydantic import Field

from kaon.types.dataset import DatasetVersionRef
from kaon.types.job import JobSpec, ParameterName
from kaon.types.model import Model, Name, OpenEnum

STEPS_MAX = 100
"""Limit of steps in one pipeline."""


class StepOutput(Model):
    """An output of an earlier step, in a file `steps.STEP.OUTPUT`."""

    step: Name
    output: ParameterName


class Gate(Model):
    """The condition on a step's result under which the steps behind it run, and its label is set."""

    metric: ParameterName = Field(description="A number in the step's result.")
    at_least: float | None = None
    at_most: float | None = None


class StepLabel(Model):
    """The label that the new version of an output gets when its step has passed."""

    output: ParameterName
    label: Name


class PipelineStep(Model):
    """A job of a pipeline, all but what earlier steps have made."""

    name: Name
    job: JobSpec
    inputs: dict[ParameterName, StepOutput] = Field(default_factory=dict, description="Made by earlier steps.")
    after: tuple[Name, ...] = Field(default=(), max_length=STEPS_MAX, description="Steps that have to pass before.")
    gate: Gate | None = None
    label: StepLabel | None = None


class PipelineSpec(Model):
    """A graph of jobs."""

    steps: tuple[PipelineStep, ...] = Field(min_length=1, max_length=STEPS_MAX)
    fresh: bool = Field(default=False, description="Run steps also when an earlier run had the same fingerprint.")


class StepState(OpenEnum, unknown="Submitted"):
    """The state of a step."""

    WAITING = "Waiting"
    SUBMITTED = "Submitted"
    PASSED = "Passed"
    REUSED = "Reused"
    REFUSED = "Refused"
    FAILED = "Failed"
    CANCELLED = "Cancelled"
    SKIPPED = "Skipped"

    @property
    def ended(self) -> bool:
        """Whether it does not change any more."""
        return self not in (StepState.WAITING, StepState.SUBMITTED)

    @property
    def passed(self) -> bool:
        """Whether the steps behind it may run."""
        return self in (StepState.PASSED, StepState.REUSED)


class StepStatus(Model):
    """How far a step is."""

    state: StepState = StepState.WAITING
    reason: str = ""
    fingerprint: str = Field(default="", description="Of its code, parameters and inputs; '': not known yet.")
    outputs: dict[ParameterName, DatasetVersionRef] = Field(default_factory=dict)


class PipelineState(OpenEnum, unknown="Running"):
    """The state of a pipeline."""

    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    REFUSED = "Refused"
    FAILED = "Failed"
    CANCELLED = "Cancelled"

    @property
    def ended(self) -> bool:
        """Whether it does not change any more."""
        return self is not PipelineState.RUNNING


class PipelineStatus(Model):
    """How far a pipeline is."""

    state: PipelineState = PipelineState.RUNNING
    reason: str = ""
    cancelled: bool = Field(default=False, description="A user wants it to end.")
    steps: dict[Name, StepStatus] = Field(default_factory=dict)
