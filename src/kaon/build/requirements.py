"""Reads what a service requires from its class and its project.

The class: `@kaon.service(requirements=[...])`, read from the source text, since the class cannot be imported before its
packages are installed. The project: `requirements.txt` in pip's syntax, else `[project] dependencies` in
pyproject.toml. An extra of the project is required as `.[NAME]`, a dependency group as `--group NAME`, by the class or
by the command. `kaon` and `kaon-runtime` are skipped: the platform provides the runtime.

Packages by name are locked. Wheels by path or URL, and wheels built from folders by path, are packed in the artifact.
The project's own folder is not a package: its sources are packed anyway, and its dependencies are required.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from kaon.build import poetry
from kaon.build.marks import requirements_of
from kaon.build.sources import Target, read_pyproject, table_of
from kaon.errors import BuildError

NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"
_REQUIREMENT = re.compile(rf"{NAME}\s*(\[[A-Za-z0-9._,\s-]*\])?\s*[^@:/;]*(;.*)?")
_AT = re.compile(rf"({NAME})\s*(\[[^\]]*\])?\s*@\s*(\S+)")
_WHEEL = re.compile(r"([A-Za-z0-9._]+)-([A-Za-z0-9._+!]+)(?:-\d[^-]*)?-[^-]+-[^-]+-[^-]+\.whl")
_HASH = re.compile(r"\s--hash[= ](\S+)")
_OPTION_ONCE = {"-i": "--index-url", "--index-url": "--index-url", "--pypi-url": "--index-url"}
_OPTIONS = {"--extra-index-url": "--extra-index-url", "--trusted-host": "--allow-insecure-host"} | _OPTION_ONCE
_FIND_LINKS = {"-f": "--find-links", "--find-links": "--find-links"}
_BINARY = {"--no-binary": "--no-binary", "--only-binary": "--only-binary"}
_FLAGS = {"--pre": ["--prerelease", "allow"], "--no-index": ["--no-index"]}
_IGNORED = frozenset({"--require-hashes", "--prefer-binary", "--use-feature", "--no-cache-dir"})
_FILES_MAX, _LINES_MAX = 100, 10_000
_BUILD_HINT = "Build a wheel with `pip wheel --no-deps -w libs {what}`, and write its path: ./libs/NAME.whl"


@dataclass(frozen=True)
class Wheel:
    """A wheel that is required by its path or URL; it is packed in the artifact."""

    location: str
    """A path, or an https URL."""
    sha256: str = ""
    """The required hash; mandatory for a URL."""
    extras: str = ""
    marker: str = ""

    @property
    def file_name(self) -> str:
        """'name-version-....whl'."""
        if "://" in self.location:
            return unquote(urlsplit(self.location).path.rpartition("/")[2])
        return Path(self.location).name

    @property
    def requirement(self) -> str:
        """'name==version'."""
        match = _WHEEL.fullmatch(self.file_name)
        assert match is not None
        return f"{normal(match.group(1))}{self.extras}=={match.group(2)}"


@dataclass
class Requirements:
    """Everything that a service requires. Texts are as written, without comments and hashes."""

    packages: set[str] = field(default_factory=set)
    constraints: set[str] = field(default_factory=set)
    wheels: list[Wheel] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)
    """Of other projects; wheels are built from them."""
    options: list[str] = field(default_factory=list)
    """For uv: package indexes and their options."""
    wheel_folders: list[Path] = field(default_factory=list)
    """Folders with wheels that uv may choose from."""

    @property
    def empty(self) -> bool:
        """Whether nothing is required."""
        return not (self.packages or self.wheels or self.folders)

    @property
    def names(self) -> tuple[str, ...]:
        """The required packages, sorted, as written; wheels with their versions."""
        return tuple(sorted({*self.packages, *(wheel.requirement for wheel in self.wheels)}))


def read_requirements(target: Target, more: Sequence[str] = ()) -> Requirements:
    """The requirements of the class and its project, and `more`, without Kaon itself.

    Raises `BuildError` when a requirement cannot be locked or the class's requirements cannot be read.
    """
    reader = _Reader(target)
    for text in requirements_of(target):
        reader.line(text, target.project, f"the requirements of {target.cls}")
    for text in more:
        reader.line(text, target.project, "the command")
    reader.project(target.project)
    return reader.result


def normal(name: str) -> str:
    """A package's normalized name."""
    return re.sub(r"[-_.]+", "-", name).lower()


def name_of(requirement: str) -> str:
    """The normalized package name of a requirement; empty when it has none."""
    match = re.match(NAME, requirement)
    return normal(match.group()) if match else ""


def text_of(file: Path) -> str:
    """A file's text. Raises `BuildError` when it is not UTF-8."""
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise BuildError(
            f"{file} is not UTF-8: {error.reason} at byte {error.start}.", hint="Save the file as UTF-8."
        ) from None


