"""One cloud's plan from all deployments, revisions and keys; and the reconciler that writes it.

A plan has one part for each deployment. A part that cannot be computed does not affect the others: the deployment's
last good part stays in the plan, and `PlanStatus.left_out` has the reason. The callers of every deployment are always
computed, so that a revoked key ends everywhere.

A part is kept with the versions of its inputs, so that one change computes one part.
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
from kaon.control.plan_parts import PlanInputs, PlanSource, kept_part, key_of, part_of
from kaon.errors import KaonError, TooLarge
from kaon.store.plans import StoredPlans, delete_plan, write_plan
from kaon.store.port import Change, Store
from kaon.store.records import reason
from kaon.store.snapshot import Snapshot
from kaon.types.model import content_hash
from kaon.types.names import DeploymentKey
from kaon.types.plan import PartAccess, Plan, PlanPart
from kaon.types.resource import Deployment

ROUTES_BYTES = 2**20
"""Default limit of a workspace's routes, in bytes."""

_log = log.get("planning")

_MADE_OF = ("deployment", "revision", "artifact", "key", "secret")
"""The kinds of resources that a plan depends on."""


@dataclass(frozen=True, slots=True)
class MadePart:
    """A part without its access list, and the versions of its inputs: while they are equal, so is the part."""

    versions: tuple[object, ...]
    part: PlanPart
    route_bytes: int
    """Size of its route in the edge."""
    whole: PlanPart
    """The part with its access list."""
    digest: str


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan, deployments that could not be planned, and parts that the next plan can reuse."""

    plan: Plan
    left_out: dict[str, str]
    """'workspace/deployment' -> reason."""
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
    """The desired state of `cloud`, where the deployments are placed. Equal inputs give equal plans.

    `last` is the plan in force; `routes_bytes` is the limit of a workspace's routes. Parts of the earlier result
    `before` whose versions are unchanged are used again.
    """
    last = last or Plan(cloud=cloud)
    made, left_out = _parts(world, now, last, routes_bytes, before.made if before else {})
    callers = callers_of(world.keys, now, before.callers if before else None)
    public = {key_of(d): d.spec.public for d in world.deployments}
    whole: dict[DeploymentKey, MadePart] = {}
    for at in sorted(made):
        kept = last.parts.get("/".join(at))
        open_to_all = public.get(at, kept.access.public if kept else False)  # missing: unreadable
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
    """The part of each deployment, and why some are from the last plan. Above a limit the newest are left out."""
    made_of = PlanSource(world)
    parts: dict[DeploymentKey, MadePart] = {}
    left_out: dict[str, str] = {}
    used: Counter[str] = Counter()
    for deployment in sorted(world.deployments, key=lambda d: (d.created_at, d.workspace, d.name)):
        at = key_of(deployment)
        try:
            made = _made(deployment, made_of, now, before.get(at))
            if used[at[0]] + made.route_bytes > routes_bytes:
                raise _too_many_routes(at[0], routes_bytes)
        except Exception as error:  # a failure of one deployment must not stop the others
            left_out["/".join(at)] = _why(error)
            made = _unchanged(kept_part(last, at, deployment.uid))
        used[at[0]] += made.route_bytes
        parts[at] = made
    for found in world.unreadable:
        if found.kind == "deployment":
            at = (found.workspace, found.name)
            parts[at] = _unchanged(kept_part(last, at))
            left_out["/".join(at)] = f"It is stored in a form that cannot be read: {found.reason}"
    return parts, left_out


def _made(deployment: Deployment, source: PlanSource, now: float, before: MadePart | None) -> MadePart:
    """A deployment's part: that of `before` if its inputs are unchanged."""
    versions = source.versions_of(deployment, now)
    if before is not None and before.versions == versions:
        return before
    part = part_of(deployment, source, now)
    return MadePart(versions, part, len(part.route.model_dump_json()) if part.route else 0, part, "")


def _unchanged(part: PlanPart) -> MadePart:
    """A part of the last plan, whose inputs are unknown."""
    return MadePart((), part, len(part.route.model_dump_json()) if part.route else 0, part, "")


def placed(cloud: str, world: PlanInputs, last: Plan | None) -> PlanInputs:
    """`world` with the deployments that are placed in `cloud`.

    One that was not placed yet, or cannot be read, is where its part was planned last.
    """
    planned = last.parts.keys() if last else set()

    def here(deployment: Deployment) -> bool:
        placement = deployment.status.placement
        return "/".join(key_of(deployment)) in planned if placement is None else placement.cloud == cloud

    return replace(
        world,
        deployments=[deployment for deployment in world.deployments if here(deployment)],
        unreadable=[u for u in world.unreadable if u.kind != "deployment" or f"{u.workspace}/{u.name}" in planned],
    )


def _too_many_routes(workspace: str, limit: int) -> TooLarge:
    return TooLarge(
        f"The routes of workspace '{workspace}' exceed {limit} bytes.",
        hint="Delete deployments or endpoints, or raise KAON_ROUTES_BYTES.",
    )


def _why(error: Exception) -> str:
    """Why a part could not be made, with the next command."""
    match error:
        case KaonError():
            return f"{error.cause} {error.hint}".strip()
        case ValidationError():
            return reason(error)
        case _:
            _log.error("a deployment cannot be planned", error=repr(error))
            return f"Internal error ({type(error).__name__}); see server/server.log."


class PlanningController:
    """The reconciler of plans; a key is no workspace and a cloud's name."""

    name = "planning"

    def __init__(
        self, store: Store, clock: Clock, routes_bytes: int = ROUTES_BYTES, snapshot: Snapshot | None = None
    ) -> None:
        """`routes_bytes` is the limit of a workspace's routes; `snapshot` is that of the store."""
        self._store = store
        self._snapshot = snapshot or Snapshot(store)
        self._clock = clock
        self._routes_bytes = routes_bytes
        self._plans = StoredPlans(self._snapshot)
        self._before: dict[str, Planned] = {}
        self._last_keys: set[DeploymentKey] = set()

    async def keys(self) -> Collection[DeploymentKey]:
        """Every cloud, and every plan of a deleted one."""
        await self._snapshot.at_least(self._store.written)
        self._last_keys = {("", found.name) for kind in ("cloud", "plan") for found in self._snapshot.list(kind)}
        return self._last_keys

    async def affected(self, changes: Sequence[Change]) -> Collection[DeploymentKey]:
        """Every cloud after a change of inputs of plans; one that was added or deleted. Reports change no plan."""
        made_of = any(change.kind in _MADE_OF for change in changes)
        deleted = any(change.kind in ("cloud", "plan", "plan_part") and change.deleted for change in changes)
        added = {("", change.name) for change in changes if change.kind == "cloud"} - self._last_keys
        return await self.keys() if made_of or deleted or added else ()

    async def reconcile(self, key: DeploymentKey) -> Again | None:
        """Compute the plan, and write it if it changed."""
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
        """All inputs of plans."""
        unreadable = [row for kind in _MADE_OF for row in self._snapshot.unreadable(kind)]
        deployments, revisions, artifacts, keys, secrets = map(self._snapshot.list, _MADE_OF)
        return PlanInputs(deployments, revisions, artifacts, keys, secrets, unreadable)


def _again(deployments: Iterable[Deployment], now: float) -> Again | None:
    """The first end of a trial, unless it is extended."""
    trials = (deployment.status.tuning.trial for deployment in deployments)
    ends = [trial.until - now for trial in trials if trial is not None and trial.until > now]
    return Again(min(ends)) if ends else None
