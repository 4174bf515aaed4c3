"""The documents of a YAML file, all checked before any is built or applied; errors have file, line and field."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, Field, TypeAdapter, ValidationError, field_validator

from kaon.build.sources import find_target
from kaon.cli.shared.assignments import model_of
from kaon.errors import InvalidInput, KaonError, NotFound, did_you_mean
from kaon.types.artifact import Consent
from kaon.types.deployment import DeploymentSpec
from kaon.types.kind import Verb
from kaon.types.kinds import KINDS
from kaon.types.model import Model, Name, from_request

FILE = "kaon.yaml"
_LIMIT_BYTES = 2**20
Location = Sequence[str | int]
_ANY_ARTIFACT = f"sha256:{'0' * 64}"
"""Stands for the artifact of a source that is not built yet."""


class Document(Model):
    """One document of the file."""

    kind: str = Field(description="deployment, workspace, or another kind whose spec can be put.")
    name: str
    workspace: Name | None = Field(default=None, description="Default: that of the command.")
    source: str = Field(default="", description="'file.py:Class', relative to the file; built first.")
    include: tuple[str, ...] = Field(default=(), description="As `kaon deploy --include`.")
    allow: tuple[Consent, ...] = Field(default=(), description="As `kaon deploy --allow`.")
    extras: tuple[str, ...] = Field(default=(), description="As `kaon deploy --extra`.")
    groups: tuple[str, ...] = Field(default=(), description="As `kaon deploy --group`.")
    description: str = Field(default="", description="Of a workspace.")
    spec: dict[str, Any] = Field(default_factory=dict)

    @field_validator("kind")
    @classmethod
    def _can_be_put(cls, word: str) -> str:
        names = [k.name for k in KINDS.values() if Verb.PUT in k.rights and k.name != "secret"] + ["workspace"]
        if word not in names:
            raise ValueError(
                f"no such kind for a file. {did_you_mean(word, names)}Kinds: {', '.join(sorted(names))}. Values of "
                "secrets do not belong in files."
            )
        return word

    @property
    def variables(self) -> dict[str, str]:
        """The variables of a deployment; invalid ones are reported when the spec is validated."""
        return self._texts("env")

    @property
    def secrets(self) -> tuple[str, ...]:
        """The names of the secrets that a deployment uses."""
        return tuple(self._texts("secrets").values())

    def _texts(self, name: str) -> dict[str, str]:
        template = self.spec.get("template")
        found = template.get(name) if isinstance(template, dict) else None
        return {str(k): text for k, text in found.items() if isinstance(text, str)} if isinstance(found, dict) else {}


def of_folder(folder: Path) -> list[Document]:
    """The documents of the folder's kaon.yaml; none without one. Raises as `read_documents` does."""
    file = folder / FILE
    return read_documents(file) if file.exists() else []


def read_documents(file: Path) -> list[Document]:
    """The documents of a file, in order. Raises `NotFound`, and `InvalidInput` that lists all errors."""
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise NotFound(f"File {file} does not exist.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{file} cannot be read: {error}.") from None
    if len(text) > _LIMIT_BYTES:
        raise InvalidInput(f"{file} is larger than {_LIMIT_BYTES} bytes.")
    return documents(text, file)


def documents(text: str, file: Path) -> list[Document]:
    """The documents of a file, in order. Raises `InvalidInput` that lists all errors with their lines and fields."""
    try:
        found = list(_nodes(text))
    except (yaml.YAMLError, RecursionError) as error:
        raise InvalidInput(f"{file} is not YAML: {' '.join(str(error).split())}") from None
    if not found:
        raise InvalidInput(f"{file} has no document.")
    checked = [(node, *_checked(members, file.parent)) for node, members in found]
    errors = [
        {"where": f"{file.name}:{_line(node, location)}: {'.'.join(map(str, location))}", "message": problem}
        for node, _, problems in checked
        for location, problem in problems
    ]
    if errors:
        raise InvalidInput(f"{file} is not valid. Nothing was built or changed.", errors=errors)
    return [document for _, document, _ in checked if document is not None]


def _nodes(text: str) -> Iterator[tuple[yaml.Node, Any]]:
    """Each document that is not empty, as a node with line numbers and as values."""
    loader = yaml.SafeLoader(text)
    try:
        while loader.check_node():
            node = loader.get_node()
            if node is not None and (value := loader.construct_document(node)) is not None:
                yield node, value
    finally:
        loader.dispose()


def _checked(members: Any, folder: Path) -> tuple[Document | None, list[tuple[Location, str]]]:
    """A document, and its errors by location."""
    try:
        document: Document = from_request(Document, members)
    except ValidationError as error:
        return None, _problems(error, Document)
    problems: list[tuple[Location, str]] = []
    try:
        TypeAdapter(KINDS[document.kind].named).validate_python(document.name)
    except ValidationError as error:
        problems += _problems(error, Document, "name")
    if document.source:
        try:
            find_target(document.source, folder)
        except KaonError as error:
            problems.append((("source",), str(error)))
    if document.kind != "workspace":
        problems += _spec_problems(document)
    return document, problems


def _spec_problems(document: Document) -> list[tuple[Location, str]]:
    model: type[BaseModel] = KINDS[document.kind].spec
    members = dict(document.spec)
    if model is DeploymentSpec and isinstance(members.get("template", {}), dict):
        members["template"] = {"artifact": _ANY_ARTIFACT, **members.get("template", {})}
    try:
        from_request(model, members)
    except ValidationError as error:
        return _problems(error, model, "spec")
    return []


def _problems(error: ValidationError, model: type[BaseModel], *under: str) -> list[tuple[Location, str]]:
    """The errors of a model by location; of an unknown field with the name that was probably meant."""
    found: list[tuple[Location, str]] = []
    for entry in error.errors():
        message = entry["msg"].removeprefix("Value error, ")
        if entry["type"] == "extra_forbidden":
            message = f"no such field. {did_you_mean(str(entry['loc'][-1]), _fields_at(model, entry['loc'][:-1]))}"
        location = [part for part in entry["loc"] if part != "[key]"]
        found.append(((*under, *location), message.rstrip()))
    return found


def _fields_at(model: type[BaseModel], location: Location) -> list[str]:
    """The fields of the model at a location below `model`; empty when there is none."""
    for part in location:
        field = model.model_fields.get(str(part))
        below = model_of(field.annotation) if field else None
        if below is None:
            return []
        model = below
    return list(model.model_fields)


def _line(node: yaml.Node, location: Location) -> int:
    """The line of the deepest part of a location that the file has, from 1."""
    line = node.start_mark.line
    for part in location:
        if isinstance(node, yaml.MappingNode):
            pair = next((pair for pair in node.value if pair[0].value == str(part)), None)
            if pair is None:
                break
            line, node = pair[0].start_mark.line, pair[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line
        else:
            break
    return line + 1
