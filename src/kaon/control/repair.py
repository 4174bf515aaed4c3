"""Unreadable rows that the platform makes itself: they are deleted and made again.

A plan is computed from other rows, a cloud joins again with its agent's next report, and a deployment's own key and its
secret are made when they are missing. Rows that users made are left for them to delete.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress

from kaon.clock import Clock
from kaon.control.loop import Again
from kaon.errors import NotFound
from kaon.store.port import Change, Store
from kaon.store.snapshot import Snapshot
from kaon.store.writes import Create, Delete, RecordEvents
from kaon.types.cloud import CloudSpec
from kaon.types.event import Event, EventLevel
from kaon.types.key import identity_deployment
from kaon.types.names import DeploymentKey
from kaon.types.resource import Unreadable
from kaon.types.workspace import DEFAULT_WORKSPACE

_KINDS = ("plan", "plan_part", "cloud", "key", "secret")


class RepairController:
    """The reconciler of such rows; a key is a workspace and `kind/name`."""

    name = "repair"

    def __init__(self, store: Store, clock: Clock, snapshot: Snapshot) -> None:
        self._store = store
        self._clock = clock
        self._snapshot = snapshot

    async def keys(self) -> Collection[DeploymentKey]:
        """Every such row."""
        await self._snapshot.at_least(self._store.written)
        return {_key(row) for kind in _KINDS for row in self._snapshot.unreadable(kind) if _is_made_again(row)}

    async def affected(self, changes: Sequence[Change]) -> Collection[DeploymentKey]:
        """Such rows among the changed ones."""
        rows = [change.resource for change in changes if isinstance(change.resource, Unreadable)]
        return {_key(row) for row in rows if _is_made_again(row)}

    async def all(self) -> None:
        """Delete every such row, as far as possible."""
        await self._snapshot.current()
        for key in await self.keys():
            with suppress(Exception):  # its reconcile loop tries again and counts it
                await self.reconcile(key)

    async def reconcile(self, key: DeploymentKey) -> Again | None:
        """Delete the row, if it still cannot be read.

        A cloud is made again in the same transaction: a deployment that sees none would be placed elsewhere.
        """
        kind, _, name = key[1].partition("/")
        rows = self._snapshot.unreadable(kind)
        row = next((row for row in rows if (row.workspace, row.name) == (key[0], name)), None)
        if row is None:
            return None
        again = [Create(kind, "", name, CloudSpec())] if kind == "cloud" else []
        with suppress(NotFound):
            await self._store.write([Delete(row), *again, RecordEvents([_event(row, self._clock.now())])])
        return None


def _is_made_again(row: Unreadable) -> bool:
    return row.kind in ("plan", "plan_part", "cloud") or (
        row.kind in ("key", "secret") and identity_deployment(row.name) is not None
    )


def _key(row: Unreadable) -> DeploymentKey:
    return row.workspace, f"{row.kind}/{row.name}"


def _event(row: Unreadable, now: float) -> Event:
    return Event(
        at=now,
        workspace=row.workspace or DEFAULT_WORKSPACE,
        kind=row.kind,
        name=row.name,
        uid=row.uid,
        level=EventLevel.WARNING,
        reason="MadeAnew",
        message=f"Its row could not be read ({row.reason}); it is made again.",
    )
