"""An artifact: an immutable, content-addressed build of a service."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from kaon.types.job import JobDeclaration
from kaon.types.model import Digest, Model
from kaon.types.service import ServiceSpec

MANIFEST = "manifest.json"
"""The manifest's path in an artifact."""


PICKLES_MAX = 50


class FileEntry(Model):
    """One regular file of an artifact."""

    path: str = Field(max_length=256)
    size_bytes: int = Field(ge=0, le=2**50)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    executable: bool = False


class IgnoreFile(Model):
    """A .gitignore that was applied when an artifact was built, to explain a missing file later."""

    name: str = Field(max_length=500, description="Its path below the root of the sources, like 'data/.gitignore'.")
    folder: str = Field(default="", max_length=500, description="Its folder below the root, with a slash at the end.")
    below: str = Field(default="", max_length=500, description="The root's path below its folder, likewise.")
    lines: tuple[tuple[int, Annotated[str, StringConstraints(max_length=500)]], ...] = Field(
        default=(), max_length=200, description="Number and text of each line with a pattern."
    )

    def relative(self, path: str) -> str:
        """`path`, which is below the root, relative to the patterns' folder."""
        return self.below + path.removeprefix(self.folder)


class Consent(StrEnum):
    """Content that is refused unless the builder allows it."""

    PICKLE = "pickle"
    """Pickles: loading one runs the code in it."""
    SDIST = "sdist"
    """Packages that are built from source, which runs their code where they are installed."""


class Manifest(Model):
    """`manifest.json` of an artifact: its content and requirements."""

    format: int = 1
    kaon: str = Field(max_length=64, description="Kaon version of the build.")
    python: str = Field(pattern=r"^\d{1,3}\.\d{1,3}$", description="Python version of the build, e.g. '3.11'.")
    service: ServiceSpec = Field(description="Of an artifact of jobs only: a service without endpoints.")
    jobs: tuple[JobDeclaration, ...] = Field(default=(), max_length=256, description="Its jobs.")
    files: tuple[FileEntry, ...]
    lock: str = Field(
        default="",
        pattern=r"^([0-9a-f]{64})?$",
        description="sha256 of requirements.lock, 64 hex digits; empty: no requirements.",
    )
    allowed: tuple[Consent, ...] = Field(default=(), max_length=8, description="Consents of its builder.")
    pickles: tuple[Annotated[str, StringConstraints(max_length=256)], ...] = Field(
        default=(), max_length=PICKLES_MAX, description="The first paths of pickles in it; loading one runs its code."
    )
    ignored: tuple[IgnoreFile, ...] = Field(
        default=(), max_length=20, description="Files that explain what is missing in it."
    )


class ArtifactSpec(Model):
    """An artifact as it is stored: its digest, its size and the part of its manifest that planning needs.

    Its bytes are a blob, which starts with the whole manifest, OpenAPI document and list of files included.
    """

    digest: Digest
    size_bytes: int = Field(ge=0)
    manifest: Manifest


class ArtifactStatus(Model):
    """The use of an artifact, which itself does not change."""

    used_at: float = Field(
        default=0, description="When it was last uploaded again or deployed, epoch seconds; 0: when it was created."
    )
