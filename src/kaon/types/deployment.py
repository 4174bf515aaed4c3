"""A deployment: what a user wants to run; and its revisions: frozen versions of it."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from kaon.types.condition import Condition
from kaon.types.model import Digest, EnvName, Model, Name, OpenEnum, content_hash, reads_request
from kaon.types.objective import Objective
from kaon.types.route import Hostname, Origin
from kaon.types.service import Resources
from kaon.types.tuning import TuningSpec, TuningStatus


class Floor(Model):
    """At least so many replicas between two times of the day, UTC; may span midnight."""

    replicas: int = Field(ge=1, le=1000)
    start: str = Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$", description="HH:MM.")
    end: str = Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$", description="HH:MM; as `start`: all day.")

    def holds(self, at_s: float) -> bool:
        """Whether it is in force at `at_s`, epoch seconds."""
        minute = int(at_s // 60) % 1440
        start, end = (60 * int(text[:2]) + int(text[3:]) for text in (self.start, self.end))
        return start <= minute < end if start < end else minute >= start or minute < end


class Scaling(Model):
    """How many replicas there may be, for how long the last one stays, and how long callers are held."""

    min: int = Field(default=1, ge=0, le=1000, description="0: none when nobody calls; the first caller is held.")
    max: int = Field(default=1, ge=0, le=1000, description="0: switched off, callers are refused.")
    floors: tuple[Floor, ...] = Field(default=(), max_length=16)
    keep_alive_s: float | None = Field(
        default=None, ge=1, le=86_400, description="How long the last replica stays without a call; None: learnt."
    )
    hold_s: float = Field(
        default=60.0, gt=0, le=600, description="How long a caller may be held while no replica is ready."
    )

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
    """A new revision proves itself on a part of the traffic before it takes over."""

    steps: tuple[int, ...] = Field(
        default=(5, 25, 50), min_length=1, max_length=10, description="Per cent of the traffic, one after the other."
    )
    step_s: float = Field(default=60.0, ge=1, le=86_400, description="How long each step lasts at least.")
    min_calls: int = Field(default=100, ge=1, description="Calls that the new revision must have answered in a step.")
    errors: float = Field(default=0.01, gt=0, lt=1, description="Share of failed calls beyond the old revision's.")
    slower: float = Field(default=1.25, gt=1, le=100, description="Its p99 over the old revision's at most.")
    hold: bool = Field(default=False, description="After the last step wait for `promote`.")

    @model_validator(mode="after")
    def _rising(self) -> Canary:
        if any(not 1 <= step <= 99 for step in self.steps) or list(self.steps) != sorted(set(self.steps)):
            raise ValueError(f"canary.steps must rise, between 1 and 99, not {list(self.steps)}")
        return self


class Rollout(Model):
    """How a new revision takes over."""

    max_surge: int = Field(default=1, ge=1, le=100, description="Replicas beyond the wanted count while it lasts.")
    canary: Canary | None = Field(default=None, description="None: it takes over as its replicas become ready.")
    progress_deadline_s: float = Field(
        default=120.0,
        gt=0,
        le=3600,
        description="A new replica must be ready within this, else the rollout stops. Installing does not count.",
    )


class Template(Model):
    """The part of a deployment that a replica is made from: another template is another revision."""

    artifact: Digest
    env: dict[EnvName, str] = Field(default_factory=dict)
    secrets: dict[EnvName, Name] = Field(
        default_factory=dict, description="Environment variable -> name of the secret that it holds."
    )
    resources: Resources | None = Field(default=None, description="None: as the class says.")
    restarted_at: float = Field(default=0, description="Set to start every replica anew.")


class Shadow(Model):
    """A revision that gets copies of calls; its answers go to nobody, but are compared."""

    revision: int | None = Field(default=None, ge=1, description="One of the history.")
    template: Template | None = Field(default=None, description="Or a new one, that only promotion lets serve.")
    percent: float = Field(default=10.0, gt=0, le=100, description="Share of calls that are copied.")

    @model_validator(mode="after")
    def _one(self) -> Shadow:
        if (self.revision is None) == (self.template is None):
            raise ValueError("a shadow is a revision or a template, one of them")
        return self


class Cors(Model):
    """Which web pages of other origins may call from a browser. The edge answers their browsers' questions."""

    origins: tuple[Origin, ...] = Field(
        default=(), max_length=32, description="Such as https://app.example; '*': any page; none: no other page."
    )


class DeploymentSpec(Model):
    """What a user wants to run."""

    template: Template
    objective: Objective | None = Field(default=None, description="None: as the class says.")
    scaling: Scaling = Scaling()
    tuning: TuningSpec = TuningSpec()
    shadow: Shadow | None = None
    rollout: Rollout = Rollout()
    public: bool = Field(default=False, description="Answer callers without a key.")
    cors: Cors = Cors()
    hosts: tuple[Hostname, ...] = Field(
        default=(), max_length=16, description="Host names of its own: an origin that no other service shares."
    )
    isolate_html: bool = Field(
        default=False, description="Browsers show its answers without scripts and apart from all other services."
    )
    drain_s: float | None = Field(
        default=None,
        ge=0,
        le=3600,
        description="Time for requests in flight at a stop; None: as long as the longest call may take, 30 s at least"
        " and 600 s at most.",
    )
    paused: bool = Field(default=False, description="Hold the rollout where it is.")
    promoted: int | None = Field(
        default=None, ge=1, description="The revision that may take over without its canary's further steps."
    )
    owner: str = Field(default="", description="The key that deployed it; the platform says so.")
    owner_uid: str = Field(
        default="", description="Its uid. The services call others by what this key may do; '': of an older Kaon."
    )


