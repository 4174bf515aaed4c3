"""Whether secrets exist, before anything is built or uploaded."""

from __future__ import annotations

from collections.abc import Iterable

from kaon.cli.shared.remote import Remote
from kaon.cli.shared.text import plain
from kaon.errors import Forbidden, InvalidInput, did_you_mean


def check_secrets(remote: Remote, names: Iterable[str]) -> None:
    """Raise `InvalidInput` for a secret that does not exist. With a key that may not list them the platform checks."""
    wanted = list(names)
    if not wanted:
        return
    try:
        existing = [secret.name for secret in remote.secrets()]
    except Forbidden:
        return
    missing = next((name for name in wanted if name not in existing), None)
    if missing is not None:
        raise InvalidInput(
            f"There is no secret '{plain(missing)}' in workspace '{remote.workspace}'.",
            hint=f"{did_you_mean(missing, existing)}Set it: kaon secret set {plain(missing)}",
        )
