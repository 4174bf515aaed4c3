"""The twin: a simulated copy of a deployment, fitted to what was seen of it, in which arrivals are played again.

What it knows is what the platform sees: the cost of a batch, s(n) = a n + b, by least squares over sums of batches;
starts as they were; and one number for all else that makes batches uneven, a log-normal factor, chosen so that
as many calls are late in the replay as were in truth. It plays first attempts only. It is not the truth, so it
is believed only as long as its replay of the last half hour agrees with what was seen (`agreement`).
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from kaon.laws import loss
from kaon.laws.scaling import Bounds, Law
from kaon.laws.service_time import ServiceTime
from kaon.laws.tune.gate import Block, Played
from kaon.laws.tune.knobs import Values
from kaon.sim.engine import NS, Truth
from kaon.sim.run import Outcome, Session, Setting
from kaon.types.objective import Objective
from kaon.types.observation import Batches

NOISES = (0.05, 0.15, 0.3, 0.45, 0.6, 0.8, 1.0)
"""Sigmas of the log-normal factor to choose from."""
MOST_P50, MOST_BUSY, MOST_COMPLETION = 0.15, 0.10, 0.005
"""How far a trusted replay may be off: shares of the p50 and of the busy share, and points of completion."""


@dataclass(frozen=True, slots=True)
class Model:
    """What was learnt of a deployment. `largest_batch` is what its handlers take, whatever the knob says."""

    a: float
    b: float
    largest_batch: int
    noise: float = 0.15
    starts_s: tuple[float, ...] = (20.0,)

    def truth(self) -> Truth:
        """The same, for the simulator."""
        return Truth(a=self.a, b=self.b, max_batch=self.largest_batch, noise=self.noise, starts_s=self.starts_s)


@dataclass(frozen=True, slots=True)
class Episode:
    """A span of real traffic, and how things stood when it began: replicas, and what the law remembered."""

    arrivals_ns: Any
    """Sorted, from the episode's begin."""
    span_s: float
    clock_s: float
    ready: int
    state: Any
    burst: bool = False

    def part(self, span_s: float) -> Episode:
        """Its first `span_s`."""
        return replace(self, arrivals_ns=self.arrivals_ns[: bisect_left(self.arrivals_ns, span_s * NS)], span_s=span_s)


@dataclass(frozen=True, slots=True)
class Twin:
    """The copy. `law` and `largest` say what values of the knobs mean; a short play takes the `short` episodes."""

    model: Model
    objective: Objective
    bounds: Bounds
    law: Callable[[Values], Law]
    largest: Callable[[Values], int]
    reference_s: float
    price: float
    episodes: tuple[Episode, ...]
    short: tuple[Episode, ...]
    tick_s: float = 2.0
    stale_s: float = 2.0

    def __call__(self, values: Values, seed: int, whole: bool) -> Played:
        """What `values` would have come to: `kaon.laws.tune.epoch.Play`."""
        episodes = self.episodes if whole else self.short
        return tuple(block for i, e in enumerate(episodes) for block in self._blocks(e, values, seed + i))

    def replay(self, episode: Episode, schedule: Sequence[tuple[float, Values]], seed: int) -> Outcome:
        """`episode` with the values that were in force, each from its time (the law's clock) on."""
        left = list(schedule)
        setting = Setting(
            self.model.truth(), self.objective, self.bounds, 0, tick_s=self.tick_s, stale_s=self.stale_s, slots=256
        )
        first = left.pop(0)[1]
        session = Session(
            self.law(first),
            setting,
            episode.arrivals_ns,
            seed,
            state=episode.state,
            clock_s=episode.clock_s,
            ready=episode.ready,
        )
        session.world.limit(self.largest(first))
        for tick in range(round(episode.span_s / self.tick_s)):
            while left and left[0][0] <= episode.clock_s + tick * self.tick_s:
                values = left.pop(0)[1]
                session.law = self.law(values)
                session.world.limit(self.largest(values))
            session.step()
        return session.finish()

    def blocks(self, outcome: Outcome, burst: bool = False) -> Played:
        """An outcome's minutes with their losses at the present price, rounded: they are kept for the record."""
        losses = (loss.loss(self.objective, w, self.reference_s, self.price).total for w in outcome.windows)
        return tuple(
            Block(round(x, 6), w.arrivals, w.well, burst) for x, w in zip(losses, outcome.windows, strict=True)
        )

    def _blocks(self, episode: Episode, values: Values, seed: int) -> Played:
        return self.blocks(self.replay(episode, [(episode.clock_s, values)], seed), episode.burst)

    def inputs(self) -> str:
        """The hash of all that a play depends on but the law's memory: model, objective, price, arrivals."""
        told = repr((self.model, self.objective, self.bounds, self.reference_s, self.price))
        digest = hashlib.sha256(told.encode())
        for episode in (*self.episodes, *self.short):
            digest.update(repr((episode.span_s, episode.clock_s, episode.ready, len(episode.arrivals_ns))).encode())
            digest.update(b"".join(int(t).to_bytes(8, "little") for t in episode.arrivals_ns[::97]))
        return digest.hexdigest()


def fit(batches: Iterable[Batches]) -> tuple[float, float] | None:
    """(a, b) by least squares over all of `batches`; None before the first."""
    known = ServiceTime()
    for seen in batches:
        known = ServiceTime(
            known.count + seen.count,
            known.rows + seen.rows,
            known.seconds + seen.seconds,
            known.rows_squared + seen.rows_squared,
            known.rows_seconds + seen.rows_seconds,
        )
    return known.line() if known.known else None


@dataclass(frozen=True, slots=True)
class Figures:
    """What is compared: the median latency, the busy share, the share answered well."""

    p50_s: float
    busy: float
    completed: float

    @classmethod
    def of(cls, outcome: Outcome) -> Figures:
        """Those of a replay."""
        whole = outcome.whole
        return cls(outcome.latency_p50_s, whole.busy_s / max(whole.ready_s, 1e-9), outcome.attainment)


def agreement(seen: Figures, played: Figures) -> str | None:
    """Why the twin is not believed; None: it is."""
    if abs(played.p50_s - seen.p50_s) > MOST_P50 * seen.p50_s:
        return f"p50 {played.p50_s:.3g} s in the twin, {seen.p50_s:.3g} s seen"
    if abs(played.busy - seen.busy) > MOST_BUSY * seen.busy:
        return f"busy {played.busy:.1%} in the twin, {seen.busy:.1%} seen"
    if abs(played.completed - seen.completed) > MOST_COMPLETION:
        return f"completed {played.completed:.2%} in the twin, {seen.completed:.2%} seen"
    return None


def calibrated(twin: Twin, episode: Episode, schedule: Sequence[tuple[float, Values]], seed: int, late: float) -> Twin:
    """`twin` with the noise of which as large a share of calls is late as was."""

    def off(noise: float) -> float:
        model = replace(twin.model, noise=noise)
        return abs(1 - replace(twin, model=model).replay(episode, schedule, seed).attainment - late)

    return replace(twin, model=replace(twin.model, noise=min(NOISES, key=off)))
