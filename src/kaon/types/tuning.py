"""Self-tuning: its mode, values in force, trials and recommendations."""

from __future__ import annotations

from pydantic import Field, model_validator

from kaon.types.knobs import KnobValues
from kaon.types.model import Model, OpenEnum
from kaon.types.objective import Weights
from kaon.types.window import LossParts


class TuningMode(OpenEnum, unknown="off"):
    """What the tuner may do without a request."""

    OFF = "off"
    RECOMMEND = "recommend"
    AUTO = "auto"


class Reach(OpenEnum, unknown="replica"):
    """The scope of a knob, which decides how a change is tried."""

    REPLICA = "replica"
    """Each replica has its own value: a few can try another (a canary)."""
    POOL = "pool"
    """All replicas share it: values are tried by turns (a switchback). Two half pools queue longer than one."""


class TunerAction(OpenEnum, unknown="none"):
    """What a user wants the tuner to do."""

    SET = "set"
    """Put the values in force, others as they are."""
    TRY = "try"
    """Try the values, and keep them if they prove better."""
    END = "end"
    """End the trial, or the request for one."""
    RESTORE = "restore"
    """Put the values in force instead of all others: those before the last change."""
    NONE = "none"
    """An action that only a newer Kaon has."""


class TunerCommand(Model):
    """A request to the tuner, as it is stored until the tuner has carried it out."""

    id: int = Field(ge=1, description="Rising within a deployment.")
    action: TunerAction
    values: KnobValues = Field(default_factory=dict, description="Of set, try and restore.")
    at: float = Field(description="Epoch seconds.")
    by: str = Field(description="Name of the key.")


MOST_COMMANDS = 16


class TuningSpec(Model):
    """The tuner's part of a deployment's spec."""

    mode: TuningMode = Field(
        default=TuningMode.RECOMMEND,
        description="off; recommend: only recommend better values; auto: try them, and keep what proves better.",
    )
    commands: tuple[TunerCommand, ...] = Field(
        default=(),
        max_length=MOST_COMMANDS,
        description="The last requests to the tuner, oldest first. Set by the platform; ignored in a request.",
    )


class TrialStatus(Model):
    """A running trial of values."""

    reach: Reach
    after: KnobValues
    predicted: float | None = Field(
        default=None, description="The gain predicted by the twin, a share of the loss; None: not predicted."
    )
    since: float = Field(description="Epoch seconds.")
    replicas: int = Field(default=0, ge=0, description="Replicas in the trial; 0: all, by turns.")
    trying: bool = Field(default=True, description="Of turns: whether it is the turn of these values.")
    until: float = Field(description="End of the trial unless it is extended, epoch seconds.")
    asked_by: str = Field(default="", description="Name of the key that requested it; empty: the tuner.")


class Recommendation(Model):
    """Values that are better than those in force, by the twin."""

    values: KnobValues
    gain: float = Field(description="Expected reduction of the loss, a share of it.")
    least: float = Field(description="The lower 95 % bound of the gain.")
    at: float = Field(description="Epoch seconds.")
    reason: str = ""


class ProbationStatus(Model):
    """Promoted values that are rolled back if too many calls miss their deadline."""

    safe: KnobValues = Field(description="The values before the first of these promotions.")
    until: float = Field(description="End of the probation, epoch seconds.")


class TuningStatus(Model):
    """The stored state of the tuner."""

    command: int = Field(default=0, ge=0, description="Id of the last command of the spec that was carried out.")
    values: KnobValues = Field(
        default_factory=dict, description="Values in force; other knobs have their usual values."
    )
    before: tuple[KnobValues, ...] = Field(
        default=(), max_length=10, description="Earlier values in force, newest last."
    )
    asked: KnobValues | None = Field(default=None, description="Requested trial that has not started.")
    asked_by: str = ""
    trial: TrialStatus | None = None
    recommended: Recommendation | None = None
    probation: ProbationStatus | None = Field(default=None, description="Of promotions within a day.")
    rollbacks: tuple[float, ...] = Field(
        default=(), description="Times of rollbacks within the last hour, epoch seconds."
    )
    off_until: float = Field(default=0.0, description="After three rollbacks in an hour: no trial until then.")
    changed_at: float = Field(default=0.0, description="Last change of `values`, epoch seconds.")
    changed_by: str = Field(default="", description="Name of the key that changed them; empty: the tuner.")


class KnobState(Model):
    """The state of one knob."""

    name: str
    what: str = Field(description="Description.")
    reach: Reach
    low: float
    high: float
    whole: bool = Field(default=False, description="Whether it takes only whole numbers.")
    tuned: bool = Field(default=True, description="Whether the tuner changes it; otherwise only a request does.")
    usual: float = Field(description="Value in the class, the spec or the law.")
    value: float = Field(description="Value in force.")
    tried: float | None = Field(default=None, description="Value in a running trial.")
    recommended: float | None = None


class Tried(Model):
    """A trial that has ended."""

    at: float = Field(description="When it ended, epoch seconds.")
    before: KnobValues
    after: KnobValues
    outcome: str = Field(
        description="promoted, rejected, stopped, rolled back; went back: rolled back after promotion."
    )
    reason: str
    predicted: float | None = Field(default=None, description="The predicted gain, a share of the loss.")
    realised: float | None = Field(default=None, description="The measured gain, a share of the loss.")


class LossPoint(Model):
    """The loss of a minute, with its parts."""

    at_s: float
    loss: LossParts | None = None
    tried: bool = Field(default=False, description="Whether a trial was running.")


class TuningState(Model):
    """The tuner of a deployment."""

    workspace: str
    deployment: str
    mode: TuningMode
    state: str = Field(description="off, learning, searching, trying, still, frozen or recommending.")
    reason: str = Field(description="The reason of the state.")
    knobs: tuple[KnobState, ...] = ()
    asked: KnobValues | None = Field(default=None, description="Requested trial that has not started.")
    trial: TrialStatus | None = None
    recommended: Recommendation | None = None
    probation: ProbationStatus | None = None
    trusted: bool | None = Field(default=None, description="Whether the twin's replay was accurate; None: unknown yet.")
    twin: str = Field(default="", description="Error of the twin's last replay, or why there is no twin.")
    epochs: int = Field(default=0, ge=0, description="Epochs since the control plane started.")
    next_epoch_at: float | None = Field(default=None, description="Epoch seconds.")
    off_until: float = 0.0
    trials: tuple[Tried, ...] = Field(default=(), description="Newest last.")
    losses: tuple[LossPoint, ...] = Field(default=(), description="By the minute, oldest first.")
    weights: Weights = Field(default=Weights(), description="Weights of the parts of the loss.")


class TuningRequest(Model):
    """A request to the tuner: one of these."""

    mode: TuningMode | None = None
    apply: bool = Field(default=False, description="Put the recommended values in force.")
    undo: bool = Field(default=False, description="Return to the previous values, or end a trial.")
    set: KnobValues | None = Field(default=None, description="Put these values in force at once, without a trial.")
    attempt: KnobValues | None = Field(
        default=None, description="Try these values, and keep them if they prove better."
    )

    @model_validator(mode="after")
    def _one(self) -> TuningRequest:
        given = [self.mode is not None, self.apply, self.undo, self.set is not None, self.attempt is not None]
        if sum(given) != 1:
            raise ValueError("give exactly one of mode, apply, undo, set, attempt")
        if self.set == {} or self.attempt == {}:
            raise ValueError("give at least one knob")
        return self
