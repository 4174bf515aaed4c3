"""Conversion between resources and rows; shared by all stores."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any, NamedTuple, Protocol, TypeVar

from pydantic import BaseModel, ValidationError

from kaon import log
from kaon.errors import Conflict, NotFound, StaleEpoch, UnreadableRow
from kaon.store.port import AnyResource
from kaon.store.upgrades import upgraded
from kaon.types.kinds import KINDS
from kaon.types.resource import Unreadable

EVENTS_KEPT = 10_000
"""Events kept per workspace."""
JOURNAL_KEPT = 1_000
"""Decisions kept per deployment and concern, so that the tuner's records replace no scaling decisions."""
TRAFFIC_KEPT_S = 7 * 86_400.0
"""Retention of minutes of traffic."""
ROWS_AT_ONCE = 2000
"""Rows of a table that one transaction deletes: other writes wait for it."""
TOMBSTONES_KEPT_S = 86_400.0
"""Retention of the rows of deleted resources: no watcher is that far behind."""

_log = log.get("store")

Row = TypeVar("Row")
Read = TypeVar("Read")
Current = TypeVar("Current", bound="Written")


class Written(Protocol):
    """Identifies one version of a resource."""

    @property
    def uid(self) -> str:
        """See `Resource.uid`."""
        ...

    @property
    def version(self) -> int:
        """See `Resource.version`."""
        ...


class Life(NamedTuple):
    """The current or last holder of a name."""

    uid: str
    began_at: float
    ended: bool


def belongs(life: Life | None, uid: str, at: float) -> bool:
    """Whether data of time `at` and of that uid (empty: unknown) belongs to the current holder of a name.

    So data of a deleted resource is not stored under its name again, however late it is written. Of a name that was
    never used all data is stored.
    """
    return life is None or (not life.ended and (uid == life.uid if uid else at >= life.began_at))


@cache
def envelope(kind: str) -> type[AnyResource]:
    """The `Resource` type of a kind. Raises `ValueError` for a kind that is not in `KINDS`."""
    if kind not in KINDS or not KINDS[kind].stored:
        raise ValueError(f"no such kind of resource: {kind}")
    return KINDS[kind].envelope


def assemble(kind: str, spec: BaseModel | str, status: BaseModel | str | None, **fields: Any) -> AnyResource:
    """A resource of `kind` from its parts; a spec or status as text is read as JSON."""
    made, of = envelope(kind), KINDS[kind]
    if isinstance(spec, str):
        spec = of.spec.model_validate_json(upgraded(f"{kind}.spec", spec))
    if isinstance(status, str):
        status = of.status.model_validate_json(upgraded(f"{kind}.status", status))
    return made(kind=kind, spec=spec, status=of.status() if status is None else status, **fields)


def read_row(row: Mapping[str, Any]) -> AnyResource | Unreadable:
    """The resource of a row, or why it cannot be read: an invalid row is no error of the others."""
    try:
        return assemble(**row)
    except Exception as error:
        return Unreadable(
            **{column: _printable(row[column]) for column in ("kind", "workspace", "name", "uid")},
            reason=reason(error),
            version=row["version"],
            created_at=row["created_at"],
        )


def _printable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def readable(rows: Iterable[Row], read: Callable[[Row], Read], what: str) -> list[Read]:
    """The results of `read` for each row; rows for which it raises are left out, and logged as `what`."""
    found, reasons = [], []
    for row in rows:
        try:
            found.append(read(row))
        except Exception as error:
            reasons.append(reason(error))
    if reasons:
        _log.warning("rows cannot be read", what=what, count=len(reasons), first=reasons[0])
    return found


def unreadable_row(row: Unreadable) -> UnreadableRow:
    """The error for a row that cannot be read."""
    where = f" in workspace '{row.workspace}'" if row.workspace else ""
    error = UnreadableRow(
        f"The {row.kind} '{row.name}'{where} is stored in a form that cannot be read: {row.reason}.", hint=_way_out(row)
    )
    error.row = row
    return error


def _way_out(row: Unreadable) -> str:
    newer = "A newer Kaon may be able to read it"
    if row.kind == "revision":
        return f"{newer}; to start again: kaon rm deployment {row.name.rpartition('-')[0]}, and deploy it again"
    if row.kind in ("workspace", "plan", "plan_part"):
        return f"{newer}."
    return f"{newer}; to delete it: kaon rm {row.kind} {row.name}"


def reason(error: Exception) -> str:
    """Why a row cannot be read: the place and the problem, never the value, which may be a secret."""
    if not isinstance(error, ValidationError):
        return f"{type(error).__name__} while reading"
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    where = ".".join(str(part)[:80] for part in first["loc"])[:400]
    return f"{where}: {first['msg'][:200]}"


def replaced(basis: AnyResource, **changes: Any) -> AnyResource:
    """`basis` with some fields changed. Raises `ValueError` when a part is not of the kind's type."""
    return envelope(basis.kind).model_validate({**dict(basis), **changes})


def missing(kind: str, workspace: str, name: str) -> NotFound:
    """The error for a missing resource."""
    where = f" in workspace '{workspace}'" if workspace else ""
    return NotFound(f"There is no {kind} '{name}'{where}.", hint=f"`kaon get {kind}s` lists those that exist.")


def name_taken(kind: str, workspace: str, name: str) -> Conflict:
    """The error for a name that is in use."""
    where = f" in workspace '{workspace}'" if workspace else ""
    return Conflict(f"A {kind} '{name}' exists already{where}.", hint="Choose another name, or change that one.")


def check_epoch(epoch: int | None, newest: int) -> None:
    """Raises `StaleEpoch` for a write under an earlier epoch; None is always valid."""
    if epoch is not None and epoch < newest:
        raise StaleEpoch(
            f"A newer control plane has started with this store (epoch {newest}; this one has {epoch}).",
            hint="Stop the older server: its API still answers, but its controllers can no longer change anything.",
        )


def changed(
    basis: AnyResource | Unreadable, current: Current | None, same: Callable[[Current], bool] | None = None
) -> Current | None:
    """The check of compare-and-set: None when the write is allowed, the current resource when it changes nothing.

    `basis` is the resource as the writer read it, `same` whether the current one has the writer's value already.
    Raises `NotFound` when it was deleted, `Conflict` when it was changed in between.
    """
    if current is None:
        raise missing(basis.kind, basis.workspace, basis.name)
    if current.uid == basis.uid:
        if same and same(current):
            return current
        if current.version == basis.version:
            return None
    raise Conflict(
        f"The {basis.kind} '{basis.name}' was changed in the meantime.",
        hint="Read it again and repeat the change.",
    )
