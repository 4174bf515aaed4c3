"""What `tune` does: the tuner's page, one word to it, and its decisions taken again."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping, Sequence

from pydantic import TypeAdapter, ValidationError

from kaon.cli import tuner_page, watching
from kaon.cli.notes import note
from kaon.cli.output import Format, document, put
from kaon.cli.remote import Remote, opened
from kaon.cli.replaying import Replay, replayed
from kaon.cli.text import pairs, plain, seconds, stamp
from kaon.errors import InvalidInput, KaonError
from kaon.types.knobs import KnobValues, figure
from kaon.types.tuning import TuningMode, TuningRequest, TuningState

_KEPT = 1000
"""Decisions that a platform keeps of a deployment at most. Each epoch has what the twin answered, some 10 kB."""
_MODES = {
    TuningMode.OFF: "The tuner of {name} is off; what is in force stays: kaon tune {name}",
    TuningMode.RECOMMEND: "The tuner of {name} recommends and changes nothing: kaon tune {name}",
    TuningMode.AUTO: "The tuner of {name} tries what its twin finds better, and keeps what proves so: kaon tune {name}",
}


_VALUES: TypeAdapter[KnobValues] = TypeAdapter(KnobValues)


class NotReplayed(KaonError):
    """A decision does not come out of its record as it was taken."""

    code = "not-replayed"


def show(name: str, watch: bool, workspace: str | None, form: Format) -> None:
    """Print how the tuner stands, or, on a terminal, draw it again and again."""
    with opened(workspace) as remote:
        if form is Format.NAME:
            put(remote.tuning(name).deployment)
        elif form is not Format.TABLE:
            put(document(remote.tuning(name).model_dump(mode="json"), form))
        elif watch and sys.stdout.isatty():
            remote.tuning(name)
            watching.live(lambda wide, down: tuner_page.picture(remote.tuning(name), time.time(), wide, down))
        else:
            state = remote.tuning(name)
            watching.print_once(tuner_page.picture(state, time.time(), watching.across()))


def say(name: str, request: TuningRequest, workspace: str | None, form: Format) -> None:
    """Say one thing to the tuner, and tell what came of it."""
    with opened(workspace) as remote:
        before, after = remote.tune(name, request)
    note(told(request, before, after))
    if form is Format.NAME:
        put(after.deployment)
    elif form is not Format.TABLE:
        put(document(after.model_dump(mode="json"), form))


def told(request: TuningRequest, before: TuningState, after: TuningState) -> str:
    """What was said and what came of it; pure."""
    name = after.deployment
    if request.mode is not None:
        now = "" if request.mode is TuningMode.OFF else f"\nNow: {after.state}: {after.reason}."
        return _MODES[request.mode].format(name=name) + now
    was = {knob.name: knob.value for knob in before.knobs}
    if request.attempt is not None:
        return (
            f"{tuner_page.moved(was, request.attempt) or 'What is in force'} is to be tried: kaon tune {name} --watch"
        )
    force = {knob.name: knob.value for knob in after.knobs}
    move = tuner_page.moved(was, force)
    if move and request.undo:
        typed = " ".join(f"--set {knob}={figure(value)}" for knob, value in was.items() if force.get(knob) != value)
        return f"In force in a few seconds: {move}. The other way again: kaon tune {name} {typed}"
    if move:
        return f"In force in a few seconds: {move}. Back again: kaon tune {name} --undo"
    return f"Nothing is tried any more for {name}." if request.undo else f"That is in force for {name} already."


def asked(
    name: str, modes: Mapping[TuningMode, bool], apply: bool, undo: bool, puts: Sequence[str], tries: Sequence[str]
) -> TuningRequest | None:
    """The one thing that is said; None: nothing is. Raises `InvalidInput`; pure."""
    said: list[TuningRequest] = [TuningRequest(mode=mode) for mode, on in modes.items() if on]
    said += [TuningRequest(apply=True)] if apply else []
    said += [TuningRequest(undo=True)] if undo else []
    said += [TuningRequest(set=values(puts, "--set", name))] if puts else []
    said += [TuningRequest(attempt=values(tries, "--try", name))] if tries else []
    if len(said) > 1:
        raise InvalidInput("That is more than one thing at a time.", hint=f"One by one; see: kaon tune {plain(name)}")
    return said[0] if said else None


def values(texts: Sequence[str], option: str, name: str) -> KnobValues:
    """'max_batch=16' texts as values of the knobs of `name`. Raises `InvalidInput`."""
    hint = f"Like {option} max_batch=16; see the knobs: kaon tune {plain(name)}"
    told = pairs(texts, option)
    if len(told) < len(texts):
        raise InvalidInput(f"{option} names a knob twice: {plain(' '.join(texts))}.", hint=hint)
    found = {}
    for knob, text in told.items():
        try:
            found[knob] = _number(knob, text)
        except (ValueError, InvalidInput):
            raise InvalidInput(f"{option} {plain(knob)}={plain(text)}: that is no number.", hint=hint) from None
    try:
        return _VALUES.validate_python(found)
    except ValidationError:
        raise InvalidInput(f"{option} {plain(' '.join(texts))}: there is no such knob.", hint=hint) from None


def _number(knob: str, text: str) -> float:
    """'16', '0.25' or, of a knob that is a time, '10ms'. Raises `ValueError`, `InvalidInput`."""
    timed = knob.endswith("_s") and text[-1:].isalpha() and text[:1].isdigit()
    found = seconds(text) if timed else float(text)
    if not math.isfinite(found):
        raise ValueError(text)
    return found


def replay(name: str, workspace: str | None, form: Format) -> None:
    """Take every decision again. Raises `NotReplayed` that names those that come out otherwise."""
    with opened(workspace) as remote:
        found = _decisions(remote, name)
    if form is Format.NAME:
        put("\n".join(stamp(entry.at) for entry in found.differ))
    elif form is not Format.TABLE:
        put(document(counted(found), form))
    else:
        put(summed(name, found))
    if found.differ:
        raise NotReplayed(
            f"{len(found.differ)} of {len(found.differ) + len(found.same)} decisions do not come out of their records.",
            hint="Their records were changed, or another version of Kaon took them.",
            errors=[{"where": stamp(e.at), "message": f"{e.before} -> {e.after}: {e.reason}"} for e in found.differ],
        )


def _decisions(remote: Remote, name: str) -> Replay:
    return replayed(remote.decisions(name, limit=_KEPT, concern="tuning").items)


def counted(found: Replay) -> dict[str, object]:
    """The same for programs."""
    return {
        "same": len(found.same),
        "differ": [{"at": e.at, "before": e.before, "after": e.after, "reason": e.reason} for e in found.differ],
        "by_hand": len(found.by_hand),
    }


def summed(name: str, found: Replay) -> str:
    """What came of it, in a line."""
    if not found.same and not found.differ:
        return f"The tuner of {plain(name)} has decided nothing yet."
    all_of = len(found.same) + len(found.differ)
    text = f"{len(found.same)} of {all_of} decisions for {plain(name)} come out the same, to the last bit."
    return f"{text} {len(found.by_hand)} changes by hand are not the tuner's." if found.by_hand else text
