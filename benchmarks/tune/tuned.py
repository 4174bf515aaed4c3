"""Kaon's tuner at work on a simulated deployment: what `control.tuning` does, on the simulator's clock."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from benchmarks.autoscale.loads import Load
from benchmarks.tune.world import MANY, SERVICE, TICK_S, Life, World
from kaon.laws import loss
from kaon.laws.loss import Price
from kaon.laws.service_time import fit
from kaon.laws.tune import guard, record, tuner
from kaon.laws.tune.ask import TwinQuery
from kaon.laws.tune.epoch import Proposal, Search
from kaon.laws.tune.guard import TICK_S as LOOK_S
from kaon.laws.tune.guard import Conditions, TrialArm
from kaon.laws.tune.knobs import KnobValues, Reach, Space
from kaon.laws.tune.past import SNAPSHOT_S, Past
from kaon.laws.tune.trial import TrialWindow, undisturbed
from kaon.laws.tune.tuner import Orders, Tick, TunerEvent, TunerState
from kaon.sim import memory
from kaon.sim.engine import NS
from kaon.sim.run import SimulationOutcome
from kaon.sim.search import answer
from kaon.types.observation import Batches, Observation
from kaon.types.traffic import LATENCY_BOUNDS_S
from kaon.types.tuning import TuningMode

FIRST_S, LEAST_S = 180.0, 1380.0
FIT_S = 600.0


@dataclass(frozen=True)
class Look:
    """Totals at one moment, from which later observations are computed."""

    at_s: float
    counts: tuple[int, ...]
    histogram: Any


@dataclass
class Told:
    """What the tuner did in a run, for the report."""

    epochs: int = 0
    epoch_cpu_s: list[float] = field(default_factory=list)
    distrusted: int = 0
    happened: dict[str, int] = field(default_factory=dict)
    trials: list[dict[str, Any]] = field(default_factory=list)
    returns: list[tuple[float, str]] = field(default_factory=list)
    """When what had been promoted went back, and why."""
    tried: list[int] = field(default_factory=list)
    """Minutes in which something was being tried."""
    reasons: list[str] = field(default_factory=list)
    replays: bool = True
    final: KnobValues = field(default_factory=dict)


@dataclass(frozen=True)
class Way:
    """An arm: with the live trial and the gate, or without one of them."""

    trial: bool = True
    gate: bool = True
    variate: bool = True


class Tuned:
    """One life with the tuner."""

    def __init__(self, load: Load, seed: int, way: Way | None = None, world: World = MANY) -> None:
        self.life, self.world = Life(load, seed, world.law(world.start), world=world), world
        self.way, self.seed = way or Way(), seed
        self.space = Space(tuple(replace(knob, reach=Reach.POOL) for knob in world.space.knobs))
        self.state = TunerState(world.start, next_epoch_s=LEAST_S)
        self.told = Told()
        self.schedule: list[tuple[float, KnobValues]] = [(0.0, world.start)]
        self.past = Past()
        self.before: tuple[Any, Any] = (0, 0)
        self.buckets: Any = None
        self.looks: deque[Look] = deque(maxlen=8)
        self.batches: deque[tuple[float, Batches]] = deque()
        self.price = Price()
        self.windows = 0
        self.noise: float | None = None
        self.trusted = True
        self.controls: deque[TrialArm] = deque(maxlen=180)
        self.control = TrialArm()

    def run(self) -> SimulationOutcome:
        """Live, and tune."""
        outcome = self.life.run(self._tick)
        self.told.final = self.state.force
        return outcome

    # Observations

    def _seen(self) -> Look:
        w = self.life.session.world.world
        histogram = np.array(w.scores[: memory.BUCKETS])
        counts = tuple(int(x) for x in w.counts)
        return Look(self.life.now_s, counts, histogram)

    def _tick(self, seen: Observation) -> None:
        now = self.life.now_s
        self._remember(now, seen)
        self.batches.append((now, seen.batches))
        while self.batches[0][0] < now - FIT_S:
            self.batches.popleft()
        if now % SNAPSHOT_S < TICK_S / 2 or now == FIRST_S:
            session = self.life.session
            self.past.snapshot(now, int(session.world.world.counts[memory.READY]), session.state)
        if now % LOOK_S < TICK_S / 2:
            self._look(now, seen)

    def _remember(self, now: float, seen: Observation) -> None:
        """What an agent would have counted since the last tick, and the calls of each second."""
        world = self.life.session.world.world
        counts = np.array(world.counts)
        histogram = np.array(world.scores[: memory.BUCKETS])
        passed, more = counts - self.before[0], histogram - self.before[1]
        self.before = (counts, histogram)
        if self.buckets is None:
            width_s = int(counts[memory.BUCKET]) / NS
            self.buckets = np.searchsorted(LATENCY_BOUNDS_S, (np.arange(memory.BUCKETS) + 0.5) * width_s)
        latency = np.bincount(self.buckets, weights=more)
        edges = np.searchsorted(self.life.calls, [int(t * NS) for t in (now - 2, now - 1, now)])
        self.past.second(now - 1, int(edges[1] - edges[0]))
        self.past.second(now, int(edges[2] - edges[1]))
        self.past.second(
            now,
            0,
            span_s=TICK_S,
            batches=seen.batches,
            cold_start_s=seen.cold_start_s,
            answered=int(passed[memory.ANSWERED]),
            missed=int(passed[memory.MISSED]),
            latency={int(i): int(latency[i]) for i in np.flatnonzero(latency)},
            busy_s=passed[memory.BUSY] / NS,
            ready_s=passed[memory.READY_NS] / NS,
            paid_s=passed[memory.ALIVE_NS] / NS,
        )

    def _windows(self, now: float) -> tuple[loss.LossInputs, ...]:
        """The minutes of which all calls have been answered, or given up."""
        known = int((now - self.world.objective.patience_s) // 60)
        return self.life.session.windows()[:known]

    def _arm(self, since: Look, until: Look) -> TrialArm:
        answered, missed = (until.counts[i] - since.counts[i] for i in (memory.ANSWERED, memory.MISSED))
        whole = until.at_s - since.at_s >= 50.0  # a quantile of less is a matter of one straggler
        p99_s = _quantile(self.life, until.histogram - since.histogram, 0.99) if whole else None
        return TrialArm(answered, missed, p99_s)

    def _look(self, now: float, seen: Observation) -> None:
        """A tick of the tuner."""
        self.looks.append(self._seen())
        changed_s = self.schedule[-1][0]
        recent = [look for look in self.looks if look.at_s >= max(changed_s, now - 60.0)]
        arm = self._arm(recent[0], self.looks[-1]) if recent else TrialArm()
        state: Any = self.life.session.state
        trial = self.state.trial
        trying = trial is not None and trial.trying(now - 1)
        if not trying and arm.p99_s is not None:
            self.controls.append(arm)
            self.control = guard.worst(self.controls)
        windows = self._windows(now)
        window, burnt, ended_s = None, None, 60.0 * len(windows)
        if len(windows) > self.windows:
            self.windows = len(windows)
            if trying:
                self.told.tried.append(len(windows) - 1)
            found = loss.loss(self.world.objective, windows[-1], self.world.reference_s, self.price.value)
            self.price = self.price.after(self.world.objective, found.completed, 60.0)
            burnt = (1 - found.completed) / (1 - self.world.objective.completion)
            foresee = trial is not None and self.way.variate and trial.counts(ended_s)
            window = self._window(windows[-1], *(self._foreseen(ended_s) if foresee else (None, None)))
        conditions = Conditions(
            ready=seen.ready,
            starting=seen.starting,
            panicking=state.panic_until_s > now,
            burn=self.price.burn,
            calls=windows[-1].arrivals if windows else None,
            calmest=min((w.arrivals for w in windows[-guard.CALM :]), default=None),
            trusted=self.trusted,
            climbing=guard.climbing([w.arrivals for w in windows[-6:]]),
        )
        tick = Tick(
            now,
            conditions,
            burnt if trying else None,
            arm if trying else TrialArm(),
            self.control,
            window,
            window_s=ended_s,
            burn_force=None if trying else burnt,
        )
        if window is not None and self.batches and trial is None:
            cost = fit(b for at, b in self.batches if at > now - 120)
            if cost is not None:
                tick = replace(tick, ground=(("cost", 4 * cost[0] + cost[1]), ("rate", float(window.calls))))
        self.state, orders = tuner.step(self.state, TuningMode.AUTO, self.world.objective, tick)
        if trial is not None and self.state.trial is None:
            self.told.trials.append(
                {
                    "at_s": now,
                    "after": trial.after,
                    "how": orders.happened.value,
                    "why": orders.reason,
                    "predicted": trial.predicted,
                }
            )
        if orders.epoch:
            orders = self._epoch(now, conditions)
        self._obey(now, orders)

    def _obey(self, now: float, orders: Orders) -> None:
        if orders.happened is not TunerEvent.NOTHING:
            name = orders.happened.value
            self.told.happened[name] = self.told.happened.get(name, 0) + 1
        if orders.happened is TunerEvent.WENT_BACK:
            self.told.returns.append((now, orders.reason))
        if orders.pool != self.schedule[-1][1]:
            self.schedule.append((now, orders.pool))
            self.life.set(orders.pool)

    # The twin

    def _ask(self, now: float, **more: Any) -> TwinQuery:
        return TwinQuery(
            workspace="benchmark",
            deployment=self.life.load.name,
            objective=self.world.objective,
            bounds=self.world.bounds,
            service=SERVICE,
            scaling=self.world.scaling,
            space=self.space,
            search=self.state.search,
            force=self.state.force,
            schedule=tuple(self.schedule),
            price=self.price.value,
            past=self.past,
            now_s=now,
            reference_s=self.world.reference_s,
            noise=self.noise,
            **{"seed": 1000 * self.seed + self.told.epochs, **more},
        )

    def _foreseen(self, ended_s: float) -> tuple[float | None, float | None]:
        """The twin's loss of the minute that ended then, with what was in force: whole and without misses' price."""
        told = answer(self._ask(ended_s, seed=self.seed, foresee_s=(ended_s - 60.0, ended_s)))
        return (told.foreseen[0][1], told.foreseen_plain[0]) if told.foreseen else (None, None)

    def _epoch(self, now: float, conditions: Conditions) -> Orders:
        self.told.epochs += 1
        told = answer(self._ask(now))
        self.noise = told.noise
        self.told.epoch_cpu_s.append(told.cpu_s)
        if told.proposal is None:
            self.told.distrusted += 1
            self.told.reasons.append(told.distrust)
            return Orders(self.state.force)
        if self.told.epochs == 3:  # every one would cost as much again
            assert told.record is not None
            self.told.replays = record.replays(told.record)
        self.told.reasons.append(told.proposal.verdict.reason)
        return self._decide(now, conditions, told.search, told.proposal, self._before(told.replayed))

    def _window(self, seen: loss.LossInputs, twin: float | None, plain_twin: float | None) -> TrialWindow:
        """A minute at the price of now."""
        found = loss.loss(self.world.objective, seen, self.world.reference_s, self.price.value)
        plain = found.total - self.price.value * found.completion
        return TrialWindow(found.total, seen.arrivals, twin, plain, plain_twin, seen.arrivals - seen.well)

    def _before(self, replayed: tuple[tuple[float, float, float], ...]) -> tuple[TrialWindow, ...]:
        """The last windows in which all went by what is in force, with the twin's word on them, at today's price."""
        seen, force = self._windows(self.life.now_s), self.state.force
        found = []
        for end_s, foreseen, plain in replayed if self.way.variate else ():
            number = round(end_s / 60) - 1
            if number < len(seen) and undisturbed(self.schedule, force, end_s - 60, end_s):
                found.append(self._window(seen[number], foreseen, plain))
        return tuple(found)

    def _decide(
        self, now: float, conditions: Conditions, search: Search, found: Proposal, before: tuple[TrialWindow, ...]
    ) -> Orders:
        """The tuner's way, or an ablation's: straight into force."""
        if self.way.trial:
            begin_s = 60.0 * math.ceil(now / 60.0)  # windows are whole minutes
            self.state, orders = tuner.proposed(
                self.state, TuningMode.AUTO, self.space, begin_s, conditions, search, found, before
            )
            return orders
        better = found.verdict.open or (not self.way.gate and found.verdict.gain > 0)
        self.state = replace(self.state, search=search, force=found.after if better else self.state.force)
        return Orders(self.state.force, happened=TunerEvent.PROMOTED if better else TunerEvent.NOTHING)


def _quantile(life: Life, histogram: Any, share: float) -> float | None:
    """A quantile of latency, s, of a difference of histograms."""
    total = int(histogram.sum())
    if total == 0:
        return None
    bucket = int(np.searchsorted(np.cumsum(histogram), share * total))
    return (bucket + 0.5) * int(life.session.world.world.counts[memory.BUCKET]) / NS
