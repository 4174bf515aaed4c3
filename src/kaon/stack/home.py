"""Checks that other users cannot write to the home, nor read its keys: either would give them the platform."""

from __future__ import annotations

from kaon.errors import ConfigError
from kaon.settings import Settings

SECRETS = ("admin.key", "agent.key", "secret.key", "server/kaon.db")
"""Files under the home that other users may not read."""
FOLDERS = ("", "server", "agent", "edge")
"""The home and its folders that other users may not write to."""


def refuse_loose(settings: Settings) -> None:
    """Raises `ConfigError`, with the command that corrects it, when others can write to the home or read its
    secrets."""
    for names, bits, what in ((FOLDERS, 0o022, "write to"), (SECRETS, 0o077, "read")):
        for path in (settings.home / name for name in names):
            if path.exists() and path.stat().st_mode & bits:
                change = "go-w" if bits == 0o022 else "go-rwx"
                raise ConfigError(f"Others may {what} {path}.", hint=f"Run: chmod {change} {path}")
