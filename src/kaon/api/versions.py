"""If-Match: a change is made to the version that its maker has seen, or not at all."""

from __future__ import annotations

from typing import Annotated

from fastapi import Header

from kaon.api.problems import Unprocessable
from kaon.errors import Conflict
from kaon.store.port import AnyResource

IfMatch = Annotated[str | None, Header(alias="If-Match", description="The version that the change is based on.")]


def version_of(if_match: str | None) -> int | None:
    """The version that the header names. Raises `Unprocessable`."""
    if if_match is None:
        return None
    text = if_match.strip().strip('"')
    if not text.isdecimal() or len(text) > 18:
        raise Unprocessable("If-Match takes the version of a resource, a number.")
    return int(text)


def hold_to_version(wanted: int | None, current: AnyResource | None, kind: str, name: str) -> None:
    """Raises `Conflict` when a version is wanted and the resource has another, or is not there."""
    if wanted is None or (current is not None and current.version == wanted):
        return
    now = "does not exist" if current is None else f"has version {current.version}"
    raise Conflict(
        f"{kind.capitalize()} '{name}' {now}, not version {wanted}.", hint="Read it again and repeat the change."
    )
