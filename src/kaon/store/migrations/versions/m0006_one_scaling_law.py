"""An event for each deployment that named the scaling law of another system: from now on Kaon's law scales it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

_RESOURCES = sa.table(
    "resources",
    *(sa.column(name) for name in ("kind", "workspace", "name", "uid", "deleted", "spec")),
)
_EVENTS = sa.table(
    "events",
    *(sa.column(name) for name in ("id", "workspace", "kind", "name", "uid", "at", "level", "reason", "message")),
)
_COUNTERS = sa.table("counters", sa.column("name"), sa.column("value"))


def upgrade() -> None:
    """Record the events; the law's name goes from a spec when it is next written, and is not read until then."""
    connection = op.get_bind()
    newest = connection.scalar(sa.select(_COUNTERS.c.value).where(_COUNTERS.c.name == "event")) or 0
    for row, law in list(_with_other_laws(connection)):
        newest += 1
        event = {"id": newest, "workspace": row.workspace, "kind": "deployment", "name": row.name, "uid": row.uid}
        message = f"The scaling law '{law}' is not available any more: Kaon's own law scales the deployment."
        event |= {"at": time.time(), "level": "warning", "reason": "ScalingLawReplaced", "message": message}
        connection.execute(sa.insert(_EVENTS).values(event))
    connection.execute(sa.update(_COUNTERS).where(_COUNTERS.c.name == "event").values(value=newest))


def _with_other_laws(connection: sa.Connection) -> Iterator[tuple[sa.Row[Any], str]]:
    rows = connection.execute(
        sa.select(_RESOURCES).where(_RESOURCES.c.kind == "deployment", sa.not_(_RESOURCES.c.deleted))
    )
    for row in rows:
        law = _law(row.spec)
        if law not in (None, "kaon"):
            yield row, str(law)


def _law(spec: str) -> object:
    try:
        return json.loads(spec)["scaling"]["law"]
    except (ValueError, TypeError, KeyError):  # it names none, or is a row that cannot be read
        return None
