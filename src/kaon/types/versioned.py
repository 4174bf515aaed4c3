"""Values with a version: a name for the content, chosen by the sender and only compared by everybody else.

An agent passes the version of an access list or of knobs on to the replica, and the replica reports it. Readers never
compute it: a newer Kaon may have fields that an older one does not read, and their hashes would differ.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Self

from pydantic import Field, StringConstraints

from kaon.types.model import Model

Version = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{0,64}$")]
"""Opaque text that is valid in a URL."""


class Versioned(Model):
    """A value with a version."""

    version: Version = Field(default="", description="Name of the content, chosen by its sender.")

    def named(self) -> Self:
        """The same with a version, by default a hash of the content."""
        return self if self.version else self.model_copy(update={"version": self._content_hash()})

    def body(self) -> bytes:
        """The content without its version as JSON, for replicas of the previous release."""
        return self.model_dump_json(exclude={"version"}).encode()

    def _content_hash(self) -> str:
        data = self.model_dump(mode="json", exclude={"version"})
        text = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()
