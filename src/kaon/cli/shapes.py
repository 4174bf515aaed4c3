"""How each kind of thing looks as a table, and as the page that `describe` shows. Pure: time comes as a value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar

from pydantic import BaseModel

from kaon.api.views import DeploymentView, RevisionState
from kaon.cli.output import Format, TableShape, document
from kaon.cli.text import folded, plain, since, size, stamp, table
from kaon.types.deployment import Scaling
from kaon.types.event import Event
from kaon.types.kind import Column, Form, Kind
from kaon.types.kinds import KINDS
from kaon.types.kinds.deployment import at_rest, tuned
from kaon.types.knobs import spelled
from kaon.types.objective import Objective
from kaon.types.replica import ReplicaStatus
from kaon.types.tuning import TuningMode

T = TypeVar("T", bound=BaseModel)


_TUNED = {
    "trying": "other values of its knobs are being tried",
    "tunable": "better values of its knobs are recommended",
}
_RESTING = {
    "Idle": "Idle: at zero, wakes on call",
    "Off": "Off: switched off, callers are refused; kaon scale {name} 1 switches it on",
}


def of(name: str, now: float, *, wide: bool = False, without: frozenset[str] = frozenset()) -> TableShape[Any]:
    """How a kind's views become a table, as its declaration says; with the columns of `-o wide`, or without some."""
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
            return _short(value)
        case Form.AGE:
            return since(value, now)
        case Form.TIME:
            return stamp(value)
        case Form.SIZE:
            return size(value)
        case _:
            return value


def revisions(now: float) -> TableShape[RevisionState]:
    """The revisions of one deployment, which goes without saying; their numbers name them."""
    return replace(of("revision", now, without=frozenset({"deployment"})), name=lambda r: str(r.number))


def described(
    deployment: DeploymentView,
    revisions_of: Sequence[RevisionState],
    replicas_of: Sequence[ReplicaStatus],
    events_of: Sequence[Event],
    objective: Objective,
    now: float,
    advice: str = "",
    columns: int | None = None,
) -> str:
    """All that there is to say of a deployment, on one page; `objective` is the one that holds, `advice` a line.

    It fits `columns` if they are named.
    """
    template, scaling = deployment.spec.template, deployment.status.scaling
    facts = {
        "name": f"{deployment.name} (workspace {deployment.workspace})",
        "url": deployment.url,
        "state": _RESTING[at_rest(deployment)].format(name=deployment.name)
        if at_rest(deployment)
        else f"{deployment.state}{': ' + deployment.reason if deployment.reason else ''}",
        "ready": f"{deployment.ready} of {deployment.replicas}",
        "scaling": bounded(deployment.spec.scaling),
        "wanted": f"{scaling.wanted}: {scaling.reason}" if scaling.reason else "",
        "tuning": _tuning(deployment),
        "objective": aimed(objective) + ("" if deployment.spec.objective else " (as the class says)"),
        "advice": advice,
        "access": "public: no key is needed" if deployment.spec.public else "closed: callers need a key",
        "artifact": template.artifact,
        "paused": "yes" if deployment.spec.paused else "",
        "made": f"{stamp(deployment.created_at)}, changed {since(deployment.updated_at, now)} ago",
    }
    lines = [row for name, text in facts.items() if text for row in _fact(name, plain(text), columns)]
    settings = [f"{name}={value}" for name, value in sorted(template.env.items())]
    settings += [f"{name}=(secret {secret})" for name, secret in sorted(template.secrets.items())]
    parts = ["\n".join(lines), _section("settings", "\n".join(plain(text) for text in settings))]
    parts.append(
        _section("conditions", "\n".join(_condition(c.type, c.holds, c.reason) for c in deployment.status.conditions))
    )
    parts.append(_section("revisions", _rows(revisions(now), revisions_of, columns)))
    parts.append(_section("replicas", _rows(of("replica", now), replicas_of, columns)))
    parts += [last_words(replica) for replica in replicas_of]
    parts.append(_section("events", _rows(of("event", now), events_of, columns)))
    return "\n\n".join(part for part in parts if part)


