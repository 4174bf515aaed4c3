"""From a deployment's spec to its revisions and assignments; see `kaon.laws.rollout` for how it decides.

One look makes, in this order, each only when it is missing: the revision of the template, its identity, the
status. Whatever is cut off in between is found missing by the next look.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from kaon.clock import Clock
from kaon.control import history
from kaon.control.identity import Identities
from kaon.control.loop import Again, Key
from kaon.control.sightings import (
    by_deployment,
    differing,
    held_of,
    left_out_of,
    refused_of,
    refusing,
    seen_of,
    unrouted_of,
    waiting,
)
from kaon.control.telling import conditions, decisions, events, wake
from kaon.laws import canary, rollout
from kaon.store.port import Change, Store
from kaon.store.traffic import TrafficRing
from kaon.store.vault import Vault
from kaon.types.deployment import DeploymentStatus

_NOTHING: tuple[Mapping[Key, object], ...] = ({}, {}, {})


class Deployments:
    """The reconciler of deployments; a key is a deployment's workspace and name."""

    name = "deployments"

    def __init__(self, store: Store, vault: Vault, clock: Clock, traffic: TrafficRing | None = None) -> None:
        self._store = store
        self._identities = Identities(store, vault, clock)
        self._clock = clock
        self._traffic = traffic or TrafficRing()
        self._reported: dict[str, tuple[Mapping[Key, object], ...]] = {}
        self._left_out: dict[Key, str] = {}
        """What the plans say of deployments. A plan is large: it is read when it changed, not at every look."""

    async def keys(self) -> Collection[Key]:
        """Every deployment, and every name that something of a deleted one is left under."""
        await self._newly_left_out()
        found = {(d.workspace, d.name) for d in await self._store.list_all("deployment")}
        found |= {(r.workspace, r.spec.deployment) for r in await self._store.list_all("revision")}
        return found | set(await self._identities.deployments())

    async def affected(self, changes: Sequence[Change]) -> Collection[Key]:
        """Deployments that changed, or whose key or owner did, or of which a cloud or a plan says something new."""
        found = set(await self._identities.affected(changes))
        for change in changes:
            match change.kind:
                case "deployment":
                    found.add((change.workspace, change.name))
                case "cloud":
                    found |= await self._newly_reported(change.name)
                case "plan":
                    found |= await self._newly_left_out()
        return found

    async def _newly_left_out(self) -> set[Key]:
        """Deployments of which the plans have begun or ceased to say that they could not be planned."""
        before, self._left_out = self._left_out, left_out_of(await self._store.list_all("plan"))
        return differing(before, self._left_out)

    async def _newly_reported(self, name: str) -> set[Key]:
        cloud = await self._store.find("cloud", "", name)
        after = (by_deployment(cloud), refusing(cloud), unrouted_of([cloud])) if cloud else _NOTHING
        before, self._reported[name] = self._reported.get(name, _NOTHING), after
        changed = set[Key]().union(*map(differing, before, after))
        return changed | (waiting(cloud) if cloud else set())

    async def reconcile(self, key: Key) -> Again | None:
        """See the module."""
        workspace, name = key
        deployment = await self._store.find("deployment", workspace, name)
        if deployment is None:
            await self._clear(workspace, name)
            return None
        target, shadow, revisions = await history.numbered(self._store, deployment)
        clouds = await self._store.list_all("cloud")
        seen = seen_of(deployment, clouds)
        now = self._clock.now()

        before: DeploymentStatus = deployment.status
        running = history.running(revisions, before, target, shadow, [replica.revision for replica in seen])
        nameless = await self._identities.ensure(deployment, running)
        # Said here and not by the scaling law at its next tick: a caller waits, and one write does for both.
        woken = rollout.woken(deployment.spec, before, held_of(deployment, clouds))
        trying = deployment.spec.rollout.canary and before.stable != target
        samples = self._traffic.since(workspace, name, now - canary.BACK_S) if trying else ()
        status = rollout.step(deployment.spec, deployment.generation, woken, target, seen, now, samples, shadow)
        holds = conditions(
            deployment,
            status,
            nameless,
            now,
            unplanned=self._left_out.get(key, ""),
            unrouted=unrouted_of(clouds).get(key, ""),
            owner_gone=await self._identities.owner_gone(deployment),
        )
        status = status.model_copy(update={"conditions": holds, "refused": refused_of(deployment, clouds)})
        if status != before:
            await self._store.update_status(deployment, status)
            await self._store.record(list(events(deployment, before, status, now)))
            await self._store.keep_journal(list(decisions(deployment, before, status, now)))
        if woken is not before:
            await self._store.keep_journal([wake(deployment, before, woken, now)])
        await self._identities.keep(deployment, running)
        await history.note_outcomes(self._store, revisions, before, status, now)
        for revision in history.finished(revisions, status):
            await history.delete(self._store, revision)
        look_at = rollout.next_look_at(deployment.spec, status, seen, now)
        return None if look_at is None else Again(look_at - now)

    async def _clear(self, workspace: str, name: str) -> None:
        """Take away what belonged to a deployment that is gone; its events stay."""
        await self._identities.clear(workspace, name)
        for revision in await history.revisions(self._store, workspace, name):
            await history.delete(self._store, revision)
