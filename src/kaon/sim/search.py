"""The twin at work: an `TwinQuery` of the tuner is answered by playing the deployment's past in a model of it.

    answer(ask) -> Answer

It is a function: the same question gets the same answer, whoever asks and whenever. First the twin must be believed
(`believed`): its replay of the last half hour, with the values that were in force, must come out as what was seen.
"""

from __future__ import annotations

import asyncio
import math
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from statistics import fmean

from kaon.errors import Unavailable
from kaon.laws import choice, loss
from kaon.laws.scale import Scale
from kaon.laws.scaling import ScalingLaw
from kaon.laws.service_time import fit
from kaon.laws.traffic import middle, quantile
from kaon.laws.tune import epoch, gate, record, scaling, warm
from kaon.laws.tune.ask import TwinQuery, TwinResult
from kaon.laws.tune.epoch import Depth, EpochInputs, Proposal
from kaon.laws.tune.knobs import KnobValues, Space
from kaon.laws.tune.past import MINUTE_S, PastSums, Stretch
from kaon.laws.tune.replay_set import RECENT_S, ReplaySet, replay_set
from kaon.sim import memory
from kaon.sim.engine import available
from kaon.sim.run import SimulationOutcome
from kaon.sim.traffic import moments
from kaon.sim.twin import (
    LUCKS,
    Episode,
    FittedModel,
    Twin,
    TwinFigures,
    Unevenness,
    agreement,
    calibrated,
    goes_on,
    off,
    unevennesses,
)
from kaon.types.service import ServiceSpec

FIT_S, CALIBRATED_S = 600.0, 600.0
LED_IN_S = 900.0
"""How long the twin lives before a minute that it foresees: what was starting when it began is not known to it."""
LEAST_REPLAY_S = 1200.0
"""Of less than this nothing is believed."""
MOST_CALLS = 5_000_000
"""In a replay: more would take more time and memory than a control plane should spend on it."""
FEW_CALLS = 600_000
"""So many are played with several lucks; among more, chance evens out by itself."""
_START_S = 20.0
_TURN_S = 0.0005
_MISSING, _HELPS = "the platform has no simulator", "pip install 'kaon[sim]', then kaon down; kaon up"


class GivenUp(Exception):
    """Nobody waits for the answer any more."""


def answer(ask: TwinQuery, go_on: Callable[[], None] = goes_on) -> TwinResult:
    """What the twin says. `go_on` is called all along; what it raises ends the work."""
    began = time.thread_time()
    found = _foreseen(ask, go_on) if ask.foresee_s is not None else _epoch(ask, go_on)
    return replace(found, cpu_s=time.thread_time() - began)


class ThreadedTwin:
    """Answers in a thread, one question at a time: `kaon.control.tune.twin_port.Twin`.

    What is compiled runs beside the event loop; the law, which is Python, takes turns with it, and short ones.
    """

    def __init__(self) -> None:
        self._one = asyncio.Lock()

    def missing(self) -> str:
        """Why nothing can simulate here, and what helps; empty: it can."""
        return "" if available() else f"{_MISSING}: {_HELPS}"

    async def ask(self, ask: TwinQuery) -> TwinResult:
        """The answer. Raises `Unavailable` without the simulator's compiler."""
        if not available():
            raise Unavailable(f"{_MISSING}.", hint=_HELPS)
        async with self._one:
            usual_s = sys.getswitchinterval()
            sys.setswitchinterval(_TURN_S)
            try:
                return await _in_thread(ask)
            finally:
                sys.setswitchinterval(usual_s)


async def _in_thread(ask: TwinQuery) -> TwinResult:
    """The answer, from a thread of the loop's executor. Cancelled, it returns when the thread is free again."""
    given_up = threading.Event()

    def go_on() -> None:
        if given_up.is_set():
            raise GivenUp

    work = asyncio.ensure_future(asyncio.to_thread(answer, ask, go_on))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        given_up.set()
        await asyncio.gather(work, return_exceptions=True)
        raise


@dataclass(frozen=True, slots=True)
class Belief:
    """A twin, and why it is not believed; empty: it is."""

    twin: Twin | None
    distrust: str = ""
    noise: float | None = None
    """Which unevenness was chosen."""
    off: str = ""
    """How far its replay was off."""
    replayed: tuple[tuple[float, float, float], ...] = ()
    """`TwinResult.replayed`."""


