"""Where this machine's platform is, by the environment: the same as `kaon.settings.Settings` says, read without
pydantic-settings, which kaon-runtime does not require."""

from __future__ import annotations

import os
from pathlib import Path


def home() -> Path:
    """`Settings.home`."""
    return Path(os.environ.get("KAON_HOME") or Path.home() / ".kaon")


def url() -> str:
    """`Settings.url`."""
    host = os.environ.get("KAON_HOST", "127.0.0.1")
    return f"http://{'127.0.0.1' if host in ('0.0.0.0', '::') else host}:{os.environ.get('KAON_PORT', '8080')}"  # noqa: S104


def admin_key_file() -> Path:
    """`Settings.admin_key_file`."""
    return home() / "admin.key"
