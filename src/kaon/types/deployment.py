"""A deployment: a service that should run; and its revisions, frozen versions of it."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from kaon.types.condition import Condition
from kaon.types.dataset import DatasetMount
from kaon.types.model import Digest, EnvName, Model, Name, OpenEnum, hash_of_json, reads_request
from kaon.types.objective import Objective
from kaon.types.route import HeaderName, Hostname, Origin
from kaon.types.service import Resources
from kaon.types.tuning import TunerCommand, TuningSpec, TuningStatus


class Floor(Model):
    """A minimum of replicas between two times of the day, UTC; may span midnight."""

    replicas: int = Field(ge=1, le=1000)
    start: str = Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$", description="HH:MM.")
    end: str = Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$", description="HH:MM; the same as `start`: all day.")

    def holds(self, at_s: float) -> bool:
        """Whether it applies at `at_s`, epoch seconds."""
        minute = int(at_s // 60) % 1440
        start, end = (60 * int(text[:2]) + int(text[3:]) for text in (self.start, self.end))
        return start <= minute < end if start < end else minute >= start or minute < end


class Scaling(Model):
    """The range of replicas, how long the last one stays, and how long calls wait for one."""

    min: int = Field(
        default=1, ge=0, le=1000, description="0: no replica without calls; the first caller waits for one."
    )
    max: int = Field(default=1, ge=0, le=1000, description="0: switched off; calls are refused.")
    floors: tuple[Floor, ...] = Field(default=(), max_length=16)
    keep_alive_s: float | None = Field(
        default=None, ge=1, le=86_400, description="How long the last replica stays without calls; None: learnt."
    )
    hold_s: float = Field(default=60.0, gt=0, le=600, description="How long a call waits while no replica is ready.")

    @model_validator(mode="before")
    @classmethod
    def _without_law(cls, value: Any) -> Any:
        """Until 0.1 a scaling law could be named; `kaon` is the only one left, and is no longer named."""
        if not isinstance(value, dict) or "law" not in value:
            return value
        if reads_request() and value["law"] != "kaon":
            raise ValueError(f"scaling.law {value['law']!r} is not available any more; remove it")
        return {name: part for name, part in value.items() if name != "law"}

    @model_validator(mode="after")
    def _ordered(self) -> Scaling:
        if self.min > self.max:
            raise ValueError(f"scaling.min ({self.min}) is above scaling.max ({self.max})")
        return self


class Canary(Model):
    """A new revision gets a part of the traffic before it takes over."""

    steps: tuple[int, ...] = Field(
        default=(5, 25, 50), min_length=1, max_length=10, description="Per cent of the traffic, step by step."
    )
    step_s: float = Field(default=60.0, ge=1, le=86_400, description="Least duration of each step.")
    min_calls: int = Field(default=100, ge=1, description="Least calls of the new revision in each step.")
    errors: float = Field(
        default=0.01, gt=0, lt=1, description="Allowed share of failed calls above the old revision's."
    )
    slower: float = Field(default=1.25, gt=1, le=100, description="Allowed ratio of its p99 to the old revision's.")
    hold: bool = Field(default=False, description="After the last step wait for `promote`.")

    @model_validator(mode="after")
    def _rising(self) -> Canary:
        if any(not 1 <= step <= 99 for step in self.steps) or list(self.steps) != sorted(set(self.steps)):
            raise ValueError(f"canary.steps must rise, between 1 and 99, not {list(self.steps)}")
        return self


class Rollout(Model):
    """How a new revision takes over."""

    max_surge: int = Field(default=1, ge=1, le=100, description="Replicas above the desired number during a rollout.")
    canary: Canary | None = Field(
        default=None, description="None: the new revision takes over as its replicas become ready."
    )
    progress_deadline_s: float = Field(
        default=120.0,
        gt=0,
        le=3600,
        description="Time for a new replica to become ready; after it the rollout stops. Installing does not count.",
    )


class Template(Model):
    """The part of a spec that replicas are made from: a changed template is a new revision."""

    artifact: Digest
    env: dict[EnvName, str] = Field(default_factory=dict)
    secrets: dict[EnvName, Name] = Field(
        default_factory=dict, description="Environment variable -> name of its secret."
    )
    datasets: dict[Name, DatasetMount] = Field(
        default_factory=dict, max_length=32, description="Name in the service -> the version that replicas find there."
    )
    resources: Resources | None = Field(default=None, description="None: as in the class.")
    restarted_at: float = Field(default=0, description="Changed to restart every replica, epoch seconds.")


class Shadow(Model):
    """A revision that gets copies of calls; its answers are compared and discarded."""

    revision: int | None = Field(default=None, ge=1, description="A revision of the history.")
    template: Template | None = Field(default=None, description="Or a new template, which serves only after promotion.")
    percent: float = Field(default=10.0, gt=0, le=100, description="Share of calls that are copied.")

    @model_validator(mode="after")
    def _one(self) -> Shadow:
        if (self.revision is None) == (self.template is None):
            raise ValueError("a shadow needs either a revision or a template")
        return self


class Cors(Model):
    """Other origins whose web pages may call from a browser."""

    origins: tuple[Origin, ...] = Field(
        default=(), max_length=32, description="Like https://app.example; '*': every origin; empty: none."
    )
    credentials: bool = Field(
        default=False, description="Their pages may send and receive cookies; the origins must be named."
    )
    headers: tuple[HeaderName, ...] = Field(
        default=(),
        max_length=32,
        description="With credentials: further headers that they may send and read. Without, they may use all.",
    )

    @model_validator(mode="after")
    def _no_cookies_for_all(self) -> Cors:
        if self.credentials and "*" in self.origins:
            raise ValueError(
                "cors.credentials needs the origins by name: with '*' every site could act as its visitors"
            )
        return self


class DeploymentSpec(Model):
    """The desired state of a deployment."""

    template: Template
    objective: Objective | None = Field(default=None, description="None: as in the class.")
    scaling: Scaling = Scaling()
    tuning: TuningSpec = TuningSpec()
    shadow: Shadow | None = None
    rollout: Rollout = Rollout()
    public: bool = Field(default=False, description="Accept calls without a key.")
    cors: Cors = Cors()
    hosts: tuple[Hostname, ...] = Field(
        default=(), max_length=16, description="Its own host names: an origin that no other service shares."
    )
    isolate_html: bool = Field(
        default=False, description="Browsers show its answers without scripts and isolated from other services."
    )
    drain_s: float | None = Field(
        default=None,
        ge=0,
        le=3600,
        description="Time for calls in flight when a replica stops; None: the limit of the longest call, between 30 s"
        " and 600 s.",
    )
    paused: bool = Field(default=False, description="Pause the rollout.")
    promoted: int | None = Field(
        default=None, ge=1, description="The revision that may take over without its canary's further steps."
    )
    owner: str = Field(default="", description="Name of the key that deployed it, set by the platform.")
    owner_uid: str = Field(
        default="", description="Its uid. Services call others with rights of this key; '': written by an older Kaon."
    )


class RevisionSpec(Model):
    """One frozen version of a deployment."""

    deployment: Name
    deployment_uid: str = Field(
        default="", description="Uid of the deployment: a later one of the same name has another."
    )
    number: int = Field(ge=1)
    template: Template
    template_hash: str


class RevisionStatus(Model):
    """The last outcome of a revision."""

    outcome: str = Field(default="", description="'served', 'failed', 'rolled back' or 'withdrawn'; '': none yet.")
    reason: str = Field(default="", description="The reason of the outcome.")
    at: float = Field(default=0, description="Epoch seconds.")


class RolloutState(OpenEnum, unknown="Pending"):
    """The state of a rollout."""

    PENDING = "Pending"
    PROGRESSING = "Progressing"
    STABLE = "Stable"
    STOPPED = "Stopped"
    """The new revision did not start. The old one serves; without an old one Kaon keeps retrying."""
    DEGRADED = "Degraded"
    """Stable, but with fewer ready replicas than desired."""


class Assignment(Model):
    """The desired replicas of a revision, and its share of the traffic."""

    revision: int = Field(ge=1)
    replicas: int = Field(ge=0)
    ordinals: tuple[int, ...] = Field(default=(), description="Ordinals of these replicas.")
    ready: int = Field(default=0, ge=0)
    weight: int = Field(default=0, ge=0, le=100)


class CanaryArm(Model):
    """Counts of one revision of a canary since its step began."""

    calls: int = Field(default=0, ge=0, description="Calls answered, or given up by their callers.")
    failed: int = Field(default=0, ge=0, description="Calls answered 5xx, refused for overload, or not answered.")
    given_up: int = Field(default=0, description="Of these, given up by their callers; approximate.")
    timed: int = Field(default=0, ge=0, description="Calls since `slow_s` is known.")
    slow: int = Field(default=0, ge=0, description="Of these, slower than `slow_s`.")
    overdue: int = Field(default=0, ge=0, description="Open calls that already took longer.")
    p99_s: float | None = Field(default=None, description="p99 of the last minute; None: no calls.")


class CanaryGate(Model):
    """The result of one of a canary's tests."""

    name: str = Field(description="'errors' or 'slowness'.")
    verdict: str = Field(description="'worse', 'fine' or 'not known yet'.")
    leans: str = Field(default="", description="'worse' or 'fine': the tendency, which may be by chance.")
    odds: float = Field(default=1.0, ge=1, description="Odds of the tendency: so many to one.")
    needed: float = Field(default=1.0, ge=1, description="Odds required for a verdict.")
    reason: str = Field(default="", description="The reason, with figures.")


