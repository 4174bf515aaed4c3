"""From a deployment's spec to its revisions and assignments; see `kaon.laws.rollout` for how it decides.

One look makes, in this order, each only when it is missing: the identity, the revision of the template, the
status. Whatever is cut off in between is found missing by the next look.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from kaon.clock import Clock
from kaon.control import history, identity
from kaon.control.loop import Again, Key
from kaon.control.sightings import by_deployment, differing, held_of, seen_of, waiting
from kaon.laws import rollout
from kaon.store.port import Change, Store
from kaon.store.vault import Vault
from kaon.types.condition import Condition
from kaon.types.deployment import DeploymentStatus, RolloutState
from kaon.types.event import Event, Level
from kaon.types.journal import JournalEntry
from kaon.types.replica import ReplicaStatus
from kaon.types.resource import Deployment


class Deployments:
    """The reconciler of deployments; a key is a deployment's workspace and name."""

    name = "deployments"

    def __init__(self, store: Store, vault: Vault, clock: Clock) -> None:
        self._store = store
        self._vault = vault
        self._clock = clock
        self._reported: dict[str, dict[Key, tuple[ReplicaStatus, ...]]] = {}

    async def keys(self) -> Collection[Key]:
        """Every deployment, and every name that something of a deleted one is left under."""
        found = {(d.workspace, d.name) for d in await self._store.list_all("deployment")}
        found |= {(r.workspace, r.spec.deployment) for r in await self._store.list_all("revision")}
        for kind in ("key", "secret"):
            for resource in await self._store.list_all(kind):
                found |= {(resource.workspace, owner) for owner in identity.owners([resource.name])}
        return found

    async def affected(self, changes: Sequence[Change]) -> Collection[Key]:
        """Deployments that changed, whose identity changed, or of which a cloud says something new."""
        found: set[Key] = set()
        for change in changes:
            match change.kind:
                case "deployment":
                    found.add((change.workspace, change.name))
                case "key" | "secret":
                    found |= {(change.workspace, owner) for owner in identity.owners([change.name])}
                case "cloud":
                    found |= await self._newly_reported(change.name)
        return found

    async def _newly_reported(self, name: str) -> set[Key]:
        cloud = await self._store.find("cloud", "", name)
        after = by_deployment(cloud) if cloud else {}
        before, self._reported[name] = self._reported.get(name, {}), after
        return differing(before, after) | (waiting(cloud) if cloud else set())

    async def reconcile(self, key: Key) -> Again | None:
        """See the module."""
        workspace, name = key
        deployment = await self._store.find("deployment", workspace, name)
        if deployment is None:
            await self._clear(workspace, name)
            return None
        nameless = await identity.ensure(self._store, self._vault, deployment)
        target, revisions = await history.target(self._store, deployment)
        clouds = await self._store.list_all("cloud")
        seen = seen_of(deployment, clouds)
        now = self._clock.now()

        before: DeploymentStatus = deployment.status
        # Said here and not by the scaling law at its next tick: a caller waits, and one write does for both.
        woken = rollout.woken(deployment.spec, before, held_of(deployment, clouds))
        status = rollout.step(deployment.spec, deployment.generation, woken, target, seen, now)
        status = status.model_copy(update={"conditions": _conditions(deployment, status, nameless, now)})
        if status != before:
            await self._store.update_status(deployment, status)
            await self._store.record(list(_events(deployment, before, status, now)))
        if woken is not before:
            await self._store.keep_journal([_wake(deployment, before, woken, now)])
        for revision in history.finished(revisions, status):
            await history.delete(self._store, revision)
        look_at = rollout.next_look_at(deployment.spec, status, seen, now)
        return None if look_at is None else Again(look_at - now)

    async def _clear(self, workspace: str, name: str) -> None:
        """Take away what belonged to a deployment that is gone; its events stay."""
        await identity.remove(self._store, workspace, name)
        for revision in await history.revisions(self._store, workspace, name):
            await history.delete(self._store, revision)


def _wake(deployment: Deployment, before: DeploymentStatus, after: DeploymentStatus, now: float) -> JournalEntry:
    return JournalEntry(
        at=now,
        workspace=deployment.workspace,
        deployment=deployment.name,
        concern="scaling",
        before=str(before.wanted or 0),
        after=str(after.wanted),
        reason=after.wanted_reason,
    )


def _conditions(deployment: Deployment, status: DeploymentStatus, nameless: str, now: float) -> tuple[Condition, ...]:
    """`Ready`: as many serve as should. `Progressing`: nothing is in the way. `Identity`: its key can be had."""
    ready = sum(a.ready for a in status.assignments)
    wanted = rollout.wanted(deployment.spec, status)
    stopped = status.state is RolloutState.STOPPED
    found = {
        "Ready": (ready >= wanted, f"{ready} of {wanted} replicas are ready."),
        "Progressing": (not stopped, status.reason if stopped else ""),
        "Identity": (not nameless, nameless),
    }
    since = {(c.type, c.holds): c.since for c in deployment.status.conditions}
    return tuple(
        Condition(type=type_, holds=holds, reason=reason, since=since.get((type_, holds), now))
        for type_, (holds, reason) in found.items()
    )


def _events(deployment: Deployment, before: DeploymentStatus, after: DeploymentStatus, now: float) -> Iterable[Event]:
    """What people should know of a change of status."""

    def event(reason: str, message: str, level: Level = Level.NORMAL) -> Event:
        return Event(
            at=now,
            workspace=deployment.workspace,
            kind="deployment",
            name=deployment.name,
            level=level,
            reason=reason,
            message=message,
        )

    if before.target != after.target:
        old = f" from revision {after.stable}" if after.stable not in (None, after.target) else ""
        yield event("RolloutStarted", f"Revision {after.target} takes over{old}.")
    if before.state is not after.state:
        match after.state:
            case RolloutState.STABLE if before.stable != after.stable:
                yield event("RolloutFinished", f"Revision {after.stable} serves.")
            case RolloutState.STABLE if after.assignments:
                yield event("Stable", f"All {after.assignments[0].ready} replicas are ready.")
            case RolloutState.STABLE:
                yield event("ScaledToZero", "No replicas are wanted.")
            case RolloutState.STOPPED:
                what = f"Revision {after.stable} serves." if after.stable else "It is tried on."
                yield event("RolloutStopped", f"{after.reason} {what}", Level.WARNING)
            case RolloutState.DEGRADED:
                yield event("Degraded", after.reason, Level.WARNING)
