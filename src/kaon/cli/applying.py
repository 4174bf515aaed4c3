"""What `apply` does: documents of a file, the plan that they make, a yes, and the doing of it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, TypeAdapter, ValidationError, field_validator, model_validator

from kaon.api.views import DeploymentView, WorkspaceRequest
from kaon.build.build import Built
from kaon.cli import difference
from kaon.cli.deploying import bring, built, valid_spec
from kaon.cli.notes import ask, note
from kaon.cli.output import put
from kaon.cli.remote import Remote, opened
from kaon.cli.text import plain
from kaon.cli.waiting import until_rolled_out
from kaon.errors import InvalidInput, NotFound
from kaon.types.artifact import Consent
from kaon.types.deployment import DeploymentSpec
from kaon.types.kind import Verb
from kaon.types.kinds import KINDS
from kaon.types.model import Model, Name, from_request

_LIMIT_BYTES = 2**20


class Document(Model):
    """One document of the file."""

    kind: str = Field(description="deployment, workspace, or another kind whose spec can be put.")
    name: str
    workspace: Name | None = Field(default=None, description="The command's own unless given.")
    source: str = Field(default="", description="'file.py:Class' beside the file; built first.")
    include: tuple[str, ...] = Field(default=(), description="Of the source's files, as `kaon deploy --include`.")
    allow: tuple[Consent, ...] = Field(default=(), description="As `kaon deploy --allow`.")
    description: str = Field(default="", description="Of a workspace.")
    spec: dict[str, Any] = Field(default_factory=dict)

    @field_validator("kind")
    @classmethod
    def _is_one(cls, word: str) -> str:
        names = [k.name for k in KINDS.values() if Verb.PUT in k.rights and k.name != "secret"] + ["workspace"]
        if word not in names:
            raise ValueError(f"there are: {', '.join(sorted(names))}; a secret's value belongs into no file")
        return word

    @model_validator(mode="after")
    def _has_a_name(self) -> Document:
        TypeAdapter(KINDS[self.kind].named).validate_python(self.name)
        return self


@dataclass(frozen=True)
class ApplyStep:
    """What is to be done for one document."""

    document: Document
    before: BaseModel | None
    after: BaseModel | None
    built: Built | None = None
    exists: bool = False
    version: int | None = None
    """Of what was shown, where the kind has nothing special."""
    seen: DeploymentView | None = None
    """The deployment as it was shown."""

    @property
    def changes(self) -> bool:
        """Whether anything is to be done."""
        return not self.exists if self.document.kind == "workspace" else self.before != self.after

    @property
    def told(self) -> str:
        """What is to be done, for people."""
        if self.document.kind == "workspace":
            return f"{'no change of' if self.exists else 'create'} workspace {self.document.name}"
        return difference.told(self.document.kind, self.document.name, self.before, self.after)


def documents(text: str) -> list[Document]:
    """The documents of a YAML file, in order. Raises `InvalidInput` that names document and place; pure."""
    import yaml

    try:
        raw = [document for document in yaml.safe_load_all(text) if document is not None]
    except yaml.YAMLError as error:
        raise InvalidInput(f"The file is not YAML: {' '.join(str(error).split())}") from None
    found = []
    for number, members in enumerate(raw, start=1):
        try:
            found.append(from_request(Document, members))
        except ValidationError as error:
            first = error.errors()[0]
            raise InvalidInput(
                f"Document {number} is not valid: {'.'.join(map(str, first['loc']))}: {first['msg']}",
                hint="It has kind, name, and for a deployment source or spec.",
            ) from None
    if not found:
        raise InvalidInput("The file holds no document.")
    return found


def apply(file: Path, workspace: str | None, *, yes: bool, dry_run: bool, wait_s: float | None) -> None:
    """Show what changes, ask when something that exists does, and do it."""
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise NotFound(f"There is no file {file}.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{file} cannot be read: {error}.") from None
    if len(text) > _LIMIT_BYTES:
        raise InvalidInput(f"{file} is larger than {_LIMIT_BYTES} bytes.")
    with tempfile.TemporaryDirectory(prefix="kaon-apply-") as out:
        found = documents(text)
        workspaces = [document for document in found if document.kind == "workspace"]
        rest = [document for document in found if document.kind != "workspace"]

        done: dict[str, Built] = {}

        def build_once(document: Document) -> Built:
            """Its artifact; documents that say the same of their source share it."""
            env = _variables(document)
            key = repr((document.source, sorted(env.items()), document.include, document.allow))
            if key not in done:
                done[key] = built(
                    document.source,
                    file.parent,
                    Path(out),
                    env=env,
                    include=document.include,
                    allow=document.allow,
                )
            return done[key]

        for documents_of_kind in (workspaces, rest):  # what is in a workspace can be looked at once it is there
            if documents_of_kind:
                _apply(documents_of_kind, build_once, workspace, yes=yes, dry_run=dry_run, wait_s=wait_s)


def _apply(
    found: list[Document],
    build: Callable[[Document], Built],
    workspace: str | None,
    *,
    yes: bool,
    dry_run: bool,
    wait_s: float | None,
) -> None:
    steps = [_planned(document, build, workspace) for document in found]
    told = "\n".join(step.told for step in steps)
    if dry_run:
        put(told)
        return
    note(told)
    if any(step.changes and step.before is not None for step in steps):
        ask("Make these changes?", yes=yes)
    for step in steps:
        if step.changes or step.version is not None:  # what no view has may be another
            _do(step, workspace)
    for step in steps:
        if step.document.kind == "deployment" and wait_s is not None:
            with opened(step.document.workspace or workspace) as remote:
                view = until_rolled_out(remote, step.document.name, wait_s)
                put(f"{plain(view.name)}: {view.state} at {plain(view.url)}")


def _planned(document: Document, build: Callable[[Document], Built], workspace: str | None) -> ApplyStep:
    with opened(document.workspace or workspace) as remote:
        if document.kind == "workspace":
            return ApplyStep(document, None, None, exists=any(w.name == document.name for w in remote.workspaces()))
        if document.kind != "deployment":
            return _planned_by_kind(document, remote)
        current = remote.find_deployment(document.name)
    artifact = build(document) if document.source else None
    before = current.spec if current else None
    return ApplyStep(document, before, _wanted(document, before, artifact), artifact, seen=current)


def _planned_by_kind(document: Document, remote: Remote) -> ApplyStep:
    """What a document changes whose kind has nothing special."""
    kind = KINDS[document.kind]
    try:
        after = from_request(kind.spec, document.spec)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(("spec", *map(str, first["loc"])))
        raise InvalidInput(f"{kind.name.capitalize()} '{document.name}': {where}: {first['msg']}") from None
    try:
        current = remote.resource(kind, document.name)
    except NotFound:
        return ApplyStep(document, None, after)
    unseen = after.model_dump(exclude=set(type(current.spec).model_fields))  # what no view has is taken for the same
    before = kind.spec.model_validate(unseen | current.spec.model_dump())
    return ApplyStep(document, before, after, version=current.version)


def _variables(document: Document) -> dict[str, str]:
    """The variables that the document gives; what is wrong with them is told when the spec is made."""
    template = document.spec.get("template")
    env = template.get("env") if isinstance(template, dict) else None
    return (
        {str(name): text for name, text in (env or {}).items() if isinstance(text, str)}
        if isinstance(env, dict)
        else {}
    )


def _wanted(document: Document, current: DeploymentSpec | None, artifact: Built | None) -> DeploymentSpec:
    """The spec as the document says it. What it leaves out has its default, but the last restart and the artifact."""
    template = dict(document.spec.get("template") or {})
    if artifact is not None:
        template["artifact"] = artifact.digest
    elif current is not None:
        template.setdefault("artifact", current.template.artifact)
    if "artifact" not in template:
        raise InvalidInput(f"Deployment '{document.name}' names no source.", hint="Add: source: FILE.py:CLASS")
    owner = {} if current is None else {"owner": current.owner, "owner_uid": current.owner_uid}
    if current is not None:
        template.setdefault("restarted_at", current.template.restarted_at)
    return valid_spec({**document.spec, **owner, "template": template})


def _do(step: ApplyStep, workspace: str | None) -> None:
    with opened(step.document.workspace or workspace) as remote:
        if step.document.kind == "workspace":
            remote.create_workspace(WorkspaceRequest(name=step.document.name, description=step.document.description))
            return
        assert step.after is not None
        if step.document.kind != "deployment":
            remote.put_resource(KINDS[step.document.kind], step.document.name, step.after, step.version)
            return
        if step.built is not None:
            bring(remote, step.built)
        after = DeploymentSpec.model_validate(step.after)
        remote.put_deployment(step.document.name, after, step.seen)