def believed(ask: TwinQuery, go_on: Callable[[], None] = goes_on) -> Belief:
    """The twin, if its replay agrees with what was seen, after another calibration if need be."""
    until = _until(ask)
    calls = sum(ask.past.counts(until - RECENT_S, until))
    if calls > MOST_CALLS:
        return Belief(None, f"{calls} calls in half an hour are more than can be played", ask.noise)
    twin = built(ask, replay_set(ask.past, until), go_on)
    if twin is None or not twin.episodes:
        return Belief(None, "no batch or no snapshot was seen yet", ask.noise)
    whole = twin.episodes[0]
    if whole.span_s < LEAST_REPLAY_S:
        least = LEAST_REPLAY_S / 60
        return Belief(None, f"of {least:.0f} minutes that it needs, {whole.span_s / 60:.0f} are known", ask.noise)
    seen, distrust, noise, far = _figures(ask, whole.clock_s, until), "", ask.noise, ""
    for attempt in range(2):
        if ask.noise is None or attempt:
            noise = _calibration(ask, twin, until)
            twin = replace(twin, model=replace(twin.model, uneven=_choices(ask, twin.model, until)[noise]))
        outcome = twin.replay(whole, _in_force(ask, whole.clock_s), ask.seed)
        played = TwinFigures.of(outcome)
        distrust, far = agreement(seen, played, ask.objective.latency_s) or "", off(seen, played)
        if not distrust or noise == ask.noise:
            break
    return Belief(twin, distrust, noise, far, tuple(_replayed(twin, whole, outcome)))


def _replayed(twin: Twin, whole: Episode, outcome: SimulationOutcome) -> Iterator[tuple[float, float, float]]:
    """`TwinResult.replayed`, of those minutes that have calls enough for a loss of their own.

    An episode begins when a minute does, or some seconds later.
    """
    end_s = whole.clock_s // MINUTE_S * MINUTE_S
    for block, (_, minutes) in zip(twin.blocks(outcome), loss.joined(list(outcome.windows)), strict=True):
        end_s += minutes * MINUTE_S
        if minutes == 1:
            yield end_s, block.loss, block.plain


def built(ask: TwinQuery, played: ReplaySet | None, go_on: Callable[[], None] = goes_on) -> Twin | None:
    """The twin as far as it can be told from the past, to play this; None: no batch was seen yet."""
    past, until = ask.past, _until(ask)
    sums = past.sums(until - FIT_S, until)
    cost = fit([sums.batches])
    if cost is None:
        return None
    starts_s = tuple(past.starts_s) or (_START_S,)
    largest = choice.max_batch(ask.service)
    model = FittedModel(*cost, largest, Unevenness(), starts_s, slots(ask.service, sums), rows_per_call(sums))
    if ask.noise is not None:
        choices = _choices(ask, model, until)
        model = replace(model, uneven=choices[min(round(ask.noise), len(choices) - 1)])
    whole, short = ((), ()) if played is None else (played.whole, played.short)
    episodes = tuple(episode(ask, model, stretch) for stretch in whole)
    return Twin(
        model,
        ask.objective,
        ask.bounds,
        partial(law, ask),
        partial(_limits, ask, model),
        _reference_s(ask, until),
        ask.price,
        episodes,
        tuple(episode(ask, model, stretch) for stretch in short),
        lucks=1 if sum(len(e.arrivals_ns) for e in episodes) > FEW_CALLS else LUCKS,
        go_on=go_on,
    )


def slots(service: ServiceSpec, seen: PastSums) -> int:
    """How many calls, or batches, a replica runs beside each other: by how much longer one takes than it is work.

    No more than its class allows. Sixteen threads that share one processor are one slot, not sixteen; sixteen that wait
    for others are sixteen.
    """
    most = min(choice.slots(service), memory.MOST_LANES)
    work_s, answered = seen.batches.rows_seconds, sum(seen.latency.values())
    if most == 1 or work_s <= 0 or not answered:
        return 1
    took_s = sum(count * middle(bucket) for bucket, count in seen.latency.items()) / answered
    waited_s = seen.queue_s / max(seen.began, 1)
    return min(max(round(max(took_s - waited_s, 0.0) * seen.batches.rows / work_s), 1), most)


