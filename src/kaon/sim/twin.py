"""The twin: a simulated copy of a deployment, fitted to what was seen of it, in which arrivals are played again.

What it knows is what the platform sees: the cost of a batch, s(n) = a n + b, by least squares over sums of batches;
starts as they were; and how uneven batches are beside that: how much, by what least squares leave over, and how much
of it is a few batches that take long, by what comes nearest to the calls' latency. It plays first attempts only. It
is not the truth, so it is believed only as long as its replay of the last half hour agrees with what was seen
(`agreement`).
"""

from __future__ import annotations

import hashlib
import math
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any

from kaon.laws import loss
from kaon.laws.scaling import Bounds, ScalingLaw
from kaon.laws.traffic import quantile
from kaon.laws.tune.epoch import Depth
from kaon.laws.tune.gate import Block, Played
from kaon.laws.tune.knobs import KnobValues
from kaon.sim import memory
from kaon.sim.engine import NS, Truth
from kaon.sim.run import Session, SimulationOutcome, SimulationSetting
from kaon.sim.traffic import resampled
from kaon.types.objective import Objective
from kaon.types.observation import Batches

NOISES = (0.05, 0.15, 0.3, 0.5, 0.8)
"""Sigmas of the log-normal factor to choose from where squares are not known."""
TAILS = (0.0, 1 / 3, 2 / 3, 1.0)
"""Shares of stragglers to choose from, of the most that the variance allows."""
BEYOND = 2.0
"""Slow replicas and costs that are not linear make calls late too: they may pass for so much more variance."""
MOST_NOISE, LEAST_NOISE, STRAGGLES = 1.2, 0.05, 5.0
_ROUNDED = 0.001
"""Batches without any noise leave a little over, of either sign."""
MOST_P50, MOST_BUSY, MOST_COMPLETION = 0.15, 0.10, 0.005
"""How far a trusted replay may be off: shares of the p50 and of the busy share, and points of completion."""
SHORT_TICK_S, LUCKS, PROOFS = 4.0, 2, 6
FEW_CALLS = 30_000
"""With fewer than these in the replay set a fleet is small. It does not miss a share of all calls but has a bad minute
now and then, which the half hour that was has by chance or has not."""
MOST_REPLICAS = 4096
LEAST_P50 = 0.02
"""Of the latency that is asked for: p50s that differ by less are the same to anybody, be it by half."""


@dataclass(frozen=True, slots=True)
class Unevenness:
    """What makes batches of the same rows differ: a log-normal factor, and a share that takes five times as long."""

    noise: float = 0.15
    stragglers: float = 0.0


@dataclass(frozen=True, slots=True)
class FittedModel:
    """What was learnt of a deployment: a batch of n rows is (a n + b) replica-seconds of work, and a replica runs
    `slots` of them beside each other. `largest_batch` is the rows that its handlers take, whatever the knob says."""

    a: float
    b: float
    largest_batch: int
    uneven: Unevenness = field(default_factory=Unevenness)
    starts_s: tuple[float, ...] = (20.0,)
    slots: int = 1
    rows_per_call: float = 1.0

    def calls(self, rows: int) -> int:
        """So many calls, at least one, are in a batch of `rows`."""
        return max(1, int(rows / self.rows_per_call))

    def truth(self) -> Truth:
        """The same, for the simulator, whose a and b are those of batches of calls that do not straggle."""
        took = self.slots / (1 + (STRAGGLES - 1) * self.uneven.stragglers)
        return Truth(
            a=self.a * self.rows_per_call * took,
            b=self.b * took,
            max_batch=self.calls(self.largest_batch),
            noise=self.uneven.noise,
            stragglers=self.uneven.stragglers,
            starts_s=self.starts_s,
            slots=self.slots,
            rows_per_call=self.rows_per_call,
        )


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
    led_in_s: float = 0.0
    """So much of its begin is played but not scored, whole minutes."""

    def part(self, span_s: float) -> Episode:
        """Its first `span_s`."""
        return replace(self, arrivals_ns=self.arrivals_ns[: bisect_left(self.arrivals_ns, span_s * NS)], span_s=span_s)

    def other(self, seed: int) -> Episode:
        """The same with calls that might as well have come instead."""
        return replace(self, arrivals_ns=resampled(self.arrivals_ns, self.span_s, seed))


def goes_on() -> None:
    """Nobody ends a play before it is over."""


