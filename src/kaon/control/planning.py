"""From all deployments, revisions and keys to one cloud's plan, as data; and the reconciler that keeps it.

A plan is made of parts, one for each deployment. A part that cannot be made, for whatever reason, is left out alone:
the deployment's last good part stays in the plan, and `PlanStatus.left_out` says why. Who may call is made anew for
every deployment whatever happens, so that a key that was revoked ends everywhere.

A part that was made is kept with the versions of what it was made of, so that one change makes one part anew.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from pydantic import ValidationError

from kaon import log
from kaon.clock import Clock
from kaon.control.callers import Callers, callers_of
from kaon.control.loop import Again
from kaon.errors import InvalidInput, KaonError, TooLarge
from kaon.laws.drain import drain_s
from kaon.laws.tune.knobs_of import planned
from kaon.store.plans import StoredPlans, delete_plan, write_plan
from kaon.store.port import Change, Store, Unreadable
from kaon.store.records import reason
from kaon.store.snapshot import Snapshot
from kaon.types import resource
from kaon.types.deployment import Assignment
from kaon.types.key import identity_name
from kaon.types.model import content_hash
from kaon.types.names import DeploymentKey
from kaon.types.plan import PartAccess, Plan, PlanPart
from kaon.types.replica import ReplicaSpec, replica_id
from kaon.types.resource import Artifact, Deployment, Revision, Secret
from kaon.types.route import Backend, Mirror, Route, prefix_of
from kaon.types.service import EndpointKind, EndpointSpec, Resources, ServiceSpec

IDENTITY_ENV = "KAON_KEY"
"""The variable in which a replica finds its deployment's own key."""

EDGE_MARGIN_S = 5.0
"""The edge waits longer than any endpoint may take, so that the replica's own answer gets through."""

ROUTES_BYTES = 2**20
"""How much of routes a workspace may have, unless the platform's settings say otherwise."""

_log = log.get("planning")

_MADE_OF = ("deployment", "revision", "artifact", "key", "secret")
"""The kinds of resources that a plan is made of."""

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


@dataclass(frozen=True, slots=True)
class MadePart:
    """A part, but for who may call, and the versions of what it was made of: while these are the same, so is it."""

    versions: tuple[object, ...]
    part: PlanPart
    route_bytes: int
    """How much the edge has to keep of it."""
    whole: PlanPart
    """With who may call it."""
    digest: str


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan, what could not be planned, and what the next plan need not make again."""

    plan: Plan
    left_out: dict[str, str]
    """'workspace/deployment' -> why."""
    made: dict[DeploymentKey, MadePart]
    callers: Callers

    @property
    def digests(self) -> dict[str, str]:
        """'workspace/deployment' -> the digest of its part."""
        return {"/".join(at): self.made[at].digest for at in sorted(self.made)}


def plan(
    cloud: str,
    world: PlanInputs,
    now: float,
    last: Plan | None = None,
    routes_bytes: int = ROUTES_BYTES,
    before: Planned | None = None,
) -> Planned:
    """Everything that must be true in `cloud`, where the deployments are placed. Equal worlds give equal plans.

    `last` is the plan in force; `routes_bytes` is how much of routes a workspace may have. Of `before`, what was
    planned earlier, parts whose versions are the same are taken as they are.
    """
    last = last or Plan(cloud=cloud)
    made, left_out = _parts(world, now, last, routes_bytes, before.made if before else {})
    callers = callers_of(world.keys, now, before.callers if before else None)
    public = {_place(d): d.spec.public for d in world.deployments}
    whole: dict[DeploymentKey, MadePart] = {}
    for at in sorted(made):
        kept = last.parts.get("/".join(at))
        open_to_all = public.get(at, kept.access.public if kept else False)  # not there: it cannot be read
        whole[at] = _with_access(made[at], callers.access(at, open_to_all))
    parts = {"/".join(at): part.whole for at, part in whole.items()}
    return Planned(Plan.of(cloud, callers.grants, parts), left_out, whole, callers)


def _with_access(made: MadePart, access: PartAccess) -> MadePart:
    if made.digest and made.whole.access == access:
        return made
    whole = made.part.model_copy(update={"access": access})
    return replace(made, whole=whole, digest=content_hash(whole))


def _parts(
    world: PlanInputs, now: float, last: Plan, routes_bytes: int, before: Mapping[DeploymentKey, MadePart]
) -> tuple[dict[DeploymentKey, MadePart], dict[str, str]]:
    """The part of each deployment, and why some are of the last plan. Of those over a limit the newest is left out."""
    made_of = _Source(world)
    parts: dict[DeploymentKey, MadePart] = {}
    left_out: dict[str, str] = {}
    used: Counter[str] = Counter()
    for deployment in sorted(world.deployments, key=lambda d: (d.created_at, d.workspace, d.name)):
        at = _place(deployment)
        try:
            made = _made(deployment, made_of, now, before.get(at))
            if used[at[0]] + made.route_bytes > routes_bytes:
                raise _too_many_routes(at[0], routes_bytes)
        except Exception as error:  # whatever it is, it is this deployment's
            left_out["/".join(at)] = _why(error)
            made = _unchanged(_kept(last, at, deployment.uid))
        used[at[0]] += made.route_bytes
        parts[at] = made
    for found in world.unreadable:
        if found.kind == "deployment":
            at = (found.workspace, found.name)
            parts[at] = _unchanged(_kept(last, at))
            left_out["/".join(at)] = f"It is stored in a form that cannot be read: {found.reason}"
    return parts, left_out


def _made(deployment: Deployment, source: _Source, now: float, before: MadePart | None) -> MadePart:
    """A deployment's part: that of `before`, when nothing that it was made of has changed since."""
    versions = source.versions_of(deployment, now)
    if before is not None and before.versions == versions:
        return before
    part = _part(deployment, source, now)
    return MadePart(versions, part, len(part.route.model_dump_json()) if part.route else 0, part, "")


