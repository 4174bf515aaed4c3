"""Answers a `TwinQuery` of the tuner by replaying the deployment's past in a model of it.

    answer(query) -> TwinResult

It is a pure function: the same query always gets the same result. First the twin must be trusted (`checked`): its
replay of the last half hour, with the values that were in force, must agree with the observations.
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
    SEEDS,
    Episode,
    FittedModel,
    Twin,
    TwinFigures,
    Unevenness,
    agreement,
    calibrated,
    never_ends,
    off,
    unevennesses,
)
from kaon.types.service import ServiceSpec

FIT_S, CALIBRATED_S = 600.0, 600.0
LED_IN_S = 900.0
"""How long the twin runs before a minute that it predicts, since it does not know which replicas were starting."""
LEAST_REPLAY_S = 1200.0
"""The shortest replay that can be trusted."""
MOST_CALLS = 5_000_000
"""The most calls of a replay: more would take too much time and memory of a control plane."""
FEW_CALLS = 600_000
"""Up to so many are played with several seeds; with more calls one seed is enough."""
_START_S = 20.0
_TURN_S = 0.0005
_MISSING, _HELPS = "the platform has no simulator", "pip install 'kaon[sim]', then kaon down; kaon up"


class QueryCancelled(Exception):
    """The query was cancelled."""


def answer(query: TwinQuery, check: Callable[[], None] = never_ends) -> TwinResult:
    """The twin's result. `check` is called at every simulated tick; an exception that it raises ends the work."""
    began = time.thread_time()
    found = _foreseen(query, check) if query.foresee_s is not None else _epoch(query, check)
    return replace(found, cpu_s=time.thread_time() - began)


class ThreadedTwin:
    """Answers in a thread, one query at a time: `kaon.control.tune.twin_port.TwinPort`.

    Compiled code runs in parallel with the event loop; the law, which is Python, alternates with it, in short turns.
    """

    def __init__(self) -> None:
        self._one = asyncio.Lock()

    def missing(self) -> str:
        """Why the simulator cannot run here, and the remedy; empty: it can."""
        return "" if available() else f"{_MISSING}: {_HELPS}"

    async def ask(self, query: TwinQuery) -> TwinResult:
        """The result. Raises `Unavailable` without the simulator's compiler."""
        if not available():
            raise Unavailable(f"{_MISSING}.", hint=_HELPS)
        async with self._one:
            usual_s = sys.getswitchinterval()
            sys.setswitchinterval(_TURN_S)
            try:
                return await _in_thread(query)
            finally:
                sys.setswitchinterval(usual_s)


async def _in_thread(query: TwinQuery) -> TwinResult:
    """The result, from a thread of the loop's executor. When cancelled it returns once the thread has ended its
    work."""
    cancelled = threading.Event()

    def check() -> None:
        if cancelled.is_set():
            raise QueryCancelled

    work = asyncio.ensure_future(asyncio.to_thread(answer, query, check))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        cancelled.set()
        await asyncio.gather(work, return_exceptions=True)
        raise


@dataclass(frozen=True, slots=True)
class CheckedTwin:
    """A twin, and why it is not trusted; empty: it is."""

    twin: Twin | None
    distrust: str = ""
    noise: float | None = None
    """The number of the chosen unevenness."""
    off: str = ""
    """The deviation of its replay."""
    replayed: tuple[tuple[float, float, float], ...] = ()
    """`TwinResult.replayed`."""


