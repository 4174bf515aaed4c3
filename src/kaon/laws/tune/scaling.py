"""What of the scaling law and the batcher is tuned, and how it gets there."""

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
"""The pool's: parameters of the scaling law."""
MARGINS = (0.7, 1.4)
"""What people may set. It is not searched: what a smaller one saves, the headroom takes back as soon as calls are
missed for it, so that half an hour's replay shows a gain that does not last."""


def space(service: ServiceSpec, scaling: Scaling, objective: Objective) -> Space | None:
    """The knobs that can matter for a deployment: None where there is none.

    A batch is only tuned where handlers take more than one row, the pool only where the law has a choice of how
    many replicas there are. Whatever they are set to, the law adds as many replicas at once as its demand asks for:
    none of them caps or delays going up.
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
"""Why there is nothing to tune, where `space` is None."""


def usual(space: Space, service: ServiceSpec) -> KnobValues:
    """What the knobs of `space` are as long as nobody has moved them: as the class and the law have it."""
    law = Scale(max_batch=choice.max_batch(service))
    known = values(law)
    return {knob.name: known[knob.name] for knob in space.knobs}


WHAT = {
    MAX_BATCH: "Rows of a batch at most.",
    BUDGET_SHARE: "Share of the error budget that misses may use before the scaling law keeps more headroom.",
    CONTEST_SHARE: "Share of the error budget that a way of following the load may have missed and still be followed.",
    MARGIN: "Factor on the scaling law's headroom.",
    MAX_WAIT_S: "How long a batch may be held for others, seconds.",
    CONCURRENCY: "Calls, or batches, that a replica works on at once.",
}
"""What each knob is, for people."""


def values(law: Scale) -> KnobValues:
    """What the knobs are in `law`."""
    return {
        MAX_BATCH: float(law.max_batch),
        BUDGET_SHARE: law.budget_share,
        CONTEST_SHARE: law.contest_share,
        MARGIN: law.margin,
    }


def applied(law: Scale, chosen: Mapping[str, float]) -> Scale:
    """`law` with its knobs as chosen; what is not chosen stays."""
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
"""Shares that use most of the error budget up; the law's own leave most of it, for who does not tune."""
SPARING: KnobValues = {BUDGET_SHARE: 0.08, CONTEST_SHARE: 0.1}
"""Shares that leave nearly all of it: a small fleet pays for larger batches with bad minutes unless it has room."""
HELD_WHERE_FEW = (BUDGET_SHARE, CONTEST_SHARE)
"""Not raised where few calls come: what they cost shows in bad minutes only, of which a calm half hour has none."""


def optimum(law: Scale, largest_batch: int, a: float, b: float) -> KnobValues:
    """What the model by itself would choose: the largest batch that is in time, and the law's own shares."""
    batch = warm.best_batch(a, b, law.objective.latency_s, 0.0, largest_batch)
    return {**values(law), MAX_BATCH: float(batch)}
