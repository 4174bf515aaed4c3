"""Between resources and what a store keeps of them; shared by all stores."""

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
"""Events that a workspace keeps."""
JOURNAL_KEPT = 1_000
"""Decisions that a deployment keeps of each concern: what its tuner records pushes out no decision on its scaling."""
TRAFFIC_KEPT_S = 7 * 86_400.0
"""How long minutes of traffic are kept."""
ROWS_AT_ONCE = 2000
"""Rows of a table that one transaction collects: others wait for it."""
TOMBSTONES_KEPT_S = 86_400.0
"""How long it is kept that something was deleted: no watcher is that far behind."""

_log = log.get("store")

Row = TypeVar("Row")
Read = TypeVar("Read")
Current = TypeVar("Current", bound="Written")


class Written(Protocol):
    """What identifies one version of a resource."""

    @property
    def uid(self) -> str:
        """See `Resource.uid`."""
        ...

    @property
    def version(self) -> int:
        """See `Resource.version`."""
        ...


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
    """The resource of a row, or why it cannot be read: whatever is wrong with a row, it is that row's matter alone."""
    try:
        return assemble(**row)
    except Exception as error:
        return Unreadable(
            kind=str(row["kind"]),
            workspace=str(row["workspace"]),
            name=str(row["name"]),
            reason=reason(error),
            uid=str(row["uid"]),
            version=row["version"],
            created_at=row["created_at"],
        )


def readable(rows: Iterable[Row], read: Callable[[Row], Read], what: str) -> list[Read]:
    """What `read` makes of each row; those that it raises for are left out, and counted in the log as `what`."""
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
        return f"{newer}; to begin anew: kaon rm deployment {row.name.rpartition('-')[0]}, and deploy it again"
    if row.kind in ("workspace", "plan", "plan_part"):
        return f"{newer}."
    return f"{newer}; to delete it: kaon rm {row.kind} {row.name}"


def reason(error: Exception) -> str:
    """Why something cannot be read: where and what, never the value, which may be a secret."""
    if not isinstance(error, ValidationError):
        return f"{type(error).__name__} while it was read"
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


def hold_to_epoch(epoch: int | None, newest: int) -> None:
    """Raises `StaleEpoch` for a write under an epoch that is over; one under none may be made."""
    if epoch is not None and epoch < newest:
        raise StaleEpoch(
            f"A newer control plane has started over this store (epoch {newest}, this one has {epoch}).",
            hint="Stop the older server: its API still answers, but its controllers change nothing any more.",
        )


def changed(
    basis: AnyResource | Unreadable, current: Current | None, same: Callable[[Current], bool] | None = None
) -> Current | None:
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
