"""Plan and report: all that a control plane and an agent say to each other.

A plan is everything that must be true in one cloud, named by its content hash; a report is everything
that the agent sees there. Neither is a command: the newest one replaces all before it, so a lost one
costs nothing but time.
"""

from __future__ import annotations

from pydantic import Field

from kaon.types.key import Access
from kaon.types.knobs import PlannedKnobs
from kaon.types.model import Model, content_hash
from kaon.types.place import PlaceHealth
from kaon.types.replica import ReplicaSpec, ReplicaStatus
from kaon.types.route import Route


class Plan(Model):
    """Everything that must be true in one cloud."""

    cloud: str
    replicas: tuple[ReplicaSpec, ...] = ()
    routes: tuple[Route, ...] = ()
    standby: tuple[ReplicaSpec, ...] = Field(
        default=(),
        description="Of deployments at zero, the replica that the agent starts as soon as a caller waits.",
    )
    access: dict[str, Access] = Field(default_factory=dict, description="'workspace/deployment' -> who may call it.")
    knobs: dict[str, PlannedKnobs] = Field(
        default_factory=dict, description="'workspace/deployment' -> its replicas' knobs; as the class says: left out."
    )

    @property
    def hash(self) -> str:
        """The plan's name."""
        return content_hash(self)


class EdgeStatus(Model):
    """What an agent sees of its edge."""

    running: bool = False
    rejected: str = Field(default="", description="Why the last configuration was refused; the one before serves.")
    refused: dict[str, str] = Field(
        default_factory=dict,
        description="'workspace/deployment' -> what of it cannot be routed, and why; its last good form serves.",
    )
    address: str = ""


class Report(Model):
    """Everything that an agent sees in its cloud."""

    cloud: str
    plan: str = Field(default="", description="Hash of the plan that the agent works by.")
    replicas: tuple[ReplicaStatus, ...] = ()
    edge: EdgeStatus = EdgeStatus()
    place: PlaceHealth = Field(default=PlaceHealth(), description="How the place is in which the replicas run.")
    held: dict[str, int] = Field(
        default_factory=dict, description="'workspace/deployment' -> callers that wait for a replica; none: left out."
    )
    refusals: dict[str, tuple[str, ...]] = Field(
        default_factory=dict, description="'workspace/deployment' -> ids of requests that are refused: they crash it."
    )


class PlanSpec(Model):
    """A plan as the store keeps it; the resource's name is the cloud's."""

    plan: Plan
    hash: str


class PlanStatus(Model):
    """What could not be planned."""

    left_out: dict[str, str] = Field(
        default_factory=dict,
        description="'workspace/deployment' -> why its part could not be made; the last good part is in the plan.",
    )
