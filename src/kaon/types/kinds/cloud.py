"""The kind cloud: a place where replicas run."""

from __future__ import annotations

from pydantic import Field

from kaon.types.cloud import CloudSpec, CloudStatus
from kaon.types.kind import READ, Column, Form, Kind, Scope
from kaon.types.model import Model
from kaon.types.plan import EdgeStatus


class CloudView(Model):
    """A place where replicas run."""

    name: str
    driver: str
    edge_url: str
    seen_at: float = Field(description="Epoch seconds of its agent's last report; 0: never.")
    connected: bool = Field(description="Whether its agent reported within 15 s.")
    edge: EdgeStatus
    replicas: int = Field(description="Replicas there that your key sees.")
    ready: int


KIND = Kind(
    name="cloud",
    plural="clouds",
    summary="A place where replicas run, with one agent and one edge.",
    scope=Scope.PLATFORM,
    spec=CloudSpec,
    status=CloudStatus,
    rights=READ,
    answer=CloudView,
    columns=(
        Column("name", lambda c: c.name),
        Column("driver", lambda c: c.driver),
        Column("agent", lambda c: "connected" if c.connected else "away"),
        Column("seen", lambda c: c.seen_at, Form.AGE),
        Column("edge", lambda c: "running" if c.edge.running else "down"),
        Column("ready", lambda c: f"{c.ready}/{c.replicas}"),
        Column("edge url", lambda c: c.edge_url or "-"),
    ),
)
