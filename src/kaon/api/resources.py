"""Routes of every kind, made from its declaration: list, get, put, delete.

    Kind         what is declared of it              kaon.types.kinds
    Collection   how the API reads it: who sees which resource, and as what
    Look         the resources of one workspace at one moment, and who asks for them

A kind that needs no more than its declaration has no module here. One that does has a `Collection` of its own, and
makes the routes of its `special` verbs itself.
"""

from __future__ import annotations

import base64
import binascii
import inspect
import json
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import Path, Query, Response
from pydantic import BaseModel

from kaon.api import audit, edits
from kaon.api.doors import Door, Doors
from kaon.api.keyring import Caller
from kaon.api.parts import InWorkspace, Parts, WithCaller, WithParts
from kaon.api.versions import IfMatch, hold_to_version, version_of
from kaon.api.views import Items
from kaon.errors import Conflict, Forbidden, InvalidInput, KaonError, NotFound
from kaon.store.port import AnyResource
from kaon.types.kind import Filter, Kind, Scope, Verb
from kaon.types.kinds import KINDS

LIMIT = 500
"""Items of a page unless asked otherwise."""
MOST = 1000
"""Items of a page at most."""
Position = tuple[str | int, ...]


class Look:
    """What there is in one workspace (empty: the platform's own) at one moment, for one caller."""

    def __init__(self, parts: Parts, caller: Caller, workspace: str) -> None:
        self.parts = parts
        self.caller = caller
        self.workspace = workspace
        self.now = parts.clock.now()
        self.version = parts.snapshot.version
        self.memo: dict[str, Any] = {}
        """What views of the same look share."""

    def all(self, kind: str) -> Sequence[AnyResource]:
        """The resources of a kind in this workspace, by name."""
        return self.parts.snapshot.list(kind, self._place(kind))

    def everywhere(self, kind: str) -> Sequence[AnyResource]:
        """Those of all workspaces."""
        return self.parts.snapshot.list(kind)

    def find(self, kind: str, name: str) -> AnyResource | None:
        """The resource of that name, if there is one that can be read."""
        try:
            return self.parts.snapshot.find(kind, self._place(kind), name)
        except KaonError:
            return None

    def _place(self, kind: str) -> str:
        return self.workspace if KINDS[kind].scope is Scope.WORKSPACE else ""


def _sees(kind: Kind) -> Callable[[Any, Look], bool]:
    """Who sees what, unless a module says otherwise.

    A key that is for some deployments sees what belongs to these; what belongs to the whole workspace it does not.
    """

    def sees(item: Any, look: Look) -> bool:
        standing = look.caller.standing
        if kind.scope is Scope.PLATFORM:
            return True
        owner = kind.owner_of(item)
        return standing.sees(look.workspace, owner) and (owner is not None or standing.deployments is None)

    return sees


@dataclass(frozen=True, kw_only=True)
class Collection:
    """How the API reads the resources of a kind."""

    kind: Kind
    sees: Callable[[Any, Look], bool] | None = None
    view: Callable[[Any, Look], BaseModel] | None = None
    items: Callable[[Look], Iterable[Any]] | None = None
    """Of a kind that the store does not keep: its views, which `sees` is asked about."""
    special: frozenset[Verb] = field(default_factory=frozenset)
    """The verbs whose routes its module makes itself."""
    parameter: str = "name"
    """How its routes call the name of one resource: the gate knows `ws` and `deployment`."""

    def sees_it(self, item: Any, look: Look) -> bool:
        """Whether the caller sees a resource, or a view of a kind that is not stored."""
        return (self.sees or _sees(self.kind))(item, look)

    def shown(self, item: Any, look: Look) -> BaseModel:
        """The view of a resource that the caller sees; of a kind that is not stored, itself."""
        if self.items is not None:
            return item  # type: ignore[no-any-return]
        return self.kind.shown(item) if self.view is None else self.view(item, look)

    def found(self, look: Look) -> Iterable[Any]:
        """All resources, or views of a kind that is not stored."""
        return look.all(self.kind.name) if self.items is None else self.items(look)

    def views(
        self, look: Look, after: Position | None = None, prefix: str = ""
    ) -> Iterator[tuple[Position, BaseModel]]:
        """What the caller sees, in order, behind `after`."""
        ordered = sorted(((self.kind.order(item), item) for item in self.found(look)), key=lambda pair: pair[0])
        for position, item in ordered:
            if (
                (after is None or _is_behind(position, after))
                and item.name.startswith(prefix)
                and self.sees_it(item, look)
            ):
                yield position, self.shown(item, look)

    def one(self, look: Look, name: str) -> BaseModel:
        """The view of the resource of that name. Raises `NotFound` when there is none that the caller sees."""
        if self.items is None:
            resource = look.parts.snapshot.find(self.kind.name, look.workspace, name)
            found = [] if resource is None else [resource]
        else:
            found = [item for item in self.items(look) if item.name == name]
        seen = [self.shown(item, look) for item in found if self.sees_it(item, look)]
        if not seen:
            raise unseen(self.kind, look.workspace, name)
        return seen[-1]


