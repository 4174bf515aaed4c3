"""What may go, or went, of what nothing refers to any more."""

from __future__ import annotations

from pydantic import Field

from kaon.types.model import Model


class UnusedArtifact(Model):
    """An artifact that nothing is made of."""

    workspace: str
    digest: str
    service: str = Field(description="The name of the service in it.")
    size_bytes: int
    used_at: float = Field(description="When it was brought or deployed last, epoch seconds.")


class Collected(Model):
    """What may go, or went."""

    artifacts: tuple[UnusedArtifact, ...] = ()
    blobs: int = Field(default=0, description="Files of bytes that no artifact names.")
    blob_bytes: int = 0
    keys: tuple[str, ...] = Field(default=(), description="'workspace/name' of keys that have ended long ago.")
    rows: dict[str, int] = Field(
        default_factory=dict,
        description="`events`, `decisions` and `traffic` of what is gone, or old; notes on what was `deleted`.",
    )
    more: bool = Field(default=False, description="There was more than goes at once: ask again.")

    @property
    def freed_bytes(self) -> int:
        """Of artifacts and files; equal bytes of two workspaces are kept once."""
        return self.blob_bytes + sum({a.digest: a.size_bytes for a in self.artifacts}.values())

    def __bool__(self) -> bool:
        return bool(self.artifacts or self.blobs or self.keys or any(self.rows.values()))
