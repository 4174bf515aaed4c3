"""Which files belong to a service: its project's sources, without what nobody means to ship.

The *root* is what `sys.path` begins with where the service runs: the module's folder, or, when that is a
package, the first folder above that is not. A `pyproject.toml` above with a `[tool.kaon]` table says otherwise:
its folder is the project, and `source` in that table the root below it (default: the project itself).

Left out: what .gitignore leaves out, hidden files (so `.env` never travels), virtual environments, caches, and
`dist`. Refused, because leaving them out in silence would surprise later: links, and files that are pickles.
"""

from __future__ import annotations

import os
import stat
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pathspec import GitIgnoreSpec

from kaon.errors import BuildError, InvalidInput, NotFound
from kaon.sdk.limits import DEFAULT_LIMITS, LOCK, SOURCES, Limits, check_path
from kaon.settings import Settings

_LEFT_OUT = GitIgnoreSpec.from_lines(
    [".*", "__pycache__/", "*.pyc", "*.egg-info/", "node_modules/", "/dist/", f"/{LOCK}"],
)
_PICKLES = frozenset({".pkl", ".pickle", ".pck", ".joblib", ".dill", ".cloudpickle", ".pt", ".pth", ".ckpt"})


@dataclass(frozen=True)
class Target:
    """A class that is to be built: where it is and what belongs to it."""

    project: Path
    """Folder of pyproject.toml, requirements.txt and requirements.lock."""
    root: Path
    """Folder whose files are packed; first on the path where the service runs."""
    module: str
    cls: str

    @property
    def entry(self) -> str:
        """'module:Class'."""
        return f"{self.module}:{self.cls}"

    @property
    def file(self) -> Path:
        """The module's file."""
        return self.root.joinpath(*self.module.split(".")).with_suffix(".py")


def find_target(target: str, folder: Path) -> Target:
    """Read 'file.py:Class', the file being relative to `folder`. Raises `InvalidInput`, `NotFound`."""
    name, separator, cls = target.rpartition(":")
    if not separator or not name.endswith(".py") or not cls.isidentifier():
        raise InvalidInput(f"{target!r} does not name a class.", hint="Write it as FILE.py:CLASS.")
    file = (folder / name).absolute()
    if not file.is_file():
        raise NotFound(f"There is no file {file}.", hint="Paths are relative to the folder that you are in.")
    file = file.parent.resolve() / file.name
    project, root = _roots(file)
    parts = file.relative_to(root).with_suffix("").parts
    if not all(part.isidentifier() for part in parts):
        raise InvalidInput(f"{file.name} cannot be imported: {'.'.join(parts)!r} is not a module's name.")
    return Target(project=project, root=root, module=".".join(parts), cls=cls)


def _roots(file: Path) -> tuple[Path, Path]:
    """(project, root) of a module."""
    for above in file.parents:
        tools = table_of(read_pyproject(above), "tool", above)
        if "kaon" in tools:
            table = table_of(tools, "kaon", above)
            root = (above / str(table.get("source", "."))).resolve()
            if above not in (root, *root.parents) or root not in file.parents:
                raise BuildError(f"{file} is not below the source folder that {above / 'pyproject.toml'} names.")
            return above, root
        if (above / ".git").exists():
            break
    root = next(above for above in file.parents if not (above / "__init__.py").exists())
    return root, root


def read_pyproject(folder: Path) -> dict[str, Any]:
    """The folder's pyproject.toml, empty when there is none. Raises `BuildError` when it is not TOML."""
    path = folder / "pyproject.toml"
    if not path.is_file():
        return {}
    try:
        return tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BuildError(f"{path} is not valid: {error}") from None


def table_of(members: Mapping[str, Any], name: str, folder: Path) -> Mapping[str, Any]:
    """The table `name` of the folder's pyproject.toml, empty when there is none. Raises `BuildError` for no table."""
    table = members.get(name, {})
    if not isinstance(table, dict):
        raise BuildError(f"{name!r} in {folder / 'pyproject.toml'} is not a table.", hint=f"Write it as [{name}].")
    return table


def collect(root: Path, limits: Limits = DEFAULT_LIMITS) -> list[str]:
    """Paths below `root`, with slashes and sorted, of all files that belong to the service.

    The platform's own home, with its keys, never does. Raises `BuildError` for links, special files and pickles.
    """
    found = sorted(_walk(root, root, _specs_above(root)))
    if len(found) >= limits.files:
        raise BuildError(
            f"{root} has {len(found)} files; an artifact holds fewer than {limits.files}.",
            hint="Leave out what the service does not need, in .gitignore.",
        )
    return found


_Spec = tuple[Path, GitIgnoreSpec]


def _specs_above(root: Path) -> list[_Spec]:
    """What the repository around `root` ignores, outermost first."""
    top = next((above for above in (root, *root.parents) if (above / ".git").exists()), root)
    between = [above for above in reversed(root.parents) if top in (above, *above.parents)]
    return [(root, _LEFT_OUT), *(spec for above in between for spec in _own_spec(above))]


def _own_spec(folder: Path) -> list[_Spec]:
    file = folder / ".gitignore"
    if not file.is_file():
        return []
    return [(folder, GitIgnoreSpec.from_lines(file.read_text(errors="replace").splitlines()))]


def _walk(folder: Path, root: Path, specs: list[_Spec]) -> Iterator[str]:
    specs = [*specs, *_own_spec(folder)]
    for item in sorted(os.scandir(folder), key=lambda item: item.name):
        path = Path(item.path)
        is_folder = item.is_dir(follow_symlinks=False)
        if _ignored(path, is_folder, specs):
            continue
        if is_folder:
            if not (path / "pyvenv.cfg").exists() and path.resolve() != Settings().home.resolve():
                yield from _walk(path, root, specs)
            continue
        relative = path.relative_to(root).as_posix()
        _check_file(path, relative, item.stat(follow_symlinks=False).st_mode)
        yield relative


def _ignored(path: Path, is_folder: bool, specs: list[_Spec]) -> bool:
    """What the platform leaves out stays out; else the innermost .gitignore that speaks of the path decides."""
    ours, *theirs = specs
    for where, spec in [ours, *reversed(theirs)]:
        verdict = spec.check_file(path.relative_to(where).as_posix() + "/" * is_folder).include
        if verdict is not None:
            return verdict
    return False


def _check_file(path: Path, relative: str, mode: int) -> None:
    if stat.S_ISLNK(mode):
        raise BuildError(
            f"{relative} is a link, and an artifact holds plain files only.",
            hint="Put a copy in its place, or leave it out in .gitignore.",
        )
    if not stat.S_ISREG(mode):
        raise BuildError(f"{relative} is not a plain file.", hint="Move it elsewhere, or leave it out in .gitignore.")
    if path.suffix.lower() in _PICKLES or _is_pickle(path):
        raise BuildError(
            f"{relative} is a pickle: who loads it runs whatever is in it.",
            hint="Keep weights as safetensors, ONNX or npz, tables as Parquet or JSON; or leave it out in .gitignore.",
        )
    try:
        check_path(SOURCES + relative)
    except InvalidInput as error:
        raise BuildError(error.cause, hint=error.hint or "Rename it, or leave it out in .gitignore.") from None


def _is_pickle(path: Path) -> bool:
    """Protocol 2 to 5 begins with 0x80 and its number and ends with a dot, whatever the file is called."""
    with path.open("rb") as file:
        head = file.read(2)
        if len(head) < 2 or head[0] != 0x80 or not 2 <= head[1] <= 5:
            return False
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"."
