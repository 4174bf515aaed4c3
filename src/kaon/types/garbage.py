"""Unused data: what can be deleted, or was."""

from __future__ import annotations

from pydantic import Field

from kaon.types.model import Model


class UnusedArtifact(Model):
    """An artifact that nothing uses."""

    workspace: str
    digest: str
    service: str = Field(description="Name of its service.")
    size_bytes: int
    used_at: float = Field(description="When it was last uploaded or deployed, epoch seconds.")


class Collected(Model):
    """What can be deleted, or was."""

    artifacts: tuple[UnusedArtifact, ...] = ()
    blobs: int = Field(default=0, description="Files that no artifact refers to, and interrupted uploads.")
    blob_bytes: int = 0
    keys: tuple[str, ...] = Field(default=(), description="'workspace/name' of keys that ended long ago.")
    jobs: int = Field(default=0, ge=0, description="Jobs that ended long ago.")
    rows: dict[str, int] = Field(
        default_factory=dict,
        description="Old or ownerless `events`, `decisions` and `traffic`; records of `deleted` resources.",
    )
    more: bool = Field(default=False, description="There is more than one request deletes: repeat the request.")

    @property
    def freed_bytes(self) -> int:
        """Bytes of artifacts and files; equal bytes of two workspaces are stored once."""
        return self.blob_bytes + sum({a.digest: a.size_bytes for a in self.artifacts}.values())

    def __bool__(self) -> bool:
        return bool(self.artifacts or self.blobs or self.keys or self.jobs or any(self.rows.values()))
