"""`kaon deploy` without a class: what the folder's kaon.yaml says, or the only service in it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from kaon.build.services import find_services
from kaon.cli.apply.documents import FILE, Document
from kaon.cli.apply.steps import ApplyStep, apply_documents
from kaon.cli.deploy.result import finish
from kaon.cli.deploy.spec import DeployOptions, check, merged, with_variables
from kaon.cli.shared import tables
from kaon.cli.shared.output import Format, put, put_list
from kaon.cli.shared.remote import opened
from kaon.cli.shared.rollout_wait import until_rolled_out
from kaon.cli.shared.text import plain
from kaon.errors import InvalidInput, NotFound
from kaon.types.artifact import Consent


def only_service(folder: Path, command: str = "kaon deploy") -> str:
    """'file.py:Class' of the only service in a folder. Raises `NotFound`, and `InvalidInput` with a line of `command`
    for each of several."""
    found = find_services(folder)
    if not found:
        raise NotFound("This folder has no class with @kaon.service.", hint="Make one: kaon init NAME")
    if len(found) > 1:
        raise InvalidInput(
            f"This folder has {len(found)} services and no {FILE}.",
            hint=f"Name one of them, or list them in {FILE} and run: {command}",
            errors=[{"line": f"{command} {service.target}"} for service in found],
        )
    return found[0].target


@dataclass(frozen=True)
class DocumentChanges:
    """What the options of `deploy` change of a document."""

    options: DeployOptions = field(default_factory=DeployOptions)
    name: str = ""
    include: Sequence[str] = ()
    allow: Sequence[Consent] = ()
    extras: Sequence[str] = ()
    groups: Sequence[str] = ()

    def of(self, document: Document) -> Document:
        """The document with these variables, which its build gets, this name, these files and requirements."""
        template: dict[str, Any] = {"env": {}, "secrets": {}} | dict(document.spec.get("template") or {})
        return document.model_copy(
            update={
                "name": self.name or document.name,
                "spec": document.spec | {"template": with_variables(template, self.options)},
                "include": (*document.include, *self.include),
                "allow": (*document.allow, *self.allow),
                "extras": (*document.extras, *self.extras),
                "groups": (*document.groups, *self.groups),
            }
        )


def sources_of(documents: Sequence[Document]) -> list[Document]:
    """The documents that are built. Raises `InvalidInput` when none is."""
    sources = [document for document in documents if document.kind == "deployment" and document.source]
    if not sources:
        raise InvalidInput(f"{FILE} has no deployment with a source.", hint="Add: source: FILE.py:CLASS")
    return sources


def deploy_documents(
    documents: Sequence[Document], changes: DocumentChanges, workspace: str | None, *, dry_run: bool
) -> list[ApplyStep]:
    """Make what the documents of kaon.yaml say; `changes` are for its only deployment. Raises `InvalidInput`."""
    sources = sources_of(documents)
    if changes == DocumentChanges():
        return apply_documents(documents, Path.cwd(), workspace, yes=True, dry_run=dry_run)
    if len(sources) > 1:
        raise InvalidInput(
            f"{FILE} has {len(sources)} deployments: these options are for one.",
            hint="Deploy one by its class, with the options.",
            errors=[{"line": f"kaon deploy {document.source} --name {document.name}"} for document in sources],
        )
    changed = changes.of(sources[0])
    rest = replace(changes.options, unset=())
    with opened(changed.workspace or workspace) as remote:
        current = remote.find_deployment(changed.name)
    check(current.spec if current else None, rest)
    return apply_documents(
        [changed if document is sources[0] else document for document in documents],
        Path.cwd(),
        workspace,
        yes=True,
        dry_run=dry_run,
        adjust=lambda before, after, built: merged(before, built, rest, base=after),
    )


def finish_documents(steps: Sequence[ApplyStep], workspace: str | None, wait_s: float | None, form: Format) -> None:
    """Wait for the rollouts, unless `wait_s` is None, and print the deployments."""
    views = []
    for step in steps:
        with opened(step.document.workspace or workspace) as remote:
            view = remote.deployment(step.document.name)
            if len(steps) == 1 and step.built is not None:
                finish(remote, view, step.built.manifest, wait_s, form)
                return
            views.append(view if wait_s is None else until_rolled_out(remote, view.name, wait_s))
        if form is Format.TABLE:
            put(f"{plain(view.name)}: {views[-1].state} at {plain(view.url)}")
    if form is not Format.TABLE:
        put_list(views, tables.of("deployment", time.time()), form)
