"""The folder in which a service keeps what must outlive its replicas."""

from __future__ import annotations

import os
from pathlib import Path


def data_dir() -> Path:
    """The deployment's own folder, made when it is missing; outside the platform `.kaon-data` where you are."""
    folder = Path(os.environ.get("KAON_DATA_DIR") or ".kaon-data").absolute()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder
