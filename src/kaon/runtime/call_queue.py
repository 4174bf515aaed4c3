"""The queue of a lane: by priority, and within a priority callers take turns.

It holds calls, or the parts that a large one was split into. Three rules make the order:

- High before normal before low. But a waiting priority is passed over at most `PASSED_OVER` times in a row, so that no
  admitted call starves.
- Within a priority the keys take turns, so a caller with a thousand queued calls delays another's only call by one.
- A key's own calls keep their order.

A call that ends while it waits is no longer counted; its entry is removed at its turn, or when many such entries have
gathered. All operations take constant time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable
from typing import Generic, Protocol, TypeVar

from kaon.runtime.call import Call
from kaon.runtime.turns import PriorityLevel
from kaon.types.key import Priority

PASSED_OVER = 16
_LEAST_SWEEP = 64


class Piece(Protocol):
    """A call, or a part of one."""

    @property
    def call(self) -> Call: ...

    @property
    def rows(self) -> int: ...


T = TypeVar("T", bound=Piece)


class CallQueue(Generic[T]):
    """Calls that wait, next first."""

    def __init__(self) -> None:
        self.calls = 0
        """Calls that have not begun."""
        self._levels: dict[Priority, PriorityLevel[T]] = {
            priority: PriorityLevel() for priority in Priority
        }  # highest first
        self._gone = 0

    def join(self, call: Call, items: Collection[T]) -> None:
        """Add the call, as these pieces."""
        turn = self._levels[call.grant.priority].turn(call.grant.hash)
        rows = sum(item.rows for item in items)
        turn.items.extend(items)
        turn.calls += 1
        turn.rows += rows
        turn.level.rows += rows
        self.calls += 1
        call.turn, call.queued, call.waits = turn, True, rows

    def take(self) -> T | None:
        """The next piece of a call that has not ended; None: the queue is empty. Call `began` when its call begins."""
        while (level := self._next()) is not None:
            item = level.pop()
            call = item.call
            if not call.ended:
                self._less(call, item.rows)
                return item
        return None

    def began(self, call: Call) -> None:
        """The call has begun: it no longer counts as queued."""
        if call.queued and call.turn is not None:
            call.queued = False
            call.turn.calls -= 1
            self.calls -= 1

    def leave(self, call: Call) -> None:
        """A call that joined has ended."""
        self.began(call)
        if call.waits:
            self._less(call, call.waits)
            self._gone += 1
            if self._gone > _LEAST_SWEEP + self.calls:
                self._gone = 0
                for level in self._levels.values():
                    level.sweep()
        call.turn = None

    def recut(self, cut: Callable[[T], Iterable[T]]) -> None:
        """Replace each piece by the pieces that `cut` makes of it: of the same call, with as many rows in sum."""
        for level in self._levels.values():
            for turn in level.turns.values():
                turn.items = deque(piece for item in turn.items for piece in cut(item))

    def own(self, call: Call) -> int:
        """Queued calls of the same key."""
        turn = self._levels[call.grant.priority].turns.get(call.grant.hash)
        return 0 if turn is None else turn.calls

    def ahead(self, call: Call) -> tuple[int, int]:
        """Rows that would be served before a new call's if no other came later, and those of its own priority."""
        mine = self._levels[call.grant.priority]
        turn = mine.turns.get(call.grant.hash)
        own = 0 if turn is None else turn.rows
        fair = min(mine.rows, (own + call.rows) * max(1, len(mine.turns)))
        above = 0
        for level in self._levels.values():
            if level is mine:
                break
            above += level.rows
        return min(above + fair, (fair + 1) * (PASSED_OVER + 1)), fair

    def waits(self, priority: Priority) -> bool:
        """Whether calls of that priority are queued."""
        return self._levels[priority].rows > 0

    def _less(self, call: Call, rows: int) -> None:
        assert call.turn is not None
        call.waits -= rows
        call.turn.rows -= rows
        call.turn.level.rows -= rows

    def _next(self) -> PriorityLevel[T] | None:
        """The level to serve next."""
        chosen: PriorityLevel[T] | None = None
        for level in self._levels.values():
            if level.order and (chosen is None or level.passed >= PASSED_OVER):
                chosen = level
        if chosen is not None:
            below = False
            for level in self._levels.values():
                if below and level.order:
                    level.passed += 1
                below = below or level is chosen
            chosen.passed = 0
        return chosen
