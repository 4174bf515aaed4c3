"""Scaling laws whose time passes more quickly: a run of three minutes is twelve of theirs.

Laws have windows in seconds: Knative's a minute, Ray Serve's ten minutes before it goes down. To play them within
minutes without favour, none of these is touched. Instead a law is told of all that it sees in seconds of its own, of
which `times` pass in one of the clock, and is asked `times` as often. To the law the run is one of `times` the
length, of a service `times` as slow, with starts `times` as long; so the machine plays that service, exactly, but for
how old the figures are: those come as often as they always do, and so are `times` as old to it.
"""

from __future__ import annotations

import functools
from dataclasses import fields
from enum import StrEnum
from typing import Any, cast

from kaon.laws import choice
from kaon.laws.scaling import Bounds, ScalingDecision, ScalingLaw
from kaon.laws.scaling_peers import Knative, RayServe
from kaon.types.deployment import Scaling
from kaon.types.objective import Objective
from kaon.types.observation import Observation

_KAONS = choice.law


class LawName(StrEnum):
    """The laws that are compared; a deployment of the benchmark has the name of its law."""

    KAON = "kaon"
    KNATIVE = "knative"
    RAY_SERVE = "ray-serve"


class NamedScaling(Scaling):
    """A deployment's scaling, and by which law."""

    by: LawName = LawName.KAON


_NOT_OF_PEERS = {
    "stands": lambda law, state, replicas: state,
    "recalls": lambda law, state, gaps: state,
    "figures": lambda law, state: {},
}
"""Further methods of Kaon's law that the platform calls, for laws without them."""


def objective(told: Objective, times: float) -> Objective:
    """The same objective in a law's own seconds."""
    return told.model_copy(update={"latency_s": told.latency_s * times, "deadline_s": told.patience_s * times})


def observation(seen: Observation, times: float) -> Observation:
    """The same figures in a law's own seconds."""
    batches = seen.batches
    return seen.model_copy(
        update={
            "at_s": seen.at_s * times,
            "span_s": seen.span_s * times,
            "busy_s": _times(seen.busy_s, times),
            "cold_start_s": _times(seen.cold_start_s, times),
            "batches": batches.model_copy(
                update={"seconds": batches.seconds * times, "rows_seconds": batches.rows_seconds * times}
            ),
        }
    )


def _times(seconds: float | None, times: float) -> float | None:
    return None if seconds is None else seconds * times


def quickened(law: ScalingLaw, times: float) -> ScalingLaw:
    """`law`, of whose seconds `times` pass in one of the clock."""
    parameters = {field.name: getattr(law, field.name) for field in fields(law)}  # type: ignore[arg-type]
    return cast(ScalingLaw, _kind(type(law), times)(**parameters))


@functools.cache
def _kind(kind: type[Any], times: float) -> type[Any]:
    """A kind of law that is `kind` in all but its time."""

    def step(self: Any, state: Any, bounds: Bounds, seen: Observation) -> tuple[Any, ScalingDecision]:
        return cast(tuple[Any, ScalingDecision], kind.step(self, state, bounds, observation(seen, times)))

    besides = {name: method for name, method in _NOT_OF_PEERS.items() if not hasattr(kind, name)}
    return type(f"Quick{kind.__name__}", (kind,), {"__slots__": (), "step": step, **besides})


def quick(times: float, scaling: Scaling, told: Objective, max_batch: int, **rest: Any) -> ScalingLaw:
    """The law that `scaling` names (Kaon's, unless it is a `NamedScaling`), quickened; `rest` as `choice.law` takes it.

    Knative's target is what its guide says for a container that takes `at_once` calls at once.
    """
    match scaling.by if isinstance(scaling, NamedScaling) else LawName.KAON:
        case LawName.KAON:
            law: ScalingLaw = _KAONS(scaling, objective(told, times), max_batch, **rest)
        case LawName.KNATIVE:
            law = Knative(target=float(rest.get("at_once") or max_batch))
        case LawName.RAY_SERVE:
            law = RayServe()
    return quickened(law, times)
