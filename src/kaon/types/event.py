"""An event: something that happened to a resource, for people to read."""

from __future__ import annotations

from pydantic import Field

from kaon.types.model import Model, OpenEnum


class EventLevel(OpenEnum, unknown="warning"):
    """Whether it needs attention."""

    NORMAL = "normal"
    WARNING = "warning"


class Event(Model):
    """Something that happened."""

    id: int = Field(default=0, ge=0, description="Grows with every event and is never reused; 0: not stored yet.")
    at: float = Field(description="Epoch seconds.")
    workspace: str
    kind: str = Field(description="Kind of the resource.")
    name: str
    uid: str = Field(default="", description="The resource's uid: a reused name has another. Empty: unknown.")
    level: EventLevel = EventLevel.NORMAL
    reason: str = Field(description="One word in CamelCase, for programs.")
    message: str = ""
