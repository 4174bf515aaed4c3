"""Traffic by the minute and the journal of decisions, as SQL."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, and_, bindparam, delete, insert, select

from kaon.store.lives import lives
from kaon.store.records import JOURNAL_KEPT, TRAFFIC_KEPT_S, belongs, readable
from kaon.store.schema import journal as journal_table
from kaon.store.schema import traffic as traffic_table
from kaon.store.upgrades import upgraded, written
from kaon.store.writer import Transaction
from kaon.types.journal import JournalEntry
from kaon.types.traffic import Sample

TRIM_EVERY = 32

_PLACE = ("workspace", "deployment", "at_s", "revision")


def keep_traffic(tx: Transaction, now: float, minutes: Sequence[Sample]) -> None:
    """Store minutes, replacing existing ones, and delete the oldest."""
    holders = lives(tx.connection, "deployment", ((m.workspace, m.deployment) for m in minutes))
    minutes = [m for m in minutes if belongs(holders.get((m.workspace, m.deployment)), "", m.at_s)]
    if not minutes:
        return
    newest = {tuple(getattr(minute, field) for field in _PLACE): minute for minute in minutes}
    same = and_(*(traffic_table.c[field] == bindparam(f"the_{field}") for field in _PLACE))
    places = [{f"the_{field}": value for field, value in zip(_PLACE, place, strict=True)} for place in newest]
    tx.connection.execute(delete(traffic_table).where(same), places)
    rows = [
        {
            **dict(zip(_PLACE, place, strict=True)),
            "sample": written("traffic", minute.model_dump_json(exclude_defaults=True)),
        }
        for place, minute in newest.items()
    ]
    tx.connection.execute(insert(traffic_table), rows)
    tx.connection.execute(delete(traffic_table).where(traffic_table.c.at_s <= now - TRAFFIC_KEPT_S))


def traffic(connection: Connection, workspace: str, deployment: str, since_s: float) -> list[Sample]:
    """A deployment's minutes that end after `since_s`, by time and revision."""
    table = traffic_table.c
    query = select(table.sample).where(
        table.workspace == workspace, table.deployment == deployment, table.at_s > since_s
    )
    texts = connection.execute(query.order_by(table.at_s, table.revision)).scalars()
    return readable(texts, _sample, "traffic")


def _sample(text: str) -> Sample:
    return Sample.model_validate_json(upgraded("traffic", text))


def _entry(text: str) -> JournalEntry:
    return JournalEntry.model_validate_json(upgraded("journal", text))


def keep_journal(tx: Transaction, entries: Sequence[JournalEntry]) -> None:
    """Store decisions, and from time to time delete a deployment's oldest of the same concern."""
    holders = lives(tx.connection, "deployment", ((e.workspace, e.deployment) for e in entries))
    entries = [e for e in entries if belongs(holders.get((e.workspace, e.deployment)), e.uid, e.at)]
    if not entries:
        return
    rows = [
        {
            "workspace": entry.workspace,
            "deployment": entry.deployment,
            "concern": entry.concern,
            "entry": written("journal", entry.model_dump_json()),
        }
        for entry in entries
    ]
    tx.connection.execute(insert(journal_table), rows)
    table = journal_table.c
    for workspace, deployment, concern in {(e.workspace, e.deployment, e.concern): 0 for e in entries}:
        own = and_(table.workspace == workspace, table.deployment == deployment, table.concern == concern)
        ids = select(table.id).where(own).order_by(table.id.desc())
        last = tx.connection.execute(ids.limit(1)).scalar_one()
        if last % TRIM_EVERY < len(entries):
            oldest = tx.connection.execute(ids.offset(JOURNAL_KEPT - 1).limit(1)).scalar()
            if oldest is not None:
                tx.connection.execute(delete(journal_table).where(own, table.id < oldest))


def journal(
    connection: Connection, workspace: str, deployment: str, concern: str | None, limit: int
) -> list[JournalEntry]:
    """A deployment's newest decisions, oldest of them first."""
    table = journal_table.c
    query = select(table.entry).where(table.workspace == workspace, table.deployment == deployment)
    if concern is not None:
        query = query.where(table.concern == concern)
    texts = connection.execute(query.order_by(table.id.desc()).limit(max(limit, 0))).scalars().all()
    return readable(reversed(texts), _entry, "journal")
