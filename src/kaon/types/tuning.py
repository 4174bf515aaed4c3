"""Self-tuning as it is said and told: the mode, what is in force, what is being tried, what is recommended."""

from __future__ import annotations

from pydantic import Field, model_validator

from kaon.types.knobs import KnobValues
from kaon.types.model import Model, OpenEnum
from kaon.types.objective import Weights
from kaon.types.window import LossParts


class TuningMode(OpenEnum, unknown="off"):
    """What the tuner may do by itself."""

    OFF = "off"
    RECOMMEND = "recommend"
    AUTO = "auto"


class Reach(OpenEnum, unknown="replica"):
    """Whom a knob concerns, and so how a move is tried."""

    REPLICA = "replica"
    """Each replica has its own: a few may try it (a canary)."""
    POOL = "pool"
    """All replicas together: only time can be split (a switchback). A pool in two lanes queues worse than one."""


class TuningSpec(Model):
    """What of a deployment's spec concerns the tuner."""

    mode: TuningMode = Field(
        default=TuningMode.RECOMMEND, description="off; recommend: say what would be better; auto: try it, and keep it."
    )


class TrialStatus(Model):
    """Values that are being tried."""

    reach: Reach
    after: KnobValues
    predicted: float | None = Field(
        default=None, description="The gain that the twin promises, a share of the loss; None: it was not asked."
    )
    since: float = Field(description="Epoch seconds.")
    replicas: int = Field(default=0, ge=0, description="How many replicas try them; 0: all, by turns.")
    trying: bool = Field(default=True, description="Of turns: whether the values are in force now.")
    until: float = Field(description="Without another word they are in force no longer than this, epoch seconds.")
    asked_by: str = Field(default="", description="The key that asked for it; empty: the tuner.")


class Recommendation(Model):
    """Values that the twin found to be better than those in force."""

    values: KnobValues
    gain: float = Field(description="By how much the loss would fall, a share of it.")
    least: float = Field(description="The lower 95 % bound of that.")
    at: float = Field(description="Epoch seconds.")
    reason: str = ""


class ProbationStatus(Model):
    """What the tuner goes back to by itself if what it promoted misses too many calls."""

    safe: KnobValues = Field(description="In force before the first of what was promoted since.")
    until: float = Field(description="After that what was promoted stays, epoch seconds.")


class TuningStatus(Model):
    """What the tuner must not forget."""

    values: KnobValues = Field(
        default_factory=dict, description="In force and safe; knobs that are not named: as always."
    )
    before: tuple[KnobValues, ...] = Field(
        default=(), max_length=10, description="What was in force earlier, newest last."
    )
    asked: KnobValues | None = Field(default=None, description="Somebody asked to try these.")
    asked_by: str = ""
    trial: TrialStatus | None = None
    recommended: Recommendation | None = None
    probation: ProbationStatus | None = Field(default=None, description="Of what the tuner promoted within a day.")
    rollbacks: tuple[float, ...] = Field(default=(), description="Of the last hour, epoch seconds.")
    off_until: float = Field(default=0.0, description="Three rollbacks in an hour: nothing is tried until then.")
    changed_at: float = Field(default=0.0, description="When `values` changed last, epoch seconds.")
    changed_by: str = Field(default="", description="The key that changed them; empty: the tuner.")


class KnobState(Model):
    """One knob as it stands."""

    name: str
    what: str = Field(description="What it is, in words.")
    reach: Reach
    low: float
    high: float
    whole: bool = Field(default=False, description="Whether it takes whole numbers only.")
    tuned: bool = Field(
        default=True, description="Whether the tuner moves it by itself; else only when somebody says so."
    )
    usual: float = Field(description="As the class, the spec or the law has it.")
    value: float = Field(description="In force.")
    tried: float | None = Field(default=None, description="What is being tried now.")
    recommended: float | None = None


class Tried(Model):
    """A trial that has ended, or an epoch's word that became one."""

    at: float = Field(description="When it ended, epoch seconds.")
    before: KnobValues
    after: KnobValues
    outcome: str = Field(description="promoted, rejected, stopped, rolled back; went back: it had been promoted.")
    reason: str
    predicted: float | None = Field(default=None, description="The gain promised, a share of the loss.")
    realised: float | None = Field(default=None, description="The gain measured, a share of the loss.")


class LossPoint(Model):
    """A minute's loss and its parts."""

    at_s: float
    loss: LossParts | None = None
    tried: bool = Field(default=False, description="Whether other values than those in force were tried then.")


class TuningState(Model):
    """All that there is to see of a deployment's tuner."""

    workspace: str
    deployment: str
    mode: TuningMode
    state: str = Field(description="off, learning, searching, trying, still, frozen or recommending.")
    reason: str = Field(description="Why, in words.")
    knobs: tuple[KnobState, ...] = ()
    asked: KnobValues | None = Field(default=None, description="Somebody asked to try these; they have not been yet.")
    trial: TrialStatus | None = None
    recommended: Recommendation | None = None
    probation: ProbationStatus | None = None
    trusted: bool | None = Field(default=None, description="Whether the twin's replay was right; None: not yet asked.")
    twin: str = Field(default="", description="What the twin's last replay was off by, or why it cannot be asked.")
    epochs: int = Field(default=0, ge=0, description="Since the control plane started.")
    next_epoch_at: float | None = Field(default=None, description="Epoch seconds.")
    off_until: float = 0.0
    trials: tuple[Tried, ...] = Field(default=(), description="Newest last.")
    losses: tuple[LossPoint, ...] = Field(default=(), description="By the minute, oldest first.")
    weights: Weights = Field(default=Weights(), description="Of the parts of the loss.")


class TuningRequest(Model):
    """What somebody wants of the tuner: one of these."""

    mode: TuningMode | None = None
    apply: bool = Field(default=False, description="Put what is recommended in force.")
    undo: bool = Field(default=False, description="Back to what was in force before; a trial ends.")
    set: KnobValues | None = Field(default=None, description="Put these in force, at once and without a trial.")
    attempt: KnobValues | None = Field(default=None, description="Try these, and keep them if they prove better.")

    @model_validator(mode="after")
    def _one(self) -> TuningRequest:
        said = [self.mode is not None, self.apply, self.undo, self.set is not None, self.attempt is not None]
        if sum(said) != 1:
            raise ValueError("say one of mode, apply, undo, set, attempt")
        if self.set == {} or self.attempt == {}:
            raise ValueError("name at least one knob")
        return self
