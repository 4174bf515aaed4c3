"""The twin: a simulated copy of a deployment, fitted to observations, in which past arrivals are replayed.

It is fitted to what the platform observes: the cost of a batch, s(n) = a n + b, by least squares over sums of batches;
the durations of starts; the variance of batches that is not explained by a n + b; and how much of it comes from few
long batches, by the best fit to the latencies. It plays first attempts of calls only. Since it is a model, it is
trusted only while its replay of the last half hour agrees with the observations (`agreement`).
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
"""Sigmas of the log-normal factor to choose from where squares are unknown."""
TAILS = (0.0, 1 / 3, 2 / 3, 1.0)
"""Shares of stragglers to choose from, relative to the most that the variance allows."""
BEYOND = 2.0
"""Slow replicas and nonlinear costs delay calls too: they may count as so much more variance."""
MOST_NOISE, LEAST_NOISE, STRAGGLES = 1.2, 0.05, 5.0
_ROUNDED = 0.001
"""Rounding leaves a small residual of either sign, even without noise."""
MOST_P50, MOST_BUSY, MOST_COMPLETION = 0.15, 0.10, 0.005
"""The most deviation of a trusted replay: relative of p50 and busy share, and in points of completion."""
SHORT_TICK_S, SEEDS, PROOFS = 4.0, 2, 6
FEW_CALLS = 30_000
"""With fewer calls in the replay set misses are rare bad minutes, which the last half hour contains or not by
chance."""
MOST_REPLICAS = 4096
LEAST_P50 = 0.02
"""Share of the objective's latency: smaller differences of p50 never count, whatever their ratio."""


@dataclass(frozen=True, slots=True)
class Unevenness:
    """Why batches of the same rows differ: a log-normal factor, and a share that takes five times as long."""

    noise: float = 0.15
    stragglers: float = 0.0


@dataclass(frozen=True, slots=True)
class FittedModel:
    """The fitted model of a deployment: a batch of n rows is (a n + b) replica-seconds of work, and a replica runs
    `slots` of them concurrently. `largest_batch`: the rows that its handlers accept, whatever the knob is."""

    a: float
    b: float
    largest_batch: int
    uneven: Unevenness = field(default_factory=Unevenness)
    starts_s: tuple[float, ...] = (20.0,)
    slots: int = 1
    rows_per_call: float = 1.0

    def calls(self, rows: int) -> int:
        """The calls in a batch of `rows`, at least one."""
        return max(1, int(rows / self.rows_per_call))

    def truth(self) -> Truth:
        """The model for the simulator, whose a and b are about calls, and about batches that are no stragglers."""
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
    """A span of real traffic, and the state at its begin: ready replicas, and the state of the law."""

    arrivals_ns: Any
    """Sorted, from the episode's begin."""
    span_s: float
    clock_s: float
    ready: int
    state: Any
    burst: bool = False
    led_in_s: float = 0.0
    """The part at its begin that is played but not scored, whole minutes."""

    def part(self, span_s: float) -> Episode:
        """Its first `span_s`."""
        return replace(self, arrivals_ns=self.arrivals_ns[: bisect_left(self.arrivals_ns, span_s * NS)], span_s=span_s)

    def resampled(self, seed: int) -> Episode:
        """The same with a bootstrap sample of its calls."""
        return replace(self, arrivals_ns=resampled(self.arrivals_ns, self.span_s, seed))


def never_ends() -> None:
    """The check of a play that runs to its end."""


