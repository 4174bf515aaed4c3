"""What each deployment's scaling law said last, how its tuner stands, what advice there is: in memory.

The controllers write it and the API reads it, as they share the `TrafficRing`. Decisions that changed something are in
the store's journal.
"""

from __future__ import annotations

from collections.abc import Callable

from kaon.types.advice import Advice
from kaon.types.journal import JournalEntry
from kaon.types.tuning import TuningState

Key = tuple[str, str]
"""Workspace and deployment."""


class Opinions:
    """How to make the newest opinion of each deployment; made only when somebody asks."""

    def __init__(self) -> None:
        self._makers: dict[Key, Callable[[], JournalEntry]] = {}
        self._tuners: dict[Key, Callable[[], TuningState]] = {}
        self._advisers: dict[Key, Callable[[], tuple[Advice, ...] | None]] = {}

    def keep(self, workspace: str, deployment: str, make: Callable[[], JournalEntry]) -> None:
        """From now on `make` says it."""
        self._makers[workspace, deployment] = make

    def forget(self, workspace: str, deployment: str) -> None:
        """Nobody has an opinion on it any more."""
        self._makers.pop((workspace, deployment), None)

    def of(self, workspace: str, deployment: str) -> JournalEntry | None:
        """The newest opinion, if there is any."""
        make = self._makers.get((workspace, deployment))
        return make() if make else None

    def keep_tuning(self, workspace: str, deployment: str, make: Callable[[], TuningState]) -> None:
        """From now on `make` says how its tuner stands."""
        self._tuners[workspace, deployment] = make

    def tuning(self, workspace: str, deployment: str) -> TuningState | None:
        """How its tuner stands; None: no tuner has looked at it yet."""
        make = self._tuners.get((workspace, deployment))
        return make() if make else None

    def forget_tuning(self, workspace: str, deployment: str) -> None:
        """There is no such deployment any more."""
        self._tuners.pop((workspace, deployment), None)

    def keep_advice(self, workspace: str, deployment: str, make: Callable[[], tuple[Advice, ...] | None]) -> None:
        """From now on `make` says what advice stands."""
        self._advisers[workspace, deployment] = make

    def advice(self, workspace: str, deployment: str) -> tuple[Advice, ...] | None:
        """What advice stands; None: there are no figures yet."""
        make = self._advisers.get((workspace, deployment))
        return make() if make else None

    def forget_advice(self, workspace: str, deployment: str) -> None:
        """There is no such deployment any more."""
        self._advisers.pop((workspace, deployment), None)
