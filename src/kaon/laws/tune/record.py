"""Every decision as data, from which it can be repeated exactly without the twin or the traffic.

The record of an epoch has the twin's plays: a replay runs the same search and the same gate on them. The record of a
trial has its windows; that of a trial that the guard ended has the guard's inputs. JSON keeps every bit of a float.

An epoch is 5 to 15 kB: the calls of a block are the same in all plays and are kept once; losses are rounded where they
are computed (`kaon.sim.twin`). Ten epochs and trials a day, as of a settled deployment, are 0.1 MB a day; a search
every five minutes without end would be 3 MB.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, astuple
from typing import Any

from kaon.laws.tune import epoch, trial, tuner
from kaon.laws.tune.epoch import Depth, EpochInputs, Proposal, Search
from kaon.laws.tune.gate import Block, Played
from kaon.laws.tune.guard import Conditions, Probation, TrialArm, TunerGuard
from kaon.laws.tune.knobs import Knob, KnobShape, KnobValues, Reach, Space
from kaon.laws.tune.spsa import Slope
from kaon.laws.tune.trial import Trial, TrialEstimate, TrialWindow
from kaon.laws.tune.tuner import Tick, TunerEvent, TunerState
from kaon.types.objective import Objective
from kaon.types.tuning import TuningMode

RecordFigures = dict[str, Any]
"""The content of `JournalEntry.figures`."""
_LATER = ("led_in", "plain", "allowed")


def of_epoch(
    space: Space,
    before: Search,
    seed: int,
    target: float,
    hints: tuple[KnobValues, ...],
    inputs: str,
    found: Proposal,
    *,
    prove: bool = False,
    held: tuple[str, ...] = (),
) -> RecordFigures:
    """An epoch's record. `inputs` is the hash of the inputs of the twin."""
    return {
        "kind": "epoch",
        "inputs": inputs,
        "seed": seed,
        "target": target,
        "knobs": [asdict(knob) for knob in space.knobs],
        "search": asdict(before),
        "hints": list(hints),
        "before": found.before,
        "after": found.after,
        "predicted": found.predicted,
        "open": found.verdict.open,
        "reason": found.verdict.reason,
        "prove": prove,
        "held": list(held),
        "calls": {depth.name.lower(): _calls(found.looks, depth) for depth in Depth},
        "looks": [
            [[look.values[knob.name] for knob in space.knobs], look.depth, *_packed(look.played)]
            for look in found.looks
        ],
    }


def of_trial(tried: Trial, estimate: TrialEstimate) -> RecordFigures:
    """The record of a trial that was judged."""
    result = {"promoted": estimate.promoted, "realised": estimate.realised, "reason": estimate.reason}
    return {**_of(tried), **result}


def of_end(
    ended: Trial,
    outcome: TunerEvent,
    reason: str,
    objective: Objective,
    mode: TuningMode,
    state: TunerState,
    tick: Tick,
) -> RecordFigures:
    """The record of a trial that the guard ended: `state` and `tick` are the guard's inputs."""
    inputs = {
        "at_s": tick.at_s,
        "mode": mode.value,
        "objective": objective.model_dump(mode="json"),
        "burning": state.guard.burning,
        "burn_now": tick.burn_now,
        "trying": asdict(tick.trying),
        "control": asdict(tick.control),
        "conditions": asdict(tick.conditions),
    }
    return {**of_stop(ended, outcome.value, reason), "seen": inputs}


def of_stop(ended: Trial, outcome: str, reason: str) -> RecordFigures:
    """The record of a trial that ended for a reason outside of the law: by a user, or by a change of the spec."""
    return {**_of(ended), "outcome": outcome, "realised": ended.realised, "reason": reason}


def of_return(state: TunerState, mode: TuningMode, reason: str, objective: Objective, tick: Tick) -> RecordFigures:
    """The record of promoted values that were rolled back: `state` and `tick` are the guard's inputs."""
    assert state.probation is not None
    inputs = {
        "at_s": tick.at_s,
        "mode": mode.value,
        "objective": objective.model_dump(mode="json"),
        "probation": asdict(state.probation),
        "burn_force": tick.burn_force,
        "conditions": asdict(tick.conditions),
    }
    return {"kind": "return", "before": state.force, "after": state.probation.before, "reason": reason, "seen": inputs}


def of_change(before: KnobValues, after: KnobValues, by: str) -> RecordFigures:
    """The record of values that a user has put in force."""
    return {"kind": "change", "before": before, "after": after, "by": by}


