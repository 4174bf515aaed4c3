"""Ids of events are counted, so that none is given twice, whatever was deleted."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Begin to count behind the newest event."""
    counters = sa.table("counters", sa.column("name", sa.String()), sa.column("value", sa.BigInteger()))
    events = sa.table("events", sa.column("id", sa.BigInteger()))
    newest = sa.select(sa.literal("event"), sa.func.coalesce(sa.func.max(events.c.id), 0))
    op.execute(counters.insert().from_select(["name", "value"], newest))
