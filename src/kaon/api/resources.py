"""Routes of every kind, made from its declaration: list and watch, get, put, delete.

A kind that needs no more than its declaration has no module here. One that does has a `Collection` of its own, and
makes the routes of its `special` verbs itself.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import Header, Path, Query, Response
from pydantic import BaseModel

from kaon.api import audit, edits
from kaon.api.collection import Collection, Look, read_page, unseen
from kaon.api.doors import Door, Doors
from kaon.api.keyring import Caller
from kaon.api.parts import InWorkspace, Parts, WithCaller, WithParts
from kaon.api.versions import IfMatch, hold_to_version, version_of
from kaon.api.views import Items
from kaon.api.watch import MEDIA_TYPE, resumed, watched
from kaon.errors import Conflict, Forbidden
from kaon.store.port import AnyResource, Unreadable
from kaon.types.kind import Kind, Scope, Verb

LIMIT = 500
"""Items of a page unless asked otherwise."""
MOST = 1000
"""Items of a page at most."""
Watch = Annotated[bool, Query(description="Stream what there is, and all changes, as server-sent events.")]
Since = Annotated[int | None, Query(ge=0, le=2**62, description="Of a watch: only what came behind this version.")]
LastEventId = Annotated[str | None, Header(alias="Last-Event-ID", max_length=80, description="`since`, by browsers.")]
STREAM: dict[int | str, dict[str, Any]] = {200: {"content": {MEDIA_TYPE: {"schema": {"type": "string"}}}}}


def routes_of(collection: Collection) -> list[Door]:
    """The routes of a kind's verbs, but of those that its module makes itself."""
    kind = collection.kind
    made = Doors(kind.path, tag=kind.plural)
    place = f"/{{{collection.parameter}}}"
    for verb, path, method, endpoint, options in (
        (Verb.LIST, "", made.get, _list, {"response_model": Items[kind.view], "responses": {**STREAM}}),  # type: ignore[name-defined]
        (Verb.GET, place, made.get, _get, {"response_model": kind.view}),
        (Verb.PUT, place, made.put, _put, {"response_model": kind.view, "responses": {201: {"model": kind.view}}}),
        (Verb.DELETE, place, made.delete, _delete, {"status_code": 204, "response_class": Response}),
    ):
        if verb in kind.rights and verb not in collection.special:
            method(path, right=kind.rights[verb], **options)(endpoint(collection))
    return made


Endpoint = Callable[..., Coroutine[Any, Any, Any]]


def _signed(name: str, doc: str, call: Endpoint, /, **parameters: Any) -> Endpoint:
    """`call` as a function of these parameters, which the framework reads: name -> type, or (type, default)."""
    call.__name__, call.__doc__ = name, doc
    call.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(n, inspect.Parameter.KEYWORD_ONLY, annotation=p[0], default=p[1])
            if isinstance(p, tuple)
            else inspect.Parameter(n, inspect.Parameter.KEYWORD_ONLY, annotation=p)
            for n, p in parameters.items()
        ]
    )
    return call


def _common(kind: Kind) -> dict[str, Any]:
    shared: dict[str, Any] = {"parts": WithParts, "caller": WithCaller}
    return shared | ({"ws": InWorkspace} if kind.scope is Scope.WORKSPACE else {})


def _place(collection: Collection) -> dict[str, Any]:
    named: Any = collection.kind.named
    return _common(collection.kind) | {"name": Annotated[named, Path(alias=collection.parameter)]}


def _list(collection: Collection) -> Endpoint:
    kind = collection.kind

    async def call(
        parts: Parts,
        caller: Caller,
        after: str | None,
        limit: int,
        watch: bool,
        since: int | None,
        last_event_id: str | None,
        ws: str = "",
        **query: Any,
    ) -> Any:
        if watch:
            return watched(parts, caller, ws, collection, query, resumed(since, last_event_id))
        return read_page(collection, Look(parts, caller, ws), query, after=after, limit=limit)

    filters = {
        f.name: (Annotated[str | None, Query(pattern=f.pattern, description=f.help)], None) for f in kind.filters
    }
    return _signed(
        f"list_{kind.plural}",
        f"The {kind.plural} that the key sees, page by page.",
        call,
        **_common(kind),
        after=(Annotated[str | None, Query(max_length=1000, description="`next` of the page before.")], None),
        limit=(Annotated[int, Query(ge=1, le=MOST, description="Items of a page at most.")], LIMIT),
        prefix=(Annotated[str | None, Query(max_length=80, description="Only names that begin so.")], None),
        watch=(Watch, False),
        since=(Since, None),
        last_event_id=(LastEventId, None),
        **filters,
    )


