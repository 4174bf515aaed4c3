"""A watch as its reader wants it: each change once, whatever the connection does.

No I/O: server-sent events go in, changes come out, and `since` says where the next connection goes on. Where the
platform does not know that any more, everything is sent again, and what has changed is found by comparing.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Any

from kaon.client.events import ServerEvent
from kaon.types.kind import Kind, Verb


@dataclass(frozen=True, slots=True)
class ResourceChange:
    """'added', 'changed' or 'deleted', and the view; 'synced' once all that was there at the beginning has come."""

    what: str
    view: Any = None


class Watch:
    """What is known of the resources of one kind."""

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        self._keeps = Verb.GET in kind.rights
        """Whether there are resources that change; events only come."""
        self._known: dict[Hashable, Any] = {}
        self._coming: dict[Hashable, Any] | None = {} if self._keeps else None
        self._newest: tuple[str | int, ...] = ()
        self.since: str | None = None
        """Where the next connection goes on; None: it begins anew."""

    def begin_anew(self) -> None:
        """The platform does not know `since` any more."""
        self.since = None
        self._coming = {} if self._keeps else None

    def take(self, event: ServerEvent) -> Iterator[ResourceChange]:
        """The changes that an event of the stream stands for. Raises `ValueError` when it is none."""
        if event.name == "synced":
            yield from self._synced()
        elif event.name in ("added", "changed", "deleted"):
            yield from self._changed(event.name, self._kind.view.model_validate_json(event.data))
        if event.id is not None and self._coming is None:
            self.since = event.id

    def _changed(self, what: str, view: Any) -> Iterator[ResourceChange]:
        key = self._kind.order(view)
        if not self._keeps:
            if key > self._newest:
                self._newest = key
                yield ResourceChange(what, view)
        elif self._coming is not None:
            self._coming[key] = view
        elif what == "deleted":
            if self._known.pop(key, None) is not None:
                yield ResourceChange("deleted", view)
        else:
            yield from self._put(key, view)

    def _put(self, key: Hashable, view: Any) -> Iterator[ResourceChange]:
        before = self._known.get(key)
        self._known[key] = view
        if before is None:
            yield ResourceChange("added", view)
        elif before != view:
            yield ResourceChange("changed", view)

    def _synced(self) -> Iterator[ResourceChange]:
        if self._coming is not None:
            coming, self._coming = self._coming, None
            for key in [key for key in self._known if key not in coming]:
                yield ResourceChange("deleted", self._known.pop(key))
            for key, view in coming.items():
                yield from self._put(key, view)
        yield ResourceChange("synced")