def _unchanged(part: PlanPart) -> MadePart:
    """A part of the last plan, of which nobody knows what it was made of."""
    return MadePart((), part, len(part.route.model_dump_json()) if part.route else 0, part, "")


def placed(cloud: str, world: PlanInputs, last: Plan | None) -> PlanInputs:
    """`world` with the deployments that are placed in `cloud`.

    One that was not placed yet, or cannot be read, is where its part was planned last.
    """
    planned = last.parts.keys() if last else set()

    def here(deployment: Deployment) -> bool:
        placement = deployment.status.placement
        return "/".join(_place(deployment)) in planned if placement is None else placement.cloud == cloud

    return replace(
        world,
        deployments=[deployment for deployment in world.deployments if here(deployment)],
        unreadable=[u for u in world.unreadable if u.kind != "deployment" or f"{u.workspace}/{u.name}" in planned],
    )


class _Source:
    """A world, by what is looked up in it."""

    def __init__(self, world: PlanInputs) -> None:
        self.artifacts = {(a.workspace, a.spec.digest): a for a in world.artifacts}
        self.services: Services = {at: artifact.spec.manifest.service for at, artifact in self.artifacts.items()}
        self.frozen = {(r.workspace, r.spec.deployment_uid, r.spec.number): r for r in world.revisions}
        self.versions = {(secret.workspace, secret.name): secret.version for secret in world.secrets}
        self._unreadable = {(u.kind, u.workspace, u.name): u.reason for u in world.unreadable}

    def versions_of(self, deployment: Deployment, now: float) -> tuple[object, ...]:
        """The versions of all that a deployment's part is made of."""
        status, workspace = deployment.status, deployment.workspace
        numbers = (*(assignment.revision for assignment in status.assignments), status.stable)
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
        for assignment in deployment.status.assignments:
            name = f"{deployment.name}-{assignment.revision}"
            if reason := self._unreadable.get(("revision", deployment.workspace, name)):
                raise InvalidInput(f"Revision {assignment.revision} is stored in a form that cannot be read: {reason}")
        for digest in digests:
            if reason := self._unreadable.get(("artifact", deployment.workspace, digest)):
                raise InvalidInput(
                    f"The manifest of its artifact {digest[:19]} is not valid: {reason}",
                    hint="Build and deploy it anew: kaon deploy",
                )


def _part(deployment: Deployment, source: _Source, now: float) -> PlanPart:
    """What a plan holds of a deployment. Raises whatever stands in the way."""
    own = [
        (assignment, revision)
        for assignment in deployment.status.assignments
        if (revision := source.frozen.get((deployment.workspace, deployment.uid, assignment.revision)))
    ]
    source.check(deployment, [r.spec.template.artifact for _, r in own] or [deployment.spec.template.artifact])
    running: list[ReplicaSpec] = []
    for assignment, revision in own:
        service = source.services.get((revision.workspace, revision.spec.template.artifact))
        running += (_replica(deployment, revision, ordinal, service) for ordinal in assignment.ordinals)
    backends = _backends(deployment, [assignment for assignment, _ in own])
    serving = (r for a, r in own if a.revision != deployment.status.shadow)
    stable = [replica.id for replica in running if replica.revision == deployment.status.stable]
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


def _kept(last: Plan, at: DeploymentKey, uid: str | None = None) -> PlanPart:
    """What the last plan holds of a deployment; of one of that `uid`, when it is named: names are used again."""

    part = last.parts.get("/".join(at), PlanPart())

    def of(replica: ReplicaSpec) -> bool:
        return uid is None or replica.id == replica_id(*at[:1], uid, replica.revision, replica.ordinal)

    replicas = tuple(filter(of, part.replicas))
    standby = part.standby if part.standby and of(part.standby) else None
    if replicas or standby or uid is None:
        return part.model_copy(update={"replicas": replicas, "standby": standby})
    return PlanPart()


