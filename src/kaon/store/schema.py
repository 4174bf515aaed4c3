"""The tables, as they are after the newest migration.

`resources` holds one row for each name, and keeps a row for a deleted one for a while, so that watching is
one query: rows whose version is above the last one read. `counters` holds the newest version and the epoch; every
write locks these rows first, so versions become visible in the order of their numbers.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    insert,
)

HEAD = "0006"
"""The name of the newest migration. A database with it, and an empty one, need no Alembic."""

metadata = MetaData()

resources = Table(
    "resources",
    metadata,
    Column("kind", String, primary_key=True),
    Column("workspace", String, primary_key=True),
    Column("name", String, primary_key=True),
    Column("uid", String, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    Column("deleted", Boolean, nullable=False),
    Column("spec", Text, nullable=False),
    Column("status", Text, nullable=False),
    Index("resources_by_version", "version", unique=True),
)

events = Table(
    "events",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("workspace", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("name", String, nullable=False),
    Column("at", Float, nullable=False),
    Column("level", String, nullable=False),
    Column("reason", String, nullable=False),
    Column("message", Text, nullable=False),
    Column("uid", String, nullable=False, server_default=""),
    Index("events_by_workspace", "workspace", "id"),
)

traffic = Table(
    "traffic",
    metadata,
    Column("workspace", String, primary_key=True),
    Column("deployment", String, primary_key=True),
    Column("at_s", Float, primary_key=True),
    Column("revision", Integer, primary_key=True),
    Column("sample", Text, nullable=False),
    Index("traffic_by_time", "at_s"),
)

journal = Table(
    "journal",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("workspace", String, nullable=False),
    Column("deployment", String, nullable=False),
    Column("concern", String, nullable=False),
    Column("entry", Text, nullable=False),
    Index("journal_by_deployment", "workspace", "deployment", "id"),
)

audit = Table(
    "audit",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("at", Float, nullable=False),
    Column("actor_kind", String, nullable=False),
    Column("actor", String, nullable=False),
    Column("actor_uid", String, nullable=False),
    Column("request_id", String, nullable=False),
    Column("address", String, nullable=False),
    Column("verb", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("workspace", String, nullable=False),
    Column("name", String, nullable=False),
    Column("uid", String, nullable=False),
    Column("before", String, nullable=False),
    Column("after", String, nullable=False),
    Column("outcome", String, nullable=False),
    Index("audit_by_workspace", "workspace", "id"),
    Index("audit_by_uid", "uid", "id"),
    Index("audit_by_time", "at"),
)

counters = Table(
    "counters",
    metadata,
    Column("name", String, primary_key=True),
    Column("value", BigInteger, nullable=False),
)

alembic_version = Table(
    "alembic_version", MetaData(), Column("version_num", String(32), primary_key=True)
)  # Alembic's own table, made here for a new database


def create_all(connection: Connection) -> None:
    """Create the tables in an empty database; a test checks that all migrations create the same."""
    metadata.create_all(connection)
    alembic_version.create(connection)
    connection.execute(insert(counters), [{"name": name, "value": 0} for name in ("version", "epoch", "event")])
    connection.execute(insert(alembic_version).values(version_num=HEAD))
