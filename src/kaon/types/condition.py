"""A condition of a resource: a statement that holds or does not, with the reason."""

from __future__ import annotations

from kaon.types.model import Model

FAILURES = frozenset({"Unreadable", "ReconcileFailed"})
"""Conditions of failed controllers."""
ALARMS = FAILURES | {"OwnerGone"}
"""Conditions that are bad when they hold. All others are bad when they do not."""


class Condition(Model):
    """A statement about a resource that holds or does not."""

    type: str
    holds: bool
    reason: str = ""
    since: float = 0

    @property
    def bad(self) -> bool:
        """Whether it needs attention."""
        return self.holds is (self.type in ALARMS)
