"""`/workspaces/{ws}/events`: events, as a list or a stream."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Annotated, Any

from fastapi import Query

from kaon.api.collection import Collection, ReadContext
from kaon.api.context import ApiContext, WithCaller, WithContext, WorkspaceParam
from kaon.api.keyring import Caller
from kaon.api.resources import STREAM, LastEventId, Since, WatchParam
from kaon.api.router import AuthorizedRouter
from kaon.api.views import Items
from kaon.api.watch import EventStream, Signal, resumed
from kaon.errors import Gone
from kaon.store.port import AnyResource
from kaon.types.event import Event
from kaon.types.key import Right
from kaon.types.kind import Verb
from kaon.types.kinds import KINDS

_KEPT = 10_000
_AT_ONCE = 1000
_WORD = r"^[A-Za-z]{1,80}$"
router = AuthorizedRouter("/workspaces/{ws}/events", tag="events")
collection = Collection(kind=KINDS["event"], special=frozenset({Verb.LIST}))


@router.get("", right=Right.READ, response_model=Items[Event], responses={**STREAM})
async def list_events(
    ws: WorkspaceParam,
    context: WithContext,
    caller: WithCaller,
    kind: Annotated[str | None, Query(pattern=r"^[a-z]{1,40}$", description="Only about this kind.")] = None,
    name: Annotated[
        str | None, Query(pattern=r"^[a-z0-9:-]{1,80}$", description="Only about the resource of this name.")
    ] = None,
    reason: Annotated[str | None, Query(pattern=_WORD, description="Only with this reason, like Deployed.")] = None,
    level: Annotated[str | None, Query(pattern=_WORD, description="Only with this level, like warning.")] = None,
    since_s: Annotated[float | None, Query(ge=0, le=1e10, allow_inf_nan=False, description="Seconds back.")] = None,
    limit: Annotated[int, Query(ge=1, le=_AT_ONCE, description="Events at most.")] = 100,
    after: Annotated[int | None, Query(ge=0, le=2**62, description="Only events behind this id.")] = None,
    watch: WatchParam = False,
    since: Since = None,
    last_event_id: LastEventId = None,
) -> Any:
    """The newest events, in order of time; with `after`, the next ones behind that id."""
    query = _EventQuery(context, caller, ws, kind=kind, name=name, reason=reason, level=level, since_s=since_s)
    if watch:
        return await _watched(query, resumed(since, last_event_id), limit)
    if after is None:
        found, last = await query.newest(limit)
        return Items[Event](items=found, version=last)
    found, last, more = await query.behind(after, limit)
    return Items[Event](items=found, next=str(last) if more else None, version=last)


class _EventQuery:
    """The events of a workspace that a caller requests and may see."""

    def __init__(
        self, context: ApiContext, caller: Caller, workspace: str, *, since_s: float | None, **equal: Any
    ) -> None:
        self.context = context
        self.caller = caller
        self.workspace = workspace
        self._equal = {field: value for field, value in equal.items() if value is not None}
        self._earliest = None if since_s is None else context.clock.now() - since_s

    async def last_id(self) -> int:
        """The id of the workspace's newest event; 0 when there is none."""
        newest = await self.context.store.events(self.workspace, limit=1)
        return newest[0].id if newest else 0

    async def newest(self, limit: int) -> tuple[list[Event], int]:
        """The newest events in order of time, and the last id that was searched."""
        last = await self.last_id()
        kind, name = self._equal.get("kind"), self._equal.get("name")
        whole = self.caller.rights.deployments is None and not self._equal.keys() - {"kind", "name"}
        found = await self.context.store.events(self.workspace, kind, name, limit if whole else _KEPT)
        return self._fitting([event for event in found if event.id <= last])[-limit:], last

    async def behind(self, after: int, limit: int) -> tuple[list[Event], int, bool]:
        """The next events behind an id, the last id that was searched, and whether there may be more."""
        found = await self.context.store.events(self.workspace, limit=limit, after=after)
        return self._fitting(found), found[-1].id if found else after, len(found) == limit

    async def check_kept(self, after: int) -> None:
        """Raises `Gone` when events behind that id have been deleted, or there never was one of that id."""
        (oldest,) = await self.context.store.events(self.workspace, limit=1, after=0) or (None,)
        trimmed = oldest is not None and oldest.id > after + 1 and await self._is_full()
        if trimmed or after > await self.last_id():
            raise Gone(f"Events behind {after} are no longer stored.", hint="List the newest ones: kaon events")

    async def _is_full(self) -> bool:
        return len(await self.context.store.events(self.workspace, limit=_KEPT)) == _KEPT

    def _fitting(self, events: Sequence[Event]) -> list[Event]:
        read = ReadContext(self.context, self.caller, self.workspace)
        return [event for event in events if self._fits(event) and self._sees(event, read)]

    def _fits(self, event: Event) -> bool:
        late = self._earliest is None or event.at >= self._earliest
        return late and all(getattr(event, field) == value for field, value in self._equal.items())

    def _sees(self, event: Event, read: ReadContext) -> bool:
        """Whether the key may see it; with a name in the query: and it is about the current resource of that name."""
        names = self.caller.rights.deployments
        if names is not None:
            deployment = _deployment(event)
            own = read.find("deployment", deployment) if deployment in names else None
            return own is not None and _is_of(own, event)
        named = self._equal.get("name") and event.kind in KINDS and KINDS[event.kind].stored
        about = read.find(event.kind, event.name) if named else None
        return about is None or _is_of(about, event)


class _EventWatch:
    """The source of a stream of events."""

    def __init__(self, query: _EventQuery, last: int) -> None:
        self._query = query
        self._exits = ExitStack()
        self._changes = self._exits.enter_context(query.context.snapshot.subscribe())
        self.id = last
        self.ended = False

    def close(self) -> None:
        """Unsubscribe from the snapshot."""
        self._exits.close()

    async def next(self, timeout_s: float) -> Sequence[Signal]:
        """See `Source.next`. Most events come with a change of a resource; others are found after the timeout."""
        await self._changes.filled(timeout_s)
        self._changes.taken()
        found, self.id, _ = await self._query.behind(self.id, _AT_ONCE)
        read = ReadContext(self._query.context, self._query.caller, self._query.workspace)
        self.ended = read.find("workspace", self._query.workspace) is None
        return [Signal("added", event, event.id) for event in found]


async def _watched(query: _EventQuery, since: int | None, limit: int) -> EventStream:
    with ExitStack() as exits:
        exits.enter_context(query.context.streams.open(query.caller.uid))
        first: list[Signal] = []
        if since is None:
            found, since = await query.newest(limit)
            first = [*(Signal("added", event, event.id) for event in found), Signal("synced")]
        else:
            await query.check_kept(since)
        source = _EventWatch(query, since)
        exits.callback(source.close)
        return EventStream(query.context, query.caller, source, first, exits.pop_all())


def _deployment(event: Event) -> str:
    """The deployment of the event's resource (`web` of `web`, `web-3`, `web-3-0`); empty: none."""
    steps = {"deployment": 0, "revision": 1, "replica": 2}.get(event.kind)
    if steps is None:
        return ""
    return event.name.rsplit("-", steps)[0] if steps else event.name


def _is_of(resource: AnyResource, event: Event) -> bool:
    """Whether it is about `resource`, not about an earlier one of the same name."""
    if event.kind == resource.kind and event.uid:
        return event.uid == resource.uid
    return event.at >= resource.created_at
