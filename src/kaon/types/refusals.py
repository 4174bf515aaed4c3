"""Requests that a deployment's replicas refuse, since each was in flight at more than one crash."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from kaon.types.flight import ID_LENGTH
from kaon.types.versioned import Versioned

MOST = 1000


class Refusals(Versioned):
    """Request ids that are refused now."""

    request_ids: tuple[Annotated[str, StringConstraints(min_length=1, max_length=ID_LENGTH)], ...] = Field(
        default=(), max_length=MOST, description=f"Their first {ID_LENGTH} characters."
    )
