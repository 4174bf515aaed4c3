"""Decides which files of a project are packed, left out, or refused.

Left out and reported: files that .gitignore excludes, and hidden files. Left out without a report: files of tools
(`.git`, caches), environments, built packages, the platform's home; `kaon build --list` lists them too. Any of them but
the platform's home can be included by path or pattern.

Refused: links that lead out of the project, secrets, and pickles, unless they are allowed. Links within the project are
followed.
"""

from __future__ import annotations

import os
import stat
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from kaon.build import secret_files
from kaon.build.limits import DEFAULT_LIMITS, LOCK, SOURCES, ArtifactLimits, check_path
from kaon.build.sources import Target
from kaon.errors import BuildError, InvalidInput
from kaon.sdk import ignore
from kaon.settings import Settings
from kaon.types.artifact import IgnoreFile

_OF_TOOLS = f"""
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
_ENTRIES_MAX = 200_000  # links between folders can multiply the files of a small project
_IGNORE_FILES_KEPT, _LINES_KEPT = 20, 200  # bounds of the manifest's fields
_ENVIRONMENT_MARKS = ("pyvenv.cfg", "conda-meta/history", "lib/python*/site-packages", "Lib/site-packages")
"""What a folder has in it that is an environment of Python, under whatever name."""
_PICKLES_SHOWN = 10
_LEAVE_OUT_HINT = "leave it out in .gitignore"
_TOO_MANY_HINT = "Leave out what the service does not need, in .gitignore."


_Rules: TypeAlias = tuple[IgnoreFile, Sequence[ignore.IgnoreRule]]


@dataclass(frozen=True)
class LeftOut:
    """A file, or a folder (with a slash at its end), that is not packed."""

    path: str
    reason: str
    is_expected: bool = False
    """Nobody misses it: it is not worth reporting."""


@dataclass(frozen=True)
class SecretFile:
    """A file with a secret in it."""

    path: str
    what: str
    """Like 'a private key'."""


@dataclass
class PackedFiles:
    """The files of a service."""

    files: dict[str, Path] = field(default_factory=dict)
    """Locations by path below the root, with slashes and sorted."""
    left_out: list[LeftOut] = field(default_factory=list)
    secrets: list[SecretFile] = field(default_factory=list)
    """Those in `files` whose exact path is not included."""
    pickles: list[str] = field(default_factory=list)
    """Those in `files`."""
    ignore_files: list[IgnoreFile] = field(default_factory=list)
    """The .gitignore files that applied."""

    @property
    def unexpected(self) -> tuple[LeftOut, ...]:
        """What is left out and worth reporting."""
        return tuple(left for left in self.left_out if not left.is_expected)


def collect(target: Target, *, limits: ArtifactLimits = DEFAULT_LIMITS) -> PackedFiles:
    """The files of a service, and what was left out.

    Raises `BuildError` for links that lead out of the project, special files, and for a pattern of `target.include`
    without a match.
    """
    walk = _Walk(target.root, [IncludePattern(text) for text in target.include], limits)
    walk.start()
    unmatched = [included.text for included in walk.include if not included.matched]
    if unmatched:
        raise BuildError(
            f"No file matches {unmatched[0]!r}, which is to be included.", hint=f"Paths are relative to {target.root}."
        )
    walk.result.files = dict(sorted(walk.result.files.items()))
    return walk.result


def check(files: PackedFiles, *, allow_pickles: bool = False) -> None:
    """Raise `BuildError` when there are secrets among the files, or pickles that are not allowed."""
    for secret in files.secrets:
        raise BuildError(
            f"{secret.path} holds {secret.what}, which everybody who may read the artifact could read.",
            hint=f"Leave it out in .gitignore, and pass the value with `kaon secret set` and --secret. "
            f"To pack it anyway: --include {secret.path}",
        )
    if files.pickles and not allow_pickles:
        shown = ", ".join(files.pickles[:_PICKLES_SHOWN])
        more = len(files.pickles) - _PICKLES_SHOWN
        named = f"{shown} and {more} more" if more > 0 else shown
        raise BuildError(
            f"Pickles are not packed unless they are allowed, since loading one runs the code in it: {named}.",
            hint="If you trust them: @kaon.service(allow_pickle=True) on the class, or --allow-pickle. Otherwise store "
            f"weights as safetensors, ONNX or npz, tables as Parquet; or {_LEAVE_OUT_HINT}.",
        )


class IncludePattern:
    """A path, or a pattern in the syntax of .gitignore, of files that are packed although a rule excludes them.

    A folder includes everything in it. Raises `InvalidInput` for a path that leads out of the project.
    """

    def __init__(self, text: str) -> None:
        self.text = text.removeprefix("./").rstrip("/")
        parts = self.text.split("/")
        if not self.text or self.text.startswith("/") or ".." in parts:
            raise InvalidInput(f"{text!r} is not a path within the project.", hint="Write it like models/model.onnx.")
        self.matched = False
        self._matches = ignore.matcher(_bytes(self.text))
        self._parts = [None if part == "**" else ignore.matcher(_bytes(part)) for part in parts]

    def matches(self, path: str) -> bool:
        """Whether the pattern matches this path."""
        matches = self._matches(_bytes(path))
        self.matched |= matches
        return matches

    def may_match_in(self, folder: str) -> bool:
        """Whether the pattern can match something in this folder."""
        for part, name in zip(self._parts, folder.split("/"), strict=False):
            if part is None:
                return True
            if not part(_bytes(name)):
                return False
        return True


@dataclass(frozen=True)
class _Folder:
    """A folder of the walk."""

    location: Path
    path: str
    """Relative to the root; empty for the root itself, else with a trailing slash."""
    rules: tuple[_Rules, ...]
    """Of the .gitignore files above it, outermost first."""
    ancestors: tuple[Path, ...]
    """This folder and the folders that it is in, with links resolved."""
    included: bool = False
    """It matches an include pattern, and so everything in it is packed."""
    left_out: bool = False
    """It is left out; only files in it that match an include pattern are packed."""


class _Walk:
    """Walks through the folders of a project."""

    def __init__(self, root: Path, include: list[IncludePattern], limits: ArtifactLimits) -> None:
        self.include = include
        self.result = PackedFiles()
        self._root, self._limits = root, limits
        self._home = Settings().home.resolve()
        self._of_tools = ignore.parse(_OF_TOOLS.encode())
        self._entries = 0

    def start(self) -> None:
        """Walk through the root, with the .gitignore files of the repository above it."""
        top = next((above for above in (self._root, *self._root.parents) if (above / ".git").exists()), self._root)
        between = [above for above in reversed(self._root.parents) if top in (above, *above.parents)]
        rules = tuple(rule for above in between for rule in self._rules_in(above, below=self._below(above)))
        self._folder(_Folder(self._root, "", rules, (self._root,)))

    def _below(self, above: Path) -> str:
        return self._root.relative_to(above).as_posix() + "/"

    def _rules_in(self, location: Path, folder: str = "", below: str = "") -> list[_Rules]:
        rules = ignore.rules_of(location)
        if not rules:
            return []
        name = f"{folder}{ignore.FILE_NAME}" if not below else os.path.relpath(location / ignore.FILE_NAME, self._root)
        lines = tuple((rule.line, rule.text) for rule in rules if len(rule.text) <= 500)
        file = IgnoreFile(name=name, folder=folder, below=below, lines=lines[:_LINES_KEPT])
        if len(self.result.ignore_files) < _IGNORE_FILES_KEPT:
            self.result.ignore_files.append(file)
        return [(file, rules)]

    def _folder(self, folder: _Folder) -> None:
        rules = (*folder.rules, *self._rules_in(folder.location, folder.path))
        for item in sorted(os.scandir(folder.location), key=lambda item: item.name):
            self._entries += 1
            if self._entries > _ENTRIES_MAX:
                raise BuildError(f"{self._root} has more than {_ENTRIES_MAX} files and folders.", hint=_TOO_MANY_HINT)
            self._item(item, folder, rules)

    def _item(self, item: os.DirEntry[str], folder: _Folder, rules: tuple[_Rules, ...]) -> None:
        path = folder.path + item.name
        matching = [pattern for pattern in self.include if pattern.matches(path)]
        included = folder.included or bool(matching)
        is_folder = item.is_dir()
        location = Path(item.path)
        if is_folder and location.resolve() == self._home:
            self.result.left_out.append(LeftOut(f"{path}/", "the platform's home", is_expected=True))
            return
        reason = None if included else self._reason(item, path, rules)
        left_out = reason is not None or (folder.left_out and not included)
        if left_out and not (is_folder and any(pattern.may_match_in(path) for pattern in self.include)):
            if reason:
                self.result.left_out.append(reason)
            return
        if item.is_symlink():
            location = self._link_target(location, path, folder)
        if not is_folder:
            self._add(location, path, is_named=any(pattern.text == path for pattern in matching))
            return
        if path.count("/") >= self._limits.depth:
            raise BuildError(f"{path[:60]!r}... is more than {self._limits.depth} folders deep.", hint=_TOO_MANY_HINT)
        ancestors = (*folder.ancestors, location.resolve())
        self._folder(_Folder(location, path + "/", rules, ancestors, included=included, left_out=left_out))

    def _reason(self, item: os.DirEntry[str], path: str, rules: Sequence[_Rules]) -> LeftOut | None:
        """Why an entry is left out; None when it is packed."""
        is_folder = item.is_dir(follow_symlinks=False)
        shown = path + "/" * is_folder
        if rule := ignore.deciding(self._of_tools, _bytes(path), is_folder):
            return LeftOut(shown, f"files of tools: {rule.text}", is_expected=True)
        if is_folder and any(any(Path(item.path).glob(mark)) for mark in _ENVIRONMENT_MARKS):
            return LeftOut(shown, "an environment", is_expected=True)
        if item.name.startswith("."):
            return LeftOut(shown, "hidden")
        for file, each in reversed(rules):
            rule = ignore.deciding(each, _bytes(file.relative(path)), is_folder)
            if rule is not None:
                return None if rule.includes else LeftOut(shown, f"{file.name} line {rule.line}: {rule.text}")
        return None

    def _link_target(self, location: Path, path: str, folder: _Folder) -> Path:
        """The target of a link. Raises `BuildError` unless it is in the project."""
        real, link = location.resolve(), os.readlink(location)
        if not real.exists():
            raise BuildError(
                f"{path} is a link to {link}, which does not exist.",
                hint=f"Replace the link with the file, or {_LEAVE_OUT_HINT}.",
            )
        if self._root not in real.parents:
            raise BuildError(
                f"{path} is a link to {link}, which is outside of {self._root}.",
                hint=f"Replace the link with a copy, or {_LEAVE_OUT_HINT}.",
            )
        if self._home in (real, *real.parents) and self._root in self._home.parents:
            raise BuildError(
                f"{path} is a link to {link}, which is in the home of Kaon, where its keys are.",
                hint="Remove the link.",
            )
        if real in folder.ancestors:
            raise BuildError(
                f"{path} is a link to {link}, a folder that contains the link.",
                hint=f"Remove the link, or {_LEAVE_OUT_HINT}.",
            )
        return real

    def _add(self, file: Path, path: str, *, is_named: bool) -> None:
        if len(self.result.files) + 1 >= self._limits.files:
            raise BuildError(
                f"{self._root} has {self._limits.files} files or more; an artifact may have fewer.", hint=_TOO_MANY_HINT
            )
        if not stat.S_ISREG(file.stat().st_mode):
            raise BuildError(f"{path} is not a regular file.", hint=f"Move it elsewhere, or {_LEAVE_OUT_HINT}.")
        self._check_name(path)
        secret = secret_files.by_name(path) or secret_files.by_name(file.relative_to(self._root).as_posix())
        secret = secret or secret_files.by_content(file)
        if secret and not is_named:
            self.result.secrets.append(SecretFile(path, secret))
        if file.suffix.lower() in _PICKLES or Path(path).suffix.lower() in _PICKLES or _is_pickle(file):
            self.result.pickles.append(path)
        self.result.files[path] = file

    def _check_name(self, path: str) -> None:
        try:
            check_path(SOURCES + path, self._limits)
        except InvalidInput as error:
            raise BuildError(error.cause, hint=error.hint or f"Rename the file, or {_LEAVE_OUT_HINT}.") from None


def _bytes(path: str) -> bytes:
    return path.encode(errors="surrogateescape")


def _is_pickle(path: Path) -> bool:
    """Whether the content is a pickle, or an archive of PyTorch with one in it.

    Pickles of protocols 2 to 5 start with 0x80 and their number and end with a dot.
    """
    with path.open("rb") as file:
        head = file.read(4)
        if head == b"PK\x03\x04":
            return _has_pickle(path)
        if len(head) < 2 or head[0] != 0x80 or not 2 <= head[1] <= 5:
            return False
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"."


def _has_pickle(archive: Path) -> bool:
    """Whether a zip file has the pickle that `torch.save` writes."""
    try:
        with zipfile.ZipFile(archive) as opened:
            return any(name.rpartition("/")[2] == "data.pkl" for name in opened.namelist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return False


class _ModuleWalk(_Walk):
    """Walks through the Python files of a folder, without links; refuses nothing."""

    def _item(self, item: os.DirEntry[str], folder: _Folder, rules: tuple[_Rules, ...]) -> None:
        if not item.is_symlink():
            super()._item(item, folder, rules)

    def _add(self, file: Path, path: str, *, is_named: bool) -> None:
        if path.endswith(".py"):
            self.result.files[path] = file


def modules(folder: Path) -> list[str]:
    """The Python files below a folder that would be packed, by path relative to it, sorted."""
    walk = _ModuleWalk(folder, [], DEFAULT_LIMITS)
    walk.start()
    return sorted(walk.result.files)
