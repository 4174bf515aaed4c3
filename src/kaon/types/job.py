"""A job: a function that runs to completion. Its attempts are planned for agents as workloads of kind `job`."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, StringConstraints

from kaon.types.dataset import DatasetManifest, DatasetRef, DatasetVersionRef
from kaon.types.model import Digest, EnvName, Model, Name, OpenEnum
from kaon.types.replica import ReplicaSpec
from kaon.types.service import Resources

RESULT_MAX_BYTES = 2**20
"""Limit of a result as JSON."""
PARAMETERS_MAX_BYTES = 2**16
"""Limit of all parameters as JSON: the plan of a cloud has those of every attempt. Larger data belongs in a dataset."""
ARRAY_MAX = 10_000
"""Limit of jobs in one array."""
POINTS_KEPT = 100
"""Points of metrics that are kept of a job; of more, every second one is left out."""
RESULT_FILE = "result.json"
"""Files in the folder of an attempt; see `kaon.runtime.job`."""
PROGRESS_FILE = "progress.jsonl"
OUTPUTS_FOLDER = "outputs"
RETRIES_MAX = 100
TIMEOUT_MAX_S = 30 * 86_400.0

ParameterName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$")]
Label = Annotated[str, StringConstraints(max_length=200)]


class JobDeclaration(Model):
    """A function marked `@kaon.job`, as the manifest of its artifact describes it."""

    name: Name = Field(description="The function's name in kebab case, unless set.")
    entry: str = Field(pattern=r"^[^\s:]+:[^\s:]+$", max_length=1000, description="'module:function'.")
    summary: str = Field(default="", max_length=10_000)
    parameters: dict[str, Any] = Field(default_factory=dict, description="JSON Schema of its plain parameters.")
    result: dict[str, Any] = Field(default_factory=dict, description="JSON Schema of its result.")
    inputs: tuple[ParameterName, ...] = Field(default=(), max_length=64, description="Parameters that are datasets.")
    optional_inputs: tuple[ParameterName, ...] = Field(
        default=(), max_length=64, description="Of these, with default None."
    )
    outputs: tuple[ParameterName, ...] = Field(default=(), max_length=64, description="Parameters that are outputs.")
    timeout_s: float = Field(default=3600.0, gt=0, le=TIMEOUT_MAX_S)
    retries: int = Field(default=0, ge=0, le=RETRIES_MAX)
    once: bool = Field(default=False, description="Never start a second attempt.")
    resources: Resources = Resources()
    uses: tuple[Name, ...] = Field(default=(), max_length=256)


class JobState(OpenEnum, unknown="Running"):
    """The state of a job."""

    QUEUED = "Queued"
    PREPARING = "Preparing"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    CANCELLED = "Cancelled"
    TIMED_OUT = "TimedOut"

    @property
    def ended(self) -> bool:
        """Whether it does not change any more."""
        return self in (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED, JobState.TIMED_OUT)


class JobCall(Model):
    """What one attempt calls: made by the control plane, executed by `python -m kaon.runtime`."""

    entry: str = Field(default="", description="'module:function'; '': `command` instead.")
    command: tuple[str, ...] = Field(default=(), max_length=1000, description="A program and its arguments.")
    parameters: dict[ParameterName, Any] = Field(default_factory=dict)
    inputs: dict[ParameterName, DatasetVersionRef] = Field(default_factory=dict)
    outputs: tuple[ParameterName, ...] = ()
    timeout_s: float = Field(default=3600.0, gt=0, le=TIMEOUT_MAX_S, description="Of the run, without preparation.")
    output_bytes_max: int = Field(default=2**40, ge=0, description="Limit of all outputs.")


class PlannedAttempt(Model):
    """An attempt that a plan requires; its replica has kind `job`, restart `never`, and its number as ordinal.

    `replica.deployment` is the job's name, `replica.deployment_uid` the job's uid. `replica.id`, which is made of the
    uid and the attempt's number, fences the attempt: what comes from another one is refused.
    """

    replica: ReplicaSpec
    call: JobCall
    cancelled: str = Field(default="", description="Why it has to end: 'Cancelled' or 'TimedOut'; '': it runs.")


class Progress(Model):
    """The newest progress of an attempt."""

    fraction: float | None = Field(default=None, ge=0, le=1)
    text: str = Field(default="", max_length=500)
    at: float = Field(default=0, description="Epoch seconds.")


class MetricPoint(Model):
    """Metrics that an attempt reported at one time."""

    step: int = Field(ge=0, description="Counts the reports of the attempt.")
    at: float = Field(description="Epoch seconds.")
    fraction: float | None = None
    values: dict[ParameterName, float] = Field(default_factory=dict, max_length=64)


class AttemptNews(Model):
    """What an agent sends of a running attempt: replaces `progress`, appends `points`."""

    progress: Progress = Progress()
    points: tuple[MetricPoint, ...] = Field(default=(), max_length=1000)


class AttemptEnd(Model):
    """What an agent sends, once and again until it is acknowledged, of an attempt that has ended.

    The server makes it a final state and the outputs versions in one transaction, if the attempt is still the job's
    current one; else it answers `Conflict`, and the agent discards what the attempt has made.
    """

    exit_code: int | None = None
    timed_out: bool = False
    reason: str = Field(default="", max_length=2000, description="Why it failed; '': it has succeeded.")
    last_lines: tuple[str, ...] = Field(default=(), max_length=50)
    result: Any = None
    outputs: dict[ParameterName, DatasetManifest] = Field(default_factory=dict, description="Files, uploaded before.")


class Attempt(Model):
    """One run of a job."""

    number: int = Field(ge=1)
    id: str = Field(description="Id of its workload.")
    cloud: str = ""
    state: JobState = JobState.PREPARING
    reason: str = ""
    created_at: float = 0
    started_at: float | None = None
    ended_at: float | None = None
    exit_code: int | None = None
    last_lines: tuple[str, ...] = ()
    stop: str = Field(default="", description="Why it has to end, such as 'TimedOut'; '': it runs.")
    given_up: bool = Field(default=False, description="It ended without a report: nothing of it is accepted any more.")


class JobSpec(Model):
    """What should run once, and with what."""

    artifact: Digest
    function: Name | None = Field(default=None, description="A `JobDeclaration` of the artifact; None: `command`.")
    entry: str = Field(default="", description="'module:function', of the declaration.")
    command: tuple[str, ...] = Field(default=(), max_length=1000)
    parameters: dict[ParameterName, Any] = Field(default_factory=dict)
    inputs: dict[ParameterName, DatasetVersionRef] = Field(default_factory=dict, description="Resolved when submitted.")
    outputs: dict[ParameterName, Name] = Field(default_factory=dict, description="Parameter -> dataset.")
    env: dict[EnvName, str] = Field(default_factory=dict)
    secrets: dict[EnvName, Name] = Field(default_factory=dict)
    resources: Resources = Resources()
    timeout_s: float = Field(default=3600.0, gt=0, le=TIMEOUT_MAX_S)
    retries: int = Field(default=0, ge=0, le=RETRIES_MAX)
    once: bool = False
    priority: int = Field(default=0, ge=-100, le=100, description="Higher ones of a workspace start first.")
    labels: dict[ParameterName, Label] = Field(default_factory=dict, max_length=32)
    uses: tuple[Name, ...] = ()
    pipeline: str = Field(default="", description="Name of the pipeline that it is a step of.")
    step: str = ""
    array: str = Field(default="", description="Name of the array that it is a part of.")
    parallel: int | None = Field(default=None, ge=1, description="So many jobs of the array at once.")
    submits: bool = Field(default=False, description="Its own key may submit jobs of the same artifact.")
    owner: str = ""
    owner_uid: str = ""


class JobStatus(Model):
    """How far a job is."""

    state: JobState = JobState.QUEUED
    reason: str = ""
    cancelled: bool = Field(default=False, description="A user wants it to end: nothing of it is published any more.")
    attempts: tuple[Attempt, ...] = Field(default=(), description="Oldest first; the last is the current one.")
    retry_at: float = Field(default=0, description="Not before this time, epoch seconds.")
    retried_after: int = Field(default=0, ge=0, description="Attempts before the last `retry` by a person.")
    result: Any = None
    result_bytes: int = Field(default=0, ge=0, description="Size of the result as JSON.")
    outputs: dict[ParameterName, DatasetVersionRef] = Field(default_factory=dict)
    progress: Progress = Progress()
    points: tuple[MetricPoint, ...] = Field(default=(), max_length=POINTS_KEPT, description="Metrics over time.")
    started_at: float | None = None
    ended_at: float | None = None

    @property
    def attempt(self) -> Attempt | None:
        """The attempt that has not ended; None: there is none."""
        last = self.attempts[-1] if self.attempts else None
        return last if last is not None and not last.state.ended else None


class JobRequest(Model):
    """Body of `POST /workspaces/{ws}/jobs`."""

    name: Name | None = Field(default=None, description="None: made from the function's name.")
    artifact: Digest | None = Field(default=None, description="None: that of the service or job whose key it is.")
    function: Name | None = None
    command: tuple[Annotated[str, StringConstraints(max_length=4096)], ...] = Field(default=(), max_length=1000)
    parameters: dict[ParameterName, Any] = Field(default_factory=dict)
    inputs: dict[ParameterName, DatasetRef] = Field(default_factory=dict)
    outputs: dict[ParameterName, Name] = Field(default_factory=dict)
    env: dict[EnvName, str] = Field(default_factory=dict)
    secrets: dict[EnvName, Name] = Field(default_factory=dict)
    resources: Resources | None = Field(default=None, description="None: as declared.")
    timeout_s: float | None = Field(default=None, gt=0, le=TIMEOUT_MAX_S)
    retries: int | None = Field(default=None, ge=0, le=RETRIES_MAX)
    once: bool | None = None
    priority: int = Field(default=0, ge=-100, le=100)
    labels: dict[ParameterName, Label] = Field(default_factory=dict, max_length=32)
    map: dict[ParameterName, tuple[Any, ...]] = Field(
        default_factory=dict, max_length=1, description="One parameter and its values: a job for each."
    )
    parallel: int | None = Field(default=None, ge=1, description="So many of these jobs at once; None: all.")


class JobNames(Model):
    """The jobs that a request has made or changed."""

    name: str = Field(description="Of the job, or of the array.")
    jobs: tuple[str, ...]


class JobResult(Model):
    """What a job returned."""

    result: Any = None
    outputs: dict[ParameterName, DatasetVersionRef] = Field(default_factory=dict)


class JobMetrics(Model):
    """The metrics of a job's newest attempt over time."""

    progress: Progress = Progress()
    points: tuple[MetricPoint, ...] = ()