def unseen(kind: Kind, workspace: str, name: str) -> NotFound:
    """The same whether it exists or not."""
    where = f" in workspace '{workspace[:40]}'" if workspace else ""
    return NotFound(
        f"There is no {kind.name} '{name[:80]}'{where}.", hint=f"`kaon get {kind.plural}` lists those there are."
    )


def read_page(
    collection: Collection, look: Look, query: Mapping[str, Any], *, after: str | None, limit: int
) -> Items[Any]:
    """The next page of a list, and where the one after it begins."""
    chosen = chosen_of(collection.kind, query)
    page: list[tuple[Position, BaseModel]] = []
    for position, view in collection.views(look, _position(after), query.get("prefix") or ""):
        if fits(chosen, view):
            if len(page) == limit:
                return Items(items=[v for _, v in page], next=_cursor(page[-1][0]), version=look.version)
            page.append((position, view))
    return Items(items=[v for _, v in page], version=look.version)


def chosen_of(kind: Kind, query: Mapping[str, Any]) -> list[tuple[Filter, str]]:
    """The filters of a kind that the query has, and the values that they want."""
    return [(f, query[f.name]) for f in kind.filters if query.get(f.name) is not None]


def fits(chosen: Sequence[tuple[Filter, str]], view: BaseModel) -> bool:
    """Whether a view has the values that were asked for."""
    return all(str(wanted.value(view)) == value for wanted, value in chosen)


def _is_behind(position: Position, after: Position) -> bool:
    try:
        return position > after
    except TypeError:
        raise _strange_cursor() from None


def _strange_cursor() -> InvalidInput:
    return InvalidInput("This is no cursor of this list.", hint="Give `after` as the `next` of the page before.")


def _cursor(position: Position) -> str:
    return base64.urlsafe_b64encode(json.dumps(position, separators=(",", ":")).encode()).decode().rstrip("=")


def _position(after: str | None) -> Position | None:
    """The place in a list that a cursor stands for. Raises `InvalidInput`."""
    if after is None:
        return None
    try:
        found = json.loads(base64.urlsafe_b64decode(after + "=" * (-len(after) % 4)))
    except (ValueError, binascii.Error, RecursionError):
        found = None
    if not isinstance(found, list) or not all(type(part) in (str, int) for part in found):
        raise _strange_cursor()
    return tuple(found)


# Routes


def routes_of(collection: Collection) -> list[Door]:
    """The routes of a kind's verbs, but of those that its module makes itself."""
    kind = collection.kind
    made = Doors(kind.path, tag=kind.plural)
    place = f"/{{{collection.parameter}}}"
    for verb, path, method, endpoint, options in (
        (Verb.LIST, "", made.get, _list, {"response_model": Items[kind.view]}),  # type: ignore[name-defined]
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

    async def call(parts: Parts, caller: Caller, after: str | None, limit: int, ws: str = "", **query: Any) -> Any:
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
    held = len(await look.parts.store.list_all(kind.name, look.workspace, unreadable=[]))
    if held >= kind.most:
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


async def _note(parts: Parts, caller: Caller, resource: AnyResource, reason: str) -> None:
    place = {"workspace": resource.workspace, "kind": resource.kind, "name": resource.name, "uid": resource.uid}
    await audit.note(parts, caller, **place, reason=reason, message=f"{reason}.")
