"""What has a version: a name for its content that whoever gives it out chooses, and everybody else only compares.

An agent passes the version of an access list or of knobs on to the replica, and the replica says it back. Nobody makes
it again from what was read: a newer version of Kaon may have fields that an older one does not read, and two hashes of
the same thing would never be equal.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Self

from pydantic import Field, StringConstraints

from kaon.types.model import Model

Version = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{0,64}$")]
"""An opaque text that may stand in a URL."""


class Versioned(Model):
    """A value with a version."""

    version: Version = Field(default="", description="Names the content; chosen by whoever gave it out.")

    def named(self) -> Self:
        """The same with a version; one that has none is named by its content."""
        return self if self.version else self.model_copy(update={"version": self._content_hash()})

    def body(self) -> bytes:
        """The content without its version as JSON: replicas of the release before know no such field."""
        return self.model_dump_json(exclude={"version"}).encode()

    def _content_hash(self) -> str:
        data = self.model_dump(mode="json", exclude={"version"})
        text = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()