def replays(figures: RecordFigures) -> bool:
    """Whether the decision is exactly the same when it is repeated from its record.

    A change by a user is no decision. The record of an older search may lack plays that the present search needs: then
    the decision cannot be repeated.
    """
    if figures["kind"] == "change":
        return True
    if figures["kind"] == "return":
        return _returns(figures)
    if "outcome" in figures:
        return "seen" not in figures or _ends(figures)
    if figures["kind"] == "trial":
        again = trial.judge(_trial(figures))
        return again == TrialEstimate(figures["promoted"], figures["realised"], figures["reason"])
    try:
        again_search, found = _epoch(figures)
    except KeyError:
        return False
    repeated = (found.after, found.predicted, found.verdict.open, found.verdict.reason, len(found.looks))
    kept = (figures["after"], figures["predicted"], figures["open"], figures["reason"], len(figures["looks"]))
    return repeated == kept and again_search.epoch == figures["search"]["epoch"] + 1


def _of(tried: Trial) -> RecordFigures:
    return {
        "kind": "trial",
        "reach": tried.reach.value,
        "before": tried.before,
        "after": tried.after,
        "predicted": tried.predicted,
        "loss": tried.loss,
        "began_s": tried.began_s,
        "led_in": tried.led_in,
        "plain": tried.plain,
        "allowed": tried.allowed,
        "force": [list(astuple(w)) for w in tried.force],
        "tried": [list(astuple(w)) for w in tried.tried],
    }


def _ends(figures: RecordFigures) -> bool:
    """Whether the guard ends the trial again for the same reason."""
    inputs = figures["seen"]
    trying, control = TrialArm(**inputs["trying"]), TrialArm(**inputs["control"])
    tick = Tick(inputs["at_s"], Conditions(**inputs["conditions"]), inputs["burn_now"], trying, control)
    state = TunerState(figures["before"], guard=TunerGuard(burning=inputs["burning"]), trial=_trial(figures))
    _, orders = tuner.step(state, TuningMode(inputs["mode"]), Objective.model_validate(inputs["objective"]), tick)
    return (orders.happened.value, orders.reason) == (figures["outcome"], figures["reason"])


def _returns(figures: RecordFigures) -> bool:
    """Whether the promoted values are rolled back again, to the same values and for the same reason."""
    inputs = figures["seen"]
    tick = Tick(inputs["at_s"], Conditions(**inputs["conditions"]), burn_force=inputs["burn_force"])
    state = TunerState(figures["before"], probation=Probation(**inputs["probation"]))
    _, orders = tuner.step(state, TuningMode(inputs["mode"]), Objective.model_validate(inputs["objective"]), tick)
    repeated = (orders.happened, orders.pool, orders.reason)
    return repeated == (TunerEvent.WENT_BACK, figures["after"], figures["reason"])


def _epoch(figures: RecordFigures) -> tuple[Search, Proposal]:
    names = [knob["name"] for knob in figures["knobs"]]
    calls = {depth: figures["calls"].get(depth.name.lower(), figures["calls"]["whole"]) for depth in Depth}
    kept = {
        (_key(dict(zip(names, values, strict=True))), depth): _unpacked(calls[Depth(depth)], *columns)
        for values, depth, *columns in figures["looks"]
    }
    prove = figures.get("prove", any(depth == Depth.PROOF for _, depth, *_ in figures["looks"]))

    def play(values: KnobValues, seed: int, depth: Depth) -> Played:
        return kept[_key(values), depth]

    knobs = [{**k, "shape": KnobShape(k["shape"]), "reach": Reach(k["reach"])} for k in figures["knobs"]]
    was = figures["search"]
    slope = Slope(tuple(was["slope"]["squares"]), was["slope"]["weight"])
    search = Search(was["epoch"], was["trust"], slope, was["still"])
    space = Space(tuple(Knob(**knob) for knob in knobs))
    hints = tuple(figures["hints"])
    arguments = (space, search, figures["before"], play, figures["seed"], figures["target"], hints)
    return epoch.propose(*arguments, prove=prove, held=tuple(figures.get("held", ())))


def _trial(figures: RecordFigures) -> Trial:
    force, tried = (tuple(TrialWindow(*w) for w in figures[side]) for side in ("force", "tried"))
    named = {name: figures[name] for name in ("before", "after", "predicted", "loss", "began_s", *_LATER)}
    return Trial(reach=Reach(figures["reach"]), force=force, tried=tried, **named)


def _key(values: KnobValues) -> tuple[tuple[str, float], ...]:
    return tuple(sorted(values.items()))


def _calls(looks: Sequence[EpochInputs], depth: Depth) -> list[list[int]]:
    """Calls of each block, and which blocks are of the burst: they do not depend on what is played."""
    played = next((look.played for look in looks if look.depth == depth), ())
    return [[b.arrivals for b in played], [i for i, b in enumerate(played) if b.burst]]


def _packed(played: Played) -> tuple[list[float], list[int]]:
    return [b.loss for b in played], [b.arrivals - b.well for b in played]


def _unpacked(calls: list[list[int]], losses: list[float], missed: list[int]) -> Played:
    arrivals, burst = calls
    return tuple(
        Block(loss, came, came - late, i in burst)
        for i, (loss, came, late) in enumerate(zip(losses, arrivals, missed, strict=True))
    )
