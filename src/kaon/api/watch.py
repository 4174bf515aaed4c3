"""`GET LIST?watch=true`: the resources of a kind that a key may see, and every change, as server-sent events.

    event     data
    added     the view of a resource that exists or appears
    changed   its new view
    deleted   its last view, when it is deleted or may no longer be seen
    synced    {}: all existing resources have been sent

Changes that come together are sent together, and the last of them has the id: the version up to which all is sent. A
client continues with that id in `Last-Event-ID` or `since`; some changes may come twice then, none is missed. When the
server no longer has the changes (it was restarted, or the version is too old), it answers 410, and the client starts
again without an id.

Only changes of resources are sent, not what time alone changes, such as the expiry of a key.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Hashable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Protocol

from pydantic import BaseModel
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from kaon.api.collection import Collection, ReadContext, filters_in, matches
from kaon.api.context import ApiContext
from kaon.api.keyring import Caller
from kaon.api.recent import Recent
from kaon.errors import Gone, Unavailable
from kaon.store.port import AnyResource

MEDIA_TYPE = "text/event-stream"
RECHECK_S = 0.5
"""How often the key is checked."""
HEARTBEAT_S = 15.0
GATHER_S = 0.05
"""How long changes are collected before they are sent, so that rapid changes of a resource become one."""


@dataclass(frozen=True, slots=True)
class Signal:
    """One server-sent event: 'added', 'changed', 'deleted' or 'synced', and the view."""

    name: str
    view: BaseModel | None = None
    id: int | None = None
    """Its own id, when it is not the id of its group."""


class Source(Protocol):
    """What a stream sends."""

    @property
    def id(self) -> int:
        """The id up to which all was sent."""
        ...

    @property
    def ended(self) -> bool:
        """Whether nothing more can come."""
        ...

    async def next(self, timeout_s: float) -> Sequence[Signal]:
        """The next signals, once there are some; none after the timeout."""
        ...


@dataclass(slots=True)
class _Sent:
    """The last view of one resource that was sent."""

    uid: str
    view: BaseModel
    exact: bool = True
    """Whether exactly this view was sent; else it is another one of the same resource."""


class ResourceWatch:
    """The changes of the resources of a kind that a caller may see; `close` ends its subscription."""

    def __init__(
        self, context: ApiContext, caller: Caller, workspace: str, collection: Collection, query: dict[str, Any]
    ) -> None:
        self._context = context
        self._caller = caller
        self._workspace = workspace
        self._collection = collection
        self._kind = collection.kind
        self._filters = filters_in(collection.kind, query)
        self._prefix = query.get("prefix") or ""
        self._sent: dict[Hashable, _Sent] = {}
        self._exits = ExitStack()
        self._changes = self._exits.enter_context(context.snapshot.subscribe())
        self.id = 0
        self.ended = False

    def close(self) -> None:
        """Unsubscribe from the snapshot."""
        self._exits.close()

    def begin(self, since: int | None) -> Sequence[Signal]:
        """All existing resources, or the changes since a version. Raises `Gone`."""
        read = self._read()
        if since is None:
            self._sent = dict(self._visible(read, None))
            return [*(Signal("added", sent.view) for sent in self._sent.values()), Signal("synced")]
        recent = [entry for entry in self._context.recent.since(since) if self._concerns(*entry.place)]
        if recent and (self._kind.made_of or not self._kind.stored):
            raise Gone(
                f"The {self._kind.plural} of version {since} are no longer kept.",
                hint="List again, and watch from the version of that list.",
            )
        self._sent = dict(self._visible(read, None))
        by_name: dict[str, list[Recent]] = {}
        for entry in recent:
            by_name.setdefault(entry.place[2], []).append(entry)
        for name, entries in by_name.items():
            self._sent.pop(name, None)
            lives = [entry.ended for entry in entries if entry.ended is not None]
            then = lives[0] if lives else read.find(self._kind.name, name)  # the resource at `since`, approximately
            if entries[0].existed and then is not None and self._collection.sees_it(then, read):
                self._sent[name] = _Sent(then.uid, self._collection.shown(then, read), exact=False)
        return self._compare(read, set(by_name))

    async def next(self, timeout_s: float) -> Sequence[Signal]:
        """See `Source.next`."""
        if await self._changes.filled(timeout_s):
            await asyncio.sleep(GATHER_S)
        places = [(c.kind, c.workspace, c.name) for c in self._changes.taken()]
        read = self._read()
        self.ended = bool(self._workspace) and read.find("workspace", self._workspace) is None
        concerned = [place for place in places if self._concerns(*place)]
        if not concerned:
            return ()
        direct = self._kind.stored and all(kind == self._kind.name for kind, _, _ in concerned)
        return self._compare(read, {name for _, _, name in concerned} if direct and not self._kind.made_of else None)

    def _read(self) -> ReadContext:
        read = ReadContext(self._context, self._caller, self._workspace)
        self.id = read.version
        return read

    def _concerns(self, kind: str, workspace: str, name: str) -> bool:
        """Whether a change of that resource may change what is watched."""
        if kind != self._kind.name and kind not in self._kind.made_of:
            return False
        return workspace in ("", self._workspace) or self._kind.everywhere

    def _visible(self, read: ReadContext, names: set[str] | None) -> Iterator[tuple[Hashable, _Sent]]:
        """The views that the caller may see now, in order: of these names, or all."""
        if names is None:
            found = self._collection.found(read)
        else:
            found = [r for name in sorted(names) if (r := read.find(self._kind.name, name)) is not None]
        for item in sorted(found, key=self._kind.order):
            if not item.name.startswith(self._prefix) or not self._collection.sees_it(item, read):
                continue
            view = self._collection.shown(item, read)
            if matches(self._filters, view):
                yield self._key(item), _Sent(_uid(item), view)

    def _key(self, item: AnyResource | Any) -> Hashable:
        return item.name if self._kind.stored else self._kind.order(item)

    def _compare(self, read: ReadContext, names: set[str] | None) -> list[Signal]:
        """The differences between the current views and those sent, of these names or all; they then count as sent."""
        now = dict(self._visible(read, names))
        before = dict(self._sent)
        if names is not None:
            before = {name: self._sent[name] for name in sorted(names) if name in self._sent}
        signals = [Signal("deleted", was.view) for key, was in before.items() if _is_another(was, now.get(key))]
        for key, is_ in now.items():
            was = before.get(key)
            if was is None or _is_another(was, is_):
                signals.append(Signal("added", is_.view))
            elif not was.exact or was.view != is_.view:
                signals.append(Signal("changed", is_.view))
        for key in before.keys() - now.keys():
            del self._sent[key]
        self._sent |= now
        return signals


def _uid(item: Any) -> str:
    return str(getattr(item, "uid", None) or getattr(item, "id", ""))


def _is_another(was: _Sent, is_: _Sent | None) -> bool:
    return is_ is None or is_.uid != was.uid


class EventStream(StreamingResponse):
    """The response of a watch: it ends when the key does, and always releases its resources."""

    def __init__(
        self, context: ApiContext, caller: Caller, source: Source, first: Sequence[Signal], exits: ExitStack
    ) -> None:
        super().__init__(self._frames(first), media_type=MEDIA_TYPE)
        self._context = context
        self._caller = caller
        self._source = source
        self._exits = exits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._exits.close()

    async def _frames(self, signals: Sequence[Signal]) -> AsyncIterator[bytes]:
        loop = asyncio.get_running_loop()
        yield b": watching\n\n"
        sent_at = loop.time()
        while True:
            for number, signal in enumerate(signals, 1):
                yield _frame(signal, self._source.id if number == len(signals) else signal.id)
            now = loop.time()
            if signals:
                sent_at = now
            elif now - sent_at >= HEARTBEAT_S:
                yield f": still here\nid: {self._source.id}\n\n".encode()
                sent_at = now
            if self._source.ended or not await self._key_is_valid():
                return
            signals = await self._source.next(RECHECK_S)

    async def _key_is_valid(self) -> bool:
        try:
            return await self._context.keyring.is_valid(self._caller)
        except Unavailable:  # the key cannot be checked
            return False


def _frame(signal: Signal, id_: int | None) -> bytes:
    data = json.dumps({}) if signal.view is None else signal.view.model_dump_json()
    last = "" if id_ is None else f"id: {id_}\n"
    return f"event: {signal.name}\ndata: {data}\n{last}\n".encode()


def watched(
    context: ApiContext,
    caller: Caller,
    workspace: str,
    collection: Collection,
    query: dict[str, Any],
    since: int | None,
) -> EventStream:
    """The stream of a kind's changes. Raises `Gone`, `TooManyRequests`."""
    with ExitStack() as exits:
        exits.enter_context(context.streams.open(caller.uid))
        source = ResourceWatch(context, caller, workspace, collection, query)
        exits.callback(source.close)
        first = source.begin(since)
        return EventStream(context, caller, source, first, exits.pop_all())


def resumed(since: int | None, last_event_id: str | None) -> int | None:
    """The version that a watch continues from: of its query, or of the header that browsers send by themselves."""
    if since is not None or not last_event_id:
        return since
    return int(last_event_id) if last_event_id.isdecimal() and len(last_event_id) <= 18 else None