def rows_per_call(seen: PastSums) -> float:
    """How many rows a call carries, in the mean, to a tenth: those of calls that began in a span end a little later."""
    return max(1.0, round(seen.batches.rows / seen.began, 1)) if seen.began else 1.0


def _limits(ask: TwinQuery, model: FittedModel, values: KnobValues) -> tuple[int, int, float]:
    """Calls of a batch, batches beside each other, and seconds that one waits for company, at most."""
    values = {**ask.by_hand, **values}
    rows, beside = values.get(scaling.MAX_BATCH), values.get(scaling.CONCURRENCY)
    wait_s = values.get(scaling.MAX_WAIT_S, choice.max_wait_s(ask.service))
    return model.calls(int(rows or model.largest_batch)), int(beside or model.slots), wait_s


def law(ask: TwinQuery, values: KnobValues) -> ScalingLaw:
    """The scaling law of the deployment with its knobs as `values` say."""
    rows = int(values.get(scaling.MAX_BATCH, choice.max_batch(ask.service)))
    made = choice.law(ask.scaling, ask.objective, rows, at_once=choice.at_once(ask.service))
    return scaling.applied(made, {**ask.by_hand, **values}) if isinstance(made, Scale) else made


def episode(ask: TwinQuery, model: FittedModel, stretch: Stretch) -> Episode:
    """A stretch with its calls at moments of their seconds that depend on nothing but the second and the seed.

    Where nobody knows how many replicas there were, there are some more than its first minute needs.
    """
    calls, span_s = moments(stretch.counts, round(stretch.begin_s), ask.seed), float(len(stretch.counts))
    ready = stretch.ready
    if ready is None:
        rate = sum(stretch.counts[:MINUTE_S]) / MINUTE_S
        rows = model.largest_batch
        each_s = model.rows_per_call * (model.a + model.b / rows)
        ready = ask.bounds.clip(math.ceil(1.3 * rate * each_s), stretch.begin_s)
    return Episode(calls, span_s, stretch.begin_s, ready, stretch.state, stretch.burst, stretch.led_in_s)


def _until(ask: TwinQuery) -> float:
    return ask.now_s - ask.now_s % MINUTE_S


def _in_force(ask: TwinQuery, from_s: float) -> list[tuple[float, KnobValues]]:
    """The schedule from a time on."""
    before = [values for at_s, values in ask.schedule if at_s <= from_s]
    first = before[-1] if before else ask.schedule[0][1] if ask.schedule else ask.force
    return [(from_s, first), *((at_s, values) for at_s, values in ask.schedule if at_s > from_s)]


def _reference_s(ask: TwinQuery, until: float) -> float:
    """What a call costs where replicas are as busy as the objective has them."""
    if ask.reference_s is not None:
        return ask.reference_s
    sums = ask.past.sums(until - RECENT_S, until)
    return sums.busy_s / max(sums.answered, 1) / fmean(ask.objective.utilisation) or 1.0


def _figures(ask: TwinQuery, from_s: float, until: float) -> TwinFigures:
    """What was seen."""
    sums = ask.past.sums(from_s, until)
    p50_s = quantile(sums.latency, 0.5) or 0.0
    return TwinFigures(p50_s, sums.busy_s / max(sums.ready_s, 1e-9), 1 - sums.missed / max(sums.answered, 1))


def _choices(ask: TwinQuery, model: FittedModel, until: float) -> tuple[Unevenness, ...]:
    """What may make batches uneven, by what was seen lately."""
    return unevennesses(ask.past.sums(until - FIT_S, until).batches, model.a, model.b)


def _calibration(ask: TwinQuery, twin: Twin, until: float) -> int:
    """Which unevenness makes the last minutes come out as they did."""
    begin = ask.past.snapshot_at(until - CALIBRATED_S)
    assert begin is not None
    last = episode(ask, twin.model, ask.past.stretch(begin, until))
    seen = _figures(ask, last.clock_s, until)
    return calibrated(twin, _choices(ask, twin.model, until), last, _in_force(ask, last.clock_s), ask.seed, seen)