@dataclass(frozen=True, slots=True)
class Twin:
    """A simulated copy. `law` and `limits` (calls of a batch, concurrent batches, seconds that one waits) apply values
    of the knobs.

    A whole play runs each of `episodes` with several seeds, because two of them may differ by more than a good move
    gains; a proof with `PROOFS` other seeds. A short play runs the `short` ones once, with half as many ticks of the
    law. With few calls each seed is another half hour, resampled from the last one and played after it.
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
    seeds: int = SEEDS
    check: Callable[[], None] = never_ends
    """Called at every tick; an exception that it raises ends the play."""

    def __call__(self, values: KnobValues, seed: int, depth: Depth) -> Played:
        """The result with `values`: `kaon.laws.tune.epoch.Play`."""
        if depth == Depth.SHORT:
            quick = replace(self, tick_s=SHORT_TICK_S)
            return tuple(block for i, e in enumerate(self.short) for block in quick.play(e, values, seed + i))
        numbers = range(self.seeds) if depth == Depth.WHOLE else range(self.seeds, self.seeds + PROOFS)
        if self.few:
            return tuple(self._resampled(values, seed, numbers))
        played = [
            [block for i, e in enumerate(self.episodes) for block in self.play(e, values, seed + 100 * number + i)]
            for number in numbers
        ]
        return tuple(_mean(blocks) for blocks in zip(*played, strict=True))

    @property
    def few(self) -> bool:
        """Whether there are so few calls that resampled half hours are played."""
        return sum(len(episode.arrivals_ns) for episode in self.episodes) < FEW_CALLS

    def play(self, episode: Episode, values: KnobValues, seed: int) -> Played:
        """`episode` with `values` from its begin on."""
        return self.blocks(self.replay(episode, [(episode.clock_s, values)], seed), episode.burst)

    def _resampled(self, values: KnobValues, seed: int, numbers: Sequence[int]) -> Iterator[Block]:
        """The minutes of a resampled half hour for each number."""
        continued = [self.continued(episode, values, seed + i) for i, episode in enumerate(self.episodes)]
        for number in numbers:
            for own_seed, episode in enumerate(continued, start=seed + 100 * number):
                yield from self.play(episode.resampled(own_seed), values, own_seed)

    def continued(self, episode: Episode, values: KnobValues, seed: int) -> Episode:
        """`episode` again, beginning with the state at its end with `values`: so the law has learnt under these."""
        session = self._session(episode, [(episode.clock_s, values)], seed)
        ready = max(1, int(session.world.world.counts[memory.READY]))
        return replace(episode, clock_s=episode.clock_s + episode.span_s, ready=ready, state=session.state)

    def replay(self, episode: Episode, schedule: Sequence[tuple[float, KnobValues]], seed: int) -> SimulationOutcome:
        """`episode` with the values of `schedule`, each from its time (the law's clock) on."""
        return self._session(episode, schedule, seed).finish()

    def _session(self, episode: Episode, schedule: Sequence[tuple[float, KnobValues]], seed: int) -> Session:
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
            self.check()
            session.step()
        return session

    def _slots(self, episode: Episode) -> int:
        """The most replicas: those that may be started, and those that drain meanwhile."""
        return min(2 * max(self.bounds.max, episode.ready) + 8, MOST_REPLICAS)

    def blocks(self, outcome: SimulationOutcome, burst: bool = False) -> Played:
        """The minutes of an outcome, those of few calls joined, with their losses at the current price, rounded for the
        record."""
        windows = loss.merged(list(outcome.windows))
        losses = (loss.loss(self.objective, w, self.reference_s, self.price) for w in windows)
        return tuple(
            Block(round(x.total, 6), w.arrivals, w.well, burst, round(self.price * x.completion, 6))
            for x, w in zip(losses, windows, strict=True)
        )

    def inputs(self) -> str:
        """The hash of all inputs of a play but the law's state: model, objective, price, arrivals."""
        fixed = repr((self.model, self.objective, self.bounds, self.reference_s, self.price, self.tick_s, self.seeds))
        digest = hashlib.sha256(fixed.encode())
        for episode in (*self.episodes, *self.short):
            span = (episode.span_s, episode.clock_s, episode.ready, episode.led_in_s, len(episode.arrivals_ns))
            digest.update(repr(span).encode())
            digest.update(b"".join(int(t).to_bytes(8, "little") for t in episode.arrivals_ns[::97]))
        return digest.hexdigest()


def _mean(blocks: Sequence[Block]) -> Block:
    """The mean of the same minute with several seeds."""
    well = round(fmean(block.well for block in blocks))
    loss, price = fmean(block.loss for block in blocks), fmean(block.price for block in blocks)
    return replace(blocks[0], loss=loss, well=well, price=price)


def unevennesses(observed: Batches, a: float, b: float) -> tuple[Unevenness, ...]:
    """Those that explain the variance that a n + b leaves: from a log-normal factor alone to as many stragglers as
    possible; and the same for twice that variance.

    With s = (a n + b) X and E X = 1, the squared residuals sum to Var X times the sum of (a n + b)^2.
    """
    expected = a * a * observed.rows_squared + 2 * a * b * observed.rows + b * b * observed.count
    residual = observed.seconds_squared - 2 * a * observed.rows_seconds - 2 * b * observed.seconds + expected
    if expected <= 0 or residual < -_ROUNDED * expected:  # the squares are unknown for some or all batches
        return tuple(Unevenness(noise) for noise in NOISES)
    squares = (min(1 + more * max(residual, 0.0) / expected, math.exp(MOST_NOISE**2)) for more in (1.0, BEYOND))
    return tuple(_uneven(square, tail * _most_stragglers(square)) for square in squares for tail in TAILS)


def _uneven(square: float, stragglers: float) -> Unevenness:
    """The unevenness with that share of stragglers whose factor has the mean square `square`."""
    return Unevenness(math.sqrt(max(0.0, math.log(square / _straggling(stragglers)))), stragglers)


def _straggling(share: float) -> float:
    """The mean square of a factor with a mean of 1 that is five times as large for a share."""
    return (1 - share + STRAGGLES**2 * share) / (1 + (STRAGGLES - 1) * share) ** 2


def _most_stragglers(square: float) -> float:
    """The share of stragglers that, with almost no other noise, explains `square`; by bisection."""
    low, high = 0.0, 1 / (STRAGGLES + 1)  # where the mean square is highest
    for _ in range(40):
        middle = (low + high) / 2
        less = _straggling(middle) * math.exp(LEAST_NOISE**2) < square
        low, high = (middle, high) if less else (low, middle)
    return low


@dataclass(frozen=True, slots=True)
class TwinFigures:
    """The compared figures: the median latency, the busy share, the share of calls answered well."""

    p50_s: float
    busy: float
    completed: float

    @classmethod
    def of(cls, outcome: SimulationOutcome) -> TwinFigures:
        """The figures of a replay."""
        whole = outcome.whole
        return cls(quantile(outcome.latency, 0.5) or 0.0, whole.busy_s / max(whole.ready_s, 1e-9), outcome.attainment)


def agreement(observed: TwinFigures, played: TwinFigures, latency_s: float) -> str | None:
    """Why the twin is not trusted, with figures; None: it is trusted. `latency_s` is the objective's."""
    if abs(played.p50_s - observed.p50_s) > max(MOST_P50 * observed.p50_s, LEAST_P50 * latency_s):
        return f"p50 {1e3 * played.p50_s:.3g} ms in the twin, {1e3 * observed.p50_s:.3g} ms observed"
    if abs(played.busy - observed.busy) > MOST_BUSY * observed.busy:
        return f"busy {100 * played.busy:.1f} % in the twin, {100 * observed.busy:.1f} % observed"
    if abs(played.completed - observed.completed) > MOST_COMPLETION:
        return f"completed {100 * played.completed:.2f} % in the twin, {100 * observed.completed:.2f} % observed"
    return None


def off(observed: TwinFigures, played: TwinFigures) -> str:
    """The deviation of a replay, as text."""
    p50, busy = (abs(a / max(b, 1e-9) - 1) for a, b in ((played.p50_s, observed.p50_s), (played.busy, observed.busy)))
    points = 100 * abs(played.completed - observed.completed)
    return f"p50 {100 * p50:.0f} % off, busy {100 * busy:.0f} % off, completion {points:.1f} points off"


def distance(observed: TwinFigures, played: TwinFigures) -> float:
    """The deviation of a replay, relative to the allowed ones."""
    p50 = abs(played.p50_s / max(observed.p50_s, 1e-9) - 1) / MOST_P50
    busy = abs(played.busy / max(observed.busy, 1e-9) - 1) / MOST_BUSY
    return p50 + busy + abs(played.completed - observed.completed) / MOST_COMPLETION


def calibrated(
    twin: Twin,
    choices: Sequence[Unevenness],
    episode: Episode,
    schedule: Sequence[tuple[float, KnobValues]],
    seed: int,
    observed: TwinFigures,
) -> int:
    """The number of the choice with which the replay of `episode` is nearest to the observed figures."""

    def far(number: int) -> float:
        model = replace(twin.model, uneven=choices[number])
        return distance(observed, TwinFigures.of(replace(twin, model=model).replay(episode, schedule, seed)))

    return min(range(len(choices)), key=far)
