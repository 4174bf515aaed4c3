"""A service's folder for data that outlives its replicas."""

from __future__ import annotations

import os
from pathlib import Path

DATABASE_FILE = "state.db"
"""The SQLite database of a service with state="database", in its folder."""


def data_dir() -> Path:
    """The deployment's own folder, created if missing; outside the platform `.kaon-data` in the current folder."""
    folder = Path(os.environ.get("KAON_DATA_DIR") or ".kaon-data").absolute()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder
