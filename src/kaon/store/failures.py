"""What controllers fail at now, and how often each has failed: in memory, for conditions and metrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from kaon.errors import KaonError, Unavailable, UnreadableRow
from kaon.types.names import DeploymentKey


class Failure(NamedTuple):
    """Why a controller cannot do its work on something, as the condition that says so."""

    condition: str
    reason: str


class Failures:
    """The failures of every controller. `changed` is called with each key of which they are other ones now."""

    def __init__(self) -> None:
        self.total: Counter[str] = Counter()
        """How often each controller has failed since the start."""
        self.changed: Callable[[DeploymentKey], None] = lambda key: None
        self._now: dict[DeploymentKey, dict[str, Failure]] = {}

    def note(self, controller: str, key: DeploymentKey | None, error: Exception) -> None:
        """A controller failed at `key`, or, without a key, at its work on all.

        A store that is away is counted, but is no failure at that key: nothing could be written there, and all are
        looked at again when it is back.
        """
        self.total[controller] += 1
        if key is not None and not isinstance(error, Unavailable):
            self._set(controller, key, _failure(controller, error))

    def settle(self, controller: str, key: DeploymentKey) -> None:
        """A controller did its work on `key`."""
        if key in self._now:
            self._set(controller, key, None)

    def of(self, key: DeploymentKey, *, besides: str = "") -> tuple[Failure, ...]:
        """The failures at `key` now, by controller; not those of the controller `besides`."""
        found = self._now.get(key, {})
        return tuple(found[name] for name in sorted(found) if name != besides)

    def failing(self) -> Counter[str]:
        """At how many keys each controller fails now."""
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
    """An error that is not Kaon's own may hold in its text what somebody sent, so the log alone has that."""
    if isinstance(error, UnreadableRow):
        return Failure("Unreadable", f"{error.cause} {error.hint}".strip())
    why = error.cause if isinstance(error, KaonError) else f"{type(error).__name__}; server/server.log says where."
    return Failure("ReconcileFailed", f"{controller}: {why}")
