"""Deletes artifacts, environments and logs that are no longer needed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from kaon.build import archive
from kaon.build.environments import Environments
from kaon.drivers.process.places import Places
from kaon.types.artifact import MANIFEST, Manifest


@dataclass(frozen=True, slots=True)
class KeptOnDisk:
    """What is kept though it is unused."""

    unpacked: int = 5
    """Artifacts, with their environments, so that going back a revision is quick."""
    datasets: int = 3
    """Versions of datasets."""
    volumes_s: float = 7 * 86_400.0
    """Folders of deployments that were deleted, in seconds."""
    logs_s: float = 7 * 86_400.0
    """How long the logs of a deleted replica are kept, in seconds."""


KEEP = KeptOnDisk()


def prune(places: Places, environments: Environments, used: set[str], now: float, keep: KeptOnDisk) -> None:
    """Delete artifacts that are neither in `used` (digests) nor among the last used ones, environments of no kept
    artifact, and old logs of deleted replicas."""
    kept = {places.artifact(digest) for digest in used}
    unused = [folder for folder in _folders(places.artifacts) if folder not in kept]
    for folder in sorted(unused, key=lambda f: f.stat().st_mtime, reverse=True)[keep.unpacked :]:
        archive.remove(folder)
    environments.prune({_lock(folder) for folder in _folders(places.artifacts)})
    for folder in _folders(places.home / "replicas"):
        if not (folder / "launch.json").exists() and _last_written(folder) < now - keep.logs_s:
            archive.remove(folder)


def _folders(parent: Path) -> Iterable[Path]:
    """Complete folders: names of incomplete ones begin with a dot."""
    return [p for p in parent.iterdir() if p.is_dir() and not p.name.startswith(".")] if parent.is_dir() else []


def _lock(artifact: Path) -> str:
    try:
        return Manifest.model_validate_json((artifact / MANIFEST).read_bytes()).lock
    except (OSError, ValueError):
        return ""


def _last_written(folder: Path) -> float:
    return max((file.stat().st_mtime for file in folder.iterdir()), default=folder.stat().st_mtime)
