"""The kind event: something that happened to a resource, and who did it."""

from __future__ import annotations

from kaon.types.event import Event
from kaon.types.key import Right
from kaon.types.kind import Column, Filter, Form, Kind, Verb

KIND = Kind(
    name="event",
    plural="events",
    short=("ev",),
    summary="Something that happened to a resource; the newest 10,000 of a workspace are kept.",
    rights={Verb.LIST: Right.READ},
    answer=Event,
    columns=(
        Column("age", lambda e: e.at, Form.AGE),
        Column("level", lambda e: e.level),
        Column("about", lambda e: f"{e.kind}/{e.name}"),
        Column("reason", lambda e: e.reason),
        Column("message", lambda e: e.message),
    ),
    filters=(
        Filter("kind", lambda e: e.kind, "Only about this kind.", r"^[a-z]{1,40}$"),
        Filter("name", lambda e: e.name, "Only about the resource of this name.", r"^[a-z0-9:-]{1,80}$"),
        Filter("reason", lambda e: e.reason, "Only of this reason, like Deployed.", r"^[A-Za-z]{1,80}$"),
        Filter("level", lambda e: e.level, "Only of this level, like warning.", r"^[a-z]{1,40}$"),
    ),
    order=lambda e: (e.id,),
    label=lambda e: f"{e.kind}/{e.name}",
    stored=False,
)