class CanaryStatus(Model):
    """The progress of a canary."""

    revision: int = Field(ge=1)
    step: int = Field(default=0, ge=0, description="Index into `canary.steps`; their number: all passed.")
    since: float = Field(description="When the step's share was in force, epoch seconds.")
    in_force: bool = Field(default=False, description="Whether the step's share is in force.")
    until: float = Field(default=0, description="End of the counted calls, epoch seconds.")
    slow_s: float | None = Field(default=None, description="Slower calls are slow; None: unknown yet.")
    new: CanaryArm = CanaryArm()
    old: CanaryArm = CanaryArm()
    gates: tuple[CanaryGate, ...] = ()
    reason: str = Field(default="", description="What the step waits for, with figures.")
    promoted: bool = Field(default=False, description="A user has promoted it: it may take over without further steps.")


class Placement(Model):
    """The cloud in which a deployment runs."""

    cloud: str = Field(default="", description="Empty: none.")
    reason: str = ""
    since: float = Field(default=0, description="When it was placed there, epoch seconds.")


class RolloutStatus(Model):
    """The state of the deployment's revisions."""

    observed_generation: int = Field(default=0, description="Generation of the spec that this was decided for.")
    tried: str = Field(default="", description="Hash of the part of the spec that decides whether the target starts.")
    state: RolloutState = RolloutState.PENDING
    reason: str = ""
    stable: int | None = Field(default=None, description="The revision that serves.")
    target: int | None = Field(default=None, description="The revision that should.")
    canary: CanaryStatus | None = None
    shadow: int | None = Field(default=None, description="The revision that gets copies of calls only.")
    since: float = Field(default=0, description="When the rollout began or last moved on, epoch seconds.")
    assignments: tuple[Assignment, ...] = ()


