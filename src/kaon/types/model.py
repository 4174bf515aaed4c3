"""What every type shares: frozen, finite numbers, strict names, canonical JSON and its hash.

The reader decides how fields and choices of a newer Kaon are treated. Rows of the store, and messages between servers,
agents, replicas and clients, are read by pydantic's `model_validate`: unknown fields are ignored, and an unknown
choice of an `OpenEnum` becomes a safe one. Requests and files of people are read by `from_request`, which refuses both,
so that a misspelt field is an error instead of having no effect. One type may be read both ways.
"""

from __future__ import annotations

import hashlib
import json
from contextvars import ContextVar
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Self, TypeVar

from pydantic import BaseModel, ConfigDict, StringConstraints, TypeAdapter

Name = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$"),
]
"""A name chosen by people: lower case, digits and dashes, 1 to 40 characters, starts with a letter."""

EnvName = Annotated[str, StringConstraints(pattern=r"^[A-Z_][A-Z0-9_]{0,127}$")]
"""The name of an environment variable."""

Digest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]
"""A content address."""

Address = Annotated[str, StringConstraints(pattern=r"^(unix:/.+|[^\s/:]+:\d{1,5}|\[[0-9a-f:]+\]:\d{1,5})$")]
"""Where something listens: `unix:/path` or `host:port`."""


M = TypeVar("M", bound=BaseModel)

_reads_request: ContextVar[bool] = ContextVar("reads_request", default=False)


class Model(BaseModel):
    """A frozen value without infinities and NaN, which JSON does not have."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class OpenEnum(StrEnum):
    """Choices to which a newer Kaon may add some.

    An unknown one is read as the harmless one that its class names, `class Phase(OpenEnum, unknown="Starting")`; in a
    request it is refused.
    """

    taken_as: ClassVar[str]

    def __init_subclass__(cls, *, unknown: str) -> None:
        cls.taken_as = unknown

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        return None if _reads_request.get() or not isinstance(value, str) else cls(cls.taken_as)


def reads_request() -> bool:
    """Whether the value that is validated now comes from a request or a person's file, not from the store."""
    return _reads_request.get()


def from_request(kind: type[M] | TypeAdapter[M], value: Any, *, is_json: bool = False) -> M:
    """Returns the `value` of a request as `kind`; `is_json`: it is JSON text.

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
    return _canonical(model.model_dump(mode="json"))


def content_hash(model: BaseModel) -> str:
    """sha256 of `canonical_json`, 64 hex digits."""
    return hashlib.sha256(canonical_json(model)).hexdigest()


def hash_of_json(data: dict[str, Any]) -> str:
    """The same of JSON members."""
    return hashlib.sha256(_canonical(data)).hexdigest()


def _canonical(data: Any) -> bytes:
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
