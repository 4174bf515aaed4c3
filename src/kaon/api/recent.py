"""The newest changes of this server's snapshot, so that a watch that was cut can go on where it was.

Of each change is kept which resource it was, and the resource itself only where its life ended with the change: what it
is now stands in the snapshot. Whoever shows resources to a caller takes in what is new first (`catch_up`), so every
state that a caller has seen is a state that this knows.
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
    """One change: of a resource that existed before it, or did not; and the resource whose life ended with it."""

    version: int
    place: ResourceKey
    existed: bool
    ended: AnyResource | None = None


class RecentChanges:
    """The newest `KEPT` changes, while it follows the snapshot."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._known: dict[ResourceKey, AnyResource] = {}
        self._entries: deque[Recent] = deque()
        self._changes: Subscription | None = None
        self._oldest = self._newest = -1
        """Between these versions all changes are here; -1: nothing was taken in yet."""

    @contextmanager
    def following(self) -> Iterator[None]:
        """While inside, what the snapshot takes in is remembered."""
        with self._snapshot.subscribe() as self._changes:
            yield
        self._changes = None

    def catch_up(self) -> None:
        """Take in what the snapshot has taken in so far."""
        if self._changes is None:
            return
        changes = self._changes.taken()
        if self._newest < 0 or (changes and changes[0].version <= self._newest):
            self._begin()  # for the first time, or since somebody has put an older store in its place
            return
        for change in changes:
            if KINDS[change.kind].rights:  # the platform's own kinds cannot be watched
                self._take(change)
        self._newest = self._snapshot.version

    def since(self, version: int) -> list[Recent]:
        """All changes behind a version, in order. Raises `Gone` when they are not known any more."""
        self.catch_up()
        if not self._oldest <= version <= self._newest:
            raise Gone(
                f"What changed since version {version} is not known any more.",
                hint="List anew, and watch from the version of that list.",
            )
        return [entry for entry in self._entries if entry.version > version]

    def _begin(self) -> None:
        self._entries.clear()
        self._oldest = self._newest = self._snapshot.version
        found = (resource for kind in KINDS.values() if kind.rights for resource in self._snapshot.list(kind.name))
        self._known = {(r.kind, r.workspace, r.name): r for r in found}

    def _take(self, change: Change) -> None:
        place = (change.kind, change.workspace, change.name)
        before = self._known.pop(place, None)
        after = change.resource if isinstance(change.resource, Resource) else None
        if after is not None:
            self._known[place] = after
        ended = before if before is not None and (after is None or after.uid != before.uid) else None
        if before is not None or after is not None:
            self._entries.append(Recent(change.version, place, before is not None, ended))
        while len(self._entries) > KEPT:
            self._oldest = self._entries.popleft().version
