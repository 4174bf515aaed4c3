"""From a deployment's spec to its revisions and assignments; see `kaon.laws.rollout` for how it decides.

One look makes, in this order, each only when it is missing: the revision of the template, its identity, the
status. Whatever is cut off in between is found missing by the next look.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from kaon.clock import Clock
from kaon.control import history
from kaon.control.identity import Identities
from kaon.control.loop import Again
from kaon.control.placement import lost, placement
from kaon.control.reports import Reports
from kaon.control.rollout_messages import conditions, decisions, events, with_failures
from kaon.errors import UnreadableRow
from kaon.laws import canary, rollout
from kaon.store.failures import Failures
from kaon.store.port import Change, Store
from kaon.store.records import unreadable_row
from kaon.store.snapshot import Snapshot
from kaon.store.traffic import TrafficRing
from kaon.store.vault import Vault
from kaon.store.writes import KeepJournal, RecordEvents, UpdateStatus, Write
from kaon.types.cloud import CloudPhase
from kaon.types.deployment import DeploymentStatus
from kaon.types.names import DeploymentKey
from kaon.types.resource import Deployment, Revision
from kaon.types.service import runs_alone


class DeploymentController:
    """The reconciler of deployments; a key is a deployment's workspace and name."""

    name = "deployments"

    def __init__(
        self,
        store: Store,
        vault: Vault,
        clock: Clock,
        traffic: TrafficRing | None = None,
        snapshot: Snapshot | None = None,
        failures: Failures | None = None,
    ) -> None:
        self._store = store
        self._snapshot = snapshot or Snapshot(store)
        self._failures = failures or Failures()
        self._identities = Identities(store, self._snapshot, vault, clock)
        self._clock = clock
        self._traffic = traffic or TrafficRing()
        self._reports = Reports(self._snapshot)
        self._phases: dict[str, CloudPhase] = {}
        """Last phases of all clouds: placement and the states of replicas depend on them."""

    async def keys(self) -> Collection[DeploymentKey]:
        """Every deployment, and every name with data of a deleted one."""
        await self._snapshot.at_least(self._store.written)
        found = {(d.workspace, d.name) for d in self._snapshot.list("deployment")}
        found |= {(r.workspace, r.spec.deployment) for r in self._snapshot.list("revision")}
        found |= {(row.workspace, history.deployment_of(row)) for row in self._snapshot.unreadable("revision")}
        return found | self._identities.deployments()

    async def affected(self, changes: Sequence[Change]) -> Collection[DeploymentKey]:
        """Deployments that changed, or whose key, owner, cloud report or plan did."""
        await self._snapshot.at_least(self._store.written)
        found: set[DeploymentKey] = set()
        for change in changes:
            match change.kind:
                case "deployment":
                    found.add((change.workspace, change.name))
                case "key" | "secret":
                    found |= self._identities.affected(change)
                case "cloud" | "plan":
                    found |= self._reports.changed(change.kind, change.name)
        if self._phases_changed():
            found |= set(await self.keys())
        return found

    def _phases_changed(self) -> bool:
        """Whether a cloud was added or deleted, or is in another phase."""
        phases = {cloud.name: cloud.status.phase for cloud in self._snapshot.list("cloud")}
        before, self._phases = self._phases, phases
        return before != phases

    async def reconcile(self, key: DeploymentKey) -> Again | None:
        """See the module."""
        workspace, name = key
        await self._snapshot.at_least(self._store.written)
        deployment = self._snapshot.find("deployment", workspace, name)
        if deployment is None:
            await self._clear(workspace, name)
            return None
        for row in self._snapshot.unreadable("cloud"):  # soon replaced; until then its replicas are unknown
            raise unreadable_row(row)
        target, shadow, revisions = await history.numbered(self._store, self._snapshot, deployment)
        report = self._reports.of(deployment)
        replicas, now = report.replicas, self._clock.now()

        before: DeploymentStatus = deployment.status
        running = history.running(revisions, before.rollout, target, shadow, [replica.revision for replica in replicas])
        nameless = await self._identities.ensure(deployment, running)
        await self._identities.keep(deployment, running)
        trying = deployment.spec.rollout.canary and before.rollout.stable != target
        samples = self._traffic.since(workspace, name, now - canary.BACK_S) if trying else ()
        moved = rollout.step(
            deployment.spec,
            deployment.generation,
            before.rollout,
            before.scaling,
            target,
            replicas,
            now,
            samples,
            shadow,
            alone=self._runs_alone(deployment, [target, before.rollout.stable], revisions),
        )
        status = before.model_copy(update={"rollout": moved})
        clouds = self._snapshot.list("cloud")
        placed = placement(deployment, clouds, now)
        holds = conditions(
            deployment,
            status,
            nameless,
            now,
            unplaced="" if placed.cloud else placed.reason,
            lost=lost(placed, clouds),
            unplanned=report.left_out,
            unrouted=report.unrouted,
            failures=self._failures.of(key, besides=self.name),
            owner_gone=self._identities.owner_gone(deployment),
        )
        status = status.model_copy(update={"placement": placed, "conditions": holds, "refused": report.refused})
        writes: list[Write] = list(history.outcomes(revisions, before.rollout, moved, now))
        if status != before:
            journal = KeepJournal(list(decisions(deployment, before.rollout, moved, now)))
            happened = RecordEvents(list(events(deployment, before, status, now)))
            writes = [UpdateStatus(deployment, status), happened, journal, *writes]
        await self._store.write(writes)
        for revision in history.finished(revisions, moved):
            await history.delete(self._store, revision)
        look_at = rollout.next_look_at(deployment.spec, moved, replicas, now)
        return None if look_at is None else Again(look_at - now)

    def _runs_alone(
        self, deployment: Deployment, numbers: Collection[int | None], revisions: Sequence[Revision]
    ) -> bool:
        """Whether one of these revisions keeps its state in a folder."""
        for revision in revisions:
            template = revision.spec.template
            try:
                artifact = self._snapshot.find("artifact", deployment.workspace, template.artifact)
            except UnreadableRow:
                continue
            if revision.spec.number in numbers and artifact is not None:
                service = artifact.spec.manifest.service
                if runs_alone(service, template.env.keys() | template.secrets.keys()):
                    return True
        return False

    async def show_failures(self, key: DeploymentKey) -> None:
        """Write the failures of controllers to the status when `reconcile` itself fails."""
        await self._snapshot.at_least(self._store.written)
        deployment = self._snapshot.find("deployment", *key)
        if deployment is None:
            return
        now = self._clock.now()
        status = with_failures(deployment, self._failures.of(key), now)
        if status != deployment.status:
            await self._store.update_status(deployment, status)
            await self._store.record(list(events(deployment, deployment.status, status, now)))

    async def _clear(self, workspace: str, name: str) -> None:
        """Delete the data of a deleted deployment; its events stay."""
        await self._identities.clear(workspace, name)
        for revision in history.revisions(self._snapshot, workspace, name):
            await history.delete(self._store, revision)
        for row in history.unreadable(self._snapshot, workspace, name).values():
            await history.delete(self._store, row)
