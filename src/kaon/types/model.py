"""What every type shares: frozen, finite numbers, strict names, canonical JSON and its hash.

Who reads decides what becomes of what a newer Kaon has more of. Rows of the store, and what servers, agents, replicas
and clients say to each other, are read by pydantic's own `model_validate`: unknown fields are left out, and an unknown
choice of an `OpenEnum` is a safe one. What people send or write is read by `from_request`, which refuses both, so
that a misspelt field is told instead of being without effect. One type may come both ways.
"""

from __future__ import annotations

import hashlib
import json
from contextvars import ContextVar
from enum import StrEnum
from typing import Annotated, Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, StringConstraints, TypeAdapter

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


M = TypeVar("M", bound=BaseModel)

_reads_request: ContextVar[bool] = ContextVar("reads_request", default=False)


class Model(BaseModel):
    """A value: frozen, and without infinities and NaN, which JSON has not."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class OpenEnum(StrEnum):
    """A choice that a newer Kaon may know more of. An unknown one is read as `unknown()`; a request's is refused."""

    @classmethod
    def unknown(cls) -> Self:
        """What to take an unknown choice for: what does the least harm."""
        raise NotImplementedError

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        return None if _reads_request.get() or not isinstance(value, str) else cls.unknown()


def reads_request() -> bool:
    """Whether the value that is validated now comes from a request or a person's file, not from the store."""
    return _reads_request.get()


def from_request(kind: type[M] | TypeAdapter[M], value: Any, *, is_json: bool = False) -> M:
    """`value` as `kind`, of what somebody sent or wrote; `is_json`: it is the text of it.

    Unknown fields and choices are refused, at every depth. Raises pydantic's `ValidationError`.
    """
    token = _reads_request.set(True)
    try:
        adapter = kind if isinstance(kind, TypeAdapter) else TypeAdapter(kind)
        read = adapter.validate_json if is_json else adapter.validate_python
        return read(value, extra="forbid")
    finally:
        _reads_request.reset(token)


def canonical_json(model: BaseModel) -> bytes:
    """JSON with sorted keys and no spaces: equal values give equal bytes."""
    data = model.model_dump(mode="json")
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def content_hash(model: BaseModel) -> str:
    """sha256 of `canonical_json`, 64 hex digits."""
    return hashlib.sha256(canonical_json(model)).hexdigest()
