"""The part of one deployment in a plan: its replicas, its route, its standby replica, its knobs. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from kaon.errors import InvalidInput
from kaon.laws.drain import drain_s
from kaon.laws.tune.knobs_of import planned
from kaon.types import resource
from kaon.types.dataset import DatasetUse
from kaon.types.deployment import Assignment
from kaon.types.key import identity_name
from kaon.types.names import DeploymentKey
from kaon.types.plan import Plan, PlanPart
from kaon.types.replica import ReplicaSpec, replica_id
from kaon.types.resource import Artifact, Deployment, Revision, Secret, Unreadable
from kaon.types.route import Backend, Mirror, Route, prefix_of
from kaon.types.service import EndpointKind, EndpointSpec, Resources, ServiceSpec, runs_alone

IDENTITY_ENV = "KAON_KEY"
"""The variable in which a replica finds its deployment's own key."""

EDGE_MARGIN_S = 5.0
"""The edge waits longer than any endpoint may take, so that the replica's own answer gets through."""

Services = Mapping[tuple[str, str], ServiceSpec]
"""(Workspace, digest) -> the service of that artifact."""


@dataclass(frozen=True, slots=True)
class PlanInputs:
    """What a plan is made of: everything that is stored of its kinds, and what of it cannot be read."""

    deployments: Sequence[Deployment] = ()
    revisions: Sequence[Revision] = ()
    artifacts: Sequence[Artifact] = ()
    keys: Sequence[resource.Key] = ()
    secrets: Sequence[Secret] = ()
    unreadable: Sequence[Unreadable] = ()


class PlanSource:
    """The inputs of plans, indexed."""

    def __init__(self, world: PlanInputs) -> None:
        self.artifacts = {(a.workspace, a.spec.digest): a for a in world.artifacts}
        self.services: Services = {at: artifact.spec.manifest.service for at, artifact in self.artifacts.items()}
        self.frozen = {(r.workspace, r.spec.deployment_uid, r.spec.number): r for r in world.revisions}
        self.versions = {(secret.workspace, secret.name): secret.version for secret in world.secrets}
        self._unreadable = {(u.kind, u.workspace, u.name): u.reason for u in world.unreadable}

    def versions_of(self, deployment: Deployment, now: float) -> tuple[object, ...]:
        """The versions of all that a deployment's part is made of."""
        status, workspace = deployment.status, deployment.workspace
        numbers = (*(assignment.revision for assignment in status.rollout.assignments), status.rollout.stable)
        revisions = [self.frozen.get((workspace, deployment.uid, number)) for number in numbers if number is not None]
        templates = (*(r.spec.template for r in revisions if r), deployment.spec.template)
        artifacts = (self.artifacts.get((workspace, template.artifact)) for template in templates)
        trial = status.tuning.trial
        return (
            deployment.uid,
            deployment.version,
            trial is not None and now < trial.until,
            *(r and r.version for r in revisions),
            *(a and a.version for a in artifacts),
            *(self.secrets_version(deployment, r) for r in revisions if r and may_be_at_zero(deployment)),
        )

    def secrets_version(self, deployment: Deployment, revision: Revision) -> str:
        """Which versions the secrets of a revision's replicas have."""
        template = revision.spec.template
        service = self.services.get((revision.workspace, template.artifact))
        declares = service is not None and service.uses is not None
        own = identity_name(deployment.name, revision.spec.number if declares else None)
        names = sorted({*template.secrets.values(), own})
        return "-".join(str(self.versions.get((deployment.workspace, name), 0)) for name in names)

    def check(self, deployment: Deployment, digests: Iterable[str]) -> None:
        """Raise `InvalidInput` when something that a deployment's part is made of cannot be read."""
        for assignment in deployment.status.rollout.assignments:
            name = f"{deployment.name}-{assignment.revision}"
            if reason := self._unreadable.get(("revision", deployment.workspace, name)):
                raise InvalidInput(f"Revision {assignment.revision} is stored in a form that cannot be read: {reason}")
        for digest in digests:
            if reason := self._unreadable.get(("artifact", deployment.workspace, digest)):
                raise InvalidInput(
                    f"The manifest of its artifact {digest[:19]} is not valid: {reason}",
                    hint="Build and deploy it again: kaon deploy",
                )


