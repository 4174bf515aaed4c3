"""From all deployments, revisions and keys to one cloud's plan, as data; and the reconciler that keeps it."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence

from kaon.clock import Clock
from kaon.control import identity
from kaon.control.loop import Again, Key
from kaon.laws.rights import Standing, standing
from kaon.laws.tune.knobs_of import planned
from kaon.store.port import Change, Store
from kaon.types import resource
from kaon.types.deployment import Assignment
from kaon.types.key import Access, Grant, Right
from kaon.types.knobs import PlannedKnobs
from kaon.types.plan import Plan, PlanSpec
from kaon.types.replica import ReplicaSpec, replica_id
from kaon.types.resource import Artifact, Deployment, Revision, Secret
from kaon.types.route import Backend, Mirror, Route, prefix_of
from kaon.types.service import EndpointKind, EndpointSpec, Resources, ServiceSpec

IDENTITY_ENV = "KAON_KEY"
"""The variable in which a replica finds its deployment's own key."""

EDGE_MARGIN_S = 5.0
"""The edge waits longer than any endpoint may take, so that the replica's own answer gets through."""

_MADE_OF = ("deployment", "revision", "artifact", "key", "secret")
"""The kinds of resources that a plan is made of."""

Services = Mapping[tuple[str, str], ServiceSpec]
"""(Workspace, digest) -> the service of that artifact."""


def place(clouds: Sequence[str]) -> str | None:
    """The cloud where deployments run: with one that has joined, that one."""
    return min(clouds, default=None)


def plan(
    cloud: str,
    deployments: Iterable[Deployment],
    revisions: Iterable[Revision],
    artifacts: Iterable[Artifact],
    keys: Iterable[resource.Key],
    now: float,
    secrets: Iterable[Secret] = (),
) -> Plan:
    """Everything that must be true in `cloud`, where `deployments` are placed. Equal worlds give equal plans."""
    services: Services = {(a.workspace, a.spec.digest): a.spec.manifest.service for a in artifacts}
    frozen = {(r.workspace, r.spec.deployment_uid, r.spec.number): r for r in revisions}
    versions = {(secret.workspace, secret.name): secret.version for secret in secrets}
    callers = _callers(sorted(keys, key=lambda key: (key.name, key.uid)), now)
    replicas: list[ReplicaSpec] = []
    routes: list[Route] = []
    standby: list[ReplicaSpec] = []
    access: dict[str, Access] = {}
    knobs: dict[str, PlannedKnobs] = {}
    for deployment in sorted(deployments, key=lambda d: (d.workspace, d.name)):
        own = [
            (assignment, revision)
            for assignment in deployment.status.assignments
            if (revision := frozen.get((deployment.workspace, deployment.uid, assignment.revision)))
        ]
        running: list[ReplicaSpec] = []
        for assignment, revision in own:
            service = services.get((revision.workspace, revision.spec.template.artifact))
            running += (_replica(deployment, revision, ordinal, service) for ordinal in assignment.ordinals)
        replicas += running
        backends = _backends(deployment, [assignment for assignment, _ in own])
        serving = (r for a, r in own if a.revision != deployment.status.shadow)
        routes.append(_route(deployment, backends, _served(deployment, serving, services)))
        name = f"{deployment.workspace}/{deployment.name}"
        access[name] = _access(deployment, callers)
        stable = [replica.id for replica in running if replica.revision == deployment.status.stable]
        if own_knobs := planned(deployment.status.tuning, stable, now):
            knobs[name] = own_knobs
        idle = not any(assignment.replicas for assignment, _ in own)
        if idle and (first := _standby(deployment, frozen, services, versions)):
            standby.append(first)
    return Plan(
        cloud=cloud,
        replicas=tuple(replicas),
        routes=tuple(routes),
        standby=tuple(standby),
        access=access,
        knobs=knobs,
    )


def _backends(deployment: Deployment, assignments: Sequence[Assignment]) -> tuple[Backend, ...]:
    """Revisions and their shares. At zero the one that serves when there are replicas: the edge keeps its way."""
    shares = tuple(Backend(revision=a.revision, weight=a.weight) for a in assignments)
    kept = deployment.status.stable or deployment.status.target
    if kept is None or any(share.weight for share in shares):
        return shares
    return (*(share for share in shares if share.revision != kept), Backend(revision=kept, weight=100))