def checked(query: TwinQuery, check: Callable[[], None] = never_ends) -> CheckedTwin:
    """The twin, trusted if its replay agrees with the observations, after another calibration if necessary."""
    until = _until(query)
    calls = sum(query.past.counts(until - RECENT_S, until))
    if calls > MOST_CALLS:
        return CheckedTwin(None, f"{calls} calls in half an hour are more than can be played", query.noise)
    twin = built(query, replay_set(query.past, until), check)
    if twin is None or not twin.episodes:
        return CheckedTwin(None, "no batch or no snapshot was observed yet", query.noise)
    whole = twin.episodes[0]
    if whole.span_s < LEAST_REPLAY_S:
        least = LEAST_REPLAY_S / 60
        return CheckedTwin(
            None, f"it has {whole.span_s / 60:.0f} of the {least:.0f} minutes that it needs", query.noise
        )
    observed, distrust, noise, far = _figures(query, whole.clock_s, until), "", query.noise, ""
    for attempt in range(2):
        if query.noise is None or attempt:
            noise = _calibration(query, twin, until)
            twin = replace(twin, model=replace(twin.model, uneven=_choices(query, twin.model, until)[noise]))
        outcome = twin.replay(whole, _in_force(query, whole.clock_s), query.seed)
        played = TwinFigures.of(outcome)
        distrust, far = agreement(observed, played, query.objective.latency_s) or "", off(observed, played)
        if not distrust or noise == query.noise:
            break
    return CheckedTwin(twin, distrust, noise, far, tuple(_replayed(twin, whole, outcome)))


def _replayed(twin: Twin, whole: Episode, outcome: SimulationOutcome) -> Iterator[tuple[float, float, float]]:
    """`TwinResult.replayed`, for the minutes with enough calls for a loss of their own.

    An episode begins when a minute does, or some seconds later.
    """
    end_s = whole.clock_s // MINUTE_S * MINUTE_S
    for block, (_, minutes) in zip(twin.blocks(outcome), loss.joined(list(outcome.windows)), strict=True):
        end_s += minutes * MINUTE_S
        if minutes == 1:
            yield end_s, block.loss, block.plain


def built(query: TwinQuery, played: ReplaySet | None, check: Callable[[], None] = never_ends) -> Twin | None:
    """The twin fitted to the past, to play `played`; None: no batch was observed yet."""
    past, until = query.past, _until(query)
    sums = past.sums(until - FIT_S, until)
    cost = fit([sums.batches])
    if cost is None:
        return None
    starts_s = tuple(past.starts_s) or (_START_S,)
    largest = choice.max_batch(query.service)
    model = FittedModel(*cost, largest, Unevenness(), starts_s, slots(query.service, sums), rows_per_call(sums))
    if query.noise is not None:
        choices = _choices(query, model, until)
        model = replace(model, uneven=choices[min(round(query.noise), len(choices) - 1)])
    whole, short = ((), ()) if played is None else (played.whole, played.short)
    episodes = tuple(episode(query, model, stretch) for stretch in whole)
    return Twin(
        model,
        query.objective,
        query.bounds,
        partial(law, query),
        partial(_limits, query, model),
        _reference_s(query, until),
        query.price,
        episodes,
        tuple(episode(query, model, stretch) for stretch in short),
        seeds=1 if sum(len(e.arrivals_ns) for e in episodes) > FEW_CALLS else SEEDS,
        check=check,
    )


def slots(service: ServiceSpec, observed: PastSums) -> int:
    """How many calls, or batches, a replica runs concurrently: the ratio of the time of one to its work.

    At most what its class allows. Sixteen threads that share one processor are one slot; sixteen that wait for I/O are
    sixteen.
    """
    most = min(choice.slots(service), memory.MOST_LANES)
    work_s, answered = observed.batches.rows_seconds, sum(observed.latency.values())
    if most == 1 or work_s <= 0 or not answered:
        return 1
    took_s = sum(count * middle(bucket) for bucket, count in observed.latency.items()) / answered
    waited_s = observed.queue_s / max(observed.began, 1)
    return min(max(round(max(took_s - waited_s, 0.0) * observed.batches.rows / work_s), 1), most)


def rows_per_call(observed: PastSums) -> float:
    """The mean rows of a call, rounded to a tenth, since calls that began in a span end a little later."""
    return max(1.0, round(observed.batches.rows / observed.began, 1)) if observed.began else 1.0


