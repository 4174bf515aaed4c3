"""The line of calls that wait at a lane: by priority, and in each priority callers take turns.

What goes in are calls, or the parts that a large one was cut into. Three rules make the order:

- High before normal before low. But a priority that waits is passed over at most `PASSED_OVER` times in a row, so that
  nothing that was let in starves.
- Within a priority the keys take turns, so a caller with a thousand calls in the line delays another's only one by
  that of one call.
- A key's own calls keep their order.

A call that ends while it waits is no longer counted at once, and its place is given up when its turn comes, or when
many such places have gathered. Everything costs the same however long the line is.
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
        """Let the call wait, as these pieces."""
        turn = self._levels[call.grant.priority].turn(call.grant.hash)
        rows = sum(item.rows for item in items)
        turn.items.extend(items)
        turn.calls += 1
        turn.rows += rows
        turn.level.rows += rows
        self.calls += 1
        call.place, call.queued, call.waits = turn, True, rows

    def take(self) -> T | None:
        """The next piece of a call that has not ended; None: nobody waits. Say `began` when its call does."""
        while (level := self._next()) is not None:
            item = level.pop()
            call = item.call
            if not call.ended:
                self._less(call, item.rows)
                return item
        return None

    def began(self, call: Call) -> None:
        """The call is at work: it counts as waiting no more."""
        if call.queued and call.place is not None:
            call.queued = False
            call.place.calls -= 1
            self.calls -= 1

    def leave(self, call: Call) -> None:
        """A call that had joined has ended."""
        self.began(call)
        if call.waits:
            self._less(call, call.waits)
            self._gone += 1
            if self._gone > _LEAST_SWEEP + self.calls:
                self._gone = 0
                for level in self._levels.values():
                    level.sweep()
        call.place = None

    def recut(self, cut: Callable[[T], Iterable[T]]) -> None:
        """Let each piece stand as the pieces that `cut` makes of it, of the same call and with as many rows in sum."""
        for level in self._levels.values():
            for turn in level.turns.values():
                turn.items = deque(piece for item in turn.items for piece in cut(item))

    def own(self, call: Call) -> int:
        """Calls of the same key that wait."""
        turn = self._levels[call.grant.priority].turns.get(call.grant.hash)
        return 0 if turn is None else turn.calls

    def ahead(self, call: Call) -> tuple[int, int]:
        """Rows that would be served before a newcomer's if nobody came after it, and those of its own priority."""
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
        """Whether anybody of that priority does."""
        return self._levels[priority].rows > 0

    def _less(self, call: Call, rows: int) -> None:
        assert call.place is not None
        call.waits -= rows
        call.place.rows -= rows
        call.place.level.rows -= rows

    def _next(self) -> PriorityLevel[T] | None:
        """The level whose turn it is."""
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
