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
    """It reports, but an admin allows no new deployments there."""
    LOST = "Lost"
    """Its agent has not reported for a while: the state of its replicas is unknown."""


class CloudSpec(Model):
    """A cloud that has joined."""

    driver: str = "process"
    edge_url: str = Field(default="", description="Where its edge answers clients.")
    cordoned: bool = Field(default=False, description="Its deployments stay; no new ones are placed there.")


class CloudStatus(Model):
    """The last report of its agent, and the phase that follows from its age."""

    report: Report | None = None
    seen_at: float = Field(default=0, description="Epoch seconds of the last report, kept to within 5 s.")
    phase: CloudPhase = CloudPhase.JOINING
    reason: str = Field(default="", description="Why it is in this phase.")
    since: float = Field(default=0, description="Epoch seconds at which the phase began.")
