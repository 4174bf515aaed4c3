"""A watch that yields each change once, across reconnections.

No I/O: server-sent events go in, changes come out, and `since` is where the next connection resumes. When the platform
does not have that version any more, it sends everything again, and changes are found by comparison.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Any

from kaon.client.events import ServerEvent
from kaon.types.kind import Kind, Verb


@dataclass(frozen=True, slots=True)
class ResourceChange:
    """'added', 'changed' or 'deleted', and the view; 'synced' after all existing resources."""

    what: str
    view: Any = None


class Watch:
    """The received resources of one kind."""

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        self._mutable = Verb.GET in kind.rights
        """Whether resources can change; events are only added."""
        self._views: dict[Hashable, Any] = {}
        self._snapshot: dict[Hashable, Any] | None = {} if self._mutable else None
        self._newest: tuple[str | int, ...] = ()
        self.since: str | None = None
        """Where the next connection resumes; None: at the beginning."""

    def restart(self) -> None:
        """Start again: the platform does not have `since` any more."""
        self.since = None
        self._snapshot = {} if self._mutable else None

    def take(self, event: ServerEvent) -> Iterator[ResourceChange]:
        """The changes of an event of the stream. Raises `ValueError` when it is not valid."""
        if event.name == "synced":
            yield from self._synced()
        elif event.name in ("added", "changed", "deleted"):
            yield from self._changed(event.name, self._kind.view.model_validate_json(event.data))
        if event.id is not None and self._snapshot is None:
            self.since = event.id

    def _changed(self, what: str, view: Any) -> Iterator[ResourceChange]:
        key = self._kind.order(view)
        if not self._mutable:
            if key > self._newest:
                self._newest = key
                yield ResourceChange(what, view)
        elif self._snapshot is not None:
            self._snapshot[key] = view
        elif what == "deleted":
            if self._views.pop(key, None) is not None:
                yield ResourceChange("deleted", view)
        else:
            yield from self._put(key, view)

    def _put(self, key: Hashable, view: Any) -> Iterator[ResourceChange]:
        before = self._views.get(key)
        self._views[key] = view
        if before is None:
            yield ResourceChange("added", view)
        elif before != view:
            yield ResourceChange("changed", view)

    def _synced(self) -> Iterator[ResourceChange]:
        if self._snapshot is not None:
            snapshot, self._snapshot = self._snapshot, None
            for key in [key for key in self._views if key not in snapshot]:
                yield ResourceChange("deleted", self._views.pop(key))
            for key, view in snapshot.items():
                yield from self._put(key, view)
        yield ResourceChange("synced")
