"""The phase of each cloud, in its status, derived from the time of its agent's last report."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from kaon.clock import Clock
from kaon.control.loop import Again
from kaon.laws import place
from kaon.store.port import Change, Store
from kaon.store.snapshot import Snapshot
from kaon.types.cloud import CloudPhase, CloudStatus
from kaon.types.event import Event, EventLevel
from kaon.types.names import DeploymentKey
from kaon.types.resource import Cloud
from kaon.types.workspace import DEFAULT_WORKSPACE


class CloudController:
    """The reconciler of clouds; a key is an empty text and a cloud's name."""

    name = "clouds"

    def __init__(self, store: Store, clock: Clock, snapshot: Snapshot | None = None) -> None:
        self._store = store
        self._snapshot = snapshot or Snapshot(store)
        self._clock = clock
        self._watched_since = clock.now()

    async def keys(self) -> Collection[DeploymentKey]:
        """Every cloud."""
        await self._snapshot.at_least(self._store.written)
        return {("", cloud.name) for cloud in self._snapshot.list("cloud")}

    async def affected(self, changes: Sequence[Change]) -> Collection[DeploymentKey]:
        """The clouds that changed."""
        return {("", change.name) for change in changes if change.kind == "cloud"}

    async def reconcile(self, key: DeploymentKey) -> Again | None:
        """Write the cloud's phase if it changed; again when a missing report would change it."""
        await self._snapshot.at_least(self._store.written)
        cloud = self._snapshot.find("cloud", *key)
        if cloud is None:
            return None
        status: CloudStatus = cloud.status
        now = self._clock.now()
        decided = place.phase(
            cordoned=cloud.spec.cordoned, seen_at=status.seen_at, watched_since=self._watched_since, now=now
        )
        if (decided.phase, decided.reason) != (status.phase, status.reason):
            since = status.since if decided.phase is status.phase else now
            changed = {"phase": decided.phase, "reason": decided.reason, "since": since}
            await self._store.update_status(cloud, status.model_copy(update=changed))
            if decided.phase is not status.phase:
                await self._store.record([_event(cloud, decided, now)])
        return None if decided.changes_at is None else Again(max(0.0, decided.changes_at - now))


def _event(cloud: Cloud, decided: place.PhaseDecision, now: float) -> Event:
    return Event(
        at=now,
        workspace=DEFAULT_WORKSPACE,
        kind="cloud",
        name=cloud.name,
        uid=cloud.uid,
        level=EventLevel.WARNING if decided.phase is CloudPhase.LOST else EventLevel.NORMAL,
        reason=f"Cloud{decided.phase}",
        message=decided.reason or "Its agent reports.",
    )
