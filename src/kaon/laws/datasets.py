"""Datasets, as pure functions: valid manifests, differences of versions, references, retention.

A reference is `NAME`, `NAME@latest`, `NAME@7` or `NAME@prod`: a dataset, and a number or a label. A number never
changes its meaning; `latest` is the highest number that exists; other labels are set by people.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from kaon.errors import InvalidInput
from kaon.types.dataset import FILE_PATH_MAX, FILES_MAX, DatasetFile, DatasetManifest

LATEST = "latest"
"""The label that nobody sets: the highest number."""
KEEP = 10
"""Default number of versions that stay though nothing refers to them."""
_SEGMENT_BYTES = 255
_UNPRINTABLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_REF = re.compile(
    r"(?P<name>[a-z](?:[a-z0-9-]{0,38}[a-z0-9])?)(?:@(?P<version>[1-9]\d{0,8}|[a-z](?:[a-z0-9-]{0,38}[a-z0-9])?))?"
)


@dataclass(frozen=True, slots=True)
class VersionReference:
    """A dataset, and the version of it that is meant: a number or a label."""

    dataset: str
    version: int | str = LATEST

    @property
    def follows(self) -> bool:
        """Whether it may mean another version later."""
        return isinstance(self.version, str)

    def __str__(self) -> str:
        return f"{self.dataset}@{self.version}"


def reference(text: str) -> VersionReference:
    """The reference that `text` is. Raises `InvalidInput`."""
    found = _REF.fullmatch(text)
    if found is None:
        raise InvalidInput(
            f"'{text[:80]}' is not a reference to a dataset.",
            hint="Write NAME, NAME@latest, NAME@7 or NAME@LABEL.",
        )
    version = found["version"] or LATEST
    return VersionReference(found["name"], int(version) if version.isdecimal() else version)


def resolved(wanted: VersionReference, labels: Mapping[str, int], numbers: Collection[int]) -> int:
    """The number that a reference means, of a dataset with these labels and versions. Raises `InvalidInput`."""
    if not numbers:
        raise InvalidInput(
            f"Dataset '{wanted.dataset}' has no version.", hint=f"kaon dataset push {wanted.dataset} FOLDER"
        )
    match wanted.version:
        case "latest":
            return max(numbers)
        case int(number) if number in numbers:
            return number
        case str(label) if labels.get(label) in numbers:
            return labels[label]
        case int(number):
            raise InvalidInput(
                f"Dataset '{wanted.dataset}' has no version {number}.",
                hint=f"Its versions: kaon dataset describe {wanted.dataset}",
            )
        case label:
            known = ", ".join(sorted(labels)) or "none"
            raise InvalidInput(
                f"Dataset '{wanted.dataset}' has no label '{label}'.",
                hint=f"Its labels: {known}. Set one: kaon dataset label {wanted.dataset}@N {label}",
            )


def problem_of_path(path: str) -> str:
    """Why a path cannot be that of a file in a dataset; empty: it can."""
    if not path or len(path) > FILE_PATH_MAX:
        return f"is not between 1 and {FILE_PATH_MAX} characters long"
    if path.startswith("/") or path.endswith("/"):
        return "is not the relative path of a file"
    if path.isascii():
        if not path.isprintable():
            return "has control characters"
    elif any(unicodedata.category(character) in _UNPRINTABLE for character in path):
        return "has control characters"
    elif not unicodedata.is_normalized("NFC", path):
        return "is not in Unicode normal form NFC"
    if "\\" in path:
        return "has a backslash"
    for segment in path.split("/"):
        if segment in ("", ".", ".."):
            return f"has the part '{segment}'"
        if segment != segment.strip():
            return "has a part that begins or ends with a space"
        if len(segment.encode()) > _SEGMENT_BYTES:
            return f"has a part of more than {_SEGMENT_BYTES} bytes"
    return ""


def manifest_of(files: Iterable[DatasetFile]) -> DatasetManifest:
    """The manifest of files in any order. Raises `InvalidInput` for paths that a dataset cannot have."""
    ordered = tuple(sorted(files, key=lambda file: file.path))
    check_files(ordered)
    return DatasetManifest.model_construct(files=ordered)


def check_files(files: tuple[DatasetFile, ...]) -> None:
    """Raises `InvalidInput` unless the paths are valid, in order, each one once, and none is a folder of another."""
    if not files:
        raise InvalidInput("A version has at least one file.", hint="Is the folder empty?")
    if len(files) > FILES_MAX:
        raise InvalidInput(
            f"A version has at most {FILES_MAX:,} files, not {len(files):,}.", hint="Pack small files into larger ones."
        )
    before, folders = "", set[str]()
    for file in files:
        if problem := problem_of_path(file.path):
            raise InvalidInput(f"The path {_shown(file.path)} {problem}.", hint="Rename the file.")
        if file.path <= before:
            raise InvalidInput(
                f"The path {_shown(file.path)} is there twice, or not in order.", hint="Sort the files by path."
            )
        before = file.path
        folders.update(_folders(file.path))
    if both := next((file.path for file in files if file.path in folders), None):
        raise InvalidInput(f"The path {_shown(both)} is both a file and a folder.", hint="Rename one of them.")


def _folders(path: str) -> Iterator[str]:
    parts = path.split("/")[:-1]
    return ("/".join(parts[: end + 1]) for end in range(len(parts)))


def _shown(path: str) -> str:
    return ascii(path[:80])


def size_of(files: Iterable[DatasetFile]) -> int:
    """Bytes of all files together; equal contents count each time."""
    return sum(file.size_bytes for file in files)


@dataclass(frozen=True, slots=True)
class ManifestDiff:
    """What a version has that another one has not; `changed` has each file as it is in the newer one."""

    added: tuple[DatasetFile, ...] = ()
    removed: tuple[DatasetFile, ...] = ()
    changed: tuple[DatasetFile, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)


def difference(older: DatasetManifest, newer: DatasetManifest) -> ManifestDiff:
    """What has changed from one version to another, by path."""
    before = {file.path: file.digest for file in older.files}
    after = {file.path for file in newer.files}
    return ManifestDiff(
        added=tuple(file for file in newer.files if file.path not in before),
        removed=tuple(file for file in older.files if file.path not in after),
        changed=tuple(file for file in newer.files if before.get(file.path, file.digest) != file.digest),
    )


def expired(numbers: Collection[int], keep: int, in_use: Collection[int]) -> list[int]:
    """The versions to delete, oldest first: all but the newest `keep`, and those that something refers to.

    The newest version always stays, since `latest` means it.
    """
    newest = sorted(numbers)[-max(1, keep) :]
    return sorted(set(numbers) - set(newest) - set(in_use))


def ranges(indexes: Iterable[int]) -> list[tuple[int, int]]:
    """Rising indexes as (first, count)."""
    found: list[tuple[int, int]] = []
    for index in indexes:
        if found and sum(found[-1]) == index:
            found[-1] = (found[-1][0], found[-1][1] + 1)
        else:
            found.append((index, 1))
    return found
