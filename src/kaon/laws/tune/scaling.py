"""What of the scaling law and the batcher is tuned, and how it gets there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from kaon.laws.scale import Scale
from kaon.laws.tune import warm
from kaon.laws.tune.knobs import Knob, Reach, Shape, Space, Values

MAX_BATCH, BUDGET_SHARE, CONTEST_SHARE, MARGIN = "max_batch", "budget_share", "contest_share", "margin"


def space(largest_batch: int) -> Space:
    """The knobs of a deployment whose handlers take at most `largest_batch` rows; 1: none to tune there.

    Whatever they are set to, the law adds as many replicas at once as its demand asks for: none of them caps or
    delays going up.
    """
    knobs: tuple[Knob, ...] = (
        Knob(BUDGET_SHARE, Shape.SHARE, 0.1, 0.95),
        Knob(CONTEST_SHARE, Shape.SHARE, 0.05, 0.95),
        Knob(MARGIN, Shape.LOG, 0.7, 1.4),
    )
    if largest_batch > 1:
        knobs = (Knob(MAX_BATCH, Shape.WHOLE, 1, largest_batch, Reach.REPLICA), *knobs)
    return Space(knobs)


def values(law: Scale) -> Values:
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


def optimum(law: Scale, largest_batch: int, a: float, b: float) -> Values:
    """What the model by itself would choose: the largest batch that is in time, and the law's own shares."""
    batch = warm.best_batch(a, b, law.objective.latency_s, 0.0, largest_batch)
    return {**values(law), MAX_BATCH: float(batch)}
