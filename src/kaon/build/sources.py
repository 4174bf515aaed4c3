"""Finds a service's module, its project, and the folder whose files are packed.

The *root* is the first entry of `sys.path` where the service runs, found by `kaon.sdk.layout`. A `pyproject.toml` above
it with a `[tool.kaon]` table overrides that: its folder is the project, and `source` in that table the root below it.
The *project* is the nearest folder, from the root upwards, that declares requirements.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kaon.errors import BuildError, InvalidInput, NotFound
from kaon.sdk import layout


@dataclass(frozen=True)
class Target:
    """The class or function to build, and the files that belong to it."""

    project: Path
    """Folder of pyproject.toml, requirements.txt and requirements.lock."""
    root: Path
    """Folder whose files are packed; first on the path where the service runs."""
    module: str
    cls: str
    """The name of the class, or of the function of a job."""
    include: tuple[str, ...] = ()
    """Patterns, relative to the root, of files that are packed although a rule excludes them."""

    @property
    def entry(self) -> str:
        """'module:Class'."""
        return f"{self.module}:{self.cls}"

    @property
    def file(self) -> Path:
        """The module's file."""
        return self.root.joinpath(*self.module.split(".")).with_suffix(".py")


def find_target(target: str, folder: Path) -> Target:
    """Parse 'file.py:NAME' relative to `folder`. Raises `BuildError`, `InvalidInput`, `NotFound`."""
    name, separator, cls = target.rpartition(":")
    if not separator or not name.endswith(".py") or not cls.isidentifier():
        raise InvalidInput(f"{target!r} is not a class or function of a file.", hint="Write it as FILE.py:NAME.")
    file = (folder / name).absolute()
    if not file.is_file():
        raise NotFound(f"There is no file {file}.", hint="Paths are relative to the current folder.")
    file = file.parent.resolve() / file.name
    project, root, include = _places(file, folder.resolve())
    parts = file.relative_to(root).with_suffix("").parts
    if not all(part.isidentifier() for part in parts):
        raise InvalidInput(f"{file.name} cannot be imported: {'.'.join(parts)!r} is not a valid module name.")
    for path in layout.hiding(layout.search_path(root, file)):
        whose = "Kaon" if path.stem == "kaon" else "Python's standard library"
        raise BuildError(
            f"{path.name} has the same name as the module '{path.stem}' of {whose}: one would hide the other.",
            hint=f"Rename {path}.",
        )
    return Target(project=project, root=root, module=".".join(parts), cls=cls, include=include)


def _places(file: Path, folder: Path) -> tuple[Path, Path, tuple[str, ...]]:
    """(project, root, patterns to include) of a module."""
    for above in _within_repository(file):
        tools = table_of(read_pyproject(above), "tool", above)
        if "kaon" in tools:
            table = table_of(tools, "kaon", above)
            root = (above / str(table["source"])).resolve() if "source" in table else layout.find_root(file, above)
            if above not in (root, *root.parents) or root not in file.parents:
                raise BuildError(f"{file} is not below the source folder that is set in {above / 'pyproject.toml'}.")
            include = table.get("include", [])
            if not isinstance(include, list) or not all(isinstance(pattern, str) for pattern in include):
                raise BuildError(f"'include' in {above / 'pyproject.toml'} is not a list of strings.")
            return above, root, tuple(include)
    top = _top(file, folder)
    root = layout.find_root(file, top)
    return _project(root, top), root, ()


def _within_repository(file: Path) -> Iterator[Path]:
    """The folders above the file, nearest first, up to its repository's; all of them without a repository."""
    for above in file.parents:
        yield above
        if (above / ".git").exists():
            return


def _top(file: Path, folder: Path) -> Path:
    """The top folder of the project: of the repository, else of the highest pyproject.toml, else the current folder."""
    above = list(_within_repository(file))
    if (above[-1] / ".git").exists():
        return above[-1]
    declared = [place for place in above if (place / "pyproject.toml").is_file()]
    if declared:
        return declared[-1]
    return folder if folder in above else above[0]


def _project(root: Path, top: Path) -> Path:
    """The nearest folder that declares requirements, from the root up to `top`; the root when none does."""
    for above in (root, *root.parents):
        members = read_pyproject(above)
        table = table_of(members, "project", above) or table_of(table_of(members, "tool", above), "poetry", above)
        if (above / "requirements.txt").is_file() or (table and table.get("name") != "kaon"):
            return above
        if above == top or top not in above.parents:
            break
    return root


def read_pyproject(folder: Path) -> dict[str, Any]:
    """The folder's pyproject.toml; empty without one. Raises `BuildError` when it is not valid TOML."""
    path = folder / "pyproject.toml"
    if not path.is_file():
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BuildError(f"{path} is not valid: {error}") from None


def table_of(members: Mapping[str, Any], name: str, folder: Path) -> Mapping[str, Any]:
    """The table `name` of the folder's pyproject.toml; empty without one. Raises `BuildError` for another type."""
    table = members.get(name, {})
    if not isinstance(table, dict):
        raise BuildError(f"{name!r} in {folder / 'pyproject.toml'} is not a table.", hint=f"Write it as [{name}].")
    return table