class _Reader:
    """Collects requirements from files and lines."""

    def __init__(self, target: Target) -> None:
        self.result = Requirements()
        self._target = target
        self._files_read: set[Path] = set()
        self._folders_read: set[Path] = set()
        self._entries_read: set[tuple[Path, str, str]] = set()

    def project(self, folder: Path) -> None:
        """Read requirements.txt, else pyproject.toml."""
        if (folder / "requirements.txt").is_file():
            self.file(folder / "requirements.txt")
        else:
            self.dependencies(folder, ())

    def dependencies(self, folder: Path, extras: Iterable[str]) -> None:
        """Read the dependencies in the folder's pyproject.toml, and those of its extras."""
        members = read_pyproject(folder)
        project = table_of(members, "project", folder)
        if folder not in self._folders_read:
            self._folders_read.add(folder)
            self._listed(project.get("dependencies", []), folder, "pyproject.toml")
            if "dependencies" not in project:
                for text in poetry.requirements_of(members, folder):
                    self.line(text, folder, "pyproject.toml")
        optional = table_of(project, "optional-dependencies", folder)
        for extra in extras:
            self._table_entry("extra", optional, extra, folder)

    def group(self, folder: Path, name: str) -> None:
        """Read a dependency group of the folder's pyproject.toml, and those that it includes."""
        self._table_entry(
            "dependency group", table_of(read_pyproject(folder), "dependency-groups", folder), name, folder
        )

    def _table_entry(self, what: str, table: Mapping[str, Any], name: str, folder: Path) -> None:
        """Read the list of an extra or a dependency group, once."""
        by_name = {normal(each): texts for each, texts in table.items()}
        if normal(name) not in by_name:
            hint = f"It has: {', '.join(sorted(table))}." if table else "It has none."
            raise BuildError(f"{folder / 'pyproject.toml'} has no {what} {name!r}.", hint=hint)
        if (folder, what, normal(name)) not in self._entries_read:
            self._entries_read.add((folder, what, normal(name)))
            self._listed(by_name[normal(name)], folder, f"the {what} {name!r} of pyproject.toml")

    def _listed(self, texts: Any, folder: Path, where: str) -> None:
        """Read a list of requirements in pyproject.toml."""
        if not isinstance(texts, list):
            raise BuildError(f"The dependencies in {folder / 'pyproject.toml'} are not a list of strings.")
        own = normal(str(table_of(read_pyproject(folder), "project", folder).get("name", "")))
        for text in texts:
            match text:
                case {"include-group": str(name)}:
                    self.group(folder, name)
                case str() if own and name_of(text) == own:  # the project's own extras, as in all = ["own[gpu,web]"]
                    self.dependencies(folder, _extras_of(text))
                case str():
                    self.line(text.strip(), folder, where)
                case _:
                    raise _not_supported(str(text), where)

    def file(self, path: Path, *, constraint: bool = False) -> None:
        """Read a requirements file, and the files that it includes."""
        if path.resolve() in self._files_read:
            return
        self._files_read.add(path.resolve())
        if len(self._files_read) > _FILES_MAX:
            raise BuildError(f"There are more than {_FILES_MAX} requirements files.")
        if not path.is_file():
            raise BuildError(f"There is no file {path}, which the requirements include.")
        lines = re.sub(r"\\\r?\n", " ", text_of(path)).splitlines()
        if len(lines) > _LINES_MAX:
            raise BuildError(f"{path} has more than {_LINES_MAX} lines.")
        for line in lines:
            plain = re.sub(r"(^|\s)#.*", "", line).strip()
            if plain:
                self.line(_with_variables(plain), path.parent, path.name, constraint=constraint)

    def line(self, text: str, folder: Path, where: str, *, constraint: bool = False) -> None:
        """Read one line; paths in it are relative to `folder`."""
        if text.startswith("-"):
            self._option(text, folder, where)
            return
        hashes = [value.removeprefix("sha256:") for value in _HASH.findall(text) if value.startswith("sha256:")]
        plain = _HASH.sub("", text).strip()
        at = _AT.fullmatch(plain.split(";")[0].strip())
        location, _, marker = plain.partition(" ;") if "://" in plain else plain.partition(";")
        location, extras = _split_extras(at.group(3) if at else location.strip())
        if at or _is_location(location, folder):
            if constraint:
                raise _not_supported(text, where)
            self._located(location, (at and at.group(2)) or extras, marker.strip(), hashes, folder, where)
        elif not _REQUIREMENT.fullmatch(plain):
            raise _not_supported(text, where)
        elif name_of(plain) not in ("kaon", "kaon-runtime"):
            (self.result.constraints if constraint else self.result.packages).add(plain)

    def _option(self, text: str, folder: Path, where: str) -> None:
        try:
            words = shlex.split(text)
        except ValueError:
            raise _not_supported(text, where) from None
        option, separator, value = words[0].partition("=")
        if not option.startswith("--") and len(option) > 2:  # -rbase.txt
            option, separator, value = option[:2], "=", words[0][2:]
        if not separator:
            value = " ".join(words[1:])
        if option in ("-r", "--requirement", "-c", "--constraint"):
            self.file(folder / value, constraint=option in ("-c", "--constraint"))
        elif option == "--group" and value:
            self.group(self._target.project, value)
        elif option in ("-e", "--editable"):
            self.line(value, folder, where)
        elif option in _FIND_LINKS and "://" not in value:
            self._wheels_in((folder / value).resolve(), where)
        elif option in _OPTIONS | _FIND_LINKS | _BINARY and value:
            self.result.options += [(_OPTIONS | _FIND_LINKS | _BINARY)[option], value]
        elif option in _FLAGS:
            self.result.options += _FLAGS[option]
        elif option not in _IGNORED:
            raise _not_supported(text, where)

    def _wheels_in(self, folder: Path, where: str) -> None:
        if not folder.is_dir():
            raise BuildError(f"There is no folder {folder}, which {where} requires.")
        self.result.wheel_folders.append(folder)
        self.result.options += ["--find-links", str(folder)]

    def _located(self, location: str, extras: str, marker: str, hashes: list[str], folder: Path, where: str) -> None:
        """A package that is required by its path or URL."""
        location = unquote(location.removeprefix("file://")) if location.startswith("file:") else location
        url, _, fragment = location.partition("#")
        if "://" in url:
            sha256 = next(iter(hashes), fragment.removeprefix("sha256=") if fragment.startswith("sha256=") else "")
            self._url(Wheel(url, sha256, extras, marker), where)
            return
        path = (folder / location).resolve()
        if path.is_dir():
            self._folder(path, extras)
        elif path.is_file() and _WHEEL.fullmatch(path.name):
            self.result.wheels.append(Wheel(str(path), next(iter(hashes), ""), extras, marker))
        elif path.is_file():
            raise BuildError(f"{location!r} in {where} is not a wheel.", hint=_BUILD_HINT.format(what=location))
        else:
            raise BuildError(f"There is no file or folder {path}, which {where} requires.")

    def _url(self, wheel: Wheel, where: str) -> None:
        hint = _BUILD_HINT.format(what=wheel.location)
        if not wheel.location.startswith("https://") or not _WHEEL.fullmatch(wheel.file_name):
            raise BuildError(f"{wheel.location!r} in {where} is not the https URL of a wheel.", hint=hint)
        if not re.fullmatch(r"[0-9a-f]{64}", wheel.sha256):
            raise BuildError(
                f"{wheel.location!r} in {where} has no hash, so its content could change.",
                hint=f"Add --hash=sha256:... to the line. Or: {hint}",
            )
        self.result.wheels.append(wheel)

    def _folder(self, path: Path, extras: str) -> None:
        """The project's own folder counts for its dependencies; another folder becomes a wheel."""
        target = self._target
        if path not in (target.project, target.root, *target.root.parents):
            self.result.folders.append(path)
        else:
            self.dependencies(path, _extras_of(extras))


