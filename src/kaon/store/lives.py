"""The current or last holder of a name, and what is deleted with it: the next holder sees none of its data."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection, and_, delete, select

from kaon.store.port import AnyResource
from kaon.store.records import Life
from kaon.store.schema import events, journal, resources, traffic
from kaon.types.resource import Unreadable

KindAndName = tuple[str, str]
"""Workspace and name."""


def lives(connection: Connection, kind: str, places: Iterable[KindAndName]) -> dict[KindAndName, Life]:
    """The current or last holder of each name; names that were never used are left out."""
    found = {}
    table = resources.c
    for workspace, name in dict.fromkeys(places):
        there = and_(table.kind == kind, table.workspace == workspace, table.name == name)
        row = connection.execute(select(table.uid, table.created_at, table.deleted).where(there)).first()
        if row is not None:
            found[workspace, name] = Life(row.uid, row.created_at, row.deleted)
    return found


def take_along(connection: Connection, deleted: AnyResource | Unreadable) -> None:
    """Delete the data that is stored by the name of `deleted`.

    The events of a deployment stay, since they show who deleted it; they have its uid.
    """
    match deleted.kind:
        case "deployment":
            for table in (traffic, journal):
                own = and_(table.c.workspace == deleted.workspace, table.c.deployment == deleted.name)
                connection.execute(delete(table).where(own))
        case "workspace":
            for table in (events, traffic, journal):
                connection.execute(delete(table).where(table.c.workspace == deleted.name))