@dataclass(frozen=True, slots=True)
class Twin:
    """The copy. `law` and `limits` (calls of a batch, batches beside each other, seconds that one waits) say what
    values of the knobs mean.

    A whole play takes each of `episodes` with several lucks, because a single one may differ from the next by more than
    a good move gains; a proof, with `PROOFS` others. A short play takes the `short` ones once, and lets the law look
    half as often. Where few calls came, each luck is another half hour, like the one that was, that comes after it.
    """

    model: FittedModel
    objective: Objective
    bounds: Bounds
    law: Callable[[KnobValues], ScalingLaw]
    limits: Callable[[KnobValues], tuple[int, int, float]]
    reference_s: float
    price: float
    episodes: tuple[Episode, ...]
    short: tuple[Episode, ...]
    tick_s: float = 2.0
    stale_s: float = 2.0
    lucks: int = LUCKS
    go_on: Callable[[], None] = goes_on
    """Called at every tick; what it raises ends the play."""

    def __call__(self, values: KnobValues, seed: int, depth: Depth) -> Played:
        """What `values` would have come to: `kaon.laws.tune.epoch.Play`."""
        if depth == Depth.SHORT:
            quick = replace(self, tick_s=SHORT_TICK_S)
            return tuple(block for i, e in enumerate(self.short) for block in quick.play(e, values, seed + i))
        lucks = range(self.lucks) if depth == Depth.WHOLE else range(self.lucks, self.lucks + PROOFS)
        if self.few:
            return tuple(self._others(values, seed, lucks))
        played = [
            [block for i, e in enumerate(self.episodes) for block in self.play(e, values, seed + 100 * luck + i)]
            for luck in lucks
        ]
        return tuple(_mean(blocks) for blocks in zip(*played, strict=True))

    @property
    def few(self) -> bool:
        """Whether what may happen is judged by more than what did."""
        return sum(len(episode.arrivals_ns) for episode in self.episodes) < FEW_CALLS

    def play(self, episode: Episode, values: KnobValues, seed: int) -> Played:
        """`episode` with `values` from its begin on."""
        return self.blocks(self.replay(episode, [(episode.clock_s, values)], seed), episode.burst)

    def _others(self, values: KnobValues, seed: int, lucks: Sequence[int]) -> Iterator[Block]:
        """The minutes of as many other half hours as there are lucks."""
        lived = [self.lived(episode, values, seed + i) for i, episode in enumerate(self.episodes)]
        for luck in lucks:
            for dice, episode in enumerate(lived, start=seed + 100 * luck):
                yield from self.play(episode.other(dice), values, dice)

    def lived(self, episode: Episode, values: KnobValues, seed: int) -> Episode:
        """`episode` once more, from where it ends when it was lived through with `values`: the law begins with what it
        learnt under these, not with what it had learnt under others."""
        session = self._lived(episode, [(episode.clock_s, values)], seed)
        ready = max(1, int(session.world.world.counts[memory.READY]))
        return replace(episode, clock_s=episode.clock_s + episode.span_s, ready=ready, state=session.state)

    def replay(self, episode: Episode, schedule: Sequence[tuple[float, KnobValues]], seed: int) -> SimulationOutcome:
        """`episode` with the values that were in force, each from its time (the law's clock) on."""
        return self._lived(episode, schedule, seed).finish()

    def _lived(self, episode: Episode, schedule: Sequence[tuple[float, KnobValues]], seed: int) -> Session:
        left = list(schedule)
        setting = SimulationSetting(
            self.model.truth(),
            self.objective,
            self.bounds,
            0,
            tick_s=self.tick_s,
            stale_s=self.stale_s,
            scored_from_s=episode.led_in_s,
            slots=self._slots(episode),
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
        session.world.limit(*self.limits(first))
        for tick in range(round(episode.span_s / self.tick_s)):
            while left and left[0][0] <= episode.clock_s + tick * self.tick_s:
                values = left.pop(0)[1]
                session.law = self.law(values)
                session.world.limit(*self.limits(values))
            self.go_on()
            session.step()
        return session

    def _slots(self, episode: Episode) -> int:
        """Room for replicas: those that may be ordered, and those that drain meanwhile."""
        return min(2 * max(self.bounds.max, episode.ready) + 8, MOST_REPLICAS)

    def blocks(self, outcome: SimulationOutcome, burst: bool = False) -> Played:
        """An outcome's minutes, those of few calls joined, with their losses at the present price, rounded: they are
        kept for the record."""
        windows = loss.merged(list(outcome.windows))
        losses = (loss.loss(self.objective, w, self.reference_s, self.price) for w in windows)
        return tuple(
            Block(round(x.total, 6), w.arrivals, w.well, burst, round(self.price * x.completion, 6))
            for x, w in zip(losses, windows, strict=True)
        )

    def inputs(self) -> str:
        """The hash of all that a play depends on but the law's memory: model, objective, price, arrivals."""
        told = repr((self.model, self.objective, self.bounds, self.reference_s, self.price, self.tick_s, self.lucks))
        digest = hashlib.sha256(told.encode())
        for episode in (*self.episodes, *self.short):
            span = (episode.span_s, episode.clock_s, episode.ready, episode.led_in_s, len(episode.arrivals_ns))
            digest.update(repr(span).encode())
            digest.update(b"".join(int(t).to_bytes(8, "little") for t in episode.arrivals_ns[::97]))
        return digest.hexdigest()


def _mean(lucks: Sequence[Block]) -> Block:
    """The same minute under several lucks."""
    well = round(fmean(block.well for block in lucks))
    loss, price = fmean(block.loss for block in lucks), fmean(block.price for block in lucks)
    return replace(lucks[0], loss=loss, well=well, price=price)


def unevennesses(seen: Batches, a: float, b: float) -> tuple[Unevenness, ...]:
    """Those that leave as much of batches' time unexplained by a n + b as is: from a log-normal factor alone to as
    many stragglers as there can be; and those that leave twice as much.

    With s = (a n + b) X and E X = 1, the squared residuals sum to Var X times the sum of (a n + b)^2.
    """
    expected = a * a * seen.rows_squared + 2 * a * b * seen.rows + b * b * seen.count
    residual = seen.seconds_squared - 2 * a * seen.rows_seconds - 2 * b * seen.seconds + expected
    if expected <= 0 or residual < -_ROUNDED * expected:  # nobody knows the squares, or not of all batches
        return tuple(Unevenness(noise) for noise in NOISES)
    squares = (min(1 + more * max(residual, 0.0) / expected, math.exp(MOST_NOISE**2)) for more in (1.0, BEYOND))
    return tuple(_uneven(square, tail * _most_stragglers(square)) for square in squares for tail in TAILS)


def _uneven(square: float, stragglers: float) -> Unevenness:
    """With a mean square of the factor of `square`, so many of it stragglers."""
    return Unevenness(math.sqrt(max(0.0, math.log(square / _straggling(stragglers)))), stragglers)


def _straggling(share: float) -> float:
    """The mean square of a factor with a mean of 1 that is five times as large for a share."""
    return (1 - share + STRAGGLES**2 * share) / (1 + (STRAGGLES - 1) * share) ** 2


def _most_stragglers(square: float) -> float:
    """The share of stragglers that, with hardly any other noise, explains `square`; by halving."""
    low, high = 0.0, 1 / (STRAGGLES + 1)  # where the mean square is highest
    for _ in range(40):
        middle = (low + high) / 2
        less = _straggling(middle) * math.exp(LEAST_NOISE**2) < square
        low, high = (middle, high) if less else (low, middle)
    return low


@dataclass(frozen=True, slots=True)
class TwinFigures:
    """What is compared: the median latency, the busy share, the share answered well."""

    p50_s: float
    busy: float
    completed: float

    @classmethod
    def of(cls, outcome: SimulationOutcome) -> TwinFigures:
        """Those of a replay."""
        whole = outcome.whole
        return cls(quantile(outcome.latency, 0.5) or 0.0, whole.busy_s / max(whole.ready_s, 1e-9), outcome.attainment)


def agreement(seen: TwinFigures, played: TwinFigures, latency_s: float) -> str | None:
    """Why the twin is not believed, with figures; None: it is. `latency_s` is the objective's."""
    if abs(played.p50_s - seen.p50_s) > max(MOST_P50 * seen.p50_s, LEAST_P50 * latency_s):
        return f"p50 {1e3 * played.p50_s:.3g} ms in the twin, {1e3 * seen.p50_s:.3g} ms seen"
    if abs(played.busy - seen.busy) > MOST_BUSY * seen.busy:
        return f"busy {100 * played.busy:.1f} % in the twin, {100 * seen.busy:.1f} % seen"
    if abs(played.completed - seen.completed) > MOST_COMPLETION:
        return f"completed {100 * played.completed:.2f} % in the twin, {100 * seen.completed:.2f} % seen"
    return None


def off(seen: TwinFigures, played: TwinFigures) -> str:
    """By how much a replay is off, in words."""
    p50, busy = (abs(a / max(b, 1e-9) - 1) for a, b in ((played.p50_s, seen.p50_s), (played.busy, seen.busy)))
    points = 100 * abs(played.completed - seen.completed)
    return f"p50 {100 * p50:.0f} % off, busy {100 * busy:.0f} % off, completion {points:.1f} points off"


def distance(seen: TwinFigures, played: TwinFigures) -> float:
    """How far a replay is off, in what it may be off."""
    p50 = abs(played.p50_s / max(seen.p50_s, 1e-9) - 1) / MOST_P50
    busy = abs(played.busy / max(seen.busy, 1e-9) - 1) / MOST_BUSY
    return p50 + busy + abs(played.completed - seen.completed) / MOST_COMPLETION


def calibrated(
    twin: Twin,
    choices: Sequence[Unevenness],
    episode: Episode,
    schedule: Sequence[tuple[float, KnobValues]],
    seed: int,
    seen: TwinFigures,
) -> int:
    """Which of `choices` makes the replay of `episode` come nearest to what was seen."""

    def far(number: int) -> float:
        model = replace(twin.model, uneven=choices[number])
        return distance(seen, TwinFigures.of(replace(twin, model=model).replay(episode, schedule, seed)))

    return min(range(len(choices)), key=far)
