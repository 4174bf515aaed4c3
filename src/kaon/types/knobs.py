"""Knobs: parameters of a replica, and of the scaling law, that can change while it serves."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from kaon.types.model import Model
from kaon.types.versioned import Versioned

KnobName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
KnobValues = dict[KnobName, Annotated[float, Field(allow_inf_nan=False)]]
"""Values of knobs, by name."""


def figure(value: float, digits: int = 6) -> str:
    """A value as typed by people: with so many digits, without exponent."""
    text = f"{value:.{digits}g}"
    return text if "e" not in text else f"{value:.9f}".rstrip("0").rstrip(".")


def spelled(values: KnobValues) -> str:
    """Values as typed by people."""
    return ", ".join(f"{name}={figure(value)}" for name, value in values.items())


MOST_WAIT_S = 10.0


class Knobs(Versioned):
    """Settings of a replica that differ from its class; None: as in the class. They never exceed the class's limits."""

    max_batch: int | None = Field(
        default=None, ge=1, description="Rows of a batch at most; an endpoint whose own limit is lower keeps that."
    )
    max_wait_s: float | None = Field(
        default=None,
        ge=0,
        le=MOST_WAIT_S,
        description="How long a batch may be held for others; an endpoint whose own limit is lower keeps that.",
    )
    concurrency: int | None = Field(
        default=None,
        ge=1,
        description="Calls, or batches, at once; an endpoint whose own limit is lower keeps that, and streams and "
        "websockets, which last as long as their callers stay, keep theirs.",
    )


AS_THE_CLASS_SAYS = Knobs()


class PlannedKnobs(Model):
    """The knobs of a deployment's replicas in a plan.

    `force` is safe and permanent. `trial` is not: an agent without an answer from the control plane for `LEASE_S` goes
    back to `force`.
    """

    force: Knobs = AS_THE_CLASS_SAYS
    trial: Knobs | None = None
    replicas: tuple[str, ...] | None = Field(default=None, description="Ids of the replicas in the trial; None: all.")

    def named(self) -> PlannedKnobs:
        """The same with a version for all knobs."""
        trial = None if self.trial is None else self.trial.named()
        return self.model_copy(update={"force": self.force.named(), "trial": trial})

    def of(self, replica: str, *, trying: bool = True) -> Knobs:
        """The knobs of the replica of that id; `trying`: whether the trial is still active."""
        tries = trying and (self.replicas is None or replica in self.replicas)
        return self.trial if tries and self.trial is not None else self.force


LEASE_S = 8.0
"""How long an agent continues a trial without an answer from the control plane."""
