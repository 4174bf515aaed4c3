"""What a service needs, as its class and its project state it.

The class says it by `@kaon.service(requirements=[...])`, read from the source text: it cannot be imported before its
packages are there. The project says it by `requirements.txt`, as pip reads it, else by `[project] dependencies` of
pyproject.toml. `kaon` itself is not one: the platform brings it.

Packages by name are locked. Wheels by path or address, and wheels made of folders by path, travel with the artifact.
The project's own folder is no package: its sources are there already, and its dependencies count.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
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
_PLACES = {"-f": "--find-links", "--find-links": "--find-links"}
_BINARY = {"--no-binary": "--no-binary", "--only-binary": "--only-binary"}
_FLAGS = {"--pre": ["--prerelease", "allow"], "--no-index": ["--no-index"]}
_WITHOUT_MEANING = frozenset({"--require-hashes", "--prefer-binary", "--use-feature", "--no-cache-dir"})
_FILES_MAX, _LINES_MAX = 100, 10_000
_BUILD_HINT = "Make a wheel of it, `pip wheel --no-deps -w libs {what}`, and name that: ./libs/NAME.whl"


@dataclass(frozen=True)
class Wheel:
    """A wheel that is named by its place; it travels with the artifact."""

    place: str
    """A path, or an address of https."""
    sha256: str = ""
    """As stated; an address must have it."""
    extras: str = ""
    marker: str = ""

    @property
    def file_name(self) -> str:
        """'name-version-....whl'."""
        return unquote(urlsplit(self.place).path.rpartition("/")[2]) if "://" in self.place else Path(self.place).name

    @property
    def requirement(self) -> str:
        """'name==version'."""
        match = _WHEEL.fullmatch(self.file_name)
        assert match is not None
        return f"{normal(match.group(1))}{self.extras}=={match.group(2)}"


@dataclass
class Stated:
    """All that is needed. Texts are as they were written, but for comments and hashes."""

    packages: set[str] = field(default_factory=set)
    constraints: set[str] = field(default_factory=set)
    wheels: list[Wheel] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)
    """Of other projects; wheels are made of them."""
    options: list[str] = field(default_factory=list)
    """For uv: where packages come from."""
    places: list[Path] = field(default_factory=list)
    """Folders with wheels to choose from."""

    @property
    def nothing(self) -> bool:
        """Whether nothing is needed."""
        return not (self.packages or self.wheels or self.folders)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the packages, sorted, as they were written; wheels with their versions."""
        return tuple(sorted({*self.packages, *(wheel.requirement for wheel in self.wheels)}))


def stated_requirements(target: Target) -> Stated:
    """What the class and its project ask for, without the platform itself.

    Raises `BuildError` when something cannot be locked, with a way that can, or when the class's cannot be read.
    """
    reader = _Reader(target)
    for text in requirements_of(target):
        reader.line(text, target.project, f"the requirements of {target.cls}")
    reader.project(target.project)
    return reader.stated


def normal(name: str) -> str:
    """A package's name in its normal form."""
    return re.sub(r"[-_.]+", "-", name).lower()


def name_of(requirement: str) -> str:
    """The normal name of the package that a requirement names; empty when it names none."""
    match = re.match(NAME, requirement)
    return normal(match.group()) if match else ""


def text_of(file: Path) -> str:
    """A file's text. Raises `BuildError` when it is not UTF-8."""
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise BuildError(f"{file} is not UTF-8: {error.reason} at byte {error.start}.", hint="Save it anew.") from None