def described_by_kind(
    kind: Kind, view: BaseModel, events_of: Sequence[Event], now: float, columns: int | None = None
) -> str:
    """All that there is to say of a resource whose kind has no page of its own."""
    facts = {column.title: str(cell(column, view, now)) for column in kind.columns}
    longest = max(map(len, facts), default=0)
    lines = [f"{name + ':':<{longest + 2}}{plain(text)}" for name, text in facts.items()]
    whole = view.model_dump(mode="json")
    parts = ["\n".join(lines)]
    parts += [_section(part, document(whole[part], Format.YAML)) for part in ("spec", "status") if whole.get(part)]
    parts.append(_section("events", _rows(of("event", now), events_of, columns)))
    return "\n\n".join(part for part in parts if part)


def _tuning(deployment: DeploymentView) -> str:
    """What the tuner may do and what it has done, where that is not as it begins: recommending, all knobs as usual."""
    mode, values = deployment.spec.tuning.mode, deployment.status.tuning.values
    parts = [f"mode {mode}"] if mode is not TuningMode.RECOMMEND else []
    parts += [f"in force: {spelled(values)}"] if values else []
    word = tuned(deployment)
    said = "; ".join([*parts, *([_TUNED[word]] if word else [])])
    return f"{said}: kaon tune {deployment.name}" if said else ""


def bounded(scaling: Scaling) -> str:
    """Between how many replicas, and what chooses."""
    if scaling.max == 0:
        return "off: callers are refused"
    if scaling.min == scaling.max:
        return f"{scaling.max} replica{'s' if scaling.max > 1 else ''}"
    parts = [f"{scaling.min} to {scaling.max} replicas"]
    parts += [f"at least {f.replicas} from {f.start} to {f.end} UTC" for f in scaling.floors]
    if scaling.min == 0:
        kept = "as long as it was learnt" if scaling.keep_alive_s is None else f"{scaling.keep_alive_s:g} s"
        parts.append(f"the last stays {kept} without a call")
    return ", ".join(parts)


def aimed(objective: Objective) -> str:
    """What should be achieved, in a line."""
    low, high = objective.utilisation
    return (
        f"{100 * objective.quantile:g} % of answers within {objective.latency_s:g} s, "
        f"{100 * objective.completion:g} % within {objective.patience_s:g} s, {100 * low:g} to {100 * high:g} % busy"
    )


def last_words(replica: ReplicaStatus) -> str:
    """The last lines of a replica that ended badly."""
    if not replica.last_lines:
        return ""
    code = "" if replica.exit_code is None else f", exit code {replica.exit_code}"
    lines = [f"last lines of {replica.name}{code}", *replica.last_lines[-10:]]
    return "\n  ".join(plain(line, keep="\t") for line in lines)


def _condition(kind: str, holds: bool, reason: str) -> str:
    return plain(f"{kind}: {'yes' if holds else 'no'}{', ' + reason if reason else ''}")


def _fact(name: str, text: str, columns: int | None) -> list[str]:
    """A fact beside its name."""
    rows = [text] if columns is None else folded(text, columns - 11)
    return [f"{name + ':' if n == 0 else '':<11}{row}" for n, row in enumerate(rows)]


def _rows(shape: TableShape[T], things: Sequence[T], columns: int | None) -> str:
    """A table, two columns further in."""
    within = None if columns is None else columns - 2
    return table(shape.titles, [shape.row(thing) for thing in things], within) if things else ""


def _section(title: str, body: str) -> str:
    return f"{title}\n" + "\n".join(f"  {line}" for line in body.splitlines()) if body else ""


def _short(reason: str) -> str:
    first = reason.splitlines()[0] if reason else ""
    return first if len(first) <= 80 else first[:79] + "…"
