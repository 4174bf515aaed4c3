"""All knobs of a deployment with their state: those that the tuner changes, and those that only users set. Pure."""

from __future__ import annotations

import math

from kaon.laws import choice
from kaon.laws.scale import Scale
from kaon.laws.tune import scaling
from kaon.laws.tune.knobs import Knob, KnobShape
from kaon.types.deployment import Scaling
from kaon.types.knobs import KnobValues
from kaon.types.objective import Objective
from kaon.types.service import ServiceSpec
from kaon.types.tuning import KnobState, Reach, TuningStatus


def knobs(service: ServiceSpec, bounds: Scaling, objective: Objective, status: TuningStatus) -> tuple[KnobState, ...]:
    """Every knob with its range, and its usual value and those in force, in a trial, and recommended."""
    space = scaling.space(service, bounds, objective)
    usual = scaling.usual(space, service) if space else {}
    tuned = [_tuned(knob, usual[knob.name]) for knob in (space.knobs if space else ())]
    return tuple(_with_status(knob, status) for knob in (*tuned, *_set_by_users(service, bounds)))


def _tuned(knob: Knob, usual: float) -> KnobState:
    return KnobState(
        name=knob.name,
        what=scaling.WHAT[knob.name],
        reach=knob.reach,
        low=knob.low,
        high=knob.high,
        whole=knob.shape is KnobShape.WHOLE,
        usual=usual,
        value=usual,
    )


def _set_by_users(service: ServiceSpec, bounds: Scaling) -> list[KnobState]:
    """Knobs of a replica or the scaling law that are not tuned; only those with more than one value."""
    wait_s = choice.max_wait_s(service)
    most = float(choice.slots(service))
    ranges = [
        (scaling.MAX_WAIT_S, Reach.REPLICA, 0.0, wait_s, wait_s),
        (scaling.CONCURRENCY, Reach.REPLICA, 1.0, most, most),
    ]
    if bounds.min < bounds.max:
        ranges.append((scaling.MARGIN, Reach.POOL, *scaling.MARGINS, Scale().margin))
    return [
        KnobState(
            name=name,
            what=scaling.WHAT[name],
            reach=reach,
            low=low,
            high=high,
            whole=name == scaling.CONCURRENCY,
            tuned=False,
            usual=usual,
            value=usual,
        )
        for name, reach, low, high, usual in ranges
        if high > low
    ]


def _with_status(knob: KnobState, status: TuningStatus) -> KnobState:
    """The knob with the values of the status; a value outside its range is moved to the nearest."""
    name = knob.name
    tried: KnobValues = status.trial.after if status.trial else {}
    better: KnobValues = status.recommended.values if status.recommended else {}
    return knob.model_copy(
        update={
            "value": min(max(status.values.get(name, knob.usual), knob.low), knob.high),
            "tried": tried.get(name),
            "recommended": better.get(name),
        }
    )


def lasting(seconds: float) -> str:
    """A length of time as text, rounded up."""
    minutes = max(1, math.ceil(seconds / 60))
    if minutes >= 120:
        return f"{math.ceil(minutes / 60)} hours"
    return f"{minutes} minutes" if minutes > 1 else "a minute"