def _limits(query: TwinQuery, model: FittedModel, values: KnobValues) -> tuple[int, int, float]:
    """The most calls of a batch, concurrent batches, and seconds that a batch waits for more calls."""
    values = {**query.by_hand, **values}
    rows, beside = values.get(scaling.MAX_BATCH), values.get(scaling.CONCURRENCY)
    wait_s = values.get(scaling.MAX_WAIT_S, choice.max_wait_s(query.service))
    return model.calls(int(rows or model.largest_batch)), int(beside or model.slots), wait_s


def law(query: TwinQuery, values: KnobValues) -> ScalingLaw:
    """The scaling law of the deployment with the knobs in `values`."""
    rows = int(values.get(scaling.MAX_BATCH, choice.max_batch(query.service)))
    made = choice.law(query.scaling, query.objective, rows, at_once=choice.at_once(query.service))
    return scaling.applied(made, {**query.by_hand, **values}) if isinstance(made, Scale) else made


def episode(query: TwinQuery, model: FittedModel, stretch: Stretch) -> Episode:
    """A stretch with its calls at times within their seconds that depend only on the second and the seed.

    Where the number of replicas is unknown, it is a little more than its first minute needs.
    """
    calls, span_s = moments(stretch.counts, round(stretch.begin_s), query.seed), float(len(stretch.counts))
    ready = stretch.ready
    if ready is None:
        rate = sum(stretch.counts[:MINUTE_S]) / MINUTE_S
        rows = model.largest_batch
        each_s = model.rows_per_call * (model.a + model.b / rows)
        ready = query.bounds.clip(math.ceil(1.3 * rate * each_s), stretch.begin_s)
    return Episode(calls, span_s, stretch.begin_s, ready, stretch.state, stretch.burst, stretch.led_in_s)


def _until(query: TwinQuery) -> float:
    return query.now_s - query.now_s % MINUTE_S


def _in_force(query: TwinQuery, from_s: float) -> list[tuple[float, KnobValues]]:
    """The schedule from a time on."""
    before = [values for at_s, values in query.schedule if at_s <= from_s]
    first = before[-1] if before else query.schedule[0][1] if query.schedule else query.force
    return [(from_s, first), *((at_s, values) for at_s, values in query.schedule if at_s > from_s)]


def _reference_s(query: TwinQuery, until: float) -> float:
    """The cost of a call where replicas are as busy as the objective wants them."""
    if query.reference_s is not None:
        return query.reference_s
    sums = query.past.sums(until - RECENT_S, until)
    return sums.busy_s / max(sums.answered, 1) / fmean(query.objective.utilisation) or 1.0


def _figures(query: TwinQuery, from_s: float, until: float) -> TwinFigures:
    """The observed figures."""
    sums = query.past.sums(from_s, until)
    p50_s = quantile(sums.latency, 0.5) or 0.0
    return TwinFigures(p50_s, sums.busy_s / max(sums.ready_s, 1e-9), 1 - sums.missed / max(sums.answered, 1))


def _choices(query: TwinQuery, model: FittedModel, until: float) -> tuple[Unevenness, ...]:
    """The candidates for the unevenness of batches, from recent observations."""
    return unevennesses(query.past.sums(until - FIT_S, until).batches, model.a, model.b)


def _calibration(query: TwinQuery, twin: Twin, until: float) -> int:
    """The number of the unevenness with which the replay of the last minutes fits best."""
    begin = query.past.snapshot_at(until - CALIBRATED_S)
    assert begin is not None
    last = episode(query, twin.model, query.past.stretch(begin, until))
    observed = _figures(query, last.clock_s, until)
    return calibrated(
        twin, _choices(query, twin.model, until), last, _in_force(query, last.clock_s), query.seed, observed
    )


