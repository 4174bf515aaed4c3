"""What `get`, `describe`, `ps`, `logs` and `events` do."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

from kaon import log
from kaon.cli import advising, shapes
from kaon.cli.following import until_nobody_reads
from kaon.cli.output import Format, Shape, across, put, put_list, put_one, shown
from kaon.cli.remote import Remote, opened
from kaon.cli.text import plain
from kaon.errors import InvalidInput, NotFound
from kaon.types.replica import ReplicaStatus

_Lister = tuple[Callable[[Remote], Sequence[Any]], Callable[[float], Shape[Any]]]

KINDS: dict[str, _Lister] = {
    "deployment": (Remote.deployments, shapes.deployments),
    "replica": (Remote.replicas, shapes.replicas),
    "artifact": (Remote.artifacts, shapes.artifacts),
    "key": (Remote.keys, shapes.keys),
    "secret": (Remote.secrets, shapes.secrets),
    "workspace": (Remote.workspaces, shapes.workspaces),
    "cloud": (Remote.clouds, shapes.clouds),
    "event": (Remote.events, shapes.events),
}
"""Kind -> how to list it and how it looks. Revisions are a deployment's own."""


def kind_named(word: str) -> str:
    """The kind that a singular or plural names. Raises `InvalidInput`."""
    kind = word.lower().removesuffix("s")
    if kind not in KINDS and kind != "revision":
        raise InvalidInput(f"There is no kind '{plain(word)}'.", hint=f"There are: {', '.join([*KINDS, 'revision'])}.")
    return kind


def deployment_named(first: str, second: str) -> str:
    """The name in 'NAME' or 'deployment NAME'. Raises `InvalidInput` for another kind."""
    if not second:
        return first
    if kind_named(first) != "deployment":
        raise InvalidInput(f"A {plain(first)} has no page of its own.", hint=f"Try: kaon get {plain(first)} -o yaml")
    return second


def get(word: str, name: str, workspace: str | None, form: Format) -> None:
    """List things of a kind, or show one."""
    kind, now = kind_named(word), time.time()
    with opened(workspace) as remote:
        if kind == "revision":
            if not name:
                raise InvalidInput("Revisions of which deployment?", hint="kaon get revisions NAME")
            put_list(remote.revisions(name), shapes.revisions(now), form)
            return
        lister, shape_of = KINDS[kind]
        if kind == "deployment" and name:
            put_one(remote.deployment(name), shapes.deployments(now), form)
        elif kind == "artifact" and name:
            put_one(remote.artifact(name), shapes.artifacts(now), form)
        elif name:
            put_one(_one(lister(remote), shape_of(now), kind, name), shape_of(now), form)
        else:
            put_list(lister(remote), shape_of(now), form)


def _one(things: Sequence[Any], shape: Shape[Any], kind: str, name: str) -> Any:
    found = next((thing for thing in things if shape.name(thing) == name), None)
    if found is None:
        raise NotFound(f"There is no {kind} '{plain(name)}'.", hint=f"`kaon get {kind}s` lists those there are.")
    return found


def describe(name: str, workspace: str | None) -> None:
    """Print all there is to say of a deployment."""
    with opened(workspace) as remote:
        view = remote.deployment(name)
        events = remote.events("deployment", name, 10)
        objective = view.spec.objective or remote.artifact(view.spec.template.artifact).spec.manifest.service.objective
        revisions, replicas = remote.revisions(name), remote.replicas(name)
        advice = advising.hint(remote.advice(name).items, name)
        put(shapes.described(view, revisions, replicas, events, objective, time.time(), advice, across()))


def ps(name: str, workspace: str | None, form: Format) -> None:
    """Print deployments and replicas: two tables, or the replicas as data."""
    now = time.time()
    with opened(workspace) as remote:
        deployments = [remote.deployment(name)] if name else remote.deployments()
        replicas: list[ReplicaStatus] = remote.replicas(name or None)
    if form is not Format.TABLE:
        put_list(replicas, shapes.replicas(now), form)
        return
    put_list(deployments, shapes.deployments(now), form)
    if replicas:
        put("\n" + shown(replicas, shapes.replicas(now), form, across()))


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


def events(name: str, kind: str, limit: int, workspace: str | None, form: Format) -> None:
    """Print what happened."""
    with opened(workspace) as remote:
        found = remote.events(kind_named(kind) if kind else None, name or None, limit)
        put_list(found, shapes.events(time.time()), form)