def _get(collection: Collection) -> Endpoint:
    kind = collection.kind

    async def call(parts: Parts, caller: Caller, name: str, ws: str = "") -> BaseModel:
        return collection.one(Look(parts, caller, ws), name)

    return _signed(f"get_{kind.name}", f"One {kind.name}.", call, **_place(collection))


def _put(collection: Collection) -> Endpoint:
    kind = collection.kind

    async def call(
        parts: Parts,
        caller: Caller,
        name: str,
        body: BaseModel,
        response: Response,
        dry_run: bool,
        if_match: str | None,
        ws: str = "",
    ) -> BaseModel:
        look = Look(parts, caller, ws)
        _hold_to_reach(kind, caller)
        wanted = version_of(if_match)

        async def attempt() -> tuple[AnyResource, AnyResource | None]:
            current = await _own(collection, look, name)
            hold_to_version(wanted, current, kind.name, name)
            kind.admit(name, body, None if current is None else current.spec)
            after = _would_be(kind, look, name, body, current)
            if current is None and not collection.sees_it(after, look):
                raise Forbidden(f"This key may not make this {kind.name}.", hint="See what it may: kaon whoami")
            if dry_run:
                return after, current
            if current is None:
                await _hold_to_count(kind, look)
                return await parts.store.create(kind.name, ws, name, body), None
            return await parts.store.update_spec(current, body), current

        after, before = await (attempt() if wanted is not None else edits.until_written(attempt))
        if not dry_run and (before is None or after.version != before.version):
            response.status_code = 201 if before is None else 200
            await _note(parts, caller, after, "Created" if before is None else "Changed")
        return collection.shown(after, look)

    return _signed(
        f"put_{kind.name}",
        f"Create a {kind.name} (201) or replace its spec (200).",
        call,
        **_place(collection),
        body=kind.spec,
        response=Response,
        dry_run=(Annotated[bool, Query(description="Answer what would be; write nothing.")], False),
        if_match=(IfMatch, None),
    )


def _delete(collection: Collection) -> Endpoint:
    kind = collection.kind

    async def call(parts: Parts, caller: Caller, name: str, ws: str = "") -> None:
        _hold_to_reach(kind, caller)
        if await _own(collection, Look(parts, caller, ws), name) is None:
            raise unseen(kind, ws, name)
        await _note(parts, caller, await edits.remove(parts.store, kind.name, ws, name), "Deleted")

    return _signed(f"delete_{kind.name}", f"Delete a {kind.name}.", call, **_place(collection))


def _hold_to_reach(kind: Kind, caller: Caller) -> None:
    """What is the platform's is changed by keys for the whole platform."""
    held = caller.standing
    if kind.scope is Scope.PLATFORM and (held.workspace is not None or held.deployments is not None):
        raise Forbidden(
            f"A {kind.name} belongs to the platform: a key of one workspace cannot change it.",
            hint="Use a key for every workspace.",
        )


async def _own(collection: Collection, look: Look, name: str) -> AnyResource | None:
    """The resource, if there is one. Raises `Forbidden` for one that the caller does not see."""
    kind = collection.kind
    found = await look.parts.store.find(kind.name, look.workspace, name)
    if found is not None and not collection.sees_it(found, look):
        raise unseen(kind, look.workspace, name)
    return found


async def _hold_to_count(kind: Kind, look: Look) -> None:
    snapshot = look.parts.snapshot
    await snapshot.at_least(look.parts.store.written)
    unreadable = [row for row in snapshot.unreadable(kind.name) if row.workspace == look.workspace]
    if len(snapshot.list(kind.name, look.workspace)) + len(unreadable) >= kind.most:
        raise Conflict(
            f"There may be {kind.most:,} {kind.plural} at most.", hint=f"Delete some: kaon delete {kind.name} NAME"
        )


def _would_be(kind: Kind, look: Look, name: str, spec: BaseModel, current: AnyResource | None) -> AnyResource:
    if current is not None:
        return current.model_copy(update={"spec": spec, "generation": current.generation + int(current.spec != spec)})
    return kind.envelope(
        kind=kind.name,
        workspace=look.workspace,
        name=name,
        uid="",
        version=0,
        generation=1,
        created_at=look.now,
        updated_at=look.now,
        spec=spec,
        status=kind.status(),
    )


async def _note(parts: Parts, caller: Caller, resource: AnyResource | Unreadable, reason: str) -> None:
    place = {"workspace": resource.workspace, "kind": resource.kind, "name": resource.name, "uid": resource.uid}
    await audit.note(parts, caller, **place, reason=reason, message=f"{reason}.")
