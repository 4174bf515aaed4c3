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


class DatasetSpec(Model):
    """Settings of a dataset."""

    description: str = Field(default="", max_length=500, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")
    keep: int = Field(
        default=10, ge=1, le=10_000, description="The newest versions that stay; others go when nothing refers to them."
    )


class DatasetStatus(Model):
    """The versions of a dataset."""

    last: int = Field(default=0, ge=0, description="The highest number that a version ever had.")
    removed: int = Field(default=0, ge=0, description="How many versions were deleted.")
    labels: dict[Name, int] = Field(default_factory=dict, max_length=100, description="Label -> number of its version.")


class DatasetVersionSpec(Model):
    """One version of a dataset."""

    dataset: Name
    number: int = Field(ge=1)
    manifest: Digest = Field(description="Digest of the manifest's canonical JSON, and name of its blob.")
    files: int = Field(ge=1)
    size_bytes: int = Field(ge=0, description="Of all files together.")
    origin: DatasetOrigin = DatasetOrigin()
    created_by: str = Field(default="", description="Name of the key that pushed it, or the job's name.")

    @property
    def ref(self) -> DatasetVersionRef:
        """The version as others refer to it."""
        return DatasetVersionRef(dataset=self.dataset, number=self.number, manifest=self.manifest)


class DatasetVersionStatus(Model):
    """When a version was used; the version itself does not change."""

    used_at: float = Field(default=0, description="When it was last mounted anew, epoch seconds; 0: never.")


class DatasetMount(Model):
    """A version of a dataset in a deployment's template."""

    ref: DatasetRef = Field(description="NAME, NAME@N or NAME@LABEL; a label is followed.")
    version: DatasetVersionRef | None = Field(default=None, description="What it means now, set by the platform.")


class DatasetUse(Model):
    """A version that a replica finds under a name of its own."""

    name: Name
    version: DatasetVersionRef

    @property
    def variable(self) -> str:
        """The environment variable that names its folder: that of the constructor's parameter."""
        return variable_of(self.name)


def variable_of(name: str) -> str:
    """The environment variable of a dataset of that name in a service."""
    return name.upper().replace("-", "_")
