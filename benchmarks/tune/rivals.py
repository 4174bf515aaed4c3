"""The other ways to tune: descent on live traffic, Optuna live and in the twin; and those who know the future."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any, Protocol

import numpy as np

from benchmarks import peers
from benchmarks.autoscale.arms import Clairvoyant
from benchmarks.autoscale.loads import Load
from benchmarks.tune.tuned import Tuned
from benchmarks.tune.world import AFTER, BEFORE, OBJECTIVE, REFERENCE_S, SPACE, START, Life, Score, calls, law, score
from kaon.laws import loss
from kaon.laws.tune import gate, randomness, spsa
from kaon.laws.tune.guard import Conditions
from kaon.laws.tune.knobs import CubePoint, KnobValues
from kaon.laws.tune.spsa import Slope
from kaon.laws.tune.tuner import Orders
from kaon.sim.search import checked
from kaon.types.observation import Observation

BLOCK_S = 300.0
WIDTH = 0.1


class Explorer(Protocol):
    """Chooses what to try next, and gets the cost of the last try."""

    def ask(self) -> CubePoint: ...

    def tell(self, cost: float) -> None: ...


class OnePoint:
    """One perturbation a block; the loss itself, less its mean so far, stands for the difference."""

    def __init__(self, seed: int) -> None:
        self.seed, self.block = seed, 0
        self.centre, self.slope = SPACE.point(START), Slope()
        self.mean: float | None = None

    def ask(self) -> CubePoint:
        self.signs = tuple(randomness.sign(self.seed, self.block, i) for i in range(len(self.centre)))
        self.block += 1
        return tuple(z + WIDTH * s for z, s in zip(self.centre, self.signs, strict=True))

    def tell(self, cost: float) -> None:
        known = cost if self.mean is None else self.mean
        self.mean = known + 0.3 * (cost - known)
        self.move(tuple((cost - known) / WIDTH * s for s in self.signs))

    def move(self, gradient: CubePoint) -> None:
        self.slope, step = spsa.step(self.slope, gradient, WIDTH / 2)
        self.centre = tuple(min(max(z + m, 0.0), 1.0) for z, m in zip(self.centre, step, strict=True))


class TwoPoint(OnePoint):
    """The same perturbation in both directions, one block after the other."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.up: float | None = None

    def ask(self) -> CubePoint:
        if self.up is None:
            return super().ask()
        return tuple(z - WIDTH * s for z, s in zip(self.centre, self.signs, strict=True))

    def tell(self, cost: float) -> None:
        if self.up is None:
            self.up = cost
            return
        self.move(tuple((self.up - cost) / (2 * WIDTH) * s for s in self.signs))
        self.up = None


def optuna() -> Any | None:
    """The library, from an environment of its own; None where it cannot be had."""
    python = peers.python_of("optuna")
    if python is None:
        return None
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    sys.path.append(str(python.parent.parent / "lib" / version / "site-packages"))
    import optuna as library

    library.logging.set_verbosity(library.logging.ERROR)
    return library


class OptunaLive:
    """Its default sampler (TPE); a block of live traffic is a trial."""

    def __init__(self, seed: int) -> None:
        library = optuna()
        assert library is not None
        self.study = library.create_study(sampler=library.samplers.TPESampler(seed=seed))
        self.study.enqueue_trial({k.name: z for k, z in zip(SPACE.knobs, SPACE.point(START), strict=True)})

    def ask(self) -> CubePoint:
        self.trial = self.study.ask()
        return tuple(self.trial.suggest_float(knob.name, 0, 1) for knob in SPACE.knobs)

    def tell(self, cost: float) -> None:
        self.study.tell(self.trial, cost)


def live(load: Load, seed: int, explorer: Explorer) -> Score:
    """A life in which every five minutes are a try."""
    life = Life(load, seed, law(START))

    def each(_: Observation) -> None:
        if life.now_s < BLOCK_S * 2 or life.now_s % BLOCK_S >= 1:
            return
        if life.now_s >= BLOCK_S * 3:
            recent = life.session.windows()[-4:]  # the first of the five is still the other values' doing
            explorer.tell(fmean(loss.loss(OBJECTIVE, w, REFERENCE_S).total for w in recent))
        life.set(SPACE.values(explorer.ask()))

    return score(life.run(each), load)


class OptunaInTwin(Tuned):
    """The same twin for about the same time; the best of its trials is put in force, without gate or live trial."""

    TRIALS = 16

    def _epoch(self, now: float, conditions: Conditions) -> Orders:
        belief = checked(self._ask(now))
        twin = belief.twin
        if twin is None or belief.distrust:
            return Orders(self.state.force)
        self.noise = belief.noise
        library = optuna()
        assert library is not None
        self.told.epochs += 1
        study = library.create_study(sampler=library.samplers.TPESampler(seed=1000 * self.seed + self.told.epochs))
        study.enqueue_trial({k.name: z for k, z in zip(SPACE.knobs, SPACE.point(self.state.force), strict=True)})

        def cost(trial: Any) -> float:
            values = SPACE.values(tuple(trial.suggest_float(knob.name, 0, 1) for knob in SPACE.knobs))
            return gate.mean_loss(twin(values, self.seed, False))

        study.optimize(cost, n_trials=self.TRIALS)
        best: KnobValues = SPACE.values(tuple(study.best_params[knob.name] for knob in SPACE.knobs))
        self.state = replace(self.state, force=best)
        return Orders(best)


def clairvoyants(load: Load, seed: int, rows: int = 24, ahead_s: int = 32) -> Iterator[tuple[Clairvoyant, int]]:
    """Those who know each second's calls: the most of two seconds' from now to when a start is done."""
    counts = [int(x) for x in np.bincount(calls(load, seed) // 1_000_000_000, minlength=load.span_s)]
    half = len(counts) // 2
    cost = [1.08 * (t.a * rows**t.power + t.b) / rows for t in (BEFORE, AFTER)]  # stragglers and slow replicas included
    demand = [sum(counts[max(0, i - 1) : i + 1]) / 2 * cost[i >= half] for i in range(len(counts))]
    peak = [max(demand[i : i + ahead_s]) for i in range(len(demand))]
    for margin in (0.0, 0.4, 0.8, 1.2):
        yield Clairvoyant([math.ceil(p + margin * math.sqrt(p)) for p in peak]), rows


def best_clairvoyant(load: Load, seed: int) -> Score:
    """The margin with the least loss, chosen on these very calls."""
    played: Sequence[Score] = [
        score(Life(load, seed, knowing, rows).run(), load) for knowing, rows in clairvoyants(load, seed)
    ]
    return min(played, key=lambda s: s.loss)