class _Reader:
    """Collects what files and lines state."""

    def __init__(self, target: Target) -> None:
        self.stated = Stated()
        self._target = target
        self._seen: set[Path] = set()

    def project(self, folder: Path) -> None:
        """What requirements.txt says, else pyproject.toml."""
        if (folder / "requirements.txt").is_file():
            self.file(folder / "requirements.txt")
        else:
            self.dependencies(folder, ())

    def dependencies(self, folder: Path, extras: Iterable[str]) -> None:
        """What pyproject.toml says that the project in `folder` depends on."""
        members = read_pyproject(folder)
        project = table_of(members, "project", folder)
        optional = table_of(project, "optional-dependencies", folder)
        lists = [project.get("dependencies", []), *(optional.get(extra, []) for extra in extras)]
        for stated in lists:
            if not isinstance(stated, list):
                raise BuildError(f"The dependencies in {folder / 'pyproject.toml'} are not a list of texts.")
            for text in stated:
                self.line(str(text).strip(), folder, "pyproject.toml")
        if "dependencies" not in project:
            for text in poetry.requirements_of(members, folder):
                self.line(text, folder, "pyproject.toml")

    def file(self, path: Path, *, constraint: bool = False) -> None:
        """A requirements file, and those that it names."""
        if path.resolve() in self._seen:
            return
        self._seen.add(path.resolve())
        if len(self._seen) > _FILES_MAX:
            raise BuildError(f"There are more than {_FILES_MAX} files of requirements.")
        if not path.is_file():
            raise BuildError(f"There is no file {path}, which the requirements name.")
        lines = re.sub(r"\\\r?\n", " ", text_of(path)).splitlines()
        if len(lines) > _LINES_MAX:
            raise BuildError(f"{path} has more than {_LINES_MAX} lines.")
        for line in lines:
            plain = re.sub(r"(^|\s)#.*", "", line).strip()
            if plain:
                self.line(_with_variables(plain), path.parent, path.name, constraint=constraint)

    def line(self, text: str, folder: Path, where: str, *, constraint: bool = False) -> None:
        """One line; paths in it are relative to `folder`."""
        if text.startswith("-"):
            self._option(text, folder, where)
            return
        hashes = [value.removeprefix("sha256:") for value in _HASH.findall(text) if value.startswith("sha256:")]
        plain = _HASH.sub("", text).strip()
        at = _AT.fullmatch(plain.split(";")[0].strip())
        place, _, marker = plain.partition(" ;") if "://" in plain else plain.partition(";")
        place, extras = _without_extras(at.group(3) if at else place.strip())
        if at or _is_place(place, folder):
            if constraint:
                raise _unknown(text, where)
            self._placed(place, (at and at.group(2)) or extras, marker.strip(), hashes, folder, where)
        elif not _REQUIREMENT.fullmatch(plain):
            raise _unknown(text, where)
        elif name_of(plain) != "kaon":
            (self.stated.constraints if constraint else self.stated.packages).add(plain)

    def _option(self, text: str, folder: Path, where: str) -> None:
        try:
            words = shlex.split(text)
        except ValueError:
            raise _unknown(text, where) from None
        option, separator, value = words[0].partition("=")
        if not option.startswith("--") and len(option) > 2:  # -rbase.txt
            option, separator, value = option[:2], "=", words[0][2:]
        if not separator:
            value = " ".join(words[1:])
        if option in ("-r", "--requirement", "-c", "--constraint"):
            self.file(folder / value, constraint=option in ("-c", "--constraint"))
        elif option in ("-e", "--editable"):
            self.line(value, folder, where)
        elif option in _PLACES and "://" not in value:
            self._wheels_in((folder / value).resolve(), where)
        elif option in _OPTIONS | _PLACES | _BINARY and value:
            self.stated.options += [(_OPTIONS | _PLACES | _BINARY)[option], value]
        elif option in _FLAGS:
            self.stated.options += _FLAGS[option]
        elif option not in _WITHOUT_MEANING:
            raise _unknown(text, where)

    def _wheels_in(self, folder: Path, where: str) -> None:
        if not folder.is_dir():
            raise BuildError(f"There is no folder {folder}, which {where} names.")
        self.stated.places.append(folder)
        self.stated.options += ["--find-links", str(folder)]

    def _placed(self, place: str, extras: str, marker: str, hashes: list[str], folder: Path, where: str) -> None:
        """A package that is named by its place."""
        place = unquote(place.removeprefix("file://")) if place.startswith("file:") else place
        address, _, fragment = place.partition("#")
        if "://" in address:
            sha256 = next(iter(hashes), fragment.removeprefix("sha256=") if fragment.startswith("sha256=") else "")
            self._address(Wheel(address, sha256, extras, marker), where)
            return
        path = (folder / place).resolve()
        if path.is_dir():
            self._folder(path, extras)
        elif path.is_file() and _WHEEL.fullmatch(path.name):
            self.stated.wheels.append(Wheel(str(path), next(iter(hashes), ""), extras, marker))
        elif path.is_file():
            raise BuildError(f"{place!r} in {where} is no wheel.", hint=_BUILD_HINT.format(what=place))
        else:
            raise BuildError(f"There is nothing at {path}, which {where} names.")

    def _address(self, wheel: Wheel, where: str) -> None:
        hint = _BUILD_HINT.format(what=wheel.place)
        if not wheel.place.startswith("https://") or not _WHEEL.fullmatch(wheel.file_name):
            raise BuildError(f"{wheel.place!r} in {where} is not the address of a wheel.", hint=hint)
        if not re.fullmatch(r"[0-9a-f]{64}", wheel.sha256):
            raise BuildError(
                f"{wheel.place!r} in {where} has no hash, so that others could change what it is.",
                hint=f"Add --hash=sha256:... to the line. Or: {hint}",
            )
        self.stated.wheels.append(wheel)

    def _folder(self, path: Path, extras: str) -> None:
        target = self._target
        if path in (target.project, target.root, *target.root.parents):
            self._seen_once(path, extras)
        else:
            self.stated.folders.append(path)

    def _seen_once(self, path: Path, extras: str) -> None:
        """The project's own folder: its sources are packed, and what it depends on counts."""
        if path / "pyproject.toml" not in self._seen:
            self._seen.add(path / "pyproject.toml")
            self.dependencies(path, re.findall(NAME, extras))


def _with_variables(line: str) -> str:
    """`${NAME}` replaced as pip does it, so that logins of indexes need not be in the file."""
    return re.sub(r"\$\{([A-Z0-9_]+)\}", lambda match: os.environ.get(match.group(1), match.group()), line)


def _without_extras(place: str) -> tuple[str, str]:
    """(place, '[extra]') of './folder[extra]'."""
    match = re.fullmatch(r"(.*[^\]])(\[[A-Za-z0-9._,\s-]*\])", place)
    return (match.group(1), match.group(2)) if match and _looks_like_place(match.group(1)) else (place, "")


def _looks_like_place(text: str) -> bool:
    return text in (".", "..") or text.startswith(("./", "../", "/", "file:")) or "://" in text or text.endswith(".whl")


def _is_place(text: str, folder: Path) -> bool:
    return _looks_like_place(text) or ("/" in text and (folder / text).exists())


def _unknown(text: str, where: str) -> BuildError:
    return BuildError(
        f"{text[:200]!r} in {where} is not a requirement that can be locked.",
        hint="Name packages with versions, wheels or folders by path, files by -r and -c, or indexes.",
    )


def sha256_of(file: Path) -> str:
    """Of a file's content, 64 hex digits."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
