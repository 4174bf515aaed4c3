"""The schema: made at once, or by migrations, it is the same; and only what is needed is imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, create_engine, inspect, select, text

from kaon.errors import ConfigError
from kaon.store import migrations, open_store
from kaon.store.migrations.upgrade import upgrade
from kaon.store.schema import HEAD, counters, create_all, metadata


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Engine:
    if request.param == "sqlite":
        return create_engine(f"sqlite:///{tmp_path / 'kaon.db'}")
    return create_engine(request.getfixturevalue("postgres_url"))


def described(engine: Engine) -> object:
    found = inspect(engine)
    return {
        name: (
            [(column["name"], str(column["type"]), column["nullable"]) for column in found.get_columns(name)],
            sorted((index["name"], index["column_names"], index["unique"]) for index in found.get_indexes(name)),
            found.get_pk_constraint(name)["constrained_columns"],
        )
        for name in sorted(found.get_table_names())
    }


def test_migrations_come_to_the_tables_that_the_code_knows(engine: Engine) -> None:
    with engine.begin() as connection:
        upgrade(connection)
    with engine.begin() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        assert sorted(connection.execute(select(counters)).all()) == [("epoch", 0), ("event", 0), ("version", 0)]
        migrated = described(engine)
        for table in (*metadata.tables, "alembic_version"):
            connection.execute(text(f"DROP TABLE {table}"))
        create_all(connection)
    assert described(engine) == migrated
    engine.dispose()


def test_the_newest_migration_is_the_head_that_the_code_names() -> None:
    scripts = ScriptDirectory(str(Path(str(migrations.__file__)).parent))
    assert scripts.get_current_head() == HEAD


async def test_a_database_of_a_newer_kaon_is_left_alone(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'kaon.db'}"
    store = open_store(url)
    await store.open()
    await store.close()
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    store = open_store(url)
    with pytest.raises(ConfigError, match="newer Kaon"):
        await store.open()
    await store.close()


def test_a_new_database_and_a_current_one_need_no_alembic(tmp_path: Path) -> None:
    code = (
        "import asyncio, sys; from kaon.store import open_store; assert 'sqlalchemy' not in sys.modules;"
        f"store = open_store('sqlite:///{tmp_path / 'kaon.db'}'); asyncio.run(store.open());"
        "assert 'alembic' not in sys.modules"
    )
    for _ in range(2):
        subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_the_database_is_its_owners_only(tmp_path: Path) -> None:
    import asyncio

    store = open_store(f"sqlite:///{tmp_path / 'server' / 'kaon.db'}")
    asyncio.run(store.open())
    asyncio.run(store.close())
    assert (tmp_path / "server").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "server" / "kaon.db").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("url", ["mysql://localhost/x", "nonsense", "sqlite://", "sqlite:///:memory:"])
def test_a_url_of_no_store_is_refused(url: str) -> None:
    with pytest.raises(ConfigError):
        open_store(url)
