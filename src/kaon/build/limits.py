"""Limits of an artifact: paths, number of files, sizes. Checked when an artifact is made and when it is read."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from kaon.errors import InvalidInput, TooLarge
from kaon.settings import Settings
from kaon.types.artifact import FileEntry

LOCK = "requirements.lock"
SOURCES = "src/"
WHEELS = "wheels/"

NAME_BYTES, PREFIX_BYTES = 100, 155  # the two fields that ustar has for a path


@dataclass(frozen=True)
class ArtifactLimits:
    """Maximum sizes in bytes and counts."""

    packed_bytes: int = 65 * 2**30
    unpacked_bytes: int = 64 * 2**30
    file_bytes: int = 64 * 2**30
    files: int = 10_000
    depth: int = 32
    manifest_bytes: int = 2 * 2**20
    manifest_values: int = 150_000
    ratio: int = 100
    """Of unpacked to packed bytes, checked above `ratio_from_bytes`: deflate reaches 1,032 on zeros only."""
    ratio_from_bytes: int = 16 * 2**20


DEFAULT_LIMITS = ArtifactLimits()


def limits_of(settings: Settings) -> ArtifactLimits:
    """The limits that the platform's settings give."""
    most = settings.largest_artifact_bytes
    return ArtifactLimits(packed_bytes=most + most // 64 + 2**20, unpacked_bytes=most, file_bytes=most)


def check_path(path: str, limits: ArtifactLimits = DEFAULT_LIMITS) -> None:
    """Raise `InvalidInput` unless `path` is a plain relative path that is valid on every system."""
    parts = path.split("/")
    if any(part in ("", ".", "..") for part in parts):
        raise InvalidInput(f"The path {path!r} is not a plain relative path.")
    if any(unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp") or c in '\\:*?"<>|' for c in path):
        raise InvalidInput(f"The path {path!r} has a character that is not allowed in an artifact.")
    if any(part[-1] in " ." or part[0] == " " for part in parts):
        raise InvalidInput(f"The path {path!r} has a part that starts or ends with a space or ends with a dot.")
    if len(parts) > limits.depth:
        raise InvalidInput(f"The path {path[:60]!r}... is more than {limits.depth} folders deep.")
    split_path(path)


def split_path(path: str) -> tuple[bytes, bytes]:
    """The fields (prefix, name) of ustar: the whole path as name when it fits, else split at the first suitable slash.

    Raises `InvalidInput` when the path is too long.
    """
    raw = path.encode()
    if len(raw) <= NAME_BYTES:
        return b"", raw
    cut = raw.find(b"/", len(raw) - NAME_BYTES - 1)
    if not 0 < cut <= PREFIX_BYTES:
        raise InvalidInput(f"The path {path[:60]!r}... is too long for an artifact.", hint="Use shorter names.")
    return raw[:cut], raw[cut + 1 :]


def check_files(files: Sequence[FileEntry], limits: ArtifactLimits = DEFAULT_LIMITS) -> None:
    """Raise `InvalidInput` or `TooLarge` unless `files` is a valid list of all files of an artifact.

    Paths are strictly ascending, so there are no duplicates; no two differ only by case or by the encoding of an
    accent, and none is a folder of another.
    """
    if len(files) > limits.files:
        raise TooLarge(f"The artifact has {len(files)} files; at most {limits.files} are allowed.")
    if sum(entry.size_bytes for entry in files) > limits.unpacked_bytes:
        raise TooLarge(f"The artifact's files have more than {limits.unpacked_bytes} bytes together.")
    before = ""
    spellings: dict[str, str] = {}
    for entry in files:
        if entry.size_bytes > limits.file_bytes:
            raise TooLarge(f"{entry.path!r} is larger than {limits.file_bytes} bytes.")
        if entry.path != LOCK and not entry.path.startswith(SOURCES) and not _is_wheel(entry.path):
            raise InvalidInput(f"The artifact holds {entry.path!r}, which is not a valid place for a file.")
        if entry.path <= before:
            raise InvalidInput(f"The artifact's files are not sorted at {entry.path!r}.")
        check_path(entry.path, limits)
        _check_spelling(entry.path, spellings)
        before = entry.path


def _is_wheel(path: str) -> bool:
    return path.startswith(WHEELS) and path.endswith(".whl") and path.count("/") == 1


def _check_spelling(path: str, spellings: dict[str, str]) -> None:
    """Record `path` and its folders, these with a trailing slash; refuse one that collides with an earlier path."""
    parts = path.split("/")
    own = [*("/".join(parts[:n]) + "/" for n in range(1, len(parts))), path]
    for spelling in own:
        folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", spelling).casefold())
        if spellings.setdefault(folded.rstrip("/"), spelling) != spelling:
            raise InvalidInput(f"{path!r} collides with {spellings[folded.rstrip('/')]!r} on some file systems.")
