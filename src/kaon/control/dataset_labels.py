"""Deployments follow the labels of their datasets: when a label moves, the template gets the version that it means now.

That is a changed template, so a new revision rolls out by the deployment's own rules. A mount of a number stays; so do
those of a revision that somebody went back to, which are pinned. A label that was removed changes nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from kaon.clock import Clock
from kaon.control.loop import Again
from kaon.datasets.versions import with_versions
from kaon.errors import InvalidInput
from kaon.laws.datasets import reference
from kaon.store.audited import by_controller
from kaon.store.port import Change, Store
from kaon.store.snapshot import Snapshot
from kaon.store.writes import RecordAudit, RecordEvents, UpdateSpec
from kaon.types.dataset import DatasetMount
from kaon.types.deployment import Template
from kaon.types.event import Event
from kaon.types.names import DeploymentKey
from kaon.types.resource import Deployment


class DatasetLabelController:
    """The reconciler of mounts by label; a key is a deployment's workspace and name."""

    name = "dataset-labels"

    def __init__(self, store: Store, clock: Clock, snapshot: Snapshot) -> None:
        self._store = store
        self._clock = clock
        self._snapshot = snapshot

    async def keys(self) -> Collection[DeploymentKey]:
        """Deployments that follow a label."""
        await self._snapshot.at_least(self._store.written)
        return {(d.workspace, d.name) for d in self._snapshot.list("deployment") if _follows(d)}

    async def affected(self, changes: Sequence[Change]) -> Collection[DeploymentKey]:
        """Those that changed, and those that follow a label of a dataset that changed."""
        await self._snapshot.at_least(self._store.written)
        changed = {(c.workspace, c.name.partition("@")[0]) for c in changes if c.kind in ("dataset", "dataset-version")}
        found = {(c.workspace, c.name) for c in changes if c.kind == "deployment" and not c.deleted}
        if changed:
            for deployment in self._snapshot.list("deployment"):
                if any((deployment.workspace, name) in changed for name in _follows(deployment)):
                    found.add((deployment.workspace, deployment.name))
        return found

    async def reconcile(self, key: DeploymentKey) -> Again | None:
        """See the module."""
        await self._snapshot.at_least(self._store.written)
        deployment = self._snapshot.find("deployment", *key)
        if deployment is None or not _follows(deployment):
            return None
        template = self._current(deployment)
        moved = [
            f"{mount.version.text} ({mount.ref})"
            for name, mount in template.datasets.items()
            if mount != deployment.spec.template.datasets[name] and mount.version is not None
        ]
        if not moved:
            return None
        now = self._clock.now()
        change = UpdateSpec(deployment, deployment.spec.model_copy(update={"template": template, "promoted": None}))
        event = Event(
            at=now,
            workspace=deployment.workspace,
            kind="deployment",
            name=deployment.name,
            uid=deployment.uid,
            reason="DatasetMoved",
            message=f"It rolls out with {', '.join(moved)}.",
        )
        record = by_controller(change, at=now, verb="update", controller=self.name)
        await self._store.write([change, RecordAudit([record]), RecordEvents([event])])
        return None

    def _current(self, deployment: Deployment) -> Template:
        """The template with the versions that labels mean now."""
        template: Template = deployment.spec.template
        found: dict[str, DatasetMount] = {}
        for name, mount in template.datasets.items():
            alone = template.model_copy(update={"datasets": {name: mount}})
            try:
                found[name] = with_versions(self._snapshot, deployment.workspace, alone).datasets[name]
            except InvalidInput:  # the label or the dataset was removed
                found[name] = mount
        return template.model_copy(update={"datasets": found})


def _follows(deployment: Deployment) -> set[str]:
    """The datasets of which a deployment follows a label."""
    refs = (reference(mount.ref) for mount in deployment.spec.template.datasets.values())
    return {ref.dataset for ref in refs if ref.follows}
