"""What a deployment is meant to achieve: the targets and weights of the loss."""

from __future__ import annotations

from pydantic import Field, model_validator

from kaon.types.model import Model


class Weights(Model):
    """Weights of the parts of the loss. Completion has none: it is a constraint with a learnt price."""

    latency: float = Field(default=1.0, ge=0, le=100)
    utilisation: float = Field(default=0.1, ge=0, le=100)
    cost: float = Field(default=1.0, ge=0, le=100)


class Objective(Model):
    """Targets for latency, completion and utilisation."""

    latency_s: float = Field(default=0.5, gt=0, le=3600, description="Target latency of answers, seconds.")
    quantile: float = Field(
        default=0.9, gt=0, lt=1, description="The share of answers that should be within `latency_s`."
    )
    completion: float = Field(
        default=0.99, gt=0, lt=1, description="The share of calls that must succeed before their deadline."
    )
    deadline_s: float | None = Field(
        default=None, gt=0, le=3600, description="An answer after this is a miss, seconds. None: twice `latency_s`."
    )
    utilisation: tuple[float, float] = Field(
        default=(0.55, 0.85), description="The band in which a replica's busy share should lie."
    )
    weights: Weights = Weights()

    @model_validator(mode="after")
    def _sound(self) -> Objective:
        low, high = self.utilisation
        if not 0 < low < high < 1:
            raise ValueError(f"utilisation is a band (low, high) with 0 < low < high < 1, not ({low}, {high})")
        if self.deadline_s is not None and self.deadline_s < self.latency_s:
            raise ValueError(f"deadline_s ({self.deadline_s}) is below latency_s ({self.latency_s})")
        return self

    @property
    def patience_s(self) -> float:
        """The deadline of a call, seconds."""
        return self.deadline_s if self.deadline_s is not None else 2 * self.latency_s
