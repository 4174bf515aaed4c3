"""The newest changes of this server's snapshot, so that an interrupted watch can continue.

An entry has the resource's key, and the resource itself only when the change ended its life: the current one is in the
snapshot. Reads call `catch_up` first, so that every state that a caller was shown is covered here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from kaon.errors import Gone
from kaon.store.port import AnyResource, Change
from kaon.store.snapshot import Snapshot, Subscription
from kaon.types.kinds import KINDS
from kaon.types.names import ResourceKey
from kaon.types.resource import Resource

KEPT = 10_000


@dataclass(frozen=True, slots=True)
class Recent:
    """One change; whether the resource existed before it, and the resource when its life ended with it."""

    version: int
    place: ResourceKey
    existed: bool
    ended: AnyResource | None = None


class RecentChanges:
    """The newest `KEPT` changes, while it follows the snapshot."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._current: dict[ResourceKey, AnyResource] = {}
        self._entries: deque[Recent] = deque()
        self._changes: Subscription | None = None
        self._oldest = self._newest = -1
        """All changes between these versions are here; -1: none yet."""

    @contextmanager
    def following(self) -> Iterator[None]:
        """Keep the snapshot's changes while inside."""
        with self._snapshot.subscribe() as self._changes:
            yield
        self._changes = None

    def catch_up(self) -> None:
        """Take in the snapshot's changes so far."""
        if self._changes is None:
            return
        changes = self._changes.taken()
        if self._newest < 0 or (changes and changes[0].version <= self._newest):
            self._begin()  # the first time, or the store was replaced by an older one
            return
        for change in changes:
            if KINDS[change.kind].rights:  # the platform's own kinds cannot be watched
                self._take(change)
        self._newest = self._snapshot.version

    def since(self, version: int) -> list[Recent]:
        """All changes behind a version, in order. Raises `Gone` when they are no longer kept."""
        self.catch_up()
        if not self._oldest <= version <= self._newest:
            raise Gone(
                f"The changes since version {version} are no longer kept.",
                hint="List again, and watch from the version of that list.",
            )
        return [entry for entry in self._entries if entry.version > version]

    def _begin(self) -> None:
        self._entries.clear()
        self._oldest = self._newest = self._snapshot.version
        found = (resource for kind in KINDS.values() if kind.rights for resource in self._snapshot.list(kind.name))
        self._current = {(r.kind, r.workspace, r.name): r for r in found}

    def _take(self, change: Change) -> None:
        place = (change.kind, change.workspace, change.name)
        before = self._current.pop(place, None)
        after = change.resource if isinstance(change.resource, Resource) else None
        if after is not None:
            self._current[place] = after
        ended = before if before is not None and (after is None or after.uid != before.uid) else None
        if before is not None or after is not None:
            self._entries.append(Recent(change.version, place, before is not None, ended))
        while len(self._entries) > KEPT:
            self._oldest = self._entries.popleft().version
