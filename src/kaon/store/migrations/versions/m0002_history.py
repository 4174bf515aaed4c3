"""Traffic by the minute, and the journal of decisions."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Create the two tables."""
    op.create_table(
        "traffic",
        sa.Column("workspace", sa.String(), primary_key=True),
        sa.Column("deployment", sa.String(), primary_key=True),
        sa.Column("at_s", sa.Float(), primary_key=True),
        sa.Column("revision", sa.Integer(), primary_key=True),
        sa.Column("sample", sa.Text(), nullable=False),
    )
    op.create_index("traffic_by_time", "traffic", ["at_s"])
    op.create_table(
        "journal",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("workspace", sa.String(), nullable=False),
        sa.Column("deployment", sa.String(), nullable=False),
        sa.Column("concern", sa.String(), nullable=False),
        sa.Column("entry", sa.Text(), nullable=False),
    )
    op.create_index("journal_by_deployment", "journal", ["workspace", "deployment", "id"])
