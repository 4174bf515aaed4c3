"""The kind cloud: a place where replicas run."""

from __future__ import annotations

from pydantic import Field

from kaon.types.cloud import CloudPhase, CloudSpec, CloudStatus
from kaon.types.key import Right
from kaon.types.kind import READ, Column, Filter, Form, Kind, Scope, Verb
from kaon.types.model import Model
from kaon.types.place import Capacity, PlaceHealth, PlaceState
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
    place: PlaceHealth = Field(default=PlaceHealth(), description="How the place is, and how much of it is in use.")
    replicas: int = Field(description="Replicas there that your key sees.")
    ready: int


def _phase(cloud: CloudView) -> str:
    return f"{cloud.phase}, cordoned" if cloud.cordoned and cloud.phase is CloudPhase.LOST else cloud.phase


def _health(cloud: CloudView) -> str:
    state, reason = cloud.place.state, cloud.place.reason
    return f"{state}: {reason}" if reason and state is not PlaceState.OK else state


def capacity(cloud: CloudView) -> str:
    """Used and available resources, like '1.5/32 cpu, 0.3/15.6 GiB'; '-' where they are unknown."""
    used, free = cloud.place.used, cloud.place.free
    if used is None or free is None:
        return "-"
    gpus = _used_of(used.gpus, free.gpus)
    shown = f"{_used_of(used.cpus, free.cpus)} cpu, {_used_of(_gib(used), _gib(free))} GiB"
    return shown if gpus == "0/0" else f"{shown}, {gpus} gpu"


def _used_of(used: float, free: float) -> str:
    return f"{round(used, 1):g}/{round(used + free, 1):g}"


def _gib(amount: Capacity) -> float:
    return amount.memory_bytes / 2**30


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
        Column("capacity", capacity),
        Column("health", _health, Form.LINE),
        Column("edge url", lambda c: c.edge_url or "-"),
        Column("reason", lambda c: c.reason or "-", wide=True),
    ),
    filters=(Filter("phase", lambda c: c.phase, "Only in this phase, like Ready."),),
)
