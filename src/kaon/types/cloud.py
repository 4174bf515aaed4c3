"""A cloud: a place where replicas run, with one agent, one edge and one driver."""

from __future__ import annotations

from pydantic import Field

from kaon.types.model import Model, OpenEnum
from kaon.types.plan import Report


class CloudPhase(OpenEnum, unknown="Cordoned"):
    """Whether a cloud can be relied on."""

    JOINING = "Joining"
    """Its agent has not reported yet."""
    READY = "Ready"
    CORDONED = "Cordoned"
    """It reports, and an admin wants no new deployments there."""
    LOST = "Lost"
    """Its agent has not reported for a while: nothing is known of what runs there."""


class CloudSpec(Model):
    """A cloud that has joined."""

    driver: str = "process"
    edge_url: str = Field(default="", description="Where its edge answers clients.")
    cordoned: bool = Field(default=False, description="Deployments that run there stay; no new ones are placed there.")


class CloudStatus(Model):
    """What its agent last reported, and what follows from when it did."""

    report: Report | None = None
    seen_at: float = Field(default=0, description="Epoch seconds of the last report, kept to within 5 s.")
    phase: CloudPhase = CloudPhase.JOINING
    reason: str = Field(default="", description="Why it is in this phase.")
    since: float = Field(default=0, description="Epoch seconds at which the phase began.")
