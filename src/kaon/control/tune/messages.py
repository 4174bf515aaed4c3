"""Journal entries, events and past trials of a tuner. Pure."""

from __future__ import annotations

from kaon.control.tune.session import News
from kaon.laws.tune.knobs import KnobValues
from kaon.laws.tune.record import RecordFigures
from kaon.laws.tune.tuner import TunerEvent
from kaon.types.event import Event, EventLevel
from kaon.types.journal import JournalEntry
from kaon.types.knobs import figure
from kaon.types.tuning import Tried

CONCERN = "tuning"

_EVENTS = {
    TunerEvent.BEGAN.value: ("TrialBegan", "Tries {moves}: {reason}."),
    TunerEvent.PROMOTED.value: ("TrialPromoted", "{moves} proved better and is in force: {reason}."),
    TunerEvent.REJECTED.value: ("TrialRejected", "{moves} did not prove better: {reason}."),
    TunerEvent.STOPPED.value: ("TrialStopped", "The trial of {moves} has ended: {reason}."),
    TunerEvent.ROLLED_BACK.value: ("TrialRolledBack", "{moves} was rolled back: {reason}."),
    TunerEvent.WENT_BACK.value: ("TuningWentBack", "Rolled back after promotion: {moves}: {reason}."),
    "recommended": ("TuningRecommended", "Recommended: {moves}: {reason}."),
    "refused": ("TrialRefused", "{moves} is not tried: {reason}."),
    "off": ("TuningOff", "No trials for 6 hours: {reason}."),
}
"""Tuner event -> reason and message of the event; others are in the journal only."""
_ALARMING = (TunerEvent.ROLLED_BACK.value, TunerEvent.WENT_BACK.value, "off")
_OUTCOMES = {TunerEvent.STOPPED.value: "stopped"}


def spelled(values: KnobValues) -> str:
    """Values as typed by people."""
    return " ".join(f"{name}={figure(value)}" for name, value in sorted(values.items())) or "as usual"


def moves(before: KnobValues, after: KnobValues) -> str:
    """The differences of two sets of values."""
    changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    return ", ".join(f"{name} {_number(before, name)} -> {_number(after, name)}" for name in changed) or "nothing"


def entry(workspace: str, name: str, news: News, uid: str = "") -> JournalEntry | None:
    """The journal entry; None without a decision."""
    if news.figures is None:
        return None
    return JournalEntry(
        at=news.at_s,
        workspace=workspace,
        deployment=name,
        uid=uid,
        concern=CONCERN,
        before=spelled(news.before),
        after=spelled(news.after),
        reason=f"{news.what}: {news.reason}",
        figures=news.figures,
    )


def event(workspace: str, name: str, news: News, uid: str = "") -> Event | None:
    """The event for users, if there is one."""
    if news.what not in _EVENTS:
        return None
    reason, message = _EVENTS[news.what]
    return Event(
        at=news.at_s,
        workspace=workspace,
        kind="deployment",
        name=name,
        uid=uid,
        level=EventLevel.WARNING if news.what in _ALARMING else EventLevel.NORMAL,
        reason=reason,
        message=message.format(moves=moves(news.before, news.after), reason=news.reason),
    )


def tried(at_s: float, figures: RecordFigures) -> Tried | None:
    """The trial or rollback in a journal entry's figures; None when they are of something else."""
    if figures.get("kind") == "return":
        moved = {side: figures[side] for side in ("before", "after")}
        return Tried(at=at_s, **moved, outcome=TunerEvent.WENT_BACK.value, reason=figures["reason"])
    if figures.get("kind") != "trial":
        return None
    loss = figures["loss"]
    outcome = figures.get("outcome") or ("promoted" if figures["promoted"] else "rejected")
    realised = figures["realised"]
    return Tried(
        at=at_s,
        before=figures["before"],
        after=figures["after"],
        outcome=_OUTCOMES.get(outcome, outcome),
        reason=figures["reason"],
        predicted=figures["predicted"] / loss if figures["predicted"] else None,
        realised=None if realised is None else realised / loss,
    )


def _number(values: KnobValues, name: str) -> str:
    return figure(values[name], 4) if name in values else "as usual"
