"""Kaon's tuner at work on a simulated deployment: what `control.tuning` does, on the simulator's clock."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import deque
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from benchmarks.autoscale.loads import Load
from benchmarks.tune.world import (
    BOUNDS,
    LARGEST,
    OBJECTIVE,
    REFERENCE_S,
    SPACE,
    START,
    TICK_S,
    Life,
    largest,
    law,
)
from kaon.laws import loss
from kaon.laws.scale import Scale
from kaon.laws.tune import epoch, guard, record, scaling, tuner
from kaon.laws.tune.epoch import Proposal, Search
from kaon.laws.tune.guard import TICK_S as LOOK_S
from kaon.laws.tune.guard import Arm, Conditions
from kaon.laws.tune.knobs import Reach, Space, Values
from kaon.laws.tune.price import Price
from kaon.laws.tune.trial import Window
from kaon.laws.tune.tuner import Happened, Orders, State, Tick
from kaon.sim import memory
from kaon.sim.engine import NS
from kaon.sim.run import Outcome
from kaon.sim.twin import Episode, Figures, Model, Twin, agreement, calibrated, fit
from kaon.types.observation import Batches, Observation
from kaon.types.tuning import Mode

SNAPSHOT_S = 300.0
REPLAY_S, SHORT_S, LEAST_S = 1800.0, 180.0, 1500.0
FIT_S = 600.0


@dataclass(frozen=True)
class Snapshot:
    """How things stood: enough to begin an episode, and to tell what was seen since."""

    at_s: float
    ready: int
    state: Any
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
    reasons: list[str] = field(default_factory=list)
    replays: bool = True
    final: Values = field(default_factory=dict)


@dataclass(frozen=True)
class Way:
    """An arm: with the live trial and the gate, or without one of them."""

    trial: bool = True
    gate: bool = True
    variate: bool = True


class Tuned:
    """One life with the tuner."""

    def __init__(self, load: Load, seed: int, way: Way | None = None) -> None:
        self.life = Life(load, seed, law(START))
        self.way, self.seed = way or Way(), seed
        self.space = Space(tuple(replace(knob, reach=Reach.POOL) for knob in SPACE.knobs))
        self.state = State(START, next_epoch_s=LEAST_S)
        self.told = Told()
        self.schedule: list[tuple[float, Values]] = [(0.0, START)]
        self.snapshots: list[Snapshot] = []
        self.looks: deque[Snapshot] = deque(maxlen=8)
        self.batches: deque[tuple[float, Batches]] = deque()
        self.starts: list[float] = []
        self.price = Price()
        self.windows = 0
        self.noise: float | None = None
        self.trusted = True
        self.controls: deque[Arm] = deque(maxlen=180)
        self.control = Arm()

    def run(self) -> Outcome:
        """Live, and tune."""
        outcome = self.life.run(self._tick)
        self.told.final = self.state.force
        return outcome

    # What is seen

    def _snapshot(self) -> Snapshot:
        session = self.life.session
        w = session.world.world
        histogram = np.array(w.scores[: memory.BUCKETS])
        counts = tuple(int(x) for x in w.counts)
        return Snapshot(self.life.now_s, counts[memory.READY], session.state, counts, histogram)

    def _tick(self, seen: Observation) -> None:
        now = self.life.now_s
        self.batches.append((now, seen.batches))
        while self.batches[0][0] < now - FIT_S:
            self.batches.popleft()
        if seen.cold_start_s is not None:
            self.starts = [*self.starts[-63:], seen.cold_start_s]
        if now % SNAPSHOT_S < TICK_S / 2:
            self.snapshots.append(self._snapshot())
        if now % LOOK_S < TICK_S / 2:
            self._look(now, seen)

    def _arm(self, since: Snapshot, until: Snapshot) -> Arm:
        answered, missed = (until.counts[i] - since.counts[i] for i in (memory.ANSWERED, memory.MISSED))
        whole = until.at_s - since.at_s >= 50.0  # a quantile of less is a matter of one straggler
        p99_s = _quantile(self.life, until.histogram - since.histogram, 0.99) if whole else None
        return Arm(answered, missed, p99_s)

    def _look(self, now: float, seen: Observation) -> None:
        """A tick of the tuner."""
        self.looks.append(self._snapshot())
        changed_s = self.schedule[-1][0]
        recent = [look for look in self.looks if look.at_s >= max(changed_s, now - 60.0)]
        arm = self._arm(recent[0], self.looks[-1]) if recent else Arm()
        state: Any = self.life.session.state
        trial = self.state.trial
        trying = trial is not None and trial.trying(now - 1)
        if not trying and arm.p99_s is not None:
            self.controls.append(arm)
            self.control = guard.worst(self.controls)
        windows = self.life.session.windows()
        window, burn_now = None, None
        if len(windows) > self.windows:
            self.windows = len(windows)
            found = loss.loss(OBJECTIVE, windows[-1], REFERENCE_S, self.price.value)
            self.price = self.price.after(OBJECTIVE, found, 60.0)
            burn_now = (1 - found.completed) / (1 - OBJECTIVE.completion) if trying else None
            twin = self._foreseen(now) if trial is not None and self.way.variate and trial.counts(now) else None
            window = Window(found.total, windows[-1].arrivals, twin)
        conditions = Conditions(
            ready=seen.ready,
            starting=seen.starting,
            panicking=state.panic_until_s > now,
            burn=self.price.burn,
            calls=windows[-1].arrivals if windows else None,
            trusted=self.trusted,
        )
        tick = Tick(now, conditions, burn_now, arm if trying else Arm(), self.control, window)
        if window is not None and self.batches and trial is None:
            cost = fit(b for at, b in self.batches if at > now - 120)
            if cost is not None:
                tick = replace(tick, ground=(("cost", 4 * cost[0] + cost[1]), ("rate", float(window.calls))))
        self.state, orders = tuner.step(self.state, Mode.AUTO, OBJECTIVE, tick)
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
        if orders.happened is not Happened.NOTHING:
            name = orders.happened.value
            self.told.happened[name] = self.told.happened.get(name, 0) + 1
        if orders.pool != self.schedule[-1][1]:
            self.schedule.append((now, orders.pool))
            self.life.set(orders.pool)

    # The twin

    def _episode(self, snapshot: Snapshot, until_s: float) -> Episode:
        first, last = (bisect_left(self.life.calls, int(t * NS)) for t in (snapshot.at_s, until_s))
        calls = self.life.calls[first:last] - int(snapshot.at_s * NS)
        return Episode(calls, until_s - snapshot.at_s, snapshot.at_s, max(1, snapshot.ready), snapshot.state)

    def _since(self, at_s: float) -> Snapshot:
        return next((s for s in reversed(self.snapshots) if s.at_s <= at_s), self.snapshots[0])

    def _schedule(self, from_s: float) -> list[tuple[float, Values]]:
        before = [v for at, v in self.schedule if at <= from_s]
        return [(from_s, before[-1]), *((at, v) for at, v in self.schedule if at > from_s)]

    def _twin(self, now: float) -> Twin | None:
        cost = fit(b for _, b in self.batches)
        if cost is None or not self.snapshots:
            return None
        until = now - now % 60
        whole = self._episode(self._since(max(until - REPLAY_S, 1.0)), until)
        short = [self._episode(self._since(until - SHORT_S), until)]
        worst = self._worst(until)
        if worst is not None:
            short.append(self._episode(worst, worst.at_s + SHORT_S))
        model = Model(*cost, LARGEST, self.noise or 0.3, tuple(self.starts) or (20.0,))
        return Twin(model, OBJECTIVE, BOUNDS, law, largest, REFERENCE_S, self.price.value, (whole,), tuple(short))

    def _worst(self, until: float) -> Snapshot | None:
        """Where the costliest five minutes of the replay began that are not its last."""
        windows = [
            w.paid_s / max(w.arrivals, 1) + (1 - w.well / max(w.arrivals, 1)) for w in self.life.session.windows()
        ]
        begins = [s for s in self.snapshots if until - REPLAY_S <= s.at_s <= until - 2 * SHORT_S]

        def loss_of(snapshot: Snapshot) -> float:
            first = int(snapshot.at_s // 60)
            return sum(windows[first : first + int(SHORT_S // 60)])

        return max(begins, key=loss_of, default=None)

    def _believed(self, twin: Twin, now: float) -> Twin | None:
        """The twin if its replay agrees with what was seen, after another calibration if need be."""
        whole = twin.episodes[0]
        figures = self._figures(whole)
        for attempt in range(2):
            if self.noise is None or attempt:
                last = self._episode(self._since(now - 600.0), now - now % 60)
                late = 1 - self._figures(last).completed
                twin = calibrated(twin, last, self._schedule(last.clock_s), self.seed, late)
                self.noise = twin.model.noise
            played = twin.replay(whole, self._schedule(whole.clock_s), self.seed)
            if agreement(figures, Figures.of(played)) is None:
                return twin
        return None

    def _figures(self, episode: Episode) -> Figures:
        """What was seen since an episode began."""
        since, until = self._since(episode.clock_s), self.looks[-1]
        busy, ready = (until.counts[i] - since.counts[i] for i in (memory.BUSY, memory.READY_NS))
        arm = self._arm(since, until)
        p50_s = _quantile(self.life, until.histogram - since.histogram, 0.5)
        return Figures(p50_s or 0.0, busy / max(ready, 1), 1 - arm.failed / max(arm.calls, 1))

    def _foreseen(self, now: float) -> float | None:
        """The twin's loss of the minute that just ended, with what was in force."""
        twin = self._twin(now)
        if twin is None:
            return None
        episode = self._episode(self._since(now - 60.0), now)
        played = twin.blocks(twin.replay(episode, self._schedule(episode.clock_s), self.seed))
        return played[-1].loss if played else None

    def _epoch(self, now: float, conditions: Conditions) -> Orders:
        began = time.process_time()
        twin = self._twin(now)
        believed = self._believed(twin, now) if twin is not None else None
        self.told.epochs += 1
        if believed is None:
            self.told.distrusted += 1
            self.told.epoch_cpu_s.append(time.process_time() - began)
            return Orders(self.state.force)
        seed = 1000 * self.seed + self.told.epochs
        state_law = self.life.session.law
        assert isinstance(state_law, Scale)
        hints = (scaling.optimum(state_law, LARGEST, believed.model.a, believed.model.b),)
        search, before = self.state.search, self.state.search
        search, found = epoch.propose(self.space, search, self.state.force, believed, seed, OBJECTIVE.completion, hints)
        self.told.epoch_cpu_s.append(time.process_time() - began)
        if self.told.epochs == 3:  # every one would cost as much again
            kept = record.of_epoch(self.space, before, seed, OBJECTIVE.completion, hints, believed.inputs(), found)
            self.told.replays = record.replays(kept)
        self.told.reasons.append(found.verdict.reason)
        return self._decide(now, conditions, search, found)

    def _decide(self, now: float, conditions: Conditions, search: Search, found: Proposal) -> Orders:
        """The tuner's way, or an ablation's: straight into force."""
        if self.way.trial:
            self.state, orders = tuner.proposed(self.state, Mode.AUTO, self.space, now, conditions, search, found)
            return orders
        better = found.verdict.open or (not self.way.gate and found.verdict.gain > 0)
        self.state = replace(self.state, search=search, force=found.after if better else self.state.force)
        return Orders(self.state.force, happened=Happened.PROMOTED if better else Happened.NOTHING)


def _quantile(life: Life, histogram: Any, share: float) -> float | None:
    """A quantile of latency, s, of a difference of histograms."""
    total = int(histogram.sum())
    if total == 0:
        return None
    bucket = int(np.searchsorted(np.cumsum(histogram), share * total))
    return (bucket + 0.5) * int(life.session.world.world.counts[memory.BUCKET]) / NS
