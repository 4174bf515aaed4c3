"""The last scaling decision, the tuner's state and the advice of each deployment: in memory.

The controllers write it and the API reads it, as with the `TrafficRing`. Decisions that changed something are in the
store's journal. Each status belongs to one deployment by its uid: a later one of the same name does not get it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from kaon.store.failures import Failures
from kaon.types.advice import Advice
from kaon.types.journal import JournalEntry
from kaon.types.names import DeploymentKey
from kaon.types.tuning import TuningState

T = TypeVar("T")


class _Kept(Generic[T]):
    """Functions that compute the status of each deployment on request. An empty uid matches any."""

    def __init__(self) -> None:
        self._makers: dict[DeploymentKey, tuple[str, Callable[[], T]]] = {}

    def keep(self, key: DeploymentKey, uid: str, make: Callable[[], T]) -> None:
        self._makers[key] = uid, make

    def forget(self, key: DeploymentKey) -> None:
        self._makers.pop(key, None)

    def of(self, key: DeploymentKey, uid: str) -> T | None:
        of, make = self._makers.get(key, ("", None))
        return make() if make and (of == uid or not of or not uid) else None


class LiveStatus:
    """The current status of each deployment."""

    def __init__(self) -> None:
        self.failures = Failures()
        """Failures of the controllers."""
        self._scaling: _Kept[JournalEntry] = _Kept()
        self._tuning: _Kept[TuningState] = _Kept()
        self._advice: _Kept[tuple[Advice, ...] | None] = _Kept()

    def keep(self, workspace: str, deployment: str, make: Callable[[], JournalEntry], uid: str = "") -> None:
        """Set the function that computes the last scaling decision."""
        self._scaling.keep((workspace, deployment), uid, make)

    def forget(self, workspace: str, deployment: str) -> None:
        """Remove the scaling decision of a deployment."""
        self._scaling.forget((workspace, deployment))

    def of(self, workspace: str, deployment: str, uid: str = "") -> JournalEntry | None:
        """The last scaling decision, if there is one."""
        return self._scaling.of((workspace, deployment), uid)

    def keep_tuning(self, workspace: str, deployment: str, make: Callable[[], TuningState], uid: str = "") -> None:
        """From now on `make` gives the state of its tuner."""
        self._tuning.keep((workspace, deployment), uid, make)

    def tuning(self, workspace: str, deployment: str, uid: str = "") -> TuningState | None:
        """The state of its tuner; None: the tuner has not run yet."""
        return self._tuning.of((workspace, deployment), uid)

    def forget_tuning(self, workspace: str, deployment: str) -> None:
        """Remove the advice of a deployment."""
        self._tuning.forget((workspace, deployment))

    def keep_advice(
        self, workspace: str, deployment: str, make: Callable[[], tuple[Advice, ...] | None], uid: str = ""
    ) -> None:
        """Set the function that computes the active advice."""
        self._advice.keep((workspace, deployment), uid, make)

    def advice(self, workspace: str, deployment: str, uid: str = "") -> tuple[Advice, ...] | None:
        """The active advice; None: there are no figures yet."""
        return self._advice.of((workspace, deployment), uid)

    def forget_advice(self, workspace: str, deployment: str) -> None:
        """Remove the advice of a deployment."""
        self._advice.forget((workspace, deployment))
