"""A dataset: named, versioned files. A version never changes; labels move."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from kaon.types.model import Digest, Model, Name

FILES_MAX = 1_000_000
"""Limit of files in one version."""
FILE_PATH_MAX = 512

DatasetRef = Annotated[
    str,
    StringConstraints(
        pattern=r"^[a-z]([a-z0-9-]{0,38}[a-z0-9])?(@([1-9][0-9]{0,8}|[a-z]([a-z0-9-]{0,38}[a-z0-9])?))?$"
    ),
]
"""`NAME`, `NAME@7`, `NAME@prod` or `NAME@latest`; without a version: the latest."""


class DatasetFile(Model):
    """One regular file of a version."""

    path: str = Field(min_length=1, max_length=FILE_PATH_MAX, description="Relative, with slashes, NFC.")
    size_bytes: int = Field(ge=0, le=2**50)
    digest: Digest


class DatasetManifest(Model):
    """The files of a version, sorted by path, each path once."""

    files: tuple[DatasetFile, ...] = Field(default=(), max_length=FILES_MAX)


class DatasetOrigin(Model):
    """What made a version."""

    job: str = Field(default="", description="Name of the job; '': it was pushed.")
    attempt: int = Field(default=0, ge=0)
    inputs: tuple[str, ...] = Field(default=(), description="Versions that were read, like 'purchases@3'.")


class DatasetVersionRef(Model):
    """A version that a reference was resolved to."""

    dataset: Name
    number: int = Field(ge=1)
    manifest: Digest = Field(description="Digest of the manifest's canonical JSON, and name of its blob.")

    @property
    def text(self) -> str:
        """Like 'purchases@3'."""
        return f"{self.dataset}@{self.number}"
