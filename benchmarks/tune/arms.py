"""Who competes. Peers' laws at their vendors' defaults and the best of a grid on day 1; knobs that stay; tuners."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from itertools import product
from typing import Any

from benchmarks.autoscale.arms import Static, defaults
from benchmarks.autoscale.loads import DAY_S, Load
from benchmarks.report import QUICK
from benchmarks.tune import rivals
from benchmarks.tune.tuned import Told, Tuned, Way
from benchmarks.tune.world import OBJECTIVE, START, USUAL, Life, Score, law, score
from kaon.laws.scaling import ScalingLaw
from kaon.laws.scaling_peers import Hpa, Knative, Predictive, RayServe, SkyServe
from kaon.laws.tune.knobs import KnobValues

REACTIVE = ("knative", "ray-serve", "hpa", "sky-serve")
GRID_SEED = 1


def reactive_grid() -> dict[str, list[tuple[ScalingLaw, int]]]:
    """Some seventy configurations of law and batch size: a peer's user may set the batch too.

    Targets reach from what answers at once to more than a full replica has inside: 29 calls/s for 0.35 s are ten.
    """
    batches = (USUAL,) if QUICK else (USUAL, 16)
    shares = (0.5, 0.7) if QUICK else (0.5, 0.65, 0.8)
    downs = (60.0,) if QUICK else (60.0, 600.0)
    targets = (4.0, 8.0) if QUICK else (3.0, 6.0, 9.0, 14.0)
    laws: dict[str, list[ScalingLaw]] = {
        "knative": [Knative(target=t / 0.7, down_delay_s=d) for t, d in product(targets, downs)],
        "ray-serve": [RayServe(target=t, upscale_delay_s=0.0, downscale_delay_s=d) for t, d in product(targets, downs)],
        "hpa": [Hpa(target=t, down_window_s=d) for t, d in product(targets, downs)],
        "sky-serve": [SkyServe(target=33.0 * s, up_s=20.0, down_s=d) for s, d in product(shares, downs)],
        "predictive": [Predictive(Knative(target=t / 0.7), season_s=DAY_S) for t in targets],
    }
    return {name: [(x, rows) for x in grid for rows in batches] for name, grid in laws.items()}


def fixed_grid() -> list[KnobValues]:
    """Knobs that stay as they are: from these the best in hindsight are chosen."""
    grid = product((USUAL, 16, 24), (0.25, 0.5, 0.75, 0.95), (0.15, 0.4, 0.9))
    return [{**START, "max_batch": float(b), "budget_share": s, "contest_share": c} for b, s, c in grid]


def day_one(load: Load) -> Load:
    """The part that grids are tuned on, judged without its first minutes, in which nothing was there yet."""
    return replace(load, rates=load.rates[: int(load.scored_from_s)], scored_from_s=180.0)


def chosen(load: Load, grid: list[tuple[ScalingLaw, int]]) -> tuple[ScalingLaw, int]:
    """The configuration with the fewest replica-seconds at the goal on day 1, or the one nearest to it."""
    first = day_one(load)
    scored = [(score(Life(first, GRID_SEED, x, rows).run(), first), (x, rows)) for x, rows in grid]
    good = [s for s in scored if s[0].later_attainment >= OBJECTIVE.completion]
    if good:
        return min(good, key=lambda s: s[0].later_replica_seconds)[1]
    return max(scored, key=lambda s: s[0].later_attainment)[1]


def best_fixed(load: Load, seed: int) -> tuple[Score, dict[str, Any]]:
    """The knobs with the least loss on these very calls, the luckiest; and all others, from which the best of a load
    are chosen over all seeds."""
    grid = fixed_grid()[:: 5 if QUICK else 1]
    played = [(v, score(Life(load, seed, law(v), int(v["max_batch"])).run(), load)) for v in grid]
    plays = [{"knobs": v, "score": asdict(s)} for v, s in played]
    return min((s for _, s in played), key=lambda s: s.loss), {"grid": plays}


def best_static(load: Load) -> int:
    """The fewest replicas that reach the goal in hindsight, by halving."""
    low, high = 1, 128
    while low < high:
        middle = (low + high) // 2
        reached = score(Life(load, GRID_SEED, Static(middle)).run(), load).later_attainment >= OBJECTIVE.completion
        low, high = (low, middle) if reached else (middle + 1, high)
    return low


Arm = Callable[[int], tuple[Score, dict[str, Any]]]
"""A seed's score, and its report."""


def _simple(load: Load, make: ScalingLaw, rows: int) -> Arm:
    return lambda seed: (score(Life(load, seed, make, rows).run(), load), {"law": repr(make)[:200], "rows": rows})


def _tuned(load: Load, way: Way) -> Arm:
    def play(seed: int) -> tuple[Score, dict[str, Any]]:
        tuned = Tuned(load, seed, way)
        return score(tuned.run(), load), _telling(tuned.told)

    return play


def _telling(counts: Told) -> dict[str, Any]:
    return {
        "epochs": counts.epochs,
        "epoch_cpu_s": [round(x, 3) for x in counts.epoch_cpu_s],
        "distrusted": counts.distrusted,
        "happened": counts.happened,
        "trials": counts.trials,
        "returns": counts.returns,
        "tried": counts.tried,
        "replays": counts.replays,
        "final": counts.final,
    }


def arms(load: Load) -> dict[str, Callable[[], Arm]]:
    """Every arm by name; made when first wanted, because grids take their time."""

    def explored(explorer: Callable[[int], rivals.Explorer]) -> Callable[[], Arm]:
        return lambda: lambda seed: (rivals.live(load, seed, explorer(seed)), {})

    made: dict[str, Callable[[], Arm]] = {
        "untuned": lambda: _simple(load, law(START), USUAL),
        "ours": lambda: _tuned(load, Way()),
        "ours, no trial": lambda: _tuned(load, Way(trial=False)),
        "ours, no trial, no gate": lambda: _tuned(load, Way(trial=False, gate=False)),
        "ours, no control variate": lambda: _tuned(load, Way(variate=False)),
        "luckiest knobs in hindsight": lambda: lambda seed: best_fixed(load, seed),
        "static in hindsight": lambda: _simple(load, Static(best_static(load)), USUAL),
        "live one-point": explored(rivals.OnePoint),
        "live two-point": explored(rivals.TwoPoint),
        "clairvoyant": lambda: lambda seed: (rivals.best_clairvoyant(load, seed), {}),
    }
    if rivals.optuna() is not None:
        made["optuna live"] = explored(rivals.OptunaLive)
        made["optuna in the twin"] = lambda: lambda seed: (score(rivals.OptunaInTwin(load, seed).run(), load), {})
    for name, default in defaults().items():
        made[f"{name} default"] = lambda default=default: _simple(load, default, USUAL)  # type: ignore[misc]
    for name, grid in reactive_grid().items():
        made[f"{name} tuned"] = lambda grid=grid: _simple(load, *chosen(load, grid))  # type: ignore[misc]
    return made
