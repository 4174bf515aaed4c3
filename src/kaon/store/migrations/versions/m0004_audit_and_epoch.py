"""Audit records, and the epoch beside the version."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_TEXTS = ("actor_kind", "actor", "actor_uid", "request_id", "address", "verb", "kind", "workspace", "name", "uid")


def upgrade() -> None:
    """Create the table, and begin to count epochs."""
    op.create_table(
        "audit",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("at", sa.Float(), nullable=False),
        *(sa.Column(name, sa.String(), nullable=False) for name in (*_TEXTS, "before", "after", "outcome")),
    )
    op.create_index("audit_by_workspace", "audit", ["workspace", "id"])
    op.create_index("audit_by_uid", "audit", ["uid", "id"])
    op.create_index("audit_by_time", "audit", ["at"])
    counters = sa.table("counters", sa.column("name", sa.String()), sa.column("value", sa.BigInteger()))
    op.execute(counters.insert().values(name="epoch", value=0))
