"""The calls of one key and of one priority that wait in a lane's queue; `kaon.runtime.call_queue` orders them."""

from __future__ import annotations

from collections import deque
from typing import Generic, Protocol, TypeVar


class Queued(Protocol):
    """A call that waits."""

    @property
    def ended(self) -> bool: ...


class QueuedPiece(Protocol):
    """A call that waits, or a part of one."""

    @property
    def call(self) -> Queued: ...

    @property
    def rows(self) -> int: ...


T = TypeVar("T", bound=QueuedPiece)


class Turn(Generic[T]):
    """The queued calls of one key."""

    __slots__ = ("calls", "items", "key", "level", "rows")

    def __init__(self, key: str, level: PriorityLevel[T]) -> None:
        self.key = key
        self.level = level
        self.items: deque[T] = deque()
        self.calls = 0
        """Calls that have not begun."""
        self.rows = 0


class PriorityLevel(Generic[T]):
    """The queued calls of one priority."""

    __slots__ = ("order", "passed", "rows", "turns")

    def __init__(self) -> None:
        self.turns: dict[str, Turn[T]] = {}
        self.order: deque[Turn[T]] = deque()
        """Keys with queued calls; the first is next."""
        self.passed = 0
        self.rows = 0

    def turn(self, key: str) -> Turn[T]:
        turn = self.turns.get(key)
        if turn is None:
            turn = self.turns[key] = Turn(key, self)
            self.order.append(turn)
        return turn

    def pop(self) -> T:
        turn = self.order[0]
        item = turn.items.popleft()
        if turn.items:
            self.order.rotate(-1)
        else:
            self.order.popleft()
            del self.turns[turn.key]
        return item

    def sweep(self) -> None:
        for turn in self.turns.values():
            turn.items = deque(item for item in turn.items if not item.call.ended)
        self.turns = {key: turn for key, turn in self.turns.items() if turn.items}
        self.order = deque(turn for turn in self.order if turn.items)
