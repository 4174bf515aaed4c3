"""Each kind's views as a table, by the columns that it declares; and short texts on deployments. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from kaon.api.views import RevisionState
from kaon.cli.shared.output import TableShape
from kaon.cli.shared.text import plain, since, size, stamp
from kaon.types.deployment import Scaling
from kaon.types.kind import Column, Form
from kaon.types.kinds import KINDS
from kaon.types.replica import ReplicaStatus


def of(name: str, now: float, *, wide: bool = False, without: frozenset[str] = frozenset()) -> TableShape[Any]:
    """The table of a kind; `wide` adds the columns of `-o wide`."""
    kind = KINDS[name]
    columns = [c for c in kind.columns if (wide or not c.wide) and c.title not in without]
    return TableShape(
        tuple(column.title for column in columns),
        lambda view: tuple(cell(column, view, now) for column in columns),
        kind.label,
    )


def cell(column: Column, view: Any, now: float) -> object:
    """The value of a column as text."""
    value: Any = column.value(view)
    match column.form:
        case Form.LINE:
            return _first_line(value)
        case Form.AGE:
            return since(value, now)
        case Form.TIME:
            return stamp(value)
        case Form.SIZE:
            return size(value)
        case _:
            return value


def revisions(now: float) -> TableShape[RevisionState]:
    """The revisions of one deployment, named by their numbers."""
    return replace(of("revision", now, without=frozenset({"deployment"})), name=lambda r: str(r.number))


def scaling_text(scaling: Scaling) -> str:
    """The bounds of a deployment's replicas and what chooses between them, in a line."""
    if scaling.max == 0:
        return "off: calls are refused"
    if scaling.min == scaling.max:
        return f"{scaling.max} replica{'s' if scaling.max > 1 else ''}"
    parts = [f"{scaling.min} to {scaling.max} replicas"]
    parts += [f"at least {f.replicas} from {f.start} to {f.end} UTC" for f in scaling.floors]
    if scaling.min == 0:
        kept = "for a learnt time" if scaling.keep_alive_s is None else f"{scaling.keep_alive_s:g} s"
        parts.append(f"the last stays {kept} without a call")
    return ", ".join(parts)


def last_lines(replica: ReplicaStatus) -> str:
    """The last log lines of a replica that failed."""
    if not replica.last_lines:
        return ""
    title = f"last lines of {replica.name}"
    if replica.exit_code is not None:
        title = f"last lines of {replica.name}, exit code {replica.exit_code}"
    lines = [title, *replica.last_lines[-10:]]
    return "\n  ".join(plain(line, keep="\t") for line in lines)


def _first_line(text: str) -> str:
    first = text.splitlines()[0] if text else ""
    return first if len(first) <= 80 else first[:79] + "…"
