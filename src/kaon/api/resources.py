"""The routes of every kind, made from its declaration: list and watch, get, put, delete.

A kind that needs more than its declaration has a module with its own `Collection`, which defines the routes of its
`special` verbs.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import Header, Path, Query, Response
from pydantic import BaseModel

from kaon.api import audit, edits
from kaon.api.collection import Collection, ReadContext, not_found, read_page
from kaon.api.context import ApiContext, WithCaller, WithContext, WorkspaceParam
from kaon.api.keyring import Caller
from kaon.api.preconditions import Precondition, WithPrecondition, check_precondition
from kaon.api.router import AuthorizedRoute, AuthorizedRouter
from kaon.api.views import Items
from kaon.api.watch import MEDIA_TYPE, resumed, watched
from kaon.errors import Conflict, Forbidden, NotFound
from kaon.store.port import AnyResource
from kaon.store.writes import Create, UpdateSpec
from kaon.types.etag import etag
from kaon.types.kind import Kind, Scope, Verb
from kaon.types.workspace import DEFAULT_WORKSPACE

LIMIT = 500
"""Default number of items in a page."""
MOST = 1000
"""Maximum number of items in a page."""
WatchParam = Annotated[bool, Query(description="Stream all resources and their changes, as server-sent events.")]
Since = Annotated[int | None, Query(ge=0, le=2**62, description="For a watch: only changes behind this version.")]
LastEventId = Annotated[str | None, Header(alias="Last-Event-ID", max_length=80, description="`since`, from browsers.")]
STREAM: dict[int | str, dict[str, Any]] = {200: {"content": {MEDIA_TYPE: {"schema": {"type": "string"}}}}}


def routes_of(collection: Collection) -> list[AuthorizedRoute]:
    """The routes of a kind's verbs, except those that its own module defines."""
    kind = collection.kind
    made = AuthorizedRouter(kind.path, tag=kind.plural)
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


RouteHandler = Callable[..., Coroutine[Any, Any, Any]]


def _signed(name: str, doc: str, call: RouteHandler, /, **parameters: Any) -> RouteHandler:
    """`call` with a signature for the framework: name -> type, or (type, default)."""
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
    shared: dict[str, Any] = {"context": WithContext, "caller": WithCaller}
    return shared | ({"ws": WorkspaceParam} if kind.scope is Scope.WORKSPACE else {})


def _place(collection: Collection) -> dict[str, Any]:
    named: Any = collection.kind.named
    return _common(collection.kind) | {"name": Annotated[named, Path(alias=collection.parameter)]}