def _extras_of(text: str) -> list[str]:
    """The names in the brackets of 'own[gpu,web]'."""
    match = re.search(r"\[([^\]]*)\]", text)
    return re.findall(NAME, match.group(1)) if match else []


def _with_variables(line: str) -> str:
    """Replaces `${NAME}` as pip does, so that logins of indexes need not be in the file."""
    return re.sub(r"\$\{([A-Z0-9_]+)\}", lambda match: os.environ.get(match.group(1), match.group()), line)


def _split_extras(location: str) -> tuple[str, str]:
    """'./folder[extra]' as ('./folder', '[extra]')."""
    match = re.fullmatch(r"(.*[^\]])(\[[A-Za-z0-9._,\s-]*\])", location)
    return (match.group(1), match.group(2)) if match and _looks_like_location(match.group(1)) else (location, "")


def _looks_like_location(text: str) -> bool:
    return text in (".", "..") or text.startswith(("./", "../", "/", "file:")) or "://" in text or text.endswith(".whl")


def _is_location(text: str, folder: Path) -> bool:
    return _looks_like_location(text) or ("/" in text and (folder / text).exists())


def _not_supported(text: str, where: str) -> BuildError:
    return BuildError(
        f"{text[:200]!r} in {where} is not a requirement that can be locked.",
        hint="Use packages with versions, paths of wheels or folders, -r, -c, or options of package indexes.",
    )


def sha256_of(file: Path) -> str:
    """The hash of a file's content, 64 hex digits."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
