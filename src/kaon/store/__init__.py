"""The platform's database: one port, SQLite and PostgreSQL behind it, and blobs beside it.

Importing this is cheap; `open_store` imports SQLAlchemy for a database's URL.
"""

from __future__ import annotations

from kaon.clock import Clock, SystemClock
from kaon.errors import ConfigError
from kaon.store.port import AuditRetention, Store


def open_store(url: str, clock: Clock | None = None, audit: AuditRetention | None = None) -> Store:
    """The store at `url`; call `await store.open()` next.

    `sqlite:///relative/path` and `sqlite:////absolute/path`, `postgresql://...`, or `memory://`, which
    is not persistent. Raises `ConfigError` for any other. `audit`: retention of the audit log.
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
