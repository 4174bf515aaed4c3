"""What every type shares: frozen, unknown fields refused, finite numbers, strict names, canonical JSON and its hash."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints

Name = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$"),
]
"""A name that people choose: lower case, digits and dashes, 1 to 40 characters, begins with a letter."""

EnvName = Annotated[str, StringConstraints(pattern=r"^[A-Z_][A-Z0-9_]{0,127}$")]
"""The name of an environment variable."""

Digest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]
"""A content address."""

Address = Annotated[str, StringConstraints(pattern=r"^(unix:/.+|[^\s/:]+:\d{1,5}|\[[0-9a-f:]+\]:\d{1,5})$")]
"""Where something listens: `unix:/path` or `host:port`."""


class Model(BaseModel):
    """A value: frozen, closed to fields that it does not know, and without infinities and NaN, which JSON has not."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def canonical_json(model: BaseModel) -> bytes:
    """JSON with sorted keys and no spaces: equal values give equal bytes."""
    data = model.model_dump(mode="json")
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def content_hash(model: BaseModel) -> str:
    """sha256 of `canonical_json`, 64 hex digits."""
    return hashlib.sha256(canonical_json(model)).hexdigest()
