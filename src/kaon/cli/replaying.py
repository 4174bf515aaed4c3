"""The tuner's decisions, taken again from their records. It needs the records and no trust in who kept them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kaon.laws.tune import record
from kaon.types.journal import JournalEntry

BY_HAND = "change"
"""What a person decided: there is nothing to be taken again."""


@dataclass(frozen=True, slots=True)
class Replay:
    """What came of it."""

    same: tuple[JournalEntry, ...] = ()
    differ: tuple[JournalEntry, ...] = ()
    by_hand: tuple[JournalEntry, ...] = ()


def replayed(entries: Sequence[JournalEntry]) -> Replay:
    """Every decision again: those that come out the same to the last bit, and those that do not."""
    by_hand = tuple(entry for entry in entries if entry.figures.get("kind") == BY_HAND)
    taken = [(entry, _same(entry)) for entry in entries if entry.figures.get("kind") != BY_HAND]
    return Replay(tuple(e for e, same in taken if same), tuple(e for e, same in taken if not same), by_hand)


def _same(entry: JournalEntry) -> bool:
    """Whether it comes out the same; a record that makes no sense does not."""
    try:
        return record.replays(entry.figures)
    except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError, RecursionError):
        return False
