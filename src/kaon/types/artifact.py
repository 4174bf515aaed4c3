"""An artifact: an immutable, content-addressed build of a service."""

from __future__ import annotations

from pydantic import Field

from kaon.types.model import Digest, Model
from kaon.types.service import ServiceSpec


class FileEntry(Model):
    """One regular file of an artifact."""

    path: str
    size_bytes: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    executable: bool = False


class Manifest(Model):
    """`manifest.json` of an artifact: what is in it and what it needs."""

    format: int = 1
    kaon: str = Field(description="Version of Kaon that built it.")
    python: str = Field(description="Python that it was read with, e.g. '3.11'.")
    service: ServiceSpec
    files: tuple[FileEntry, ...]
    lock: str = Field(
        default="", description="sha256 of requirements.lock, 64 hex digits; empty: the platform's own environment."
    )


class ArtifactSpec(Model):
    """An artifact as the store keeps it: its address, size and what planning needs of its manifest.

    The bytes are a blob. They begin with the whole manifest: its OpenAPI document and its files are read from there.
    """

    digest: Digest
    size_bytes: int = Field(ge=0)
    manifest: Manifest


class ArtifactStatus(Model):
    """Nothing of an artifact changes."""
