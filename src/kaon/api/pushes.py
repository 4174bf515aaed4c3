"""Versions that are being uploaded: their manifests, while the files come.

In memory only: a server that has started anew is sent the manifest again, and answers which files are missing.
"""

from __future__ import annotations

from collections import OrderedDict

from kaon.errors import NotFound
from kaon.types.dataset import DatasetManifest

_FILES_MAX = 2_000_000
"""Files of all manifests together, some 300 bytes each."""


class Pushes:
    """Manifests by workspace, dataset and digest; those that were not used for the longest time go first."""

    def __init__(self, files_max: int = _FILES_MAX) -> None:
        self._files_max = files_max
        self._files = 0
        self._manifests: OrderedDict[tuple[str, str, str], DatasetManifest] = OrderedDict()

    def begin(self, workspace: str, dataset: str, digest: str, manifest: DatasetManifest) -> None:
        """Expect the files of a manifest."""
        place = workspace, dataset, digest
        if place not in self._manifests:
            self._files += len(manifest.files)
        self._manifests[place] = manifest
        self._manifests.move_to_end(place)
        while self._files > self._files_max and len(self._manifests) > 1:
            _, oldest = self._manifests.popitem(last=False)
            self._files -= len(oldest.files)

    def manifest(self, workspace: str, dataset: str, digest: str) -> DatasetManifest:
        """The manifest of that digest. Raises `NotFound` when it is not expected any more."""
        place = workspace, dataset, digest
        if place not in self._manifests:
            raise NotFound("This push is not known, or no longer.", hint="Send its manifest again.")
        self._manifests.move_to_end(place)
        return self._manifests[place]

    def end(self, workspace: str, dataset: str, digest: str) -> None:
        """Forget a manifest."""
        if manifest := self._manifests.pop((workspace, dataset, digest), None):
            self._files -= len(manifest.files)
