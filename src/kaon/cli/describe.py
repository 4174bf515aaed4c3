"""`kaon describe`: all that is known of one resource, on a page."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Annotated, TypeVar

import typer
from pydantic import BaseModel

from kaon.api.views import DeploymentView, RevisionState
from kaon.cli import advise
from kaon.cli.shared import tables
from kaon.cli.shared.options import WorkspaceOption, verb, verbs
from kaon.cli.shared.output import Format, TableShape, document, put, terminal_columns
from kaon.cli.shared.remote import Remote, opened
from kaon.cli.shared.text import fitted, folded, plain, since, stamp, table
from kaon.errors import InvalidInput
from kaon.types.event import Event
from kaon.types.kind import Kind, Verb
from kaon.types.kinds import KINDS, kind_named
from kaon.types.kinds.deployment import at_rest, tuned
from kaon.types.knobs import spelled
from kaon.types.objective import Objective
from kaon.types.replica import ReplicaStatus
from kaon.types.tuning import TuningMode

T = TypeVar("T", bound=BaseModel)

app = verbs()
_EVENTS = 10
_LABEL = 11
_TUNED = {"trying": "other knob values are being tried", "tunable": "better knob values are recommended"}
_STATE = {
    "": "",
    "disk": "disk: a folder of its own on one machine; one replica at a time",
    "database": "database: DATABASE_URL, by default SQLite in a folder of its own",
}
_AT_REST = {
    "Idle": "Idle: at zero, starts on a call",
    "Off": "Off: switched off, calls are refused; kaon scale {name} 1 switches it on",
}


@verb(app, "kaon describe greeter", "kaon describe cloud local")
def describe(
    first: Annotated[str, typer.Argument(metavar="[KIND] NAME", help="Default kind: deployment.", show_default=False)],
    second: Annotated[str, typer.Argument(hidden=True)] = "",
    workspace: WorkspaceOption = None,
) -> None:
    """Show all of a resource; of a deployment also its settings, revisions, replicas, events."""
    kind, name = (kind_named(first), second) if second else (KINDS["deployment"], first)
    with opened(workspace) as remote:
        if kind.name == "deployment":
            put(_deployment(remote, name))
            return
        put(resource_page(remote, kind, name))


def resource_page(remote: Remote, kind: Kind, name: str) -> str:
    """A resource of a kind without a page of its own."""
    if Verb.GET not in kind.rights:
        raise InvalidInput(f"A {kind.name} cannot be described.", hint=f"Try: kaon get {kind.plural} -o yaml")
    view = remote.resource(kind, name)
    return page_by_kind(kind, view, remote.events(kind.name, view.name, _EVENTS), time.time(), terminal_columns())


def _deployment(remote: Remote, name: str) -> str:
    view = remote.deployment(name)
    events = remote.events("deployment", name, _EVENTS)
    manifest = remote.artifact(view.spec.template.artifact).spec.manifest
    objective = view.spec.objective or manifest.service.objective
    revisions, replicas = remote.revisions(name), remote.replicas(name)
    advice = advise.hint(remote.advice(name).items, name)
    return deployment_page(
        view,
        revisions,
        replicas,
        events,
        objective,
        time.time(),
        advice,
        terminal_columns(),
        pickles=manifest.pickles,
        state=_STATE[manifest.service.state],
    )


def deployment_page(
    deployment: DeploymentView,
    revisions: Sequence[RevisionState],
    replicas: Sequence[ReplicaStatus],
    events: Sequence[Event],
    objective: Objective,
    now: float,
    advice: str = "",
    columns: int | None = None,
    *,
    pickles: Sequence[str] = (),
    state: str = "",
) -> str:
    """A deployment on a page that fits `columns`, if given. Pure.

    `objective` is the one in force, `pickles` are those in its artifact, `state` is what it keeps.
    """
    template = deployment.spec.template
    settings = [f"{name}={value}" for name, value in sorted(template.env.items())]
    settings += [f"{name}=(secret {secret})" for name, secret in sorted(template.secrets.items())]
    datasets = [
        f"{name}={mount.ref}" + (f" ({mount.version.text})" if mount.version else "")
        for name, mount in sorted(template.datasets.items())
    ]
    conditions = [
        f"{c.type}: {'yes' if c.holds else 'no'}{', ' + c.reason if c.reason else ''}"
        for c in deployment.status.conditions
    ]
    parts = [
        _facts(deployment, objective, now, advice, columns, state),
        _section("pickles", _lines(pickles, columns)),
        _section("settings", _lines(settings, columns)),
        _section("datasets", _lines(datasets, columns)),
        _section("conditions", _lines(conditions, columns)),
        _section("revisions", _rows(tables.revisions(now), revisions, columns)),
        _section("replicas", _rows(tables.of("replica", now), replicas, columns)),
        *(tables.last_lines(replica) for replica in replicas),
        _section("events", _rows(tables.of("event", now), events, columns)),
    ]
    return "\n\n".join(part for part in parts if part)


def _facts(
    deployment: DeploymentView, objective: Objective, now: float, advice: str, columns: int | None, state: str
) -> str:
    scaling = deployment.status.scaling
    resting = _AT_REST.get(at_rest(deployment) or "", "").format(name=deployment.name)
    facts = {
        "name": f"{deployment.name} (workspace {deployment.workspace})",
        "url": deployment.url,
        "state": resting or f"{deployment.state}{': ' + deployment.reason if deployment.reason else ''}",
        "ready": f"{deployment.ready} of {deployment.replicas}",
        "scaling": tables.scaling_text(deployment.spec.scaling),
        "wanted": f"{scaling.wanted}: {scaling.reason}" if scaling.reason else "",
        "tuning": _tuning(deployment),
        "objective": objective_text(objective) + ("" if deployment.spec.objective else " (default of the class)"),
        "advice": advice,
        "access": "public: calls need no key" if deployment.spec.public else "closed: calls need a key",
        "artifact": deployment.spec.template.artifact.removeprefix("sha256:"),
        "state kept": state,
        "paused": "yes" if deployment.spec.paused else "",
        "created": f"{stamp(deployment.created_at)}, changed {since(deployment.updated_at, now)} ago",
    }
    return "\n".join(row for name, text in facts.items() if text for row in _fact(name, plain(text), columns))


def page_by_kind(kind: Kind, view: BaseModel, events: Sequence[Event], now: float, columns: int | None = None) -> str:
    """A resource of a kind without a page of its own: its columns, spec, status and events. Pure."""
    facts = {column.title: str(tables.cell(column, view, now)) for column in kind.columns}
    longest = max(map(len, facts), default=0)
    lines = [f"{name + ':':<{longest + 2}}{plain(text)}" for name, text in facts.items()]
    whole = view.model_dump(mode="json")
    parts = ["\n".join(lines)]
    parts += [_section(part, document(whole[part], Format.YAML)) for part in ("spec", "status") if whole.get(part)]
    parts.append(_section("events", _rows(tables.of("event", now), events, columns)))
    return "\n\n".join(part for part in parts if part)


def _tuning(deployment: DeploymentView) -> str:
    """The tuner's mode and knob values, where they are not the default."""
    mode, values = deployment.spec.tuning.mode, deployment.status.tuning.values
    parts = [f"mode {mode}"] if mode is not TuningMode.RECOMMEND else []
    parts += [f"in force: {spelled(values)}"] if values else []
    state = tuned(deployment)
    parts += [_TUNED[state]] if state else []
    return f"{'; '.join(parts)}: kaon tune {deployment.name}" if parts else ""


def objective_text(objective: Objective) -> str:
    """An objective in a line."""
    low, high = objective.utilisation
    return (
        f"{100 * objective.quantile:g} % of answers within {objective.latency_s:g} s, "
        f"{100 * objective.completion:g} % within {objective.patience_s:g} s, {100 * low:g} to {100 * high:g} % busy"
    )


def _fact(name: str, text: str, columns: int | None) -> list[str]:
    rows = [text] if columns is None else folded(text, columns - _LABEL)
    return [f"{name + ':' if n == 0 else '':<{_LABEL}}{row}" for n, row in enumerate(rows)]


def _rows(shape: TableShape[T], items: Sequence[T], columns: int | None) -> str:
    """A table that is indented by two columns."""
    within = None if columns is None else columns - 2
    return table(shape.titles, [shape.row(item) for item in items], within) if items else ""


def _lines(texts: Sequence[str], columns: int | None) -> str:
    """Lines that are indented by two columns; those that do not fit continue further right."""
    within = None if columns is None else columns - 2
    return "\n".join(row for text in texts for row in fitted(plain(text), within, 2))


def _section(title: str, body: str) -> str:
    return f"{title}\n" + "\n".join(f"  {line}" for line in body.splitlines()) if body else ""