class RevisionSpec(Model):
    """One frozen version of a deployment."""

    deployment: Name
    deployment_uid: str = Field(default="", description="A deployment of the same name made later has another.")
    number: int = Field(ge=1)
    template: Template
    template_hash: str


class RevisionStatus(Model):
    """What became of a revision, the last time that something did."""

    outcome: str = Field(default="", description="'served', 'failed', 'rolled back' or 'withdrawn'; '': not known yet.")
    reason: str = Field(default="", description="Why.")
    at: float = Field(default=0, description="Epoch seconds.")


class RolloutState(OpenEnum):
    """Where a deployment stands."""

    PENDING = "Pending"
    PROGRESSING = "Progressing"
    STABLE = "Stable"
    STOPPED = "Stopped"
    """The new revision did not come up. The old one serves; when there is none, the new one is tried on."""
    DEGRADED = "Degraded"
    """Stable, but fewer replicas are ready than wanted."""

    @classmethod
    def unknown(cls) -> RolloutState:
        """The next look says how it stands."""
        return cls.PENDING


class Assignment(Model):
    """How many replicas of a revision must run, and what share of the traffic it gets."""

    revision: int = Field(ge=1)
    replicas: int = Field(ge=0)
    ordinals: tuple[int, ...] = Field(default=(), description="Which replicas: as many as `replicas`.")
    ready: int = Field(default=0, ge=0)
    weight: int = Field(default=0, ge=0, le=100)


class CanaryArm(Model):
    """What one side of a canary has answered since the step began."""

    calls: int = Field(default=0, ge=0, description="Answered, or given up by their callers.")
    failed: int = Field(default=0, ge=0, description="Answered 5xx, refused as too much, or not answered.")
    given_up: int = Field(default=0, description="Of these, by their callers; as the counts tell it, give or take.")
    timed: int = Field(default=0, ge=0, description="Calls since it is known what slow is.")
    slow: int = Field(default=0, ge=0, description="Of these, slower than `slow_s`.")
    overdue: int = Field(default=0, ge=0, description="Calls that are open for longer than that now.")
    p99_s: float | None = Field(default=None, description="Of the last minute; None: no calls.")


class CanaryGate(Model):
    """What a canary's test says of one kind of harm."""

    name: str = Field(description="'errors' or 'slowness'.")
    verdict: str = Field(description="'worse', 'fine' or 'not known yet'.")
    leans: str = Field(default="", description="'worse' or 'fine': what the shares say, be it by chance.")
    odds: float = Field(default=1.0, ge=1, description="The evidence for what it leans to: so many to one.")
    needed: float = Field(default=1.0, ge=1, description="From which odds on it counts as known.")
    reason: str = Field(default="", description="In words, with figures.")


class CanaryStatus(Model):
    """How far a canary has come."""

    revision: int = Field(ge=1)
    step: int = Field(default=0, ge=0, description="Index into `canary.steps`; as many as there are: all passed.")
    since: float = Field(description="When the step began, epoch seconds: when its share was in force.")
    in_force: bool = Field(default=False, description="Whether enough replicas were ready for the step's share.")
    until: float = Field(default=0, description="Calls up to then are counted, epoch seconds.")
    slow_s: float | None = Field(default=None, description="A call that takes longer is slow; None: not known yet.")
    new: CanaryArm = CanaryArm()
    old: CanaryArm = CanaryArm()
    gates: tuple[CanaryGate, ...] = ()
    reason: str = Field(default="", description="What it waits for, with figures.")
    promoted: bool = Field(default=False, description="A user said that it may take over without further steps.")


class Placement(Model):
    """In which cloud a deployment runs."""

    cloud: str = Field(default="", description="Empty: in none.")
    reason: str = ""
    since: float = Field(default=0, description="When it was placed there, epoch seconds.")


class RolloutStatus(Model):
    """How far the deployment's revisions have come."""

    observed_generation: int = Field(default=0, description="Generation of the spec that this was decided for.")
    tried: str = Field(default="", description="Hash of what of the spec decides whether the target comes up.")
    state: RolloutState = RolloutState.PENDING
    reason: str = ""
    stable: int | None = Field(default=None, description="The revision that serves.")
    target: int | None = Field(default=None, description="The revision that should.")
    canary: CanaryStatus | None = None
    shadow: int | None = Field(default=None, description="The revision that gets copies of calls, and no others.")
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


def template_hash(template: Template) -> str:
    """16 hex digits that name a template."""
    return content_hash(template)[:16]


def in_use(status: RolloutStatus) -> set[int]:
    """Numbers of the revisions that run, or that will run without a further request, as decided last."""
    found = (status.target, status.stable, status.shadow, *(a.revision for a in status.assignments))
    return {number for number in found if number is not None}


def templates_of(spec: DeploymentSpec) -> tuple[Template, ...]:
    """The template that should serve, and the shadow's when it has one of its own."""
    shadow = spec.shadow.template if spec.shadow else None
    return (spec.template,) if shadow is None else (spec.template, shadow)
