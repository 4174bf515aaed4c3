"""An artifact: an immutable, content-addressed build of a service."""

from __future__ import annotations

from pydantic import Field

from kaon.types.model import Digest, Model
from kaon.types.service import ServiceSpec


class FileEntry(Model):
    """One regular file of an artifact."""

    path: str = Field(max_length=256)
    size_bytes: int = Field(ge=0, le=2**50)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    executable: bool = False


class Manifest(Model):
    """`manifest.json` of an artifact: what is in it and what it needs."""

    format: int = 1
    kaon: str = Field(max_length=64, description="Version of Kaon that built it.")
    python: str = Field(pattern=r"^\d{1,3}\.\d{1,3}$", description="Python that it was read with, e.g. '3.11'.")
    service: ServiceSpec
    files: tuple[FileEntry, ...]
    lock: str = Field(
        default="",
        pattern=r"^([0-9a-f]{64})?$",
        description="sha256 of requirements.lock, 64 hex digits; empty: the platform's own environment.",
    )


class ArtifactSpec(Model):
    """An artifact as the store keeps it: its address, size and manifest. The bytes are a blob."""

    digest: Digest
    size_bytes: int = Field(ge=0)
    manifest: Manifest


class ArtifactStatus(Model):
    """Nothing of an artifact changes."""
