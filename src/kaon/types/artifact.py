"""An artifact: an immutable, content-addressed build of a service."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from kaon.types.model import Digest, Model
from kaon.types.service import ServiceSpec

MANIFEST = "manifest.json"
"""The manifest's path in an artifact."""


class FileEntry(Model):
    """One regular file of an artifact."""

    path: str = Field(max_length=256)
    size_bytes: int = Field(ge=0, le=2**50)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    executable: bool = False


class IgnoreFile(Model):
    """A .gitignore that was obeyed when an artifact was built, so that a missing file can be explained later."""

    name: str = Field(max_length=500, description="Its path below the root of the sources, like 'data/.gitignore'.")
    folder: str = Field(default="", max_length=500, description="Its folder below the root, with a slash at the end.")
    below: str = Field(default="", max_length=500, description="The root's path below its folder, likewise.")
    lines: tuple[tuple[int, Annotated[str, StringConstraints(max_length=500)]], ...] = Field(
        default=(), max_length=200, description="Number and text of each line that says something."
    )

    def relative(self, path: str) -> str:
        """`path`, which is below the root, as the patterns see it."""
        return self.below + path.removeprefix(self.folder)


class Consent(StrEnum):
    """What an artifact may do that is refused unless its builder allows it."""

    PICKLE = "pickle"
    """Hold pickles: who loads one runs whatever is in it."""
    SDIST = "sdist"
    """Need packages that are built from their sources, which runs their code where they are installed."""


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
        description="sha256 of requirements.lock, 64 hex digits; empty: no requirements.",
    )
    allowed: tuple[Consent, ...] = Field(default=(), max_length=8, description="What its builder consented to.")
    ignored: tuple[IgnoreFile, ...] = Field(default=(), max_length=20, description="Why files may be missing in it.")


class ArtifactSpec(Model):
    """An artifact as the store keeps it: its address, size and what planning needs of its manifest.

    The bytes are a blob. They begin with the whole manifest: its OpenAPI document and its files are read from there.
    """

    digest: Digest
    size_bytes: int = Field(ge=0)
    manifest: Manifest


class ArtifactStatus(Model):
    """What happened to an artifact, which itself does not change."""

    used_at: float = Field(
        default=0, description="When it was brought again or deployed last, epoch seconds; 0: when it was made."
    )
