"""Between resources and what a store keeps of them; shared by all stores."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError

from kaon.errors import Conflict, NotFound
from kaon.store.port import AnyResource
from kaon.types.resource import KINDS, Resource

EVENTS_KEPT = 10_000
"""Events that a workspace keeps."""
JOURNAL_KEPT = 1_000
"""Decisions that a deployment keeps of each concern: what its tuner records pushes out no decision on its scaling."""
TRAFFIC_KEPT_S = 7 * 86_400.0
"""How long minutes of traffic are kept."""
ROWS_AT_ONCE = 2000
"""Rows of a table that one transaction collects: others wait for it."""
TOMBSTONES_KEPT_S = 86_400.0
"""How long it is kept that something was deleted: no watcher is that far behind."""


class Life(NamedTuple):
    """Who has a name now, or had it last."""

    uid: str
    began_at: float
    ended: bool


def belongs(life: Life | None, uid: str, at: float) -> bool:
    """Whether what was noted at `at` of a resource of that uid (empty: not known) is of the one that has its name now.

    So nothing of one that is gone comes back under its name, however late somebody writes it. Of a name that nobody
    ever had everything is kept.
    """
    return life is None or (not life.ended and (uid == life.uid if uid else at >= life.began_at))


@cache
def envelope(kind: str) -> type[AnyResource]:
    """The `Resource` type of a kind. Raises `ValueError` for a kind that is not in `KINDS`."""
    if kind not in KINDS:
        raise ValueError(f"no such kind of resource: {kind}")
    spec, status = KINDS[kind]
    return Resource[spec, status]  # type: ignore[valid-type]


def assemble(kind: str, spec: BaseModel | str, status: BaseModel | str | None, **fields: Any) -> AnyResource:
    """A resource of `kind` from its parts; a spec or status as text is read as JSON."""
    made = envelope(kind)
    spec_type, status_type = KINDS[kind]
    if isinstance(spec, str):
        spec = spec_type.model_validate_json(spec)
    if isinstance(status, str):
        status = status_type.model_validate_json(status)
    return made(kind=kind, spec=spec, status=status_type() if status is None else status, **fields)


def reason(error: ValidationError) -> str:
    """Why something is no resource: where and what, never the value, which may be a secret."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    where = ".".join(str(part)[:80] for part in first["loc"])[:400]
    return f"{where}: {first['msg'][:200]}"


def replaced(basis: AnyResource, **changes: Any) -> AnyResource:
    """`basis` with some fields changed. Raises `ValueError` when a part is not of the kind's type."""
    return envelope(basis.kind).model_validate({**dict(basis), **changes})


def missing(kind: str, workspace: str, name: str) -> NotFound:
    """The error for a resource that is not there."""
    where = f" in workspace '{workspace}'" if workspace else ""
    return NotFound(f"There is no {kind} '{name}'{where}.", hint=f"`kaon get {kind}s` lists those that exist.")


def taken(kind: str, workspace: str, name: str) -> Conflict:
    """The error for a name that is used already."""
    where = f" in workspace '{workspace}'" if workspace else ""
    return Conflict(f"A {kind} '{name}' exists already{where}.", hint="Choose another name, or change that one.")


def changed(
    basis: AnyResource, current: AnyResource | None, same: Callable[[AnyResource], bool] | None = None
) -> AnyResource | None:
    """Compare-and-set's check: None when the write may go on, the current resource when it would change nothing.

    `basis` is the resource as the writer read it, `same` tells whether one says already what the writer wants.
    Raises `NotFound` when it is gone, `Conflict` when somebody wrote in between.
    """
    if current is None:
        raise missing(basis.kind, basis.workspace, basis.name)
    if current.uid == basis.uid:
        if same and same(current):
            return current
        if current.version == basis.version:
            return None
    raise Conflict(
        f"The {basis.kind} '{basis.name}' was changed by somebody else in the meantime.",
        hint="Read it again and repeat the change.",
    )
