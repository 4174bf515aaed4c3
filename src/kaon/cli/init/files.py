"""The files of a new project, from templates. Pure, but for reading the templates."""

from __future__ import annotations

import keyword
from dataclasses import dataclass
from enum import StrEnum
from importlib.resources import files
from importlib.util import find_spec
from string import Template

from pydantic import TypeAdapter, ValidationError

from kaon.cli.shared.text import plain
from kaon.errors import InvalidInput
from kaon.sdk.service import default_name
from kaon.types.kinds import KINDS
from kaon.types.route import RESERVED

OPTIONAL = frozenset({"requirements.txt", ".gitignore"})
"""Files that stay as they are when they exist."""


class ProjectTemplate(StrEnum):
    """What the new service is."""

    PLAIN = "plain"
    CHAT = "chat"
    APP = "app"


@dataclass(frozen=True)
class ProjectNames:
    """Names in a new project."""

    name: str
    """Of the deployment."""
    module: str
    cls: str


def project_names(name: str) -> ProjectNames:
    """The names of the service `name`. Raises `InvalidInput` when no deployment can have that name.

    The module's name is none that can be imported already: one would hide the other.
    """
    kind = KINDS["deployment"]
    try:
        TypeAdapter(kind.named).validate_python(name)
        is_valid = name not in RESERVED
    except ValidationError:
        is_valid = False
    if not is_valid:
        raise InvalidInput(
            f"{plain(name)!r} cannot be the name of a service.",
            hint="Use lower case letters, digits and dashes, such as: kaon init text-embedder",
        )
    module, cls = name.replace("-", "_"), "".join(part.capitalize() for part in name.split("-"))
    if keyword.iskeyword(module) or keyword.iskeyword(cls) or find_spec(module) is not None:
        module, cls = f"{module}_service", f"{cls}Service"
    return ProjectNames(name, module, cls)


def new_files(names: ProjectNames, template: ProjectTemplate) -> dict[str, str]:
    """The files by name."""
    sources = {
        f"{names.module}.py": f"{template}.py",
        f"test_{names.module}.py": f"test_{template}.py",
        "requirements.txt": "requirements.txt",
        "kaon.yaml": "kaon.yaml",
        ".gitignore": "gitignore",
    }
    argument = "" if default_name(names.cls) == names.name else f'name="{names.name}"'
    texts = {"call": f"({argument})" if argument else "", "first": f"{argument}, " if argument else ""}
    values = {"name": names.name, "module": names.module, "cls": names.cls} | texts
    folder = files(__package__).joinpath("templates")
    return {
        name: Template(folder.joinpath(f"{source}.template").read_text(encoding="utf-8")).substitute(values)
        for name, source in sources.items()
    }
