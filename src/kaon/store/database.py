"""Connections: how SQLite and PostgreSQL are opened, and what their errors mean."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import SQLAlchemyError

from kaon.errors import ConfigError, KaonError, Unavailable
from kaon.store.schema import HEAD, create_all

BUSY_S = 3
"""Time limit for another process's write."""

READERS = 4

REACH = {"connect_timeout": 2, "keepalives_idle": 5, "keepalives_interval": 2, "tcp_user_timeout": 5000}
"""Timeouts that detect an unavailable PostgreSQL server."""


class Database(NamedTuple):
    """One engine for the writer, whose transactions begin by taking the write lock, and one for readers."""

    writes: Engine
    reads: Engine
    place: str
    """Its place for error messages, without a password."""


def connect(url: str) -> Database:
    """Engines for `url`; nothing is opened yet. Raises `ConfigError` for an invalid URL."""
    try:
        parsed = make_url(url)
    except SQLAlchemyError:
        raise ConfigError(
            "The store's URL cannot be read.", hint="Write postgresql://USER:PASSWORD@HOST:PORT/DATABASE."
        ) from None
    return _sqlite(parsed) if parsed.get_backend_name() == "sqlite" else _postgres(parsed)


def _sqlite(url: URL) -> Database:
    if not url.database or url.database == ":memory:":
        raise ConfigError("SQLite needs a file.", hint="Write sqlite:////absolute/path/kaon.db.")
    path = Path(url.database)

    def engine(*, begin: str | None, size: int) -> Engine:
        made = create_engine(url, pool_size=size, max_overflow=0, connect_args={"timeout": BUSY_S})

        @event.listens_for(made, "connect")
        def _prepare(connection: Any, _: Any) -> None:
            connection.isolation_level = None  # the driver must not send BEGIN by itself
            connection.text_factory = _text
            for pragma in ("journal_mode=WAL", "synchronous=FULL", f"busy_timeout={BUSY_S * 1000}"):
                connection.execute(f"PRAGMA {pragma}").close()

        if begin:

            @event.listens_for(made, "begin")
            def _begin(connection: Connection) -> None:
                connection.exec_driver_sql(begin)

        return made

    # The write lock is taken at the start: a transaction that reads first and writes later could not wait for it.
    return Database(engine(begin="BEGIN IMMEDIATE", size=1), engine(begin=None, size=READERS), str(path))


def _text(stored: bytes) -> str:
    """Invalid UTF-8 becomes surrogates, which readers of JSON refuse: it fails one row, not the whole query."""
    return stored.decode("utf-8", "surrogateescape")


def _postgres(url: URL) -> Database:
    url = url.set(drivername="postgresql+psycopg")
    # A process that hangs while it has the write lock loses it, so that others can write again.
    limits = f"-c synchronous_commit=on -c lock_timeout={BUSY_S}s -c idle_in_transaction_session_timeout=10s"

    def engine(size: int, **options: Any) -> Engine:
        connect_args = {"options": limits, **REACH}
        return create_engine(
            url, pool_size=size, max_overflow=0, pool_pre_ping=True, connect_args=connect_args, **options
        )

    place = f"{url.host or url.query.get('host', 'localhost')}/{url.database or ''}"
    return Database(engine(1), engine(READERS, isolation_level="AUTOCOMMIT"), place)


def prepare(database: Database) -> None:
    """Create the file if it is missing, and bring the schema up to date.

    Raises `ConfigError` when a newer Kaon created the database, SQLAlchemy's errors when it cannot be reached.
    """
    if database.writes.dialect.name == "sqlite":
        path = Path(database.place)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
    with database.reads.connect() as connection:
        found = _schema_version(connection)
    if found == HEAD:
        return
    if found is not None and found > HEAD:
        raise ConfigError(
            f"The store at {database.place} was created by a newer Kaon (schema {found}; this version has {HEAD}).",
            hint="Start the newer version, or set KAON_DATABASE_URL to another database.",
        )
    with database.writes.begin() as connection:
        if connection.dialect.name == "postgresql":  # two processes may open a new database at once
            connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('kaon schema'))"))
        match _schema_version(connection):
            case None:
                create_all(connection)  # the result of all migrations, without Alembic's half a second
            case version if version != HEAD:
                from kaon.store.migrations.upgrade import upgrade

                upgrade(connection)


def _schema_version(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def explain(error: SQLAlchemyError | OSError, database: Database) -> KaonError:
    """The error for callers: the cause, without statements or values."""
    cause = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
    full = "disk is full" in cause or "No space left" in cause
    return Unavailable(
        f"The store at {database.place} does not answer: {cause}.",
        hint=f"Free space where {database.place} is." if full else "Try again; see: kaon doctor",
        retry_after_s=1.0,
    )
