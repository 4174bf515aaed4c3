"""From all deployments, revisions and keys to one cloud's plan, as data; and the reconciler that keeps it.

A plan is made of parts, one for each deployment. A part that cannot be made, for whatever reason, is left out alone:
the deployment's last good part stays in the plan, and `PlanStatus.left_out` says why. Who may call is no part: it is
made anew for every deployment whatever happens, so that a key that was revoked ends everywhere.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from pydantic import ValidationError

from kaon import log
from kaon.clock import Clock
from kaon.control import identity
from kaon.control.loop import Again, Key
from kaon.errors import InvalidInput, KaonError, TooLarge
from kaon.laws.drain import drain_s
from kaon.laws.rights import Standing, standing
from kaon.laws.tune.knobs_of import planned
from kaon.store.port import Change, Store, Unreadable
from kaon.store.records import reason
from kaon.types import resource
from kaon.types.deployment import Assignment
from kaon.types.key import Access, Grant, Right
from kaon.types.knobs import PlannedKnobs
from kaon.types.plan import Plan, PlanSpec, PlanStatus
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
class World:
    """What a plan is made of: everything that is stored of its kinds, and what of it cannot be read."""

    deployments: Sequence[Deployment] = ()
    revisions: Sequence[Revision] = ()
    artifacts: Sequence[Artifact] = ()
    keys: Sequence[resource.Key] = ()
    secrets: Sequence[Secret] = ()
    unreadable: Sequence[Unreadable] = ()


@dataclass(frozen=True, slots=True)
class Part:
    """What a plan holds of one deployment, but for who may call it."""

    replicas: tuple[ReplicaSpec, ...] = ()
    route: Route | None = None
    standby: ReplicaSpec | None = None
    knobs: PlannedKnobs | None = None

    @property
    def route_bytes(self) -> int:
        """How much the edge has to keep of it."""
        return len(self.route.model_dump_json()) if self.route else 0


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan, and what could not be planned."""

    plan: Plan
    left_out: dict[str, str]
    """'workspace/deployment' -> why."""


def plan(cloud: str, world: World, now: float, last: Plan | None = None, routes_bytes: int = ROUTES_BYTES) -> Planned:
    """Everything that must be true in `cloud`, where the deployments are placed. Equal worlds give equal plans.

    `last` is the plan in force; `routes_bytes` is how much of routes a workspace may have.
    """
    parts, left_out = _parts(world, now, last or Plan(cloud=cloud), routes_bytes)
    callers = _callers(sorted(world.keys, key=lambda key: (key.name, key.uid)), now)
    public = {_place(d): d.spec.public for d in world.deployments}
    for place_ in parts.keys() - public.keys():  # those that cannot be read
        kept = last.access.get("/".join(place_)) if last else None
        public[place_] = kept.public if kept else False
    ordered = sorted(parts.items())
    return Planned(
        Plan(
            cloud=cloud,
            replicas=tuple(replica for _, part in ordered for replica in part.replicas),
            routes=tuple(part.route for _, part in ordered if part.route),
            standby=tuple(part.standby for _, part in ordered if part.standby),
            access={"/".join(at): _access(at, public[at], callers) for at, _ in ordered},
            knobs={"/".join(at): part.knobs for at, part in ordered if part.knobs},
        ),
        left_out,
    )


def _parts(world: World, now: float, last: Plan, routes_bytes: int) -> tuple[dict[Key, Part], dict[str, str]]:
    """The part of each deployment, and why some are of the last plan. Of those over a limit the newest is left out."""
    made_of = _Source(world)
    parts: dict[Key, Part] = {}
    left_out: dict[str, str] = {}
    used: Counter[str] = Counter()
    for deployment in sorted(world.deployments, key=lambda d: (d.created_at, d.workspace, d.name)):
        at = _place(deployment)
        try:
            part = _part(deployment, made_of, now)
            if used[at[0]] + part.route_bytes > routes_bytes:
                raise _too_many_routes(at[0], routes_bytes)
        except Exception as error:  # whatever it is, it is this deployment's
            left_out["/".join(at)] = _why(error)
            part = _kept(last, at, deployment.uid)
        used[at[0]] += part.route_bytes
        parts[at] = part
    for found in world.unreadable:
        if found.kind == "deployment":
            at = (found.workspace, found.name)
            parts[at] = _kept(last, at)
            left_out["/".join(at)] = f"It is stored in a form that cannot be read: {found.reason}"
    return parts, left_out