class ScalingStatus(Model):
    """How many replicas the scaling law wants."""

    wanted: int | None = Field(default=None, description="None: not decided yet.")
    reason: str = ""


class DeploymentStatus(Model):
    """The current state of a deployment. Each part is written by one controller, so that none overwrites another's."""

    rollout: RolloutStatus = Field(default=RolloutStatus(), description="By the controller of deployments.")
    placement: Placement | None = Field(default=None, description="By the same; None: not decided yet.")
    refused: tuple[str, ...] = Field(
        default=(), description="By the same: ids of requests that are refused, since they crash replicas."
    )
    conditions: tuple[Condition, ...] = Field(default=(), description="By the same.")
    scaling: ScalingStatus = Field(default=ScalingStatus(), description="By the controller of scaling.")
    tuning: TuningStatus = Field(default=TuningStatus(), description="By the controller of tuning.")


def with_commands(spec: DeploymentSpec, commands: tuple[TunerCommand, ...]) -> DeploymentSpec:
    """`spec` with these requests to the tuner."""
    return spec.model_copy(update={"tuning": spec.tuning.model_copy(update={"commands": commands})})


def template_hash(template: Template) -> str:
    """16 hex digits that identify a template.

    Of its datasets the versions count, whatever they are called. A template without datasets has the hash that earlier
    releases made.
    """
    members = template.model_dump(mode="json")
    mounts = members.pop("datasets")
    if mounts:
        members["datasets"] = {name: mount["version"] for name, mount in mounts.items()}
    return hash_of_json(members)[:16]


def in_use(status: RolloutStatus) -> set[int]:
    """Numbers of the revisions that run, or that will run without a further request, as decided last."""
    found = (status.target, status.stable, status.shadow, *(a.revision for a in status.assignments))
    return {number for number in found if number is not None}


def templates_of(spec: DeploymentSpec) -> tuple[Template, ...]:
    """The template of the spec, and that of its shadow if it has one."""
    shadow = spec.shadow.template if spec.shadow else None
    return (spec.template,) if shadow is None else (spec.template, shadow)