def _standby(
    deployment: Deployment,
    frozen: Mapping[tuple[str, str, int], Revision],
    services: Services,
    versions: Mapping[tuple[str, str], int],
) -> ReplicaSpec | None:
    """The replica that will be wanted as soon as somebody calls; None when that is not as plain as that.

    It says which versions its secrets have, so that the agent can have them before somebody waits for them.
    """
    status = deployment.status
    if not may_be_at_zero(deployment) or status.stable is None or status.stable != status.target:
        return None
    revision = frozen.get((deployment.workspace, deployment.uid, status.stable))
    if revision is None:
        return None
    first = _replica(deployment, revision, 0, services.get((revision.workspace, revision.spec.template.artifact)))
    names = sorted({*revision.spec.template.secrets.values(), identity.identity_name(deployment.name)})
    held = "-".join(str(versions.get((deployment.workspace, name), 0)) for name in names)
    return first.model_copy(update={"secrets_version": held})


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
        resources=template.resources or (service.resources if service else Resources()),
        drain_s=deployment.spec.drain_s,
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
    )


def _mirror(deployment: Deployment) -> Mirror | None:
    shadow, number = deployment.spec.shadow, deployment.status.shadow
    return Mirror(revision=number, percent=shadow.percent) if shadow and number else None


def may_be_at_zero(deployment: Deployment) -> bool:
    """Whether it may have no replica and yet answer: whoever calls then is held until one is ready."""
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


def _callers(keys: Sequence[resource.Key], now: float) -> list[tuple[Standing, Grant]]:
    """Every key that may call something, and its grant, which ends by itself when the key, or an owner's, does."""
    by_uid = {key.uid: key for key in keys}
    standings = ((key, standing(key, by_uid, now)) for key in keys)
    return [
        (held, Grant(hash=key.spec.hash, key=key.name, priority=held.priority, expires_at=held.expires_at))
        for key, held in standings
        if Right.CALL in held.rights
    ]


def _access(deployment: Deployment, callers: Sequence[tuple[Standing, Grant]]) -> Access:
    """Who may call: every key that stands for it now."""
    place = deployment.workspace, deployment.name
    grants = tuple(grant for held, grant in callers if held.may(Right.CALL, *place))
    return Access(public=deployment.spec.public, grants=grants)


class Planning:
    """The reconciler of plans; a key is no workspace and a cloud's name."""

    name = "planning"

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._known: set[Key] = set()

    async def keys(self) -> Collection[Key]:
        """Every cloud, and every plan that is left of one."""
        clouds = {("", cloud.name) for cloud in await self._store.list_all("cloud")}
        self._known = clouds | {("", kept.name) for kept in await self._store.list_all("plan")}
        return self._known

    async def affected(self, changes: Sequence[Change]) -> Collection[Key]:
        """Every cloud by what its plan is made of; by its own change only when it came or went: reports are none."""
        made_of = any(change.kind in _MADE_OF for change in changes)
        gone = any(change.kind in ("cloud", "plan") and change.deleted for change in changes)
        come = {("", change.name) for change in changes if change.kind == "cloud"} - self._known
        return await self.keys() if made_of or gone or come else ()

    async def reconcile(self, key: Key) -> Again | None:
        """Make the plan again, and keep it when it says something new."""
        name = key[1]
        clouds = [cloud.name for cloud in await self._store.list_all("cloud")]
        kept = await self._store.find("plan", "", name)
        if name not in clouds:
            if kept is not None:
                await self._store.delete(kept)
            return None
        here = place(clouds) == name
        # At once, and not one after the other: somebody may wait for it at the edge.
        found = await asyncio.gather(*(self._store.list_all(kind) for kind in _MADE_OF if here))
        deployments, revisions, artifacts, keys, secrets = found or ((), (), (), (), ())
        now = self._clock.now()
        made = plan(name, deployments, revisions, artifacts, keys, now, secrets)
        spec = PlanSpec(plan=made, hash=made.hash)
        if kept is None:
            await self._store.create("plan", "", name, spec)
        elif kept.spec.hash != spec.hash:
            await self._store.update_spec(kept, spec)
        return _again(deployments, now)


def _again(deployments: Iterable[Deployment], now: float) -> Again | None:
    """When the first trial is over, if nobody says more of it until then."""
    trials = (deployment.status.tuning.trial for deployment in deployments)
    ends = [trial.until - now for trial in trials if trial is not None and trial.until > now]
    return Again(min(ends)) if ends else None
