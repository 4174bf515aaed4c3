"""What `kaon apply` does for each document: the change that it makes, shown before any is made."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from pydantic import BaseModel

from kaon.api.views import DeploymentView, WorkspaceRequest
from kaon.build.build import Built
from kaon.cli.apply.documents import Document
from kaon.cli.shared import artifacts, spec_changes
from kaon.cli.shared.notes import ask, note
from kaon.cli.shared.output import put
from kaon.cli.shared.remote import Remote, opened
from kaon.cli.shared.secrets import check_secrets
from kaon.cli.shared.settings import check_settings
from kaon.errors import InvalidInput, NotFound
from kaon.types.deployment import DeploymentSpec, with_commands
from kaon.types.kinds import KINDS
from kaon.types.model import from_request

Build: TypeAlias = Callable[[Document], Built]
Adjust: TypeAlias = Callable[[DeploymentSpec | None, DeploymentSpec, Built], DeploymentSpec]
"""Changes the spec of a document that was built: from the current spec, if any, and that of the document."""


def apply_documents(
    found: Sequence[Document],
    folder: Path,
    workspace: str | None,
    *,
    yes: bool,
    dry_run: bool,
    adjust: Adjust | None = None,
) -> list[ApplyStep]:
    """Show the changes that documents make, ask unless `yes`, and make them; returns those of deployments.

    Sources are relative to `folder`. With `dry_run` nothing is changed or returned.
    """
    groups = [[d for d in found if (d.kind == "workspace") is first] for first in (True, False)]
    made: list[ApplyStep] = []
    with tempfile.TemporaryDirectory(prefix="kaon-apply-") as out:
        build = builder(folder, Path(out))
        for group in filter(None, groups):  # resources of a workspace can be read only when it exists
            steps = [plan(document, build, workspace, adjust) for document in group]
            summary = "\n".join(step.summary for step in steps)
            if dry_run:
                put(summary)
                continue
            note(summary)
            if any(step.changes and step.before is not None for step in steps):
                ask("Make these changes?", yes=yes)
            for step in steps:
                if step.changes or step.version is not None:  # fields that the view hides may differ
                    execute(step, workspace)
            made += [step for step in steps if step.document.kind == "deployment"]
    return made


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


def builder(folder: Path, out: Path) -> Build:
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


def plan(document: Document, build: Build, workspace: str | None, adjust: Adjust | None = None) -> ApplyStep:
    """The step of a document; `adjust` changes a deployment's spec further. Builds its source, changes nothing."""
    with opened(document.workspace or workspace) as remote:
        if document.kind == "workspace":
            return ApplyStep(document, None, None, exists=any(w.name == document.name for w in remote.workspaces()))
        if document.kind != "deployment":
            return _plan_by_kind(document, remote)
        current = remote.find_deployment(document.name)
        check_secrets(remote, document.secrets)
    artifact = build(document) if document.source else None
    before = current.spec if current else None
    after = _desired_spec(document, before, artifact)
    if adjust is not None and artifact is not None:
        after = adjust(before, after, artifact)
    if artifact is not None:
        check_settings(artifact.manifest.service, after.shadow.template if after.shadow else after.template)
    return ApplyStep(document, before, after, artifact, current=current)


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
        raise InvalidInput(f"Deployment '{document.name}' has no source.", hint="Add: source: FILE.py:CLASS")
    owner = {} if current is None else {"owner": current.owner, "owner_uid": current.owner_uid}
    if current is not None:
        template.setdefault("restarted_at", current.template.restarted_at)
    spec = spec_changes.valid_spec({**document.spec, **owner, "template": template})
    return with_commands(spec, current.tuning.commands if current else ())


def execute(step: ApplyStep, workspace: str | None) -> None:
    """Make the change."""
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
