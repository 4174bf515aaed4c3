"""Audit records, as SQL."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, delete, func, insert, or_, select

from kaon.store.port import AuditQuery, AuditRetention
from kaon.store.records import readable
from kaon.store.schema import audit as audit_table
from kaon.store.writer import Transaction
from kaon.types.audit import AuditRecord

TRIM_EVERY = 32


def record_audit(tx: Transaction, now: float, records: Sequence[AuditRecord], kept: AuditRetention) -> None:
    """Store records, and from time to time delete those that are too old or too many."""
    if not records:
        return
    rows = [record.model_dump(mode="json", exclude={"id"}) for record in records]
    tx.connection.execute(insert(audit_table), rows)
    table = audit_table.c
    newest = tx.connection.execute(select(func.max(table.id))).scalar_one()
    if newest % TRIM_EVERY < len(records):
        too_many = table.id <= newest - kept.records  # ids have few gaps, so this keeps close to as many
        tx.connection.execute(delete(audit_table).where(or_(too_many, table.at < now - kept.age_s)))


def audit(connection: Connection, query: AuditQuery) -> list[AuditRecord]:
    """The records that match `query`, newest first."""
    table = audit_table.c
    wanted = select(audit_table)
    for column, value in (
        (table.workspace, query.workspace),
        (table.actor, query.actor),
        (table.kind, query.kind),
        (table.name, query.name),
        (table.verb, query.verb),
        (table.uid, query.uid),
    ):
        if value is not None:
            wanted = wanted.where(column == value)
    if query.names is not None:
        wanted = wanted.where(table.name.in_(query.names))
    if query.since is not None:
        wanted = wanted.where(table.at >= query.since)
    if query.before_id is not None:
        wanted = wanted.where(table.id < query.before_id)
    rows = connection.execute(wanted.order_by(table.id.desc()).limit(max(query.limit, 0)))
    return readable(rows, lambda row: AuditRecord(**row._mapping), "audit")
