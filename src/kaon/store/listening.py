"""Notifications of commits of other processes in PostgreSQL: LISTEN, on a separate connection."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from kaon.store.database import REACH, Database
from kaon.store.writer import CHANNEL

SLOW_POLL_S = 5.0
"""After this time without a notification watchers poll: a proxy in between may pass none on."""


async def notifications(database: Database) -> AsyncGenerator[int | None]:
    """The newest version at each commit that changed something; None: poll.

    The first None is sent once it listens: earlier commits are not notified. Raises `psycopg.Error` or `OSError`
    when the connection cannot be made, or is lost.
    """
    import psycopg  # comes with kaon[postgres]

    _, arguments = database.reads.dialect.create_connect_args(database.reads.url)
    arguments = {**arguments, **REACH, "autocommit": True}
    async with await psycopg.AsyncConnection.connect(**arguments) as connection:
        await connection.execute(f"LISTEN {CHANNEL}".encode())
        while True:
            yield None
            async for notification in connection.notifies(timeout=SLOW_POLL_S):
                yield int(notification.payload) if notification.payload.isdecimal() else None
