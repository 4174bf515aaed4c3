"""What `get`, `describe`, `ps`, `logs` and `events` do."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

from kaon import log
from kaon.cli import advising, shapes
from kaon.cli.following import until_nobody_reads
from kaon.cli.output import Format, TableShape, across, document, put, put_list, put_one, shown
from kaon.cli.remote import Remote, opened
from kaon.cli.text import json_safe, pairs, plain, table
from kaon.client.watch import ResourceChange
from kaon.errors import InvalidInput, NotFound
from kaon.types.kind import Kind, Verb
from kaon.types.kinds import KINDS, kind_named

_EVENTS = 10
"""How many of a resource's events its page has."""
_ALIGNED = 50
"""How many of the last rows decide how wide the columns of the next one are."""


def get(
    word: str,
    name: str,
    workspace: str | None,
    form: Format,
    *,
    wide: bool = False,
    most: int | None = None,
    filters: Sequence[str] = (),
    watch: bool = False,
) -> None:
    """List things of a kind, or show one; with `watch`, go on with each change as it comes."""
    kind = kind_named(word)
    query, shape = chosen(kind, filters), shapes.of(kind.name, time.time(), wide=wide)
    with opened(workspace) as remote:
        if watch:
            _follow(remote, kind, name, form, wide=wide, **query, **({"limit": most} if most else {}))
            return
        if name and Verb.GET in kind.rights and not (query or most):
            found = _found(remote, kind, name)
            if not isinstance(found, list):
                put_one(found, shape, form)
                return
        else:
            found = remote.resources(kind, most, **({"name": name} if name else {}), **query)
        put_list(found, shape, form)


def _follow(remote: Remote, kind: Kind, name: str, form: Format, *, wide: bool = False, **query: Any) -> None:
    """Print what there is, and each change as it comes."""
    keeps = Verb.GET in kind.rights
    if name:
        query["prefix" if keeps else "name"] = name
    rows: list[tuple[object, ...]] = []
    with until_nobody_reads():
        for change in remote.watch(kind, **query):
            shape = shapes.of(kind.name, time.time(), wide=wide)
            if change.what == "synced" or (keeps and name and change.view.name != name):
                continue
            if form is not Format.TABLE:
                put(_said(change, shape, form))
                continue
            titles = ("change", *shape.titles) if keeps else shape.titles
            row = (change.what, *shape.row(change.view)) if keeps else shape.row(change.view)
            lines = table(titles, [*rows, row]).splitlines()
            put("\n".join(lines[-1:] if rows else lines))
            rows = [*rows, row][-_ALIGNED:]


def _said(change: ResourceChange, shape: TableShape[Any], form: Format) -> str:
    """A change as a document: JSON on a line of its own, YAML behind a separator."""
    if form is Format.NAME:
        return plain(shape.name(change.view))
    value = {"change": change.what, "view": change.view.model_dump(mode="json")}
    if form is Format.JSON:
        return json_safe(json.dumps(value, ensure_ascii=False))
    return f"---\n{document(value, form)}"


def chosen(kind: Kind, texts: Sequence[str]) -> dict[str, str]:
    """The filters in 'NAME=VALUE' texts. Raises `InvalidInput` for those that the kind does not have."""
    names = [wanted.name for wanted in kind.filters] + ["prefix"] * (Verb.GET in kind.rights)
    found = pairs(texts, "--filter")
    if unknown := sorted(found.keys() - set(names)):
        raise InvalidInput(
            f"{kind.plural.capitalize()} have no filter '{plain(unknown[0])}'.", hint=f"There are: {', '.join(names)}."
        )
    return found


def _found(remote: Remote, kind: Kind, name: str) -> Any:
    """The resource of that name; else those of the deployment of that name, where the kind has a deployment."""
    try:
        return remote.resource(kind, name)
    except NotFound:
        if not any(wanted.name == "deployment" for wanted in kind.filters):
            raise
        if found := remote.resources(kind, deployment=name):
            return found
        raise


def history(name: str, workspace: str | None, form: Format) -> None:
    """List a deployment's revisions."""
    with opened(workspace) as remote:
        put_list(remote.revisions(name), shapes.revisions(time.time()), form)


def describe(word: str, name: str, workspace: str | None) -> None:
    """Print all there is to say of one resource: of a deployment, when only a name is given."""
    kind, name = (kind_named(word), name) if name else (KINDS["deployment"], word)
    with opened(workspace) as remote:
        if kind.name == "deployment":
            put(_deployment(remote, name))
            return
        if Verb.GET not in kind.rights:
            raise InvalidInput(f"A {kind.name} has no page of its own.", hint=f"Try: kaon get {kind.plural} -o yaml")
        view = remote.resource(kind, name)
        events = remote.events(kind.name, view.name, _EVENTS)
        put(shapes.described_by_kind(kind, view, events, time.time(), across()))


def _deployment(remote: Remote, name: str) -> str:
    view = remote.deployment(name)
    events = remote.events("deployment", name, _EVENTS)
    objective = view.spec.objective or remote.artifact(view.spec.template.artifact).spec.manifest.service.objective
    revisions, replicas = remote.revisions(name), remote.replicas(name)
    advice = advising.hint(remote.advice(name).items, name)
    return shapes.described(view, revisions, replicas, events, objective, time.time(), advice, across())


def ps(name: str, workspace: str | None, form: Format) -> None:
    """Print deployments and replicas: two tables, or the replicas as data."""
    now = time.time()
    with opened(workspace) as remote:
        deployments = [remote.deployment(name)] if name else remote.deployments()
        replicas = remote.replicas(name or None)
    if form is not Format.TABLE:
        put_list(replicas, shapes.of("replica", now), form)
        return
    put_list(deployments, shapes.of("deployment", now), form)
    if replicas:
        put("\n" + shown(replicas, shapes.of("replica", now), form, across()))


def logs(name: str, workspace: str | None, form: Format, query: dict[str, Any]) -> None:
    """Print lines as they come, under their replica's name when there may be several, tracebacks spelled out."""
    with opened(workspace) as remote, until_nobody_reads() if query["follow"] else nullcontext():
        for line in remote.logs(name, **query):
            if form is Format.JSON:
                put(line.model_dump_json())
                continue
            name = "" if query["replica"] else f"{plain(line.replica)}  "
            for text in log.spelled(line.text):
                put(f"{name}{plain(text, keep=chr(9))}" or " ")


def events(
    name: str, kind: str, limit: int, workspace: str | None, form: Format, *, since_s: float | None, follow: bool
) -> None:
    """Print what happened; with `follow`, go on with what happens."""
    about: dict[str, Any] = {"kind": kind_named(kind).name if kind else None, "since_s": since_s, "limit": limit}
    with opened(workspace) as remote:
        if follow:
            _follow(remote, KINDS["event"], name, form, **about)
            return
        found = remote.resources(KINDS["event"], **about, name=name or None)
        put_list(found, shapes.of("event", time.time()), form)