def part_of(deployment: Deployment, source: PlanSource, now: float) -> PlanPart:
    """The part of a deployment. Raises any exception that prevents it."""
    own = [
        (assignment, revision)
        for assignment in deployment.status.rollout.assignments
        if (revision := source.frozen.get((deployment.workspace, deployment.uid, assignment.revision)))
    ]
    source.check(deployment, [r.spec.template.artifact for _, r in own] or [deployment.spec.template.artifact])
    running: list[ReplicaSpec] = []
    for assignment, revision in own:
        service = source.services.get((revision.workspace, revision.spec.template.artifact))
        running += (_replica(deployment, revision, ordinal, service) for ordinal in assignment.ordinals)
    backends = _backends(deployment, [assignment for assignment, _ in own])
    serving = (r for a, r in own if a.revision != deployment.status.rollout.shadow)
    stable = [replica.id for replica in running if replica.revision == deployment.status.rollout.stable]
    idle = not any(assignment.replicas for assignment, _ in own)
    return PlanPart(
        replicas=tuple(map(_checked, running)),
        route=_route(deployment, backends, _served(deployment, serving, source.services)),
        standby=_checked(first) if idle and (first := _standby(deployment, source)) else None,
        knobs=planned(deployment.status.tuning, stable, now),
    )


def _checked(replica: ReplicaSpec) -> ReplicaSpec:
    """The same, looked at as the agent will that reads it: what a model is made of is not looked at again otherwise."""
    return ReplicaSpec.model_validate(replica.model_dump(warnings=False))


def kept_part(last: Plan, at: DeploymentKey, uid: str | None = None) -> PlanPart:
    """What the last plan holds of a deployment; of one of that `uid`, when it is named: names are used again."""

    part = last.parts.get("/".join(at), PlanPart())

    def of(replica: ReplicaSpec) -> bool:
        return uid is None or replica.id == replica_id(at[0], uid, replica.revision, replica.ordinal)

    replicas = tuple(filter(of, part.replicas))
    standby = part.standby if part.standby and of(part.standby) else None
    if replicas or standby or uid is None:
        return part.model_copy(update={"replicas": replicas, "standby": standby})
    return PlanPart()


def key_of(deployment: Deployment) -> DeploymentKey:
    """Its workspace and name."""
    return deployment.workspace, deployment.name


def _backends(deployment: Deployment, assignments: Sequence[Assignment]) -> tuple[Backend, ...]:
    """Revisions and their shares. At zero replicas the one that will serve, so that the edge keeps its route."""
    shares = tuple(Backend(revision=a.revision, weight=a.weight) for a in assignments)
    kept = deployment.status.rollout.stable or deployment.status.rollout.target
    if kept is None or any(share.weight for share in shares):
        return shares
    return (*(share for share in shares if share.revision != kept), Backend(revision=kept, weight=100))


def _standby(deployment: Deployment, source: PlanSource) -> ReplicaSpec | None:
    """The replica that the next call will start; None: there is no such replica, or it is not certain which one.

    It has the versions of its secrets, so that the agent can fetch them before a call waits.
    """
    status = deployment.status.rollout
    if not may_be_at_zero(deployment) or status.stable is None or status.stable != status.target:
        return None
    revision = source.frozen.get((deployment.workspace, deployment.uid, status.stable))
    if revision is None:
        return None
    service = source.services.get((revision.workspace, revision.spec.template.artifact))
    first = _replica(deployment, revision, 0, service)
    return first.model_copy(update={"secrets_version": source.secrets_version(deployment, revision)})


