"""Which files of a project are packed, which are left out, and which are refused.

Left out, and said: what .gitignore leaves out, and hidden files. Left out without a word: what tools keep for
themselves (`.git`, virtual environments, caches), finished packages, the platform's home. Whatever is left out can be
included by its path or a pattern.

Refused, because it would surprise later: links that lead out of the project, secrets, and pickles, until they are
allowed. Links within the project are followed.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from kaon.build import ignore, secret_files
from kaon.build.limits import DEFAULT_LIMITS, LOCK, SOURCES, ArtifactLimits, check_path
from kaon.build.sources import Target
from kaon.errors import BuildError, InvalidInput
from kaon.settings import Settings
from kaon.types.artifact import IgnoreFile

_TOOLS_OWN = f"""
.git
.hg/
.svn/
.gitignore
.gitattributes
.gitkeep
.gitmodules
.dockerignore
.editorconfig
.github/
.gitlab-ci.yml
.circleci/
.pre-commit-config.yaml
.flake8
.python-version
.DS_Store
.coverage
.coverage.*
.venv/
.tox/
.nox/
.idea/
.vscode/
.*_cache/
.ipynb_checkpoints/
.kaon-data/
__pycache__/
*.pyc
*.egg-info/
node_modules/
/dist/*.whl
/dist/*.tar.gz
*-{"[0-9a-f]" * 12}.tar.gz
/{LOCK}
"""
_PICKLES = frozenset({".pkl", ".pickle", ".pck", ".joblib", ".dill", ".cloudpickle", ".pt", ".pth", ".ckpt"})
_ENTRIES_MAX = 200_000  # links to folders could make a small project endless
_IGNORE_FILES_KEPT, _LINES_KEPT = 20, 200  # bounds of the manifest's
_LEAVE_OUT_HINT = "leave it out in .gitignore"
_TOO_MANY_HINT = "Leave out what the service does not need, in .gitignore."


_Rules: TypeAlias = tuple[IgnoreFile, Sequence[ignore.IgnoreRule]]


@dataclass(frozen=True)
class LeftOut:
    """A file, or a folder (with a slash at its end), that is not packed."""

    path: str
    reason: str


@dataclass
class PackedFiles:
    """The files of a service."""

    files: dict[str, Path] = field(default_factory=dict)
    """Where each one is, by its path below the root, with slashes and sorted."""
    left_out: list[LeftOut] = field(default_factory=list)
    ignore_files: list[IgnoreFile] = field(default_factory=list)
    """What was obeyed on the way."""


def collect(target: Target, *, allow_pickles: bool = False, limits: ArtifactLimits = DEFAULT_LIMITS) -> PackedFiles:
    """All files that belong to a service, and what was left out.

    Raises `BuildError` for links that lead out of the project, special files, secrets that `target.include` does not
    name, pickles unless they are allowed, and for a pattern of `target.include` that nothing matches.
    """
    walk = _Walk(target.root, [Included(text) for text in target.include], allow_pickles, limits)
    walk.begin()
    unmatched = [included.text for included in walk.include if not included.matched]
    if unmatched:
        raise BuildError(
            f"There is nothing to include at {unmatched[0]!r}.", hint=f"Write paths as they are below {target.root}."
        )
    walk.found.files = dict(sorted(walk.found.files.items()))
    return walk.found


class Included:
    """A path, or a pattern of .gitignore's kind, of what is packed although a rule leaves it out.

    A folder stands for all that is in it. Raises `InvalidInput` for one that leads out of the project.
    """

    def __init__(self, text: str) -> None:
        self.text = text.removeprefix("./").rstrip("/")
        parts = self.text.split("/")
        if not self.text or self.text.startswith("/") or ".." in parts:
            raise InvalidInput(f"{text!r} is not a path within the project.", hint="Write it like models/model.onnx.")
        self.matched = False
        self._matches = ignore.matcher(_bytes(self.text))
        self._parts = [None if part == "**" else ignore.matcher(_bytes(part)) for part in parts]

    def takes(self, path: str) -> bool:
        """Whether the pattern says this path."""
        found = self._matches(_bytes(path))
        self.matched |= found
        return found

    def leads_below(self, folder: str) -> bool:
        """Whether the pattern may say something in this folder."""
        for part, step in zip(self._parts, folder.split("/"), strict=False):
            if part is None:
                return True
            if not part(_bytes(step)):
                return False
        return True


@dataclass(frozen=True)
class _Folder:
    """A folder on the way down."""

    place: Path
    path: str
    """Below the root; empty for the root itself, else with a slash at its end."""
    rules: tuple[_Rules, ...]
    """Of the .gitignore files above it, outermost first."""
    real: tuple[Path, ...]
    """The folders that it is in, without links."""
    taken: bool = False
    """It was included by name, and so is all that is in it."""
    passed: bool = False
    """It is left out, and gone through only for what is included in it."""


class _Walk:
    """Goes through the folders of a project."""

    def __init__(self, root: Path, include: list[Included], allow_pickles: bool, limits: ArtifactLimits) -> None:
        self.include = include
        self.found = PackedFiles()
        self._root, self._allow_pickles, self._limits = root, allow_pickles, limits
        self._home = Settings().home.resolve()
        self._tools_own = ignore.parse(_TOOLS_OWN.encode())
        self._looked_at = 0

    def begin(self) -> None:
        """Go through the root, under what the repository around it ignores too."""
        top = next((above for above in (self._root, *self._root.parents) if (above / ".git").exists()), self._root)
        between = [above for above in reversed(self._root.parents) if top in (above, *above.parents)]
        rules = tuple(rule for above in between for rule in self._rules_in(above, below=self._below(above)))
        self._go_through(_Folder(self._root, "", rules, (self._root,)))

    def _below(self, above: Path) -> str:
        return self._root.relative_to(above).as_posix() + "/"

    def _rules_in(self, place: Path, folder: str = "", below: str = "") -> list[_Rules]:
        rules = ignore.rules_of(place)
        if not rules:
            return []
        name = f"{folder}{ignore.FILE_NAME}" if not below else os.path.relpath(place / ignore.FILE_NAME, self._root)
        lines = tuple((rule.line, rule.text) for rule in rules if len(rule.text) <= 500)
        file = IgnoreFile(name=name, folder=folder, below=below, lines=lines[:_LINES_KEPT])
        if len(self.found.ignore_files) < _IGNORE_FILES_KEPT:
            self.found.ignore_files.append(file)
        return [(file, rules)]

    def _go_through(self, folder: _Folder) -> None:
        rules = (*folder.rules, *self._rules_in(folder.place, folder.path))
        for item in sorted(os.scandir(folder.place), key=lambda item: item.name):
            self._looked_at += 1
            if self._looked_at > _ENTRIES_MAX:
                raise BuildError(f"{self._root} has more than {_ENTRIES_MAX} files and folders.", hint=_TOO_MANY_HINT)
            self._look_at(item, folder, rules)

    def _look_at(self, item: os.DirEntry[str], folder: _Folder, rules: tuple[_Rules, ...]) -> None:
        path = folder.path + item.name
        named = [included for included in self.include if included.takes(path)]
        taken = folder.taken or bool(named)
        is_folder = item.is_dir()
        place = Path(item.path)
        if is_folder and place.resolve() == self._home:
            return
        reason = None if taken else self._reason(item, path, rules)
        left_out = reason is not None or (folder.passed and not taken)
        if left_out and not (is_folder and any(included.leads_below(path) for included in self.include)):
            if reason:
                self.found.left_out.append(LeftOut(path + "/" * is_folder, reason))
            return
        if item.is_symlink():
            place = self._followed(place, path, folder)
        if not is_folder:
            self._take(place, path, any(included.text == path for included in named))
            return
        real = place.resolve()
        if path.count("/") >= self._limits.depth:
            raise BuildError(f"{path[:60]!r}... is more than {self._limits.depth} folders deep.", hint=_TOO_MANY_HINT)
        self._go_through(_Folder(place, path + "/", rules, (*folder.real, real), taken=taken, passed=left_out))

    def _reason(self, item: os.DirEntry[str], path: str, rules: Sequence[_Rules]) -> str | None:
        """Why this is left out; empty: for a reason that nobody needs to be told; None: it is not."""
        is_folder = item.is_dir(follow_symlinks=False)
        if ignore.deciding(self._tools_own, _bytes(path), is_folder):
            return ""
        if is_folder and (Path(item.path) / "pyvenv.cfg").exists():
            return ""
        if item.name.startswith("."):
            return "hidden"
        for file, each in reversed(rules):
            rule = ignore.deciding(each, _bytes(file.relative(path)), is_folder)
            if rule is not None:
                return None if rule.includes else f"{file.name} line {rule.line}: {rule.text}"
        return None

    def _followed(self, place: Path, path: str, folder: _Folder) -> Path:
        """Where a link leads. Raises `BuildError` unless that is a place of the project."""
        real = place.resolve()
        what = f"{path} is a link to {os.readlink(place)}"
        if not real.exists():
            raise BuildError(f"{what}, which is not there.", hint=f"Put the file in its place, or {_LEAVE_OUT_HINT}.")
        if self._root not in real.parents:
            raise BuildError(
                f"{what}, which is outside of {self._root}: an artifact holds files of the project only.",
                hint=f"Put a copy in its place, or {_LEAVE_OUT_HINT}.",
            )
        if self._home in (real, *real.parents) and self._root in self._home.parents:
            raise BuildError(f"{what}, which is in the home of Kaon, where its keys are.", hint="Remove the link.")
        if real in folder.real:
            raise BuildError(f"{what}, a folder that it is in itself.", hint=f"Remove the link, or {_LEAVE_OUT_HINT}.")
        return real

    def _take(self, file: Path, path: str, is_named: bool) -> None:
        if len(self.found.files) + 1 >= self._limits.files:
            raise BuildError(
                f"{self._root} has {self._limits.files} files or more; an artifact holds fewer.", hint=_TOO_MANY_HINT
            )
        if not stat.S_ISREG(file.stat().st_mode):
            raise BuildError(f"{path} is not a plain file.", hint=f"Move it elsewhere, or {_LEAVE_OUT_HINT}.")
        self._check_name(path)
        secret = secret_files.by_name(path) or secret_files.by_name(file.relative_to(self._root).as_posix())
        secret = secret or secret_files.by_content(file)
        if secret and not is_named:
            raise BuildError(
                f"{path} holds {secret}, and whoever may read the artifact could read it.",
                hint=f"Leave it out in .gitignore, and give what the service needs by `kaon secret set` and --secret. "
                f"If it is meant to travel: --include {path}",
            )
        if not self._allow_pickles and (
            file.suffix.lower() in _PICKLES or Path(path).suffix.lower() in _PICKLES or _is_pickle(file)
        ):
            raise BuildError(
                f"{path} is a pickle: who loads it runs whatever is in it.",
                hint="Keep weights as safetensors, ONNX or npz, tables as Parquet or JSON. "
                f"If you trust it: --allow pickle. Else {_LEAVE_OUT_HINT}.",
            )
        self.found.files[path] = file

    def _check_name(self, path: str) -> None:
        try:
            check_path(SOURCES + path, self._limits)
        except InvalidInput as error:
            raise BuildError(error.cause, hint=error.hint or f"Rename it, or {_LEAVE_OUT_HINT}.") from None


def _bytes(path: str) -> bytes:
    return path.encode(errors="surrogateescape")


def _is_pickle(path: Path) -> bool:
    """Protocol 2 to 5 begins with 0x80 and its number and ends with a dot, whatever the file is called."""
    with path.open("rb") as file:
        head = file.read(2)
        if len(head) < 2 or head[0] != 0x80 or not 2 <= head[1] <= 5:
            return False
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"."