def _list(collection: Collection) -> RouteHandler:
    kind = collection.kind

    async def call(
        context: ApiContext,
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
            return watched(context, caller, ws, collection, query, resumed(since, last_event_id))
        return read_page(collection, ReadContext(context, caller, ws), query, after=after, limit=limit)

    filters = {
        f.name: (Annotated[str | None, Query(pattern=f.pattern, description=f.help)], None) for f in kind.filters
    }
    return _signed(
        f"list_{kind.plural}",
        f"The {kind.plural} that the key may see, page by page.",
        call,
        **_common(kind),
        after=(Annotated[str | None, Query(max_length=1000, description="`next` of the page before.")], None),
        limit=(Annotated[int, Query(ge=1, le=MOST, description="Items of a page at most.")], LIMIT),
        prefix=(Annotated[str | None, Query(max_length=80, description="Only names with this prefix.")], None),
        watch=(WatchParam, False),
        since=(Since, None),
        last_event_id=(LastEventId, None),
        **filters,
    )


def _get(collection: Collection) -> RouteHandler:
    kind = collection.kind

    async def call(context: ApiContext, caller: Caller, name: str, response: Response, ws: str = "") -> BaseModel:
        view = collection.one(ReadContext(context, caller, ws), name)
        if kind.stored and (found := context.snapshot.find(kind.name, ws, name)) is not None:
            response.headers["etag"] = etag(found.uid, found.generation)
        return view

    return _signed(f"get_{kind.name}", f"One {kind.name}.", call, **_place(collection), response=Response)


def _put(collection: Collection) -> RouteHandler:
    kind = collection.kind

    async def call(
        context: ApiContext,
        caller: Caller,
        name: str,
        body: BaseModel,
        response: Response,
        dry_run: bool,
        precondition: Precondition,
        ws: str = "",
    ) -> BaseModel:
        read = ReadContext(context, caller, ws)
        _check_reach(kind, caller)

        async def attempt() -> tuple[AnyResource, AnyResource | None]:
            current = await context.store.find(kind.name, ws, name)
            after = preview(kind, context, ws, name, body, current)
            for each in (current, after):
                if each is not None and not collection.sees_it(each, read):
                    raise not_found(kind, ws, name)
            await check_precondition(context, precondition, current, kind.name, ws, name)
            kind.admit(name, body, None if current is None else current.spec)
            if dry_run:
                return after, current
            if current is None:
                await _check_count(kind, read)
                change: Create | UpdateSpec = Create(kind.name, ws, name, body)
            else:
                change = UpdateSpec(current, body)
            event = ("Created", "Created.") if current is None else ("Changed", f"Generation {after.generation}.")
            return await audit.write(context, caller, change, *event, event_in=_event_workspace(kind)), current

        after, before = await edits.retry_on_conflict(attempt)
        if before is None and not dry_run:
            response.status_code = 201
        return collection.shown(after, read)

    return _signed(
        f"put_{kind.name}",
        f"Create a {kind.name} (201) or replace its spec (200).",
        call,
        **_place(collection),
        body=kind.spec,
        response=Response,
        precondition=WithPrecondition,
        dry_run=(Annotated[bool, Query(description="Answer with the result; write nothing.")], False),
    )


def _delete(collection: Collection) -> RouteHandler:
    kind = collection.kind

    async def call(context: ApiContext, caller: Caller, name: str, precondition: Precondition, ws: str = "") -> None:
        _check_reach(kind, caller)
        if kind.owner:  # else any writer may delete it, readable or not
            collection.one(ReadContext(context, caller, ws), name)
        try:
            place = kind.name, ws, name
            await edits.delete(context, caller, precondition, place, "Deleted", event_in=_event_workspace(kind))
        except NotFound:
            raise not_found(kind, ws, name) from None

    return _signed(
        f"delete_{kind.name}", f"Delete a {kind.name}.", call, **_place(collection), precondition=WithPrecondition
    )


def _event_workspace(kind: Kind) -> str | None:
    """Where events about a kind are kept: those of platform kinds in the default workspace."""
    return DEFAULT_WORKSPACE if kind.scope is Scope.PLATFORM else None


def _check_reach(kind: Kind, caller: Caller) -> None:
    """Raises `Forbidden` when a key of one workspace would change a resource of the platform."""
    if kind.scope is Scope.PLATFORM and not caller.rights.whole_platform:
        raise Forbidden(
            f"A {kind.name} belongs to the platform: a key of one workspace cannot change it.",
            hint="Use a key for every workspace.",
        )


async def _check_count(kind: Kind, read: ReadContext) -> None:
    snapshot = read.context.snapshot
    await snapshot.at_least(read.context.store.written)
    unreadable = [row for row in snapshot.unreadable(kind.name) if row.workspace == read.workspace]
    if len(snapshot.list(kind.name, read.workspace)) + len(unreadable) >= kind.most:
        raise Conflict(
            f"There may be {kind.most:,} {kind.plural} at most.", hint=f"Delete some: kaon delete {kind.name} NAME"
        )


def preview(
    kind: Kind, context: ApiContext, ws: str, name: str, spec: BaseModel, current: AnyResource | None
) -> AnyResource:
    """The resource as it would be with this spec, for a dry run."""
    if current is not None:
        return current.model_copy(update={"spec": spec, "generation": current.generation + int(current.spec != spec)})
    now = context.clock.now()
    return kind.envelope(
        kind=kind.name,
        workspace=ws,
        name=name,
        uid="",
        version=0,
        generation=1,
        created_at=now,
        updated_at=now,
        spec=spec,
        status=kind.status(),
    )
