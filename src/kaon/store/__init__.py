"""The platform's memory: one port, SQLite and PostgreSQL behind it, and blobs beside it.

Importing this is cheap; SQLAlchemy comes with `open_store` and a database's URL.
"""

from __future__ import annotations

from kaon.clock import Clock, SystemClock
from kaon.errors import ConfigError
from kaon.store.port import AuditRetention, Store


def open_store(url: str, clock: Clock | None = None, audit: AuditRetention | None = None) -> Store:
    """The store that `url` names; `await store.open()` comes next.

    `sqlite:///relative/path` and `sqlite:////absolute/path`, `postgresql://...`, or `memory://`, which
    forgets all when it is closed. Raises `ConfigError` for any other. `audit`: how much of the audit log is kept.
    """
    clock, audit = clock or SystemClock(), audit or AuditRetention()
    match url.partition(":")[0].partition("+")[0]:
        case "memory":
            from kaon.store.memory import MemoryStore

            return MemoryStore(clock, audit)
        case "sqlite" | "postgresql" | "postgres":
            from kaon.store.sql import SqlStore

            return SqlStore(url, clock, audit)
        case scheme:
            raise ConfigError(
                f"No store can be opened by a URL that begins with '{scheme}:'.",
                hint="Set KAON_DATABASE_URL to postgresql://USER@HOST/DATABASE, or leave it unset for SQLite.",
            )