def _foreseen(ask: TwinQuery, go_on: Callable[[], None]) -> TwinResult:
    """What the twin makes of a time that was, with what was in force and with what is attempted beside it."""
    assert ask.foresee_s is not None
    from_s, until_s = ask.foresee_s
    twin, begin = built(ask, None, go_on), ask.past.snapshot_at(max(from_s - LED_IN_S, 1.0))
    if twin is None or begin is None:
        return TwinResult(ask.search, None, "there are no figures of that time", trusted=False, noise=ask.noise)
    whole = episode(ask, twin.model, ask.past.stretch(begin, until_s))
    schedule = _in_force(ask, whole.clock_s)
    played = [(schedule[-1][1], schedule)]
    if ask.attempt is not None:
        played.append((ask.attempt, [(whole.clock_s, ask.attempt)]))
    last = [(values, twin.blocks(twin.replay(whole, way, ask.seed))[-1]) for values, way in played]
    return TwinResult(
        ask.search,
        foreseen=tuple((values, block.loss) for values, block in last),
        foreseen_plain=tuple(block.plain for _, block in last),
        reference_s=twin.reference_s,
        noise=ask.noise,
    )


def _epoch(ask: TwinQuery, go_on: Callable[[], None]) -> TwinResult:
    """An epoch of the search, or the promise of what is attempted."""
    belief = believed(ask, go_on)
    twin = belief.twin
    if twin is None or belief.distrust:
        return TwinResult(ask.search, None, belief.distrust, trusted=False, noise=belief.noise, off=belief.off)
    target = ask.objective.completion
    if ask.attempt is not None:
        found = _promise(ask, twin, ask.attempt, target)
        return TwinResult(ask.search, found, reference_s=twin.reference_s, noise=belief.noise, off=belief.off)
    space, hints = _space(ask, twin), _hints(ask, twin)
    few = twin.few
    held = scaling.HELD_WHERE_FEW if few else ()
    search, found = epoch.propose(space, ask.search, ask.force, twin, ask.seed, target, hints, prove=few, held=held)
    kept = record.of_epoch(space, ask.search, ask.seed, target, hints, twin.inputs(), found, prove=few, held=held)
    return TwinResult(
        search,
        found,
        record=kept,
        replayed=belief.replayed,
        reference_s=twin.reference_s,
        noise=belief.noise,
        off=belief.off,
    )


def _promise(ask: TwinQuery, twin: Twin, attempt: KnobValues, target: float) -> Proposal:
    """What `attempt` promises against what is in force, and what the gate says of it."""
    now, then = (EpochInputs(v, Depth.WHOLE, twin(v, ask.seed, Depth.WHOLE)) for v in (ask.force, attempt))
    verdict = gate.judge(now.played, then.played, target)
    plain = epoch.gain_in_plain(now.played, then.played)
    return Proposal(ask.force, attempt, verdict, verdict.gain * gate.mean_loss(now.played), (now, then), plain)


def _space(ask: TwinQuery, twin: Twin) -> Space:
    """Where it searches: batches no larger than what is in force, or than those of which two in a row are in time.

    The twin's batches cost a n + b. What much larger ones than it has seen really take, it does not know.
    """
    model, largest = twin.model, ask.force.get(scaling.MAX_BATCH)
    if largest is None:
        return ask.space
    in_time = warm.best_batch(model.a, model.b, ask.objective.latency_s, 0.0, model.largest_batch)
    return ask.space.below({scaling.MAX_BATCH: max(largest, float(in_time))})


def _hints(ask: TwinQuery, twin: Twin) -> tuple[KnobValues, ...]:
    """What the model by itself would choose, and what would use the error budget up instead of leaving it, or leave
    still more of it."""
    made, batches = law(ask, ask.force), ask.past.sums(_until(ask) - FIT_S, _until(ask)).batches
    if not isinstance(made, Scale) or batches.count < warm.LEAST_BATCHES:
        return ()
    best = scaling.optimum(made, twin.model.largest_batch, twin.model.a, twin.model.b)
    shares = (scaling.SPARING,) if twin.few else scaling.SPENDING
    wishes = (best, *({**best, **told} for told in shares))
    found = [{**ask.force, **{k.name: wish[k.name] for k in ask.space.knobs if k.name in wish}} for wish in wishes]
    return tuple(values for i, values in enumerate(found) if values != ask.force and values not in found[:i])
