"""Finds which of many changes Envoy refuses, with few attempts. Pure: the caller tries, and reports the result.

Envoy refuses a file as a whole. Halving finds the invalid changes, and every half that it accepts is in force from then
on. Changes that were refused the last time are tried separately, so that the others wait for one attempt only.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Generic, TypeVar

Change = TypeVar("Change")


class Bisection(Generic[Change]):
    """One search among changes of which all together are refused.

    For `n` changes of which `k` are refused by themselves there are at most 2 + 2k(1 + log2 n) tries.
    """

    def __init__(self, changes: Collection[Change], suspects: Collection[Change] = ()) -> None:
        self.taken: frozenset[Change] = frozenset()
        """Changes that were accepted."""
        self.refused: dict[Change, str] = {}
        """Changes that were refused alone, and why."""
        suspected = [change for change in changes if change in suspects]
        others = [change for change in changes if change not in suspects]
        # All of them together were refused already: begin with halves.
        self._groups = [suspected, others] if suspected and others else [*_halves(others or suspected)]
        self._groups = [group for group in self._groups if group]

    @property
    def trying(self) -> frozenset[Change] | None:
        """The changes to try now: those accepted so far and some more. None: the search is over."""
        return self.taken | frozenset(self._groups[-1]) if self._groups else None

    def report(self, reason: str) -> None:
        """Report the result of the attempt: the reason of the refusal, empty when it was accepted."""
        group = self._groups.pop()
        if not reason:
            self.taken |= frozenset(group)
        elif len(group) == 1:
            self.refused[group[0]] = reason
        else:
            self._groups += _halves(group)


def _halves(group: list[Change]) -> tuple[list[Change], list[Change]]:
    """The second half and the first."""
    half = len(group) // 2
    return group[half:], group[:half]
