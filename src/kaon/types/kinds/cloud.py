"""The kind cloud: a place where replicas run."""

from __future__ import annotations

from pydantic import Field

from kaon.types.cloud import CloudPhase, CloudSpec, CloudStatus
from kaon.types.key import Right
from kaon.types.kind import READ, Column, Filter, Form, Kind, Scope, Verb
from kaon.types.model import Model
from kaon.types.plan import EdgeStatus


class CloudView(Model):
    """A place where replicas run."""

    name: str
    driver: str
    edge_url: str
    seen_at: float = Field(description="Epoch seconds of its agent's last report; 0: never.")
    connected: bool = Field(description="Whether its agent reported within 15 s.")
    phase: CloudPhase = CloudPhase.READY
    reason: str = Field(default="", description="Why it is in this phase.")
    cordoned: bool = Field(default=False, description="No new deployments are placed there.")
    edge: EdgeStatus
    replicas: int = Field(description="Replicas there that your key sees.")
    ready: int


def _phase(cloud: CloudView) -> str:
    return f"{cloud.phase}, cordoned" if cloud.cordoned and cloud.phase is CloudPhase.LOST else cloud.phase


KIND = Kind(
    name="cloud",
    plural="clouds",
    summary="A place where replicas run, with one agent and one edge.",
    scope=Scope.PLATFORM,
    spec=CloudSpec,
    status=CloudStatus,
    rights={**READ, Verb.DELETE: Right.ADMIN},
    answer=CloudView,
    columns=(
        Column("name", lambda c: c.name),
        Column("phase", _phase),
        Column("driver", lambda c: c.driver),
        Column("seen", lambda c: c.seen_at, Form.AGE),
        Column("edge", lambda c: "running" if c.edge.running else "down"),
        Column("ready", lambda c: f"{c.ready}/{c.replicas}"),
        Column("edge url", lambda c: c.edge_url or "-"),
        Column("reason", lambda c: c.reason or "-", wide=True),
    ),
    filters=(Filter("phase", lambda c: c.phase, "Only in this phase, like Ready."),),
)
