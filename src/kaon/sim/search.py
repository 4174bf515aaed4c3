"""The twin at work: an `Ask` of the tuner is answered by playing the deployment's past in a model of it.

    answer(ask) -> Answer

It is a function: the same question gets the same answer, whoever asks and whenever. First the twin must be believed
(`believed`): its replay of the last half hour, with the values that were in force, must come out as what was seen.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace
from functools import partial
from statistics import fmean

from kaon.errors import Unavailable
from kaon.laws import choice
from kaon.laws.scale import Scale
from kaon.laws.scaling import Law
from kaon.laws.traffic import quantile
from kaon.laws.tune import epoch, gate, record, scaling
from kaon.laws.tune.ask import Answer, Ask
from kaon.laws.tune.epoch import Look, Proposal
from kaon.laws.tune.knobs import Values
from kaon.laws.tune.past import MINUTE_S, Snapshot, Stretch
from kaon.sim.engine import available
from kaon.sim.traffic import moments
from kaon.sim.twin import Episode, Figures, Model, Twin, agreement, calibrated, fit

REPLAY_S, SHORT_S, FIT_S, CALIBRATED_S = 1800.0, 180.0, 600.0, 600.0
LEAST_REPLAY_S = 1200.0
"""Of less than this nothing is believed."""
_START_S = 20.0
_NOISE = 0.3


def answer(ask: Ask) -> Answer:
    """What the twin says."""
    began = time.thread_time()
    found = _foreseen(ask) if ask.foresee_s is not None else _epoch(ask)
    return replace(found, cpu_s=time.thread_time() - began)


class ThreadedTwin:
    """Answers in a thread, one question at a time: `kaon.control.twins.Twin`."""

    def __init__(self) -> None:
        self._one = asyncio.Lock()

    async def ask(self, ask: Ask) -> Answer:
        """The answer. Raises `Unavailable` without the simulator's compiler."""
        if not available():
            raise Unavailable("There is no simulator here.", hint="pip install 'kaon[sim]'")
        async with self._one:
            return await asyncio.to_thread(answer, ask)


@dataclass(frozen=True, slots=True)
class Belief:
    """A twin, and why it is not believed; empty: it is."""

    twin: Twin | None
    distrust: str = ""


def believed(ask: Ask) -> Belief:
    """The twin, if its replay agrees with what was seen, after another calibration if need be."""
    twin, until = built(ask), _until(ask)
    if twin is None:
        return Belief(None, "no batch or no snapshot was seen yet")
    whole = twin.episodes[0]
    if whole.span_s < LEAST_REPLAY_S:
        return Belief(None, f"{whole.span_s / 60:.0f} minutes are known; {LEAST_REPLAY_S / 60:.0f} are needed")
    seen, distrust = _figures(ask, whole.clock_s, until), ""
    for attempt in range(2):
        if ask.noise is None or attempt:
            twin = _calibrated(ask, twin, until)
        played = twin.replay(whole, _in_force(ask, whole.clock_s), ask.seed)
        distrust = agreement(seen, Figures.of(played)) or ""
        if not distrust:
            break
    return Belief(twin, distrust)


def built(ask: Ask) -> Twin | None:
    """The twin as far as it can be told from the past; None: too little was seen."""
    past, until = ask.past, _until(ask)
    cost = fit([past.sums(until - FIT_S, until).batches])
    begin = past.begun(max(until - REPLAY_S, 1.0))
    if cost is None or begin is None:
        return None
    largest = choice.max_batch(ask.service)
    model = Model(*cost, largest, ask.noise or _NOISE, tuple(past.starts_s) or (_START_S,))
    short = [episode(ask, past.stretch(s, until)) for s in [past.begun(until - SHORT_S)] if s is not None]
    worst = _worst(ask, until)
    if worst is not None:
        short.append(episode(ask, past.stretch(worst, worst.at_s + SHORT_S)))
    return Twin(
        model,
        ask.objective,
        ask.bounds,
        partial(law, ask),
        lambda values: int(values.get(scaling.MAX_BATCH, largest)),
        _reference_s(ask, until),
        ask.price,
        (episode(ask, past.stretch(begin, until)),),
        tuple(short),
    )


def law(ask: Ask, values: Values) -> Law:
    """The scaling law of the deployment with its knobs as `values` say."""
    rows = int(values.get(scaling.MAX_BATCH, choice.max_batch(ask.service)))
    made = choice.law(ask.scaling, ask.objective, rows, at_once=choice.at_once(ask.service))
    return scaling.applied(made, values) if isinstance(made, Scale) else made


def episode(ask: Ask, stretch: Stretch) -> Episode:
    """A stretch with its calls at moments of their seconds that depend on nothing but the second and the seed."""
    calls = moments(stretch.counts, round(stretch.begin_s), ask.seed)
    return Episode(calls, float(len(stretch.counts)), stretch.begin_s, stretch.ready, stretch.state, stretch.burst)


