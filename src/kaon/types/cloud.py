"""A cloud: a place where replicas run, with one agent, one edge and one driver."""

from __future__ import annotations

from pydantic import Field

from kaon.types.model import Model
from kaon.types.plan import Report


class CloudSpec(Model):
    """A cloud that has joined."""

    driver: str = "process"
    edge_url: str = Field(default="", description="Where its edge answers clients.")


class CloudStatus(Model):
    """What its agent last reported."""

    report: Report | None = None
    seen_at: float = Field(default=0, description="Epoch seconds of the last report, kept to within 5 s.")