def _foreseen(query: TwinQuery, check: Callable[[], None]) -> TwinResult:
    """The losses of a past time in the twin, with the values in force and with those that are tried."""
    assert query.foresee_s is not None
    from_s, until_s = query.foresee_s
    twin, begin = built(query, None, check), query.past.snapshot_at(max(from_s - LED_IN_S, 1.0))
    if twin is None or begin is None:
        return TwinResult(query.search, None, "that time has no figures", trusted=False, noise=query.noise)
    whole = episode(query, twin.model, query.past.stretch(begin, until_s))
    schedule = _in_force(query, whole.clock_s)
    played = [(schedule[-1][1], schedule)]
    if query.attempt is not None:
        played.append((query.attempt, [(whole.clock_s, query.attempt)]))
    last = [(values, twin.blocks(twin.replay(whole, way, query.seed))[-1]) for values, way in played]
    return TwinResult(
        query.search,
        foreseen=tuple((values, block.loss) for values, block in last),
        foreseen_plain=tuple(block.plain for _, block in last),
        reference_s=twin.reference_s,
        noise=query.noise,
    )


def _epoch(query: TwinQuery, check: Callable[[], None]) -> TwinResult:
    """An epoch of the search, or the promise of the requested values."""
    trust = checked(query, check)
    twin = trust.twin
    if twin is None or trust.distrust:
        return TwinResult(query.search, None, trust.distrust, trusted=False, noise=trust.noise, off=trust.off)
    target = query.objective.completion
    if query.attempt is not None:
        found = _promise(query, twin, query.attempt, target)
        return TwinResult(query.search, found, reference_s=twin.reference_s, noise=trust.noise, off=trust.off)
    space, hints = _space(query, twin), _hints(query, twin)
    few = twin.few
    held = scaling.HELD_WHERE_FEW if few else ()
    search, found = epoch.propose(
        space, query.search, query.force, twin, query.seed, target, hints, prove=few, held=held
    )
    kept = record.of_epoch(space, query.search, query.seed, target, hints, twin.inputs(), found, prove=few, held=held)
    return TwinResult(
        search,
        found,
        record=kept,
        replayed=trust.replayed,
        reference_s=twin.reference_s,
        noise=trust.noise,
        off=trust.off,
    )


def _promise(query: TwinQuery, twin: Twin, attempt: KnobValues, target: float) -> Proposal:
    """The promise of `attempt` compared with the values in force, and the gate's verdict."""
    now, then = (EpochInputs(v, Depth.WHOLE, twin(v, query.seed, Depth.WHOLE)) for v in (query.force, attempt))
    verdict = gate.judge(now.played, then.played, target)
    plain = epoch.gain_in_plain(now.played, then.played)
    return Proposal(query.force, attempt, verdict, verdict.gain * gate.mean_loss(now.played), (now, then), plain)


def _space(query: TwinQuery, twin: Twin) -> Space:
    """The space to search: batches at most as large as those in force, or those of which two in a row are in time.

    The twin's batches cost a n + b, which may be wrong for much larger batches than the observed ones.
    """
    model, largest = twin.model, query.force.get(scaling.MAX_BATCH)
    if largest is None:
        return query.space
    in_time = warm.best_batch(model.a, model.b, query.objective.latency_s, 0.0, model.largest_batch)
    return query.space.below({scaling.MAX_BATCH: max(largest, float(in_time))})


def _hints(query: TwinQuery, twin: Twin) -> tuple[KnobValues, ...]:
    """The choice of the model alone, and values that use up the error budget, or that use less of it."""
    made, batches = law(query, query.force), query.past.sums(_until(query) - FIT_S, _until(query)).batches
    if not isinstance(made, Scale) or batches.count < warm.LEAST_BATCHES:
        return ()
    best = scaling.optimum(made, twin.model.largest_batch, twin.model.a, twin.model.b)
    shares = (scaling.SPARING,) if twin.few else scaling.SPENDING
    hints = (best, *({**best, **share} for share in shares))
    found = [{**query.force, **{k.name: hint[k.name] for k in query.space.knobs if k.name in hint}} for hint in hints]
    return tuple(values for i, values in enumerate(found) if values != query.force and values not in found[:i])
