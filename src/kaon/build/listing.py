"""Lists what would be packed of a project, without building it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from kaon.build.archive import packed_bytes
from kaon.build.collecting import LeftOut, PackedFiles, collect
from kaon.build.limits import DEFAULT_LIMITS, ArtifactLimits
from kaon.build.marks import allows_pickle
from kaon.build.sources import find_target
from kaon.types.artifact import Consent


@dataclass(frozen=True)
class Listing:
    """The files of a service as a build would pack them."""

    files: tuple[tuple[str, int], ...]
    """Path and bytes of each file that is packed."""
    left_out: tuple[LeftOut, ...]
    refused: tuple[LeftOut, ...]
    """Files for which a build fails, and how to allow them."""
    packed_bytes: int
    """Of the packed files together, compressed."""

    @property
    def unpacked_bytes(self) -> int:
        """Of the packed files together."""
        return sum(size for _, size in self.files)


def list_files(
    target: str,
    *,
    folder: Path,
    include: Sequence[str] = (),
    allow: Collection[Consent] = (),
    limits: ArtifactLimits = DEFAULT_LIMITS,
    on_progress: Callable[[str], None] = lambda _: None,
) -> Listing:
    """What `kaon.build.build.build` would pack of the sources. Raises as it does, except for what it would refuse."""
    found = find_target(target, folder)
    found = replace(found, include=(*found.include, *include))
    on_progress("collecting the sources")
    collected = collect(found, limits=limits)
    refused = _refused(collected, allow_pickles=Consent.PICKLE in allow or allows_pickle(found))
    without = {file.path for file in refused}
    packed = {path: file for path, file in collected.files.items() if path not in without}
    on_progress("compressing the sources")
    return Listing(
        files=tuple((path, file.stat().st_size) for path, file in packed.items()),
        left_out=tuple(collected.left_out),
        refused=refused,
        packed_bytes=packed_bytes(packed.values()),
    )


def _refused(collected: PackedFiles, *, allow_pickles: bool) -> tuple[LeftOut, ...]:
    secrets = {file.path: f"{file.what}; to pack it: --include {file.path}" for file in collected.secrets}
    pickles = {} if allow_pickles else dict.fromkeys(collected.pickles, "a pickle; to pack it: --allow-pickle")
    return tuple(LeftOut(path, reason) for path, reason in sorted({**pickles, **secrets}.items()))
