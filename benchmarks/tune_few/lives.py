"""A world of few calls, and a life in it: what the processes of the benchmark do."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from benchmarks.autoscale.loads import MEAN_RPS, Load
from benchmarks.tune.lives import named
from benchmarks.tune.tuned import Tuned
from benchmarks.tune.world import LARGEST, Life, Score, World, largest, score
from kaon.laws.tune.knobs import KnobValues
from kaon.sim.engine import Truth
from kaon.types.deployment import Scaling
from kaon.types.objective import Objective

OTHERS = range(900, 904)
"""Seeds of the other calls."""
RPS = 10.0
_TRUTH = Truth(
    a=0.4, b=1.6, power=1.05, max_batch=LARGEST, noise=0.1, stragglers=0.005, slow=0.1, start_s=28.0, start_p95_s=35.0
)
FEW = World(Objective(latency_s=20.0, deadline_s=30.0, completion=0.99), _TRUTH, _TRUTH, Scaling(min=1, max=30), 12)


def few(load: Load) -> Load:
    """The same with few calls."""
    return replace(load, rates=tuple(rate * RPS / MEAN_RPS for rate in load.rates))


def untuned(load: Load, seed: int, values: KnobValues) -> Score:
    """A life with knobs that stay."""
    return score(Life(load, seed, FEW.law(values), largest(values), FEW).run(), load, FEW)


def life(place: tuple[str, int]) -> dict[str, Any]:
    """A life with the tuner, one without, and what both ends are worth on other calls."""
    name, seed = place
    load = few(named()[name])
    before, tuned = untuned(load, seed, FEW.start), Tuned(load, seed, world=FEW)
    after = score(tuned.run(), load, FEW)
    counts = tuned.told
    kept = {key: getattr(counts, key) for key in ("epochs", "epoch_cpu_s", "happened", "trials", "returns", "replays")}
    others = {
        arm: [untuned(load, other, values).later_loss for other in OTHERS]
        for arm, values in (("began", FEW.start), ("ended", counts.final))
    }
    scores = {"untuned": asdict(before), "ours": asdict(after)}
    return {"load": name, "seed": seed, "scores": scores, "told": kept, "final": counts.final, "others": others}
