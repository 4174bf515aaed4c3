"""A condition: one thing that holds or does not, with the reason."""

from __future__ import annotations

from kaon.types.model import Model


class Condition(Model):
    """One thing that holds or does not."""

    type: str
    holds: bool
    reason: str = ""
    since: float = 0
