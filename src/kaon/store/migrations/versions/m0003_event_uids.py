"""The uid of what an event is about."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the column; of what is there it is not known."""
    op.add_column("events", sa.Column("uid", sa.String(), nullable=False, server_default=""))
