"""A request to the tuner from options, and its outcome as text. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from pydantic import TypeAdapter, ValidationError

from kaon.cli.shared.text import pairs, plain, seconds
from kaon.cli.tune.page import knob_changes
from kaon.errors import InvalidInput
from kaon.types.knobs import KnobValues, figure
from kaon.types.tuning import TuningMode, TuningRequest, TuningState

_MODES = {
    TuningMode.OFF: "The tuner of {name} is off; values in force stay: kaon tune {name}",
    TuningMode.RECOMMEND: "The tuner of {name} recommends values and changes nothing: kaon tune {name}",
    TuningMode.AUTO: "The tuner of {name} tries values that its twin predicts to be better, and keeps those that are: "
    "kaon tune {name}",
}
_VALUES: TypeAdapter[KnobValues] = TypeAdapter(KnobValues)


def request_from(
    name: str, modes: Mapping[TuningMode, bool], apply: bool, undo: bool, puts: Sequence[str], tries: Sequence[str]
) -> TuningRequest | None:
    """The one request that the options make; None without options. Raises `InvalidInput`."""
    requests: list[TuningRequest] = [TuningRequest(mode=mode) for mode, on in modes.items() if on]
    requests += [TuningRequest(apply=True)] if apply else []
    requests += [TuningRequest(undo=True)] if undo else []
    requests += [TuningRequest(set=knob_values(puts, "--set", name))] if puts else []
    requests += [TuningRequest(attempt=knob_values(tries, "--try", name))] if tries else []
    if len(requests) > 1:
        raise InvalidInput("These options exclude each other.", hint=f"One by one; see: kaon tune {plain(name)}")
    return requests[0] if requests else None


def knob_values(texts: Sequence[str], option: str, name: str) -> KnobValues:
    """'max_batch=16' texts as values of the knobs of `name`. Raises `InvalidInput`."""
    hint = f"Like {option} max_batch=16; see the knobs: kaon tune {plain(name)}"
    given = pairs(texts, option)
    if len(given) < len(texts):
        raise InvalidInput(f"{option} has a knob twice: {plain(' '.join(texts))}.", hint=hint)
    found = {}
    for knob, text in given.items():
        try:
            found[knob] = _number(knob, text)
        except (ValueError, InvalidInput):
            raise InvalidInput(f"{option} {plain(knob)}={plain(text)} is not a number.", hint=hint) from None
    try:
        return _VALUES.validate_python(found)
    except ValidationError:
        raise InvalidInput(f"{option} {plain(' '.join(texts))}: no such knob.", hint=hint) from None


def outcome(request: TuningRequest, before: TuningState, after: TuningState) -> str:
    """What a request changed."""
    name = after.deployment
    if request.mode is not None:
        now = "" if request.mode is TuningMode.OFF else f"\nNow: {after.state}: {after.reason}."
        return _MODES[request.mode].format(name=name) + now
    was = {knob.name: knob.value for knob in before.knobs}
    if request.attempt is not None:
        return f"To be tried: {knob_changes(was, request.attempt) or 'the values in force'}: kaon tune {name} --watch"
    force = {knob.name: knob.value for knob in after.knobs}
    changes = knob_changes(was, force)
    if changes and request.undo:
        options = " ".join(f"--set {knob}={figure(value)}" for knob, value in was.items() if force.get(knob) != value)
        return f"In force in a few seconds: {changes}. To reverse it: kaon tune {name} {options}"
    if changes:
        return f"In force in a few seconds: {changes}. To reverse it: kaon tune {name} --undo"
    return f"No trial runs for {name} any more." if request.undo else f"These values of {name} are already in force."


def _number(knob: str, text: str) -> float:
    """'16', '0.25' or, for a knob that is a duration, '10ms'. Raises `ValueError`, `InvalidInput`."""
    timed = knob.endswith("_s") and text[-1:].isalpha() and text[:1].isdigit()
    found = seconds(text) if timed else float(text)
    if not math.isfinite(found):
        raise ValueError(text)
    return found
