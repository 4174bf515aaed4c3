"""Manifests in memory: those of versions that are being uploaded, and those that were read last."""

from __future__ import annotations

from collections import OrderedDict

from kaon.types.dataset import DatasetManifest

_FILES_MAX = 1_000_000
"""Files of all manifests together, some 300 bytes each."""


class HeldManifests:
    """Manifests by workspace and digest, up to a number of files; those not used for the longest time go first."""

    def __init__(self, files_max: int = _FILES_MAX) -> None:
        self._files_max = files_max
        self._files = 0
        self._manifests: OrderedDict[tuple[str, str], DatasetManifest] = OrderedDict()

    def add(self, workspace: str, digest: str, manifest: DatasetManifest) -> None:
        """Hold a manifest; the last one is held whatever its size."""
        self.drop(workspace, digest)
        self._manifests[workspace, digest] = manifest
        self._files += len(manifest.files)
        while self._files > self._files_max and len(self._manifests) > 1:
            self.drop(*next(iter(self._manifests)))

    def find(self, workspace: str, digest: str) -> DatasetManifest | None:
        """The manifest of that digest; None when it is not held, or no longer."""
        found = self._manifests.get((workspace, digest))
        if found is not None:
            self._manifests.move_to_end((workspace, digest))
        return found

    def drop(self, workspace: str, digest: str) -> None:
        """Hold it no longer."""
        if manifest := self._manifests.pop((workspace, digest), None):
            self._files -= len(manifest.files)