def _place(deployment: Deployment) -> DeploymentKey:
    return deployment.workspace, deployment.name


def _too_many_routes(workspace: str, limit: int) -> TooLarge:
    return TooLarge(
        f"The routes of workspace '{workspace}' would have more than {limit} bytes.",
        hint="Delete deployments, or have fewer endpoints; KAON_ROUTES_BYTES raises the limit.",
    )


def _why(error: Exception) -> str:
    """Why a part could not be made, with the next command, for people."""
    match error:
        case KaonError():
            return f"{error.cause} {error.hint}".strip()
        case ValidationError():
            return reason(error)
        case _:
            _log.error("a deployment cannot be planned", error=repr(error))
            return f"It met an error of Kaon's own ({type(error).__name__}); see server/server.log."


def _backends(deployment: Deployment, assignments: Sequence[Assignment]) -> tuple[Backend, ...]:
    """Revisions and their shares. At zero the one that serves when there are replicas: the edge keeps its way."""
    shares = tuple(Backend(revision=a.revision, weight=a.weight) for a in assignments)
    kept = deployment.status.stable or deployment.status.target
    if kept is None or any(share.weight for share in shares):
        return shares
    return (*(share for share in shares if share.revision != kept), Backend(revision=kept, weight=100))


def _standby(deployment: Deployment, source: _Source) -> ReplicaSpec | None:
    """The replica that will be wanted as soon as somebody calls; None when that is not as plain as that.

    It says which versions its secrets have, so that the agent can have them before somebody waits for them.
    """
    status = deployment.status
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
        hosts=deployment.spec.hosts,
        sandbox=deployment.spec.isolate_html,
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


class PlanningController:
    """The reconciler of plans; a key is no workspace and a cloud's name."""

    name = "planning"

    def __init__(
        self, store: Store, clock: Clock, routes_bytes: int = ROUTES_BYTES, snapshot: Snapshot | None = None
    ) -> None:
        """`routes_bytes` is how much of routes a workspace may have; `snapshot` has what is in the store."""
        self._store = store
        self._snapshot = snapshot or Snapshot(store)
        self._clock = clock
        self._routes_bytes = routes_bytes
        self._plans = StoredPlans(self._snapshot)
        self._before: dict[str, Planned] = {}
        self._known: set[DeploymentKey] = set()

    async def keys(self) -> Collection[DeploymentKey]:
        """Every cloud, and every plan that is left of one."""
        await self._snapshot.at_least(self._store.written)
        self._known = {("", found.name) for kind in ("cloud", "plan") for found in self._snapshot.list(kind)}
        return self._known

    async def affected(self, changes: Sequence[Change]) -> Collection[DeploymentKey]:
        """Every cloud by what its plan is made of; by its own change only when it came or went: reports are none."""
        made_of = any(change.kind in _MADE_OF for change in changes)
        gone = any(change.kind in ("cloud", "plan", "plan_part") and change.deleted for change in changes)
        come = {("", change.name) for change in changes if change.kind == "cloud"} - self._known
        return await self.keys() if made_of or gone or come else ()

    async def reconcile(self, key: DeploymentKey) -> Again | None:
        """Make the plan again, and keep it when it says something new."""
        name = key[1]
        await self._snapshot.at_least(self._store.written)
        if self._snapshot.find("cloud", "", name) is None:
            self._before.pop(name, None)
            await delete_plan(self._store, self._snapshot, name)
            return None
        kept = self._plans.read(name)
        last = kept.plan if kept else None
        world = placed(name, self._world(), last)
        now = self._clock.now()
        made = plan(name, world, now, last, self._routes_bytes, self._before.get(name))
        self._before[name] = made
        await write_plan(self._store, self._snapshot, made.plan, made.digests, made.left_out)
        return _again(world.deployments, now)

    def _world(self) -> PlanInputs:
        """Everything that plans are made of."""
        unreadable = [row for kind in _MADE_OF for row in self._snapshot.unreadable(kind)]
        deployments, revisions, artifacts, keys, secrets = map(self._snapshot.list, _MADE_OF)
        return PlanInputs(deployments, revisions, artifacts, keys, secrets, unreadable)


def _again(deployments: Iterable[Deployment], now: float) -> Again | None:
    """When the first trial is over, if nobody says more of it until then."""
    trials = (deployment.status.tuning.trial for deployment in deployments)
    ends = [trial.until - now for trial in trials if trial is not None and trial.until > now]
    return Again(min(ends)) if ends else None