def _replica(deployment: Deployment, revision: Revision, ordinal: int, service: ServiceSpec | None) -> ReplicaSpec:
    template, number = revision.spec.template, revision.spec.number
    return ReplicaSpec(
        id=replica_id(deployment.workspace, deployment.uid, number, ordinal),
        name=f"{deployment.name}-{number}-{ordinal}",
        workspace=deployment.workspace,
        deployment=deployment.name,
        deployment_uid=deployment.uid,
        revision=number,
        ordinal=ordinal,
        artifact=template.artifact,
        env=template.env,
        secrets=tuple(sorted({*template.secrets, IDENTITY_ENV})),
        alone=service is not None and runs_alone(service, template.env.keys() | template.secrets.keys()),
        datasets=tuple(
            DatasetUse(name=name, version=mount.version)
            for name, mount in sorted(template.datasets.items())
            if mount.version is not None
        ),
        resources=template.resources or (service.resources if service else Resources()),
        drain_s=drain_s(deployment.spec.drain_s, service),
        start_s=deployment.spec.rollout.progress_deadline_s,
    )


def _served(deployment: Deployment, running: Iterable[Revision], services: Services) -> list[ServiceSpec]:
    """The services behind a deployment's route: of what runs, or, at zero replicas, of what would."""
    digests = [r.spec.template.artifact for r in running] or [deployment.spec.template.artifact]
    found = (services.get((deployment.workspace, digest)) for digest in dict.fromkeys(digests))
    return [service for service in found if service]


def _route(deployment: Deployment, backends: tuple[Backend, ...], services: Sequence[ServiceSpec]) -> Route:
    endpoints = [endpoint for service in services for endpoint in service.endpoints]
    once_only = {e.path for e in endpoints if not e.retry}
    again = {e.path for e in endpoints if e.retry} - once_only  # in every revision, and by every verb
    lasting = {e.path for e in endpoints if _lasts(e)} | {mount for service in services for mount in service.mounts}
    limits = [e.timeout_s for e in endpoints if e.timeout_s is not None and not _lasts(e)]
    return Route(
        workspace=deployment.workspace,
        deployment=deployment.name,
        prefix=prefix_of(deployment.workspace, deployment.name),
        backends=backends,
        retry_paths=tuple(sorted(again)),
        stream_paths=tuple(sorted(lasting)),
        timeout_s=max(limits, default=60.0) + EDGE_MARGIN_S,
        hold_s=deployment.spec.scaling.hold_s if may_be_at_zero(deployment) else 0.0,
        mirror=_mirror(deployment),
        hedges=_hedges(endpoints),
        closed=not deployment.spec.public,
        cors_origins=deployment.spec.cors.origins,
        cors_credentials=deployment.spec.cors.credentials,
        cors_headers=deployment.spec.cors.headers,
        hosts=deployment.spec.hosts,
        sandbox=deployment.spec.isolate_html,
    )


def _mirror(deployment: Deployment) -> Mirror | None:
    shadow, number = deployment.spec.shadow, deployment.status.rollout.shadow
    return Mirror(revision=number, percent=shadow.percent) if shadow and number else None


def may_be_at_zero(deployment: Deployment) -> bool:
    """Whether it may have no replicas and still accept calls, which then wait for one."""
    scaling = deployment.spec.scaling
    return scaling.min == 0 and scaling.max > 0


def _hedges(endpoints: Iterable[EndpointSpec]) -> dict[str, float]:
    """After how long calls are sent twice, by path; only where everything at the path, in every revision, may be."""
    endpoints = list(endpoints)
    once_only = {e.path for e in endpoints if not e.idempotent or _lasts(e)}
    hedged = [(e.path, e.hedge_s) for e in endpoints if e.hedge_s is not None and e.path not in once_only]
    return dict(sorted(hedged))


def _lasts(endpoint: EndpointSpec) -> bool:
    return endpoint.kind is not EndpointKind.CALL or endpoint.timeout_s is None
