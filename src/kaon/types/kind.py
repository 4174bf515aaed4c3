"""The declaration of a kind of resource, from which routes, commands, client and reference are derived.

    declaration   kaon.types.kinds.NAME      data and pure functions; every module there is a kind
    routes        kaon.api.resources         list, watch, get, put, delete
    client        kaon.client.platform       the same as methods
    commands      kaon get, describe, delete, apply
    reference     docs/reference/kinds.md, openapi.json

A kind that needs more than that (a deployment can be scaled) has a module of its own in `kaon.api` and `kaon.cli`
beside its declaration.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from operator import attrgetter
from typing import Any

from pydantic import BaseModel, create_model

from kaon.types.key import Right
from kaon.types.model import Model, Name
from kaon.types.resource import Resource


class Scope(StrEnum):
    """The owner of a resource."""

    WORKSPACE = "workspace"
    PLATFORM = "platform"


class Verb(StrEnum):
    """Operations on resources of a kind. What can be listed can be watched."""

    LIST = "list"
    GET = "get"
    PUT = "put"
    DELETE = "delete"


READ = {Verb.LIST: Right.READ, Verb.GET: Right.READ}
"""The rights of a read-only kind."""


class Form(StrEnum):
    """How the value of a column is shown in a table."""

    TEXT = "text"
    LINE = "line"
    """Its first line, at most 80 characters of it."""
    AGE = "age"
    """Epoch seconds, as the time that has passed since."""
    TIME = "time"
    """Epoch seconds, as date and time."""
    SIZE = "size"
    """Bytes, in the unit that fits."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a kind's table: its title, and its value in a view."""

    title: str
    value: Callable[[Any], object]
    form: Form = Form.TEXT
    wide: bool = False
    """Whether only `-o wide` shows it."""


@dataclass(frozen=True, slots=True)
class Filter:
    """A query parameter that selects the views with this value in a list or watch."""

    name: str
    value: Callable[[Any], object]
    help: str
    pattern: str = r"^[A-Za-z0-9 :._-]{1,80}$"


class Nothing(Model):
    """A part that resources of a kind do not have."""


def _nothing_to_check(name: str, spec: Any, current: Any) -> None:
    """Accepts every spec that its model accepts."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of resource."""

    name: str
    plural: str
    short: tuple[str, ...] = ()
    """Other names on the command line."""
    summary: str
    """One sentence, for the reference."""
    scope: Scope = Scope.WORKSPACE
    spec: type[BaseModel] = Nothing
    status: type[BaseModel] = Nothing
    rights: Mapping[Verb, Right] = field(default_factory=dict)
    """The available verbs, and the right that each requires. Empty: the kind is internal."""
    owner: str = ""
    """Field with the name of its deployment, like 'spec.deployment'. Empty: it belongs to the whole workspace, and is
    hidden from keys for some deployments."""
    hidden: frozenset[str] = frozenset()
    """Fields that no view has, like 'spec.hash'."""
    answer: type[BaseModel] | None = None
    """The API's view, made by its route module; None: the resource without its hidden fields."""
    columns: tuple[Column, ...] = ()
    filters: tuple[Filter, ...] = ()
    order: Callable[[Any], tuple[str | int, ...]] = lambda view: (view.name,)
    """Sort key of a view in lists: unique, and constant for as long as it exists."""
    label: Callable[[Any], str] = lambda view: str(view.name)
    """What `-o name` prints of a view."""
    named: Any = Name
    """The type of its names."""
    made_of: frozenset[str] = frozenset()
    """Other kinds of the workspace that its views depend on: a change of these is a change of the view."""
    everywhere: bool = False
    """Whether its views depend on these in all workspaces."""
    stored: bool = True
    """Whether its resources are rows of the store."""
    most: int = 1000
    """Limit of resources per workspace."""
    admit: Callable[[str, Any, Any], None] = _nothing_to_check
    """Called with name, wanted spec, and current spec or None before a write; raises a `KaonError` to refuse it."""

    @property
    def path(self) -> str:
        """The path of its list below `/api/v1`."""
        return f"/workspaces/{{ws}}/{self.plural}" if self.scope is Scope.WORKSPACE else f"/{self.plural}"

    @cached_property
    def envelope(self) -> type[Resource[Any, Any]]:
        """The type of its resources in the store."""
        return Resource[self.spec, self.status]  # type: ignore[name-defined]

    @cached_property
    def view(self) -> type[BaseModel]:
        """The API's view of one resource."""
        if self.answer is not None:
            return self.answer
        if not self.hidden:
            return self.envelope
        spec, status = self._without_hidden("spec", self.spec), self._without_hidden("status", self.status)
        return Resource[spec, status]  # type: ignore[valid-type]

    def owner_of(self, item: Any) -> str | None:
        """The deployment that a resource or view belongs to; None: it belongs to the whole workspace."""
        return str(attrgetter(self.owner)(item)) if self.owner else None

    def shown(self, resource: Resource[Any, Any]) -> BaseModel:
        """The view of a resource, where its kind has no `answer` of its own."""
        if not self.hidden:
            return resource
        left = resource.model_dump(exclude={"spec": self._names("spec"), "status": self._names("status")})
        return self.view.model_validate(left)

    def _names(self, part: str) -> set[str]:
        return {path.partition(".")[2] for path in self.hidden if path.startswith(f"{part}.")}

    def _without_hidden(self, part: str, model: type[BaseModel]) -> type[BaseModel]:
        hidden = self._names(part)
        if not hidden:
            return model
        if unknown := hidden - model.model_fields.keys():
            raise ValueError(f"{self.name} has no {part}.{sorted(unknown)[0]} that could be hidden")
        fields: dict[str, Any] = {n: (f.annotation, f) for n, f in model.model_fields.items() if n not in hidden}
        return create_model(f"{model.__name__}View", __base__=Model, __doc__=model.__doc__, **fields)
