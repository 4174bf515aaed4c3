"""How the API reads the resources of a kind: visibility, views, pages.

Collection    which callers see which resources of a kind, and in which form
ReadContext   the resources of one workspace at one moment, for one caller
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import BaseModel

from kaon.api.context import ApiContext
from kaon.api.keyring import Caller
from kaon.api.unreadable import unreadable_in
from kaon.api.views import Items
from kaon.errors import InvalidInput, KaonError, NotFound
from kaon.store.port import AnyResource
from kaon.types.kind import Filter, Kind, Scope, Verb
from kaon.types.kinds import KINDS

T = TypeVar("T")
Position = tuple[str | int, ...]


class ReadContext:
    """The resources of one workspace (empty: of the platform) at one moment, for one caller."""

    def __init__(self, context: ApiContext, caller: Caller, workspace: str) -> None:
        self.context = context
        self.caller = caller
        self.workspace = workspace
        self.now = context.clock.now()
        context.recent.catch_up()
        self.version = context.snapshot.version
        self._memo: dict[str, Any] = {}

    def once(self, name: str, compute: Callable[[], T]) -> T:
        """What `compute` returns, computed once for all views of this read."""
        if name not in self._memo:
            self._memo[name] = compute()
        found: T = self._memo[name]
        return found

    def all(self, kind: str) -> Sequence[AnyResource]:
        """The resources of a kind in this workspace, by name."""
        return self.context.snapshot.list(kind, self._place(kind))

    def everywhere(self, kind: str) -> Sequence[AnyResource]:
        """Those of all workspaces."""
        return self.context.snapshot.list(kind)

    def find(self, kind: str, name: str) -> AnyResource | None:
        """The resource of that name; None when it does not exist or cannot be read."""
        try:
            return self.context.snapshot.find(kind, self._place(kind), name)
        except KaonError:
            return None

    def _place(self, kind: str) -> str:
        return self.workspace if KINDS[kind].scope is Scope.WORKSPACE else ""


def _sees(kind: Kind) -> Callable[[Any, ReadContext], bool]:
    """The default visibility: a key for some deployments sees only what belongs to these."""

    def sees(item: Any, read: ReadContext) -> bool:
        rights = read.caller.rights
        if kind.scope is Scope.PLATFORM:
            return True
        owner = kind.owner_of(item)
        return rights.sees(read.workspace, owner) and (owner is not None or rights.deployments is None)

    return sees


@dataclass(frozen=True, kw_only=True)
class Collection:
    """How the API reads the resources of a kind."""

    kind: Kind
    sees: Callable[[Any, ReadContext], bool] | None = None
    view: Callable[[Any, ReadContext], BaseModel] | None = None
    items: Callable[[ReadContext], Iterable[Any]] | None = None
    """The views of a kind that is not stored; `sees` filters them."""
    special: frozenset[Verb] = field(default_factory=frozenset)
    """Verbs whose routes the kind's own module defines."""
    parameter: str = "name"
    """The path parameter for a resource's name; the authorizer checks `ws` and `deployment`."""

    def sees_it(self, item: Any, read: ReadContext) -> bool:
        """Whether the caller sees a resource, or a view of a kind that is not stored."""
        return (self.sees or _sees(self.kind))(item, read)

    def shown(self, item: Any, read: ReadContext) -> BaseModel:
        """The view of a resource; an item of a kind that is not stored is its own view."""
        if self.items is not None:
            return item  # type: ignore[no-any-return]
        return self.kind.shown(item) if self.view is None else self.view(item, read)

    def found(self, read: ReadContext) -> Iterable[Any]:
        """All resources, or views of a kind that is not stored."""
        return read.all(self.kind.name) if self.items is None else self.items(read)

    def views(
        self, read: ReadContext, after: Position | None = None, prefix: str = ""
    ) -> Iterator[tuple[Position, BaseModel]]:
        """The views that the caller may see, in order, from behind `after`."""
        ordered = sorted(((self.kind.order(item), item) for item in self.found(read)), key=lambda pair: pair[0])
        for position, item in ordered:
            if (
                (after is None or _is_behind(position, after))
                and item.name.startswith(prefix)
                and self.sees_it(item, read)
            ):
                yield position, self.shown(item, read)

    def one(self, read: ReadContext, name: str) -> BaseModel:
        """The view of the resource of that name. Raises `NotFound` when the caller may see none."""
        if self.items is None:
            resource = read.context.snapshot.find(self.kind.name, read.workspace, name)
            found = [] if resource is None else [resource]
        else:
            found = [item for item in self.items(read) if item.name == name]
        seen = [self.shown(item, read) for item in found if self.sees_it(item, read)]
        if not seen:
            raise not_found(self.kind, read.workspace, name)
        return seen[-1]


def not_found(kind: Kind, workspace: str, name: str) -> NotFound:
    """The error for a resource that does not exist or may not be seen: the same for both."""
    where = f" in workspace '{workspace[:40]}'" if workspace else ""
    return NotFound(f"There is no {kind.name} '{name[:80]}'{where}.", hint=f"List them: kaon get {kind.plural}")


def read_page(
    collection: Collection, read: ReadContext, query: Mapping[str, Any], *, after: str | None, limit: int
) -> Items[Any]:
    """A page of a list, and the cursor of the next one."""
    filters = filters_in(collection.kind, query)
    page: list[tuple[Position, BaseModel]] = []
    for position, view in collection.views(read, _position(after), query.get("prefix") or ""):
        if matches(filters, view):
            if len(page) == limit:
                return Items(items=[v for _, v in page], next=_cursor(page[-1][0]), version=read.version)
            page.append((position, view))
    unreadable = unreadable_in(read.context, read.caller, collection.kind.name, read.workspace)
    return Items(items=[v for _, v in page], version=read.version, unreadable=unreadable)


def filters_in(kind: Kind, query: Mapping[str, Any]) -> list[tuple[Filter, str]]:
    """The filters of a kind that are set in the query, with their values."""
    return [(f, query[f.name]) for f in kind.filters if query.get(f.name) is not None]


def matches(filters: Sequence[tuple[Filter, str]], view: BaseModel) -> bool:
    """Whether a view has the values of all filters."""
    return all(str(wanted.value(view)) == value for wanted, value in filters)


def _is_behind(position: Position, after: Position) -> bool:
    try:
        return position > after
    except TypeError:
        raise _invalid_cursor() from None


def _invalid_cursor() -> InvalidInput:
    return InvalidInput("This is not a cursor of this list.", hint="Send the previous page's `next` as `after`.")


def _cursor(position: Position) -> str:
    return base64.urlsafe_b64encode(json.dumps(position, separators=(",", ":")).encode()).decode().rstrip("=")


def _position(after: str | None) -> Position | None:
    """The position that a cursor encodes. Raises `InvalidInput`."""
    if after is None:
        return None
    try:
        found = json.loads(base64.urlsafe_b64decode(after + "=" * (-len(after) % 4)))
    except (ValueError, binascii.Error, RecursionError):
        found = None
    if not isinstance(found, list) or not all(type(part) in (str, int) for part in found):
        raise _invalid_cursor()
    return tuple(found)
