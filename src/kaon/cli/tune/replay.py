"""The tuner's decisions, recomputed from their records alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kaon.cli.shared.output import Format, document, put
from kaon.cli.shared.remote import opened
from kaon.cli.shared.text import plain, stamp
from kaon.errors import KaonError
from kaon.laws.tune import record
from kaon.types.journal import JournalEntry

_KEPT = 1000
"""Decisions that the platform keeps for a deployment at most."""
_BY_HAND = "change"
"""Decisions of people cannot be recomputed."""


@dataclass(frozen=True, slots=True)
class Replay:
    """The decisions by outcome."""

    same: tuple[JournalEntry, ...] = ()
    differ: tuple[JournalEntry, ...] = ()
    by_hand: tuple[JournalEntry, ...] = ()


class NotReplayed(KaonError):
    """A recomputed decision differs from the recorded one."""

    code = "not-replayed"


def print_replay(name: str, workspace: str | None, form: Format) -> None:
    """Recompute every decision. Raises `NotReplayed` that lists those that differ."""
    with opened(workspace) as remote:
        found = replay(remote.decisions(name, limit=_KEPT, concern="tuning").items)
    if form is Format.NAME:
        put("\n".join(stamp(entry.at) for entry in found.differ))
    elif form is not Format.TABLE:
        put(document(_counts(found), form))
    else:
        put(_summary(name, found))
    if found.differ:
        raise NotReplayed(
            f"{len(found.differ)} of {len(found.differ) + len(found.same)} recomputed decisions differ.",
            hint="Their records were changed, or another version of Kaon decided.",
            errors=[{"where": stamp(e.at), "message": f"{e.before} -> {e.after}: {e.reason}"} for e in found.differ],
        )


def replay(entries: Sequence[JournalEntry]) -> Replay:
    """Recompute every decision: those that are equal to the last bit, and those that differ. Pure."""
    by_hand = tuple(entry for entry in entries if entry.figures.get("kind") == _BY_HAND)
    replayed = [(entry, _is_same(entry)) for entry in entries if entry.figures.get("kind") != _BY_HAND]
    return Replay(tuple(e for e, same in replayed if same), tuple(e for e, same in replayed if not same), by_hand)


def _is_same(entry: JournalEntry) -> bool:
    """Whether the recomputed decision is equal; False for an invalid record."""
    try:
        return record.replays(entry.figures)
    except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError, RecursionError):
        return False


def _counts(found: Replay) -> dict[str, object]:
    return {
        "same": len(found.same),
        "differ": [{"at": e.at, "before": e.before, "after": e.after, "reason": e.reason} for e in found.differ],
        "by_hand": len(found.by_hand),
    }


def _summary(name: str, found: Replay) -> str:
    if not found.same and not found.differ:
        return f"The tuner of {plain(name)} has made no decision yet."
    total = len(found.same) + len(found.differ)
    text = f"{len(found.same)} of {total} recomputed decisions for {plain(name)} are the same, to the last bit."
    return f"{text} {len(found.by_hand)} changes by hand are not decisions of the tuner." if found.by_hand else text
