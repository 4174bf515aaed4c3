"""Plan and report: the messages between a control plane and an agent.

A plan is the desired state of one cloud; a report is its observed state. Neither is a command: the newest one replaces
all earlier ones, so a lost one costs nothing but time.

A plan has a part for each deployment. Grants are listed once, in groups, and a part names the groups that may call its
deployment: a plan's size grows with its replicas plus its keys, not with their product. The control plane names a plan;
agents only compare names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any, TypeVar

from pydantic import Field, model_validator

from kaon.types.job import PlannedAttempt
from kaon.types.key import Access, Grant
from kaon.types.knobs import PlannedKnobs
from kaon.types.model import Model
from kaon.types.place import PlaceHealth
from kaon.types.replica import ReplicaSpec, ReplicaStatus
from kaon.types.route import Route
from kaon.types.versioned import Version

PLAN_IN_PARTS = "application/vnd.kaon.plan-in-parts+json"
"""Media type of `Plan`, accepted by agents that read it; those of the previous release read `FlatPlan` only."""


class PartAccess(Model):
    """Who may call a deployment, by reference."""

    public: bool = False
    groups: tuple[str, ...] = Field(default=(), description="Names of groups in `Plan.grants`.")
    version: Version = Field(default="", description="Version of this access list; the replica reports it.")


class PlanPart(Model):
    """The part of a plan for one deployment."""

    replicas: tuple[ReplicaSpec, ...] = ()
    route: Route | None = None
    standby: ReplicaSpec | None = Field(
        default=None, description="Of a deployment at zero: the replica to start as soon as a caller waits."
    )
    access: PartAccess = PartAccess()
    knobs: PlannedKnobs = PlannedKnobs().named()


class FlatPlan(Model):
    """A plan in the form of the previous release: in files, in the store, and between its servers and agents."""

    cloud: str
    replicas: tuple[ReplicaSpec, ...] = ()
    routes: tuple[Route, ...] = ()
    standby: tuple[ReplicaSpec, ...] = ()
    access: dict[str, Access] = Field(default_factory=dict)
    knobs: dict[str, PlannedKnobs] = Field(default_factory=dict)

    def in_parts(self) -> dict[str, Any]:
        """The fields of the same `Plan`."""
        replicas, standby = _by_deployment(self.replicas), _by_deployment(self.standby)
        routes = _by_deployment(self.routes)
        grants: dict[str, tuple[Grant, ...]] = {}
        parts: dict[str, PlanPart] = {}
        for name in sorted({*replicas, *routes, *standby, *self.access, *self.knobs}):
            access = self.access.get(name, Access()).named()
            grants[access.version] = access.grants
            parts[name] = PlanPart(
                replicas=tuple(replicas.get(name, ())),
                route=routes[name][0] if name in routes else None,
                standby=standby[name][0] if name in standby else None,
                access=PartAccess(public=access.public, groups=(access.version,), version=access.version),
                knobs=self.knobs.get(name, PlannedKnobs()).named(),
            )
        return {"cloud": self.cloud, "grants": grants, "parts": parts}

    def text(self) -> str:
        """As JSON for an agent of the previous release, which refuses unknown fields."""
        versions = {"force": {"version"}, "trial": {"version"}}
        newer = {"__all__": {"datasets", "alone"}}
        left_out: Any = {
            "access": {"__all__": {"version"}},
            "knobs": {"__all__": versions},
            "replicas": newer,
            "standby": newer,
        }
        return self.model_dump_json(exclude=left_out)


_Of = TypeVar("_Of", ReplicaSpec, Route)


def _by_deployment(found: Iterable[_Of]) -> dict[str, list[_Of]]:
    grouped: dict[str, list[_Of]] = {}
    for one in found:
        grouped.setdefault(f"{one.workspace}/{one.deployment}", []).append(one)
    return grouped


class Plan(Model):
    """The desired state of one cloud. The form of the previous release is read too."""

    cloud: str
    grants: dict[str, tuple[Grant, ...]] = Field(default_factory=dict, description="Group -> grants, each once.")
    parts: dict[str, PlanPart] = Field(default_factory=dict, description="'workspace/deployment' -> its part.")
    attempts: tuple[PlannedAttempt, ...] = Field(default=(), description="Attempts of jobs, by id.")

    @model_validator(mode="before")
    @classmethod
    def _from_previous_release(cls, data: Any) -> Any:
        flat = isinstance(data, dict) and data.keys() & (FlatPlan.model_fields.keys() - cls.model_fields.keys())
        return FlatPlan.model_validate(data).in_parts() if flat else data

    @classmethod
    def of(
        cls,
        cloud: str,
        grants: Mapping[str, tuple[Grant, ...]],
        parts: Mapping[str, PlanPart],
        attempts: Iterable[PlannedAttempt] = (),
    ) -> Plan:
        """A plan of parts that have been validated already."""
        return cls.model_construct(cloud=cloud, grants=dict(grants), parts=dict(parts), attempts=tuple(attempts))

    @cached_property
    def replicas(self) -> tuple[ReplicaSpec, ...]:
        """The replicas of all parts."""
        return tuple(replica for part in self.parts.values() for replica in part.replicas)

    @cached_property
    def routes(self) -> tuple[Route, ...]:
        """The routes of all parts."""
        return tuple(part.route for part in self.parts.values() if part.route)

    @cached_property
    def standby(self) -> tuple[ReplicaSpec, ...]:
        """The standby replicas of all parts."""
        return tuple(part.standby for part in self.parts.values() if part.standby)

    @cached_property
    def access(self) -> dict[str, Access]:
        """'workspace/deployment' -> who may call it."""
        made: dict[PartAccess, Access] = {}
        for part in self.parts.values():
            if part.access not in made:
                made[part.access] = expanded(part.access, self.grants)
        return {name: made[part.access] for name, part in self.parts.items()}

    @cached_property
    def knobs(self) -> dict[str, PlannedKnobs]:
        """'workspace/deployment' -> the knobs of its replicas."""
        return {name: part.knobs for name, part in self.parts.items()}

    def flat(self) -> FlatPlan:
        """The same in the form of the previous release."""
        usual = PlannedKnobs().named()
        return FlatPlan(
            cloud=self.cloud,
            replicas=self.replicas,
            routes=self.routes,
            standby=self.standby,
            access=self.access,
            knobs={name: knobs for name, knobs in self.knobs.items() if knobs != usual},
        )


def expanded(access: PartAccess, grants: Mapping[str, tuple[Grant, ...]]) -> Access:
    """The access list that `access` refers to. A missing group gives no access."""
    found = (grant for group in access.groups for grant in grants.get(group, ()))
    ordered = tuple(sorted(found, key=lambda grant: (grant.key, grant.hash)))
    return Access(public=access.public, grants=ordered, version=access.version).named()


class NamedPlan(Model):
    """A plan and its name."""

    name: str = Field(default="", description="Opaque; empty: unknown, as of a plan of the previous release.")
    plan: Plan


class EdgeStatus(Model):
    """The state of an edge, as its agent observes it."""

    running: bool = False
    rejected: str = Field(
        default="", description="Why the last configuration was refused; the previous one is in force."
    )
    refused: dict[str, str] = Field(
        default_factory=dict,
        description="'workspace/deployment' -> why it cannot be routed; its last valid form is in force.",
    )
    address: str = ""


class Report(Model):
    """The observed state of one cloud."""

    cloud: str
    plan: str = Field(default="", description="Name of the plan that the agent applies.")
    replicas: tuple[ReplicaStatus, ...] = ()
    edge: EdgeStatus = EdgeStatus()
    place: PlaceHealth = Field(default=PlaceHealth(), description="State of the place in which the replicas run.")
    held: dict[str, int] = Field(
        default_factory=dict,
        description="'workspace/deployment' -> number of callers that wait for a replica; 0 is left out.",
    )
    refusals: dict[str, tuple[str, ...]] = Field(
        default_factory=dict, description="'workspace/deployment' -> ids of refused requests, which crash it."
    )


class PlanSpec(Model):
    """A plan as it is stored; the resource has the name of the cloud. Its parts are rows of their own."""

    hash: str = Field(description="The plan's name for agents.")
    grants: dict[str, tuple[Grant, ...]] = Field(default_factory=dict, description="As in `Plan`.")
    parts: dict[str, str] = Field(default_factory=dict, description="'workspace/deployment' -> digest of its part.")
    plan: Plan | None = Field(default=None, description="The whole plan, in a row of the previous release.")


class PlanStatus(Model):
    """Deployments that could not be planned."""

    left_out: dict[str, str] = Field(
        default_factory=dict,
        description="'workspace/deployment' -> why its part could not be made; the last valid part is in the plan.",
    )


class PlanPartSpec(Model):
    """A part as it is stored; the resource is named 'cloud/workspace/deployment'."""

    digest: str = Field(description="Digest of its content; the plan's row refers to it.")
    part: PlanPart


class PlanPartStatus(Model):
    """Nothing yet."""
