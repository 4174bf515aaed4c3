"""Pushes and reads of datasets over the platform's API."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from urllib.parse import quote

from pydantic import BaseModel

from kaon.client.platform import PlatformClient
from kaon.types.dataset import DatasetFile, DatasetManifest
from kaon.types.kinds.dataset_version import DatasetVersionView
from kaon.types.model import canonical_json


class Begun(BaseModel):
    """The answer to a manifest."""

    push: str
    missing: list[tuple[int, int]]


class Received(BaseModel):
    """How far an upload is."""

    received_bytes: int


class DatasetPush:
    """A `PushTarget`: one push to a dataset."""

    def __init__(self, platform: PlatformClient, dataset: str, uploads: str) -> None:
        """`dataset` and `uploads` are the paths of the dataset and of the workspace's uploads."""
        self._platform = platform
        self._dataset = dataset
        self._uploads = uploads
        self._push = ""

    def begin(self, manifest: DatasetManifest) -> Sequence[tuple[int, int]]:
        """See `PushTarget`."""
        data = canonical_json(manifest)
        begun = Begun.model_validate_json(self._platform.send("POST", f"{self._dataset}/pushes", data, len(data)))
        self._push = f"{self._dataset}/pushes/{quote(begun.push, safe=':')}"
        return begun.missing

    def send(self, first: int, count: int, content: Iterator[bytes], size_bytes: int) -> None:
        """See `PushTarget`."""
        self._platform.send("PUT", f"{self._push}/files", content, size_bytes, {"first": first, "count": count})

    def received(self, digest: str) -> int:
        """See `PushTarget`."""
        return self._platform.read(Received, f"{self._uploads}/{digest}").received_bytes

    def append(self, file: DatasetFile, offset: int, content: bytes) -> None:
        """See `PushTarget`."""
        query = {"size": file.size_bytes, "offset": offset}
        self._platform.send("PUT", f"{self._uploads}/{file.digest}", content, len(content), query)

    def take(self, digest: str) -> None:
        """See `PushTarget`."""
        self._platform.act("PUT", f"{self._push}/files/{digest}")

    def create(self) -> DatasetVersionView:
        """Create the version; the latest one when it has equal files."""
        body = {"push": self._push.rpartition("/")[2]}
        return self._platform.write("POST", f"{self._dataset}/versions", body, answer=DatasetVersionView)


class VersionFiles:
    """A `FileSource`: the files at a path of the API."""

    def __init__(self, platform: PlatformClient, path: str) -> None:
        self._platform = platform
        self._path = path

    def files(self, first: int, count: int, offset: int = 0) -> Iterator[bytes]:
        """See `FileSource`."""
        return self._platform.chunks(self._path, first=first, count=count, offset=offset)
