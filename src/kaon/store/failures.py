"""Current failures of controllers and their counts: in memory, for conditions and metrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from kaon.errors import KaonError, Unavailable, UnreadableRow
from kaon.types.names import DeploymentKey


class Failure(NamedTuple):
    """Why a controller fails at something, as a condition."""

    condition: str
    reason: str


class Failures:
    """The failures of every controller. `changed` is called with each key whose failures changed."""

    def __init__(self) -> None:
        self.total: Counter[str] = Counter()
        """Failures of each controller since the start."""
        self.changed: Callable[[DeploymentKey], None] = lambda key: None
        self._now: dict[DeploymentKey, dict[str, Failure]] = {}

    def note(self, controller: str, key: DeploymentKey | None, error: Exception) -> None:
        """Record that a controller failed at `key`, or without a key at all its work.

        An unavailable store is counted, but is no failure of the key: nothing could be written to it, and all keys are
        reconciled when the store is back.
        """
        self.total[controller] += 1
        if key is not None and not isinstance(error, Unavailable):
            self._set(controller, key, _failure(controller, error))

    def settle(self, controller: str, key: DeploymentKey) -> None:
        """Record that a controller succeeded at `key`."""
        if key in self._now:
            self._set(controller, key, None)

    def of(self, key: DeploymentKey, *, besides: str = "") -> tuple[Failure, ...]:
        """Current failures at `key`, by controller; without those of the controller `besides`."""
        found = self._now.get(key, {})
        return tuple(found[name] for name in sorted(found) if name != besides)

    def failing(self) -> Counter[str]:
        """Number of keys at which each controller fails."""
        return Counter(name for found in self._now.values() for name in found)

    def _set(self, controller: str, key: DeploymentKey, failure: Failure | None) -> None:
        found = self._now.setdefault(key, {})
        before = found.pop(controller, None)
        if failure is not None:
            found[controller] = failure
        if not found:
            del self._now[key]
        if failure != before:
            self.changed(key)


def _failure(controller: str, error: Exception) -> Failure:
    """The text of an error that is not Kaon's own may contain input of users, so only the log has it."""
    if isinstance(error, UnreadableRow):
        return Failure("Unreadable", f"{error.cause} {error.hint}".strip())
    why = error.cause if isinstance(error, KaonError) else f"{type(error).__name__}; see server/server.log."
    return Failure("ReconcileFailed", f"{controller}: {why}")
