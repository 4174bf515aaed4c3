"""The knobs of the scaling law and the batcher, and how their values are applied."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from kaon.laws import choice
from kaon.laws.scale import Scale
from kaon.laws.tune import warm
from kaon.laws.tune.knobs import Knob, KnobShape, KnobValues, Reach, Space
from kaon.types.deployment import Scaling
from kaon.types.objective import Objective
from kaon.types.service import ServiceSpec

MAX_BATCH, MAX_WAIT_S, CONCURRENCY = "max_batch", "max_wait_s", "concurrency"
"""A replica's own knobs: `kaon.types.knobs.Knobs`."""
BUDGET_SHARE, CONTEST_SHARE, MARGIN = "budget_share", "contest_share", "margin"
"""The pool's knobs: parameters of the scaling law."""
MARGINS = (0.7, 1.4)
"""The range that users may set. It is not searched: when a smaller margin causes missed calls, the headroom rises
again, so half an hour's replay shows a gain that does not last."""


def space(service: ServiceSpec, scaling: Scaling, objective: Objective) -> Space | None:
    """The knobs that can matter for a deployment; None: there are none.

    A batch is tuned only where handlers take more than one row, the pool only where the number of replicas is variable.
    No knob limits or delays scaling up: the law adds as many replicas at once as its demand needs.
    """
    knobs: list[Knob] = []
    largest = choice.max_batch(service)
    if largest > 1:
        knobs.append(Knob(MAX_BATCH, KnobShape.WHOLE, 1, largest, Reach.REPLICA, slew=0.16))
    if scaling.min < scaling.max:
        knobs.append(Knob(BUDGET_SHARE, KnobShape.SHARE, 0.05, 0.85))
        knobs.append(Knob(CONTEST_SHARE, KnobShape.SHARE, 0.05, 0.95))
    return Space(tuple(knobs)) if knobs else None


NOTHING = "there is nothing to tune: no batches, and the number of replicas is fixed"
"""Why there is no `space`."""


def usual(space: Space, service: ServiceSpec) -> KnobValues:
    """The values of the knobs of `space` before any change: those of the class and the law."""
    law = Scale(max_batch=choice.max_batch(service))
    law_values = values(law)
    return {knob.name: law_values[knob.name] for knob in space.knobs}


WHAT = {
    MAX_BATCH: "Rows of a batch at most.",
    BUDGET_SHARE: "Share of the error budget that misses may use before the scaling law keeps more headroom.",
    CONTEST_SHARE: "Share of the error budget that a policy for following the load may miss and still be chosen.",
    MARGIN: "Factor on the scaling law's headroom.",
    MAX_WAIT_S: "How long a batch may be held for others, seconds.",
    CONCURRENCY: "Calls, or batches, that a replica works on at once.",
}
"""Descriptions of the knobs."""


def values(law: Scale) -> KnobValues:
    """The values of the knobs in `law`."""
    return {
        MAX_BATCH: float(law.max_batch),
        BUDGET_SHARE: law.budget_share,
        CONTEST_SHARE: law.contest_share,
        MARGIN: law.margin,
    }


def applied(law: Scale, chosen: Mapping[str, float]) -> Scale:
    """`law` with the chosen values; other knobs stay."""
    return replace(
        law,
        max_batch=int(chosen.get(MAX_BATCH, law.max_batch)),
        budget_share=chosen.get(BUDGET_SHARE, law.budget_share),
        contest_share=chosen.get(CONTEST_SHARE, law.contest_share),
        margin=chosen.get(MARGIN, law.margin),
    )


SPENDING: tuple[KnobValues, ...] = (
    {BUDGET_SHARE: 0.7, CONTEST_SHARE: 0.3},
    {BUDGET_SHARE: 0.75, CONTEST_SHARE: 0.9},
)
"""Shares that use most of the error budget; the law's own leave most of it, for deployments that are not tuned."""
SPARING: KnobValues = {BUDGET_SHARE: 0.08, CONTEST_SHARE: 0.1}
"""Shares that leave nearly all of it: without room, larger batches cost a small fleet bad minutes."""
HELD_WHERE_FEW = (BUDGET_SHARE, CONTEST_SHARE)
"""Not raised where there are few calls: their cost shows in bad minutes only, of which a calm half hour has none."""


def optimum(law: Scale, largest_batch: int, a: float, b: float) -> KnobValues:
    """The choice of the model: the largest batch that is in time, and the law's own shares."""
    batch = warm.best_batch(a, b, law.objective.latency_s, 0.0, largest_batch)
    return {**values(law), MAX_BATCH: float(batch)}
