"""The tuner's own law: when to look, when to try, when to stop and when to go back. Ticks of 10 s.

`force` is what is in force and safe. A trial puts other values beside it, on a canary or for some minutes at a
time, and either replaces it or is gone without a trace. So going back is no action that could fail: it is
what the next orders say when there is no trial. The same holds when all state is lost but `force`.

What was promoted is on probation for a day: if it burns the error budget as no trial may, it goes back to what was in
force before, and over all that was promoted since.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum

from kaon.laws.tune import guard, trial
from kaon.laws.tune.drift import DriftWatch
from kaon.laws.tune.epoch import Proposal, Search
from kaon.laws.tune.guard import Conditions, Probation, TrialArm, TunerGuard
from kaon.laws.tune.knobs import KnobValues, Reach, Space
from kaon.laws.tune.spsa import widened
from kaon.laws.tune.trial import Trial, TrialWindow
from kaon.types.objective import Objective
from kaon.types.tuning import TuningMode

EPOCH_S = 300.0


class TunerEvent(StrEnum):
    """What a step decided, for the journal."""

    NOTHING = "nothing"
    RECOMMENDED = "recommended"
    BEGAN = "trial began"
    PROMOTED = "promoted"
    REJECTED = "rejected"
    STOPPED = "trial stopped"
    ROLLED_BACK = "rolled back"
    WENT_BACK = "went back"
    DRIFTED = "drift"


@dataclass(frozen=True, slots=True)
class TunerState:
    """All that the tuner remembers of a deployment."""

    force: KnobValues
    search: Search = field(default_factory=Search)
    guard: TunerGuard = field(default_factory=TunerGuard)
    trial: Trial | None = None
    probation: Probation | None = None
    advice: Proposal | None = None
    """The last proposal that passed the gate and is not in force."""
    next_epoch_s: float = 0.0
    watched: tuple[tuple[str, DriftWatch], ...] = ()


@dataclass(frozen=True, slots=True)
class Tick:
    """What is seen every 10 s; `window` when another minute is full (`beside`: the canary's)."""

    at_s: float
    conditions: Conditions
    burn_now: float | None = None
    """The burn rate of the window that has just ended, if the whole pool, or a canary in it, tried something."""
    trying: TrialArm = field(default_factory=TrialArm)
    control: TrialArm = field(default_factory=TrialArm)
    window: TrialWindow | None = None
    beside: TrialWindow | None = None
    window_s: float | None = None
    """When the window ended: figures are under way for seconds. None: now."""
    ground: tuple[tuple[str, float], ...] = ()
    """Figures watched for drift: real loss less the twin's, a, b, the rate."""
    burn_force: float | None = None
    """The burn rate of the window that has just ended, if all went by what is in force."""


@dataclass(frozen=True, slots=True)
class Orders:
    """What should be: values for all, and for how many replicas others; whether the twin should be asked."""

    pool: KnobValues
    canary: KnobValues | None = None
    canaries: int = 0
    epoch: bool = False
    happened: TunerEvent = TunerEvent.NOTHING
    reason: str = ""


def step(known: TunerState, mode: TuningMode, objective: Objective, tick: Tick) -> tuple[TunerState, Orders]:
    """The next state and orders."""
    known = replace(known, guard=known.guard.seen(tick.burn_now), probation=_on_probation(known, mode, tick))
    if known.probation is not None and known.probation.failed is not None:
        return _went_back(known, known.probation, known.probation.failed, tick.at_s)
    if known.trial is not None:
        return _during(known, known.trial, mode, objective, tick)
    known, drifted = _watch(known, tick)
    happened = (TunerEvent.DRIFTED, f"{drifted} is not what it was") if drifted else (TunerEvent.NOTHING, "")
    due = mode is not TuningMode.OFF and tick.at_s >= known.next_epoch_s and not known.search.done
    held = waits(mode, tick.conditions)
    if due and held is None and tick.at_s >= known.guard.off_until_s:
        known = replace(known, next_epoch_s=tick.at_s + EPOCH_S)
        return known, Orders(known.force, None, 0, True, *happened)
    return known, Orders(known.force, None, 0, False, happened[0], happened[1] or held or "")


def waits(mode: TuningMode, now: Conditions) -> str | None:
    """Why the twin is not asked for something better now; None: it is. What makes a trial unsafe is no reason where
    none would follow: advice is wanted most when things go badly."""
    if mode is TuningMode.RECOMMEND:
        return guard.blind(now)
    return guard.frozen(now) or ("the load climbs" if now.climbing else None)


def proposed(
    known: TunerState,
    mode: TuningMode,
    space: Space,
    at_s: float,
    now: Conditions,
    search: Search,
    found: Proposal,
    before: tuple[TrialWindow, ...] = (),
) -> tuple[TunerState, Orders]:
    """What an epoch came to: a trial in mode `auto`, else a recommendation, or nothing.

    `before` are the last windows in which what is in force was all that was, with what the twin makes of them.
    """
    known = replace(known, search=search)
    if not found.verdict.open or found.before != known.force or mode is TuningMode.OFF:
        return known, Orders(known.force, reason=found.verdict.reason)
    if not space.allows(found.before, found.after):  # whoever found it: this stands outside of the optimiser
        return known, Orders(known.force, reason="it is beyond the knobs' bounds, or too far for one move")
    reach = space.reach(found.before, found.after)
    if reach is Reach.REPLICA and trial.canaries(now.ready) == 0:
        reach = Reach.POOL
    held = (
        guard.frozen(now)
        or ("the load climbs" if now.climbing else None)
        or ("too few calls to try it on" if guard.quiet(now) else None)
    )
    if mode is TuningMode.RECOMMEND or held is not None or at_s < known.guard.off_until_s:
        known = replace(known, advice=found)
        return known, Orders(known.force, happened=TunerEvent.RECOMMENDED, reason=held or found.verdict.reason)
    loss = found.predicted / found.verdict.gain
    watched = before[-trial.MOST_BEFORE :] if reach is Reach.POOL and len(before) >= trial.LEAST_WINDOWS else ()
    began = Trial(
        reach,
        found.before,
        found.after,
        found.predicted,
        loss,
        at_s,
        led_in=len(watched),
        force=watched,
        plain=found.plain,
    )
    known = replace(known, trial=began, advice=None)
    return known, _orders(known, began, at_s, now, TunerEvent.BEGAN, found.verdict.reason)


def attempted(
    known: TunerState,
    reach: Reach,
    at_s: float,
    now: Conditions,
    move: tuple[KnobValues, KnobValues],
    predicted: float,
    loss: float,
) -> tuple[TunerState, Orders]:
    """A trial that somebody asked for, of knobs that are tuned or not; `predicted` is what the twin promises of the
    `move` (before, after), 0 or less: nothing."""
    if reach is Reach.REPLICA and trial.canaries(now.ready) == 0:
        reach = Reach.POOL
    began = Trial(reach, *move, predicted, loss, at_s)
    known = replace(known, trial=began, advice=None)
    return known, _orders(known, began, at_s, now, TunerEvent.BEGAN, "requested")


def undone(known: TunerState, at_s: float, before: KnobValues) -> TunerState:
    """What a person took back, or put in force: no trial survives it."""
    return replace(known, force=before, trial=None, probation=None, advice=None, next_epoch_s=at_s + EPOCH_S)


def _on_probation(known: TunerState, mode: TuningMode, tick: Tick) -> Probation | None:
    """The probation after a tick; None when there is none, its time is over, or the tuner may do nothing by itself."""
    watched = known.probation
    if watched is None or mode is TuningMode.OFF or tick.at_s >= watched.until_s:
        return None
    return watched.seen(tick.at_s, tick.burn_force)


def _promoted(known: TunerState, after: KnobValues, at_s: float) -> TunerState:
    """With `after` in force, on probation. What is not proven is nothing to go back to, and what it burnt counts on."""
    watched = Probation(known.force, 0.0) if known.probation is None else known.probation
    watched = replace(watched, until_s=at_s + guard.PROBATION_S, burning=0)
    return replace(known, force=after, probation=watched)


def _went_back(known: TunerState, watched: Probation, reason: str, at_s: float) -> tuple[TunerState, Orders]:
    """Back over all that was promoted on probation; a trial of more of it ends too."""
    known = replace(known, force=watched.before, probation=None, advice=None)
    known = replace(known, guard=known.guard.rolled_back(at_s), search=_narrower(known.search, 0.0))
    return _ended(known, at_s, TunerEvent.WENT_BACK, reason)


def _during(
    known: TunerState, trying: Trial, mode: TuningMode, objective: Objective, tick: Tick
) -> tuple[TunerState, Orders]:
    """A tick of a trial: alarms first, then what freezes, then what it has shown."""
    wrong = guard.alarm(objective, known.guard, tick.trying, tick.control)
    if wrong is not None:
        known = replace(known, guard=known.guard.rolled_back(tick.at_s), search=_narrower(known.search, 0.0))
        return _ended(known, tick.at_s, TunerEvent.ROLLED_BACK, wrong)
    stops = _stops(tick.conditions, mode)
    if stops is not None:
        return _ended(known, tick.at_s, TunerEvent.STOPPED, stops)
    if tick.window is not None:
        ended_s = tick.at_s if tick.window_s is None else tick.window_s
        trying = trying.seen(ended_s, tick.window, tick.beside)
    known = replace(known, trial=trying)
    # What is frozen is the decision, not the counting: to leave the hard minutes out would flatter what is tried.
    finding = trial.judge(trying) if tick.window is not None and guard.frozen(tick.conditions) is None else None
    if finding is None:
        return known, _orders(known, trying, tick.at_s, tick.conditions)
    if trying.predicted > 0:
        known = replace(known, search=_narrower(known.search, finding.realised / trying.predicted))
    if finding.promoted:
        return _ended(_promoted(known, trying.after, tick.at_s), tick.at_s, TunerEvent.PROMOTED, finding.reason)
    return _ended(known, tick.at_s, TunerEvent.REJECTED, finding.reason)


def _stops(now: Conditions, mode: TuningMode) -> str | None:
    """What ends a trial without blaming it."""
    if mode is not TuningMode.AUTO:
        return f"the mode is {mode}"
    unknown = now.burn is None or now.calls is None
    if now.panicking or now.shedding or now.deploying or unknown or (now.burn or 0.0) > guard.MOST_BURN:
        return guard.frozen(now)
    return None


def _ended(known: TunerState, at_s: float, happened: TunerEvent, reason: str) -> tuple[TunerState, Orders]:
    known = replace(known, trial=None, next_epoch_s=at_s)
    return known, Orders(known.force, happened=happened, reason=reason)


def _orders(
    known: TunerState,
    trying: Trial,
    at_s: float,
    now: Conditions,
    happened: TunerEvent = TunerEvent.NOTHING,
    reason: str = "",
) -> Orders:
    if trying.reach is Reach.REPLICA:
        return Orders(known.force, trying.after, trial.canaries(now.ready), False, happened, reason)
    pool = trying.after if trying.trying(at_s) else known.force
    return Orders(pool, None, 0, False, happened, reason)


def _narrower(search: Search, ratio: float) -> Search:
    return replace(search, trust=widened(search.trust, ratio))


def _watch(known: TunerState, tick: Tick) -> tuple[TunerState, str | None]:
    """The figures under watch; a drift wakes a search that had stopped."""
    before = dict(known.watched)
    after = {name: before.get(name, DriftWatch()).after(value) for name, value in tick.ground}
    drifted = next((name for name, watch in after.items() if watch.drifted), None)
    known = replace(known, watched=tuple({**before, **after}.items()))
    if drifted is not None:
        known = replace(known, search=replace(known.search, still=0), next_epoch_s=min(known.next_epoch_s, tick.at_s))
    return known, drifted