def _until(ask: Ask) -> float:
    return ask.now_s - ask.now_s % MINUTE_S


def _in_force(ask: Ask, from_s: float) -> list[tuple[float, Values]]:
    """The schedule from a time on."""
    before = [values for at_s, values in ask.schedule if at_s <= from_s]
    first = before[-1] if before else ask.schedule[0][1] if ask.schedule else ask.force
    return [(from_s, first), *((at_s, values) for at_s, values in ask.schedule if at_s > from_s)]


def _reference_s(ask: Ask, until: float) -> float:
    """What a call costs where replicas are as busy as the objective has them."""
    if ask.reference_s is not None:
        return ask.reference_s
    sums = ask.past.sums(until - REPLAY_S, until)
    return sums.busy_s / max(sums.answered, 1) / fmean(ask.objective.utilisation) or 1.0


def _figures(ask: Ask, from_s: float, until: float) -> Figures:
    """What was seen."""
    sums = ask.past.sums(from_s, until)
    p50_s = quantile(sums.latency, 0.5) or 0.0
    return Figures(p50_s, sums.busy_s / max(sums.ready_s, 1e-9), 1 - sums.missed / max(sums.answered, 1))


def _calibrated(ask: Ask, twin: Twin, until: float) -> Twin:
    """With the noise of which as many calls are late in the last minutes as were."""
    begin = ask.past.begun(until - CALIBRATED_S)
    assert begin is not None
    last = episode(ask, ask.past.stretch(begin, until))
    late = 1 - _figures(ask, last.clock_s, until).completed
    return calibrated(twin, last, _in_force(ask, last.clock_s), ask.seed, late)


def _worst(ask: Ask, until: float) -> Snapshot | None:
    """Where the costliest minutes of the replay began that are not its last."""
    begins = [s for s in ask.past.snapshots if until - REPLAY_S <= s.at_s <= until - 2 * SHORT_S]

    def cost(snapshot: Snapshot) -> float:
        sums = ask.past.sums(snapshot.at_s, snapshot.at_s + SHORT_S)
        return sums.paid_s / max(sums.arrivals, 1) + sums.missed / max(sums.answered, 1)

    return max(begins, key=cost, default=None)


def _foreseen(ask: Ask) -> Answer:
    """What the twin makes of a time that was, with what was in force and with what is attempted beside it."""
    assert ask.foresee_s is not None
    from_s, until_s = ask.foresee_s
    twin, begin = built(ask), ask.past.begun(from_s)
    if twin is None or begin is None:
        return Answer(ask.search, None, "nothing is known of that time", trusted=False, noise=ask.noise)
    whole = episode(ask, ask.past.stretch(begin, until_s))
    schedule = _in_force(ask, whole.clock_s)
    played = [(schedule[-1][1], schedule)]
    if ask.attempt is not None:
        played.append((ask.attempt, [(whole.clock_s, ask.attempt)]))
    losses = tuple((values, twin.blocks(twin.replay(whole, way, ask.seed))[-1].loss) for values, way in played)
    return Answer(ask.search, foreseen=losses, reference_s=twin.reference_s, noise=ask.noise)


def _epoch(ask: Ask) -> Answer:
    """An epoch of the search, or the promise of what is attempted."""
    belief = believed(ask)
    twin = belief.twin
    if twin is None or belief.distrust:
        noise = ask.noise if twin is None else twin.model.noise
        return Answer(ask.search, None, belief.distrust, trusted=False, noise=noise)
    target = ask.objective.completion
    if ask.attempt is not None:
        found = _promise(ask, twin, ask.attempt, target)
        return Answer(ask.search, found, reference_s=twin.reference_s, noise=twin.model.noise)
    hints = _hints(ask, twin)
    search, found = epoch.propose(ask.space, ask.search, ask.force, twin, ask.seed, target, hints)
    kept = record.of_epoch(ask.space, ask.search, ask.seed, target, hints, twin.inputs(), found)
    return Answer(search, found, record=kept, reference_s=twin.reference_s, noise=twin.model.noise)


def _promise(ask: Ask, twin: Twin, attempt: Values, target: float) -> Proposal:
    """What `attempt` promises against what is in force, and what the gate says of it."""
    now, then = (Look(values, True, twin(values, ask.seed, True)) for values in (ask.force, attempt))
    verdict = gate.judge(now.played, then.played, target)
    return Proposal(ask.force, attempt, verdict, verdict.gain * gate.mean_loss(now.played), (now, then))


def _hints(ask: Ask, twin: Twin) -> tuple[Values, ...]:
    """What the model by itself would choose."""
    made = law(ask, ask.force)
    if not isinstance(made, Scale):
        return ()
    best = scaling.optimum(made, twin.model.largest_batch, twin.model.a, twin.model.b)
    return ({**ask.force, **{knob.name: best[knob.name] for knob in ask.space.knobs}},)