def placed(cloud: str, world: World, last: Plan | None) -> World:
    """`world` with the deployments that are placed in `cloud`.

    One that was not placed yet, or cannot be read, is where its part was planned last.
    """
    kept = last or Plan(cloud=cloud)
    planned = {(r.workspace, r.deployment) for r in kept.routes} | {(r.workspace, r.deployment) for r in kept.replicas}

    def here(deployment: Deployment) -> bool:
        placement = deployment.status.placement
        return _place(deployment) in planned if placement is None else placement.cloud == cloud

    return replace(
        world,
        deployments=[deployment for deployment in world.deployments if here(deployment)],
        unreadable=[u for u in world.unreadable if u.kind != "deployment" or (u.workspace, u.name) in planned],
    )


class _Source:
    """A world, by what is looked up in it."""

    def __init__(self, world: World) -> None:
        self.services: Services = {(a.workspace, a.spec.digest): a.spec.manifest.service for a in world.artifacts}
        self.frozen = {(r.workspace, r.spec.deployment_uid, r.spec.number): r for r in world.revisions}
        self.versions = {(secret.workspace, secret.name): secret.version for secret in world.secrets}
        self._unreadable = {(u.kind, u.workspace, u.name): u.reason for u in world.unreadable}

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


def _part(deployment: Deployment, source: _Source, now: float) -> Part:
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
    return Part(
        tuple(map(_checked, running)),
        _route(deployment, backends, _served(deployment, serving, source.services)),
        _checked(first) if idle and (first := _standby(deployment, source)) else None,
        planned(deployment.status.tuning, stable, now),
    )


def _checked(replica: ReplicaSpec) -> ReplicaSpec:
    """The same, looked at as the agent will that reads it: what a model is made of is not looked at again otherwise."""
    return ReplicaSpec.model_validate(replica.model_dump(warnings=False))


def _kept(last: Plan, at: Key, uid: str | None = None) -> Part:
    """What the last plan holds of a deployment; of one of that `uid`, when it is named: names are used again."""

    def of(replica: ReplicaSpec) -> bool:
        mine = uid is None or replica.id == replica_id(*at[:1], uid, replica.revision, replica.ordinal)
        return (replica.workspace, replica.deployment) == at and mine

    replicas = tuple(filter(of, last.replicas))
    standby = next(filter(of, last.standby), None)
    route = next((route for route in last.routes if (route.workspace, route.deployment) == at), None)
    known = bool(replicas or standby or uid is None)
    return Part(replicas, route if known else None, standby, last.knobs.get("/".join(at)) if known else None)


def _place(deployment: Deployment) -> Key:
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
    names = sorted({*revision.spec.template.secrets.values(), identity.identity_name(deployment.name)})
    held = "-".join(str(source.versions.get((deployment.workspace, name), 0)) for name in names)
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


def _callers(keys: Sequence[resource.Key], now: float) -> list[tuple[Standing, Grant]]:
    """Every key that may call something, and its grant, which ends by itself when the key, or an owner's, does."""
    by_uid = {key.uid: key for key in keys}
    standings = ((key, standing(key, by_uid, now)) for key in keys)
    return [
        (held, Grant(hash=key.spec.hash, key=key.name, priority=held.priority, expires_at=held.expires_at))
        for key, held in standings
        if Right.CALL in held.rights
    ]


def _access(at: Key, public: bool, callers: Sequence[tuple[Standing, Grant]]) -> Access:
    """Who may call: every key that stands for it now."""
    return Access(public=public, grants=tuple(grant for held, grant in callers if held.may(Right.CALL, *at)))


class Planning:
    """The reconciler of plans; a key is no workspace and a cloud's name."""

    name = "planning"

    def __init__(self, store: Store, clock: Clock, routes_bytes: int = ROUTES_BYTES) -> None:
        """`routes_bytes` is how much of routes a workspace may have."""
        self._store = store
        self._clock = clock
        self._routes_bytes = routes_bytes
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
        last = kept.spec.plan if kept else None
        # At once, and not one after the other: somebody may wait for it at the edge.
        unreadable: list[Unreadable] = []
        found = await asyncio.gather(*(self._store.list_all(kind, unreadable=unreadable) for kind in _MADE_OF))
        deployments, revisions, artifacts, keys, secrets = found
        world = placed(name, World(deployments, revisions, artifacts, keys, secrets, unreadable), last)
        now = self._clock.now()
        made = plan(name, world, now, last, self._routes_bytes)
        spec = PlanSpec(plan=made.plan, hash=made.plan.hash)
        if kept is None:
            kept = await self._store.create("plan", "", name, spec)
        elif kept.spec.hash != spec.hash:
            kept = await self._store.update_spec(kept, spec)
        if kept.status.left_out != made.left_out:
            await self._store.update_status(kept, PlanStatus(left_out=made.left_out))
        return _again(world.deployments, now)


def _again(deployments: Iterable[Deployment], now: float) -> Again | None:
    """When the first trial is over, if nobody says more of it until then."""
    trials = (deployment.status.tuning.trial for deployment in deployments)
    ends = [trial.until - now for trial in trials if trial is not None and trial.until > now]
    return Again(min(ends)) if ends else None
