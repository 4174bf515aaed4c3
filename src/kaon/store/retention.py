"""Unused rows, as SQL: their conditions, and their deletion in batches.

Events, decisions, traffic and the rows of deleted resources belong to an owner. They are deleted when they are old or
without an owner. These are rows that the deletion of the owner did not delete, since they were written later, or stay
for a while so that people can read them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from sqlalchemy import Column, Connection, Table, and_, delete, func, or_, select, tuple_

from kaon.laws.retention import Keep
from kaon.store.records import ROWS_AT_ONCE, TOMBSTONES_KEPT_S, TRAFFIC_KEPT_S
from kaon.store.schema import events, journal, resources, traffic


class _Rows(NamedTuple):
    """Rows of a table that can be deleted."""

    table: Table
    key: tuple[Column[Any], ...]
    condition: Any


def outdated(connection: Connection, now: float, keep: Keep) -> dict[str, int]:
    """Number of rows that can be deleted, by kind of data."""
    found = {}
    for name, rows in _rows(now, keep).items():
        count = select(func.count()).select_from(rows.table).where(rows.condition)
        found[name] = int(connection.execute(count).scalar_one())
    return found


def sweep(connection: Connection, now: float, keep: Keep) -> dict[str, int]:
    """Delete such rows, at most `ROWS_AT_ONCE` of a table; returns their numbers."""
    deleted = {}
    for name, rows in _rows(now, keep).items():
        some = select(*rows.key).where(rows.condition).limit(ROWS_AT_ONCE)
        key = rows.key[0] if len(rows.key) == 1 else tuple_(*rows.key)
        deleted[name] = connection.execute(delete(rows.table).where(key.in_(some))).rowcount
    return deleted


def _rows(now: float, keep: Keep) -> dict[str, _Rows]:
    live = resources.c.deleted.is_(False)
    uids = select(resources.c.uid).where(live)
    workspaces = select(resources.c.name).where(live, resources.c.kind == "workspace")
    deployments = select(resources.c.workspace, resources.c.name).where(live, resources.c.kind == "deployment")
    of_deleted = and_(events.c.uid != "", events.c.uid.not_in(uids), events.c.at < now - keep.gone_s)
    return {
        "events": _Rows(
            events,
            (events.c.id,),
            or_(events.c.at < now - keep.events_s, of_deleted, events.c.workspace.not_in(workspaces)),
        ),
        "decisions": _Rows(
            journal, (journal.c.id,), tuple_(journal.c.workspace, journal.c.deployment).not_in(deployments)
        ),
        "traffic": _Rows(
            traffic,
            (traffic.c.workspace, traffic.c.deployment, traffic.c.at_s, traffic.c.revision),
            or_(
                traffic.c.at_s <= now - TRAFFIC_KEPT_S,
                tuple_(traffic.c.workspace, traffic.c.deployment).not_in(deployments),
            ),
        ),
        "deleted": _Rows(
            resources,
            (resources.c.kind, resources.c.workspace, resources.c.name),
            and_(resources.c.deleted.is_(True), resources.c.updated_at < now - TOMBSTONES_KEPT_S),
        ),
    }
