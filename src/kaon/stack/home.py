"""Whether the home is nobody else's: who may write there owns the platform, who may read its keys is its admin."""

from __future__ import annotations

from kaon.errors import ConfigError
from kaon.settings import Settings

SECRETS = ("admin.key", "agent.key", "secret.key", "server/kaon.db")
"""Files under the home that nobody else may read."""
FOLDERS = ("", "server", "agent", "edge")
"""Folders, the home among them, that nobody else may write to."""


def refuse_loose(settings: Settings) -> None:
    """Raises `ConfigError`, with the command that helps, when others may write to the home or read its secrets."""
    for names, bits, what in ((FOLDERS, 0o022, "write to"), (SECRETS, 0o077, "read")):
        for path in (settings.home / name for name in names):
            if path.exists() and path.stat().st_mode & bits:
                change = "go-w" if bits == 0o022 else "go-rwx"
                raise ConfigError(f"Others may {what} {path}.", hint=f"Run: chmod {change} {path}")
