"""Who did what: every write of a caller becomes an event that names its key."""

from __future__ import annotations

from kaon.api.keyring import Caller
from kaon.api.parts import Parts
from kaon.types.event import Event


async def note(
    parts: Parts, caller: Caller, *, workspace: str, kind: str, name: str, reason: str, message: str, uid: str = ""
) -> None:
    """Record that `caller` did something."""
    event = Event(
        at=parts.clock.now(),
        workspace=workspace,
        kind=kind,
        name=name,
        uid=uid,
        reason=reason,
        message=f"{message} By key '{caller.name}'.",
    )
    await parts.store.record([event])
