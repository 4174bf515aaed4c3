"""`kaon apply`: the documents of a file, the changes that they make, a confirmation, and the changes."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from pydantic import BaseModel

from kaon.api.views import DeploymentView, WorkspaceRequest
from kaon.build.build import Built
from kaon.cli.apply.documents import Document, read_documents
from kaon.cli.shared import artifacts, spec_changes
from kaon.cli.shared.notes import ask, note
from kaon.cli.shared.options import DryRun, NoWait, Timeout, WorkspaceOption, Yes, verb, verbs
from kaon.cli.shared.output import put
from kaon.cli.shared.remote import Remote, opened
from kaon.cli.shared.rollout_wait import until_rolled_out
from kaon.cli.shared.settings import check_settings
from kaon.cli.shared.text import plain, seconds
from kaon.errors import InvalidInput, NotFound
from kaon.types.deployment import DeploymentSpec, with_commands
from kaon.types.kinds import KINDS
from kaon.types.model import from_request

app = verbs()


@verb(app, "kaon apply -f kaon.yaml", "kaon apply -f kaon.yaml --dry-run", "kaon apply -f kaon.yaml -y --no-wait")
def apply(
    file: Annotated[Path, typer.Option("-f", "--file", help="A YAML file of one or more documents.")],
    yes: Yes = False,
    dry_run: DryRun = False,
    no_wait: NoWait = False,
    timeout: Timeout = "10m",
    workspace: WorkspaceOption = None,
) -> None:
    """Create or change resources as a file describes them; deployments with a source are built first."""
    wait_s = None if no_wait else seconds(timeout)
    found = read_documents(file)
    workspaces = [document for document in found if document.kind == "workspace"]
    others = [document for document in found if document.kind != "workspace"]
    with tempfile.TemporaryDirectory(prefix="kaon-apply-") as out:
        build = _builder(file.parent, Path(out))
        for group in (workspaces, others):  # resources of a workspace can be read only when it exists
            if group:
                _apply(group, build, workspace, yes=yes, dry_run=dry_run, wait_s=wait_s)


@dataclass(frozen=True)
class ApplyStep:
    """The change that one document makes."""

    document: Document
    before: BaseModel | None
    after: BaseModel | None
    built: Built | None = None
    exists: bool = False
    version: int | None = None
    """The version of the current resource, of kinds other than deployments."""
    current: DeploymentView | None = None

    @property
    def changes(self) -> bool:
        """Whether there is a change."""
        return not self.exists if self.document.kind == "workspace" else self.before != self.after

    @property
    def summary(self) -> str:
        """The change, for people."""
        if self.document.kind == "workspace":
            return f"{'no change of' if self.exists else 'create'} workspace {self.document.name}"
        return spec_changes.summary(self.document.kind, self.document.name, self.before, self.after)


def _builder(folder: Path, out: Path) -> Callable[[Document], Built]:
    """A function that builds a document's source; documents with equal sources share an artifact."""
    done: dict[str, Built] = {}

    def build(document: Document) -> Built:
        env = document.variables
        require = artifacts.required(document.extras, document.groups)
        key = repr((document.source, sorted(env.items()), document.include, document.allow, require))
        if key not in done:
            done[key] = artifacts.build(
                document.source, folder, out, env=env, include=document.include, allow=document.allow, require=require
            )
        return done[key]

    return build


def _apply(
    found: list[Document],
    build: Callable[[Document], Built],
    workspace: str | None,
    *,
    yes: bool,
    dry_run: bool,
    wait_s: float | None,
) -> None:
    steps = [_plan(document, build, workspace) for document in found]
    summary = "\n".join(step.summary for step in steps)
    if dry_run:
        put(summary)
        return
    note(summary)
    if any(step.changes and step.before is not None for step in steps):
        ask("Make these changes?", yes=yes)
    for step in steps:
        if step.changes or step.version is not None:  # fields that the view hides may differ
            _execute(step, workspace)
    for step in steps:
        if step.document.kind == "deployment" and wait_s is not None:
            with opened(step.document.workspace or workspace) as remote:
                view = until_rolled_out(remote, step.document.name, wait_s)
                put(f"{plain(view.name)}: {view.state} at {plain(view.url)}")


def _plan(document: Document, build: Callable[[Document], Built], workspace: str | None) -> ApplyStep:
    with opened(document.workspace or workspace) as remote:
        if document.kind == "workspace":
            return ApplyStep(document, None, None, exists=any(w.name == document.name for w in remote.workspaces()))
        if document.kind != "deployment":
            return _plan_by_kind(document, remote)
        current = remote.find_deployment(document.name)
    artifact = build(document) if document.source else None
    before = current.spec if current else None
    return ApplyStep(document, before, _desired_spec(document, before, artifact), artifact, current=current)


def _plan_by_kind(document: Document, remote: Remote) -> ApplyStep:
    """The step of a kind without special rules."""
    kind = KINDS[document.kind]
    after = from_request(kind.spec, document.spec)
    try:
        current = remote.resource(kind, document.name)
    except NotFound:
        return ApplyStep(document, None, after)
    hidden = after.model_dump(exclude=set(type(current.spec).model_fields))  # taken as unchanged
    before = kind.spec.model_validate(hidden | current.spec.model_dump())
    return ApplyStep(document, before, after, version=current.version)


def _desired_spec(document: Document, current: DeploymentSpec | None, artifact: Built | None) -> DeploymentSpec:
    """The spec of the document. Omitted fields get their defaults, except the last restart and the artifact."""
    template = dict(document.spec.get("template") or {})
    if artifact is not None:
        template["artifact"] = artifact.digest
    elif current is not None:
        template.setdefault("artifact", current.template.artifact)
    if "artifact" not in template:
        raise InvalidInput(f"DeploymentArgument '{document.name}' has no source.", hint="Add: source: FILE.py:CLASS")
    owner = {} if current is None else {"owner": current.owner, "owner_uid": current.owner_uid}
    if current is not None:
        template.setdefault("restarted_at", current.template.restarted_at)
    spec = spec_changes.valid_spec({**document.spec, **owner, "template": template})
    spec = with_commands(spec, current.tuning.commands if current else ())
    if artifact is not None:
        check_settings(artifact.manifest.service, spec.template)
    return spec


def _execute(step: ApplyStep, workspace: str | None) -> None:
    with opened(step.document.workspace or workspace) as remote:
        if step.document.kind == "workspace":
            remote.create_workspace(WorkspaceRequest(name=step.document.name, description=step.document.description))
            return
        assert step.after is not None
        if step.document.kind != "deployment":
            remote.put_resource(KINDS[step.document.kind], step.document.name, step.after, step.version)
            return
        if step.built is not None:
            artifacts.upload(remote, step.built)
        after = DeploymentSpec.model_validate(step.after)
        remote.put_deployment(step.document.name, after, step.current)
