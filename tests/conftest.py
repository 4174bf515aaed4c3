"""What every test may use."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import HealthCheck, settings
from structlog.dev import ConsoleRenderer, plain_traceback
from tests.postgres import postgres_server

# `nohup` and shells that start something in the background let it ignore Ctrl-C, and so would all that tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The default draws the local variables of every frame of a traceback: seconds for a test that lets many things fail.
structlog.configure(
    processors=[
        *structlog.get_config()["processors"][:-1],
        ConsoleRenderer(colors=False, exception_formatter=plain_traceback),
    ]
)


@pytest.fixture(autouse=True)
def _log_settings_of_one_test() -> Iterator[None]:
    """What a test sets of the logs ends with it."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)


settings.register_profile(
    "kaon", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)
settings.load_profile("kaon")

LONGEST_FIRST = (
    "e2e/test_tuning_faults.py",
    "e2e/test_faults.py",
    "contract/test_store.py",
    "integration/api/test_api_security.py",
    "e2e/test_stack.py",
    "properties/test_platform.py",
    "docs/test_console_blocks.py",
    "properties/test_store_and_control.py",
    "e2e/test_canary.py",
    "integration/edge/test_edge_holding.py",
    "e2e/test_overload.py",
    "integration/test_driver_faults.py",
    "e2e/test_zero.py",
    "properties/test_watches.py",
    "e2e/test_scaling.py",
    "unit/cli/test_commands.py",
)
"""Files that take longest, begun first: one begun last would leave all but one process idle. Files that wait and files
that compute by turns, since they run beside each other."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    rank = {Path(__file__).parent / name: number for number, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: rank.get(item.path, len(rank)))


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    """A loopback TCP port that nothing listens on, another one at each call."""

    def pick() -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return int(probe.getsockname()[1])

    return pick


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """URL of a PostgreSQL of this test process; give each test a database of its own by `postgres_url`."""
    with postgres_server() as server:
        yield server.get_uri()


@pytest.fixture
def postgres_url(postgres: str) -> str:
    """URL of a new, empty PostgreSQL database."""
    import secrets

    import psycopg

    name = f"test_{secrets.token_hex(6)}"
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    return postgres.replace("/postgres?", f"/{name}?")
