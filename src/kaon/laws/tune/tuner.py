"""The tuner's law: when to search, when to begin, end and roll back a trial. It runs every 10 s.

`force` are the safe values in force. A trial has other values besides, on a canary or for some minutes at a time; it
replaces them or ends without effect. So a rollback is no action that could fail: the orders without a trial are those
of the values in force. The same holds when all state but `force` is lost.

Promoted values are on probation for a day: if they burn the error budget too fast, the values before all promotions on
probation are put in force again.
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
    """The decision of a step, for the journal."""

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
    """The state of the tuner of a deployment."""

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
    """The inputs of a step, every 10 s; `window` when another minute has ended (`beside`: the canary's)."""

    at_s: float
    conditions: Conditions
    burn_now: float | None = None
    """The burn rate of the window that has just ended, if it was in a trial."""
    trying: TrialArm = field(default_factory=TrialArm)
    control: TrialArm = field(default_factory=TrialArm)
    window: TrialWindow | None = None
    beside: TrialWindow | None = None
    window_s: float | None = None
    """When the window ended: figures arrive some seconds later. None: now."""
    ground: tuple[tuple[str, float], ...] = ()
    """Figures watched for drift: the twin's error, the cost of a batch, the rate of calls."""
    burn_force: float | None = None
    """The burn rate of the window that has just ended, if all replicas had the values in force."""


@dataclass(frozen=True, slots=True)
class Orders:
    """The values of the pool, and those of a number of canaries; whether a search should begin."""

    pool: KnobValues
    canary: KnobValues | None = None
    canaries: int = 0
    epoch: bool = False
    happened: TunerEvent = TunerEvent.NOTHING
    reason: str = ""


def step(state: TunerState, mode: TuningMode, objective: Objective, tick: Tick) -> tuple[TunerState, Orders]:
    """The next state and orders."""
    state = replace(state, guard=state.guard.after_window(tick.burn_now), probation=_on_probation(state, mode, tick))
    if state.probation is not None and state.probation.failed is not None:
        return _went_back(state, state.probation, state.probation.failed, tick.at_s)
    if state.trial is not None:
        return _during(state, state.trial, mode, objective, tick)
    state, drifted = _watch(state, tick)
    happened = (TunerEvent.DRIFTED, f"{drifted} has changed") if drifted else (TunerEvent.NOTHING, "")
    due = mode is not TuningMode.OFF and tick.at_s >= state.next_epoch_s and not state.search.done
    blocked = waits(mode, tick.conditions)
    if due and blocked is None and tick.at_s >= state.guard.off_until_s:
        state = replace(state, next_epoch_s=tick.at_s + EPOCH_S)
        return state, Orders(state.force, None, 0, True, *happened)
    return state, Orders(state.force, None, 0, False, happened[0], happened[1] or blocked or "")


def waits(mode: TuningMode, now: Conditions) -> str | None:
    """Why no search begins now; None: one can. Conditions that prevent trials prevent searches only where a trial would
    follow: recommendations matter most when a deployment has problems."""
    if mode is TuningMode.RECOMMEND:
        return guard.blind(now)
    return guard.frozen(now) or ("the load climbs" if now.climbing else None)


def proposed(
    state: TunerState,
    mode: TuningMode,
    space: Space,
    at_s: float,
    now: Conditions,
    search: Search,
    found: Proposal,
    before: tuple[TrialWindow, ...] = (),
) -> tuple[TunerState, Orders]:
    """The result of an epoch: a trial in mode `auto`, else a recommendation, or nothing.

    `before` are the last windows without a trial, with the twin's losses of them.
    """
    state = replace(state, search=search)
    if not found.verdict.open or found.before != state.force or mode is TuningMode.OFF:
        return state, Orders(state.force, reason=found.verdict.reason)
    if not space.allows(found.before, found.after):  # independent of the optimiser
        return state, Orders(state.force, reason="it is outside the knobs' bounds, or too far for one move")
    reach = space.reach(found.before, found.after)
    if reach is Reach.REPLICA and trial.canaries(now.ready) == 0:
        reach = Reach.POOL
    blocked = (
        guard.frozen(now)
        or ("the load climbs" if now.climbing else None)
        or ("too few calls for a trial" if guard.quiet(now) else None)
    )
    if mode is TuningMode.RECOMMEND or blocked is not None or at_s < state.guard.off_until_s:
        state = replace(state, advice=found)
        return state, Orders(state.force, happened=TunerEvent.RECOMMENDED, reason=blocked or found.verdict.reason)
    loss = found.predicted / found.verdict.gain
    watched = before[-trial.MOST_BEFORE :] if reach is Reach.POOL and len(before) >= trial.LEAST_WINDOWS else ()
    new_trial = Trial(
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
    state = replace(state, trial=new_trial, advice=None)
    return state, _orders(state, new_trial, at_s, now, TunerEvent.BEGAN, found.verdict.reason)


def attempted(
    state: TunerState,
    reach: Reach,
    at_s: float,
    now: Conditions,
    move: tuple[KnobValues, KnobValues],
    predicted: float,
    loss: float,
) -> tuple[TunerState, Orders]:
    """A requested trial, of any knobs; `predicted` is the gain of the `move` (before, after) that the twin predicts, 0
    or less: none."""
    if reach is Reach.REPLICA and trial.canaries(now.ready) == 0:
        reach = Reach.POOL
    new_trial = Trial(reach, *move, predicted, loss, at_s)
    state = replace(state, trial=new_trial, advice=None)
    return state, _orders(state, new_trial, at_s, now, TunerEvent.BEGAN, "requested")


def undone(state: TunerState, at_s: float, before: KnobValues) -> TunerState:
    """The state after a user has changed the values in force to `before`; a trial ends."""
    return replace(state, force=before, trial=None, probation=None, advice=None, next_epoch_s=at_s + EPOCH_S)


def _on_probation(state: TunerState, mode: TuningMode, tick: Tick) -> Probation | None:
    """The probation after a tick; None: there is none, its time is over, or the tuner is off."""
    watched = state.probation
    if watched is None or mode is TuningMode.OFF or tick.at_s >= watched.until_s:
        return None
    return watched.after_window(tick.at_s, tick.burn_force)


def _promoted(state: TunerState, after: KnobValues, at_s: float) -> TunerState:
    """With `after` in force, on probation. A probation that runs goes on: its burn counts, and its safe values stay."""
    watched = Probation(state.force, 0.0) if state.probation is None else state.probation
    watched = replace(watched, until_s=at_s + guard.PROBATION_S, burning=0)
    return replace(state, force=after, probation=watched)


def _went_back(state: TunerState, probation: Probation, reason: str, at_s: float) -> tuple[TunerState, Orders]:
    """With the values before the probation in force again; a trial ends too."""
    state = replace(state, force=probation.before, probation=None, advice=None)
    state = replace(state, guard=state.guard.rolled_back(at_s), search=_narrower(state.search, 0.0))
    return _ended(state, at_s, TunerEvent.WENT_BACK, reason)


def _during(
    state: TunerState, trying: Trial, mode: TuningMode, objective: Objective, tick: Tick
) -> tuple[TunerState, Orders]:
    """A tick of a trial: alarms first, then reasons to stop it, then its estimate."""
    alarm = guard.alarm(objective, state.guard, tick.trying, tick.control)
    if alarm is not None:
        state = replace(state, guard=state.guard.rolled_back(tick.at_s), search=_narrower(state.search, 0.0))
        return _ended(state, tick.at_s, TunerEvent.ROLLED_BACK, alarm)
    stop_reason = _stop_reason(tick.conditions, mode)
    if stop_reason is not None:
        return _ended(state, tick.at_s, TunerEvent.STOPPED, stop_reason)
    if tick.window is not None:
        ended_s = tick.at_s if tick.window_s is None else tick.window_s
        trying = trying.with_window(ended_s, tick.window, tick.beside)
    state = replace(state, trial=trying)
    # Only the decision waits for good conditions, not the counting: without bad minutes the estimate would be biased.
    estimate = trial.judge(trying) if tick.window is not None and guard.frozen(tick.conditions) is None else None
    if estimate is None:
        return state, _orders(state, trying, tick.at_s, tick.conditions)
    if trying.predicted > 0:
        state = replace(state, search=_narrower(state.search, estimate.realised / trying.predicted))
    if estimate.promoted:
        return _ended(_promoted(state, trying.after, tick.at_s), tick.at_s, TunerEvent.PROMOTED, estimate.reason)
    return _ended(state, tick.at_s, TunerEvent.REJECTED, estimate.reason)


def _stop_reason(now: Conditions, mode: TuningMode) -> str | None:
    """Why a trial ends without being at fault; None: it goes on."""
    if mode is not TuningMode.AUTO:
        return f"the mode is {mode}"
    unknown = now.burn is None or now.calls is None
    if now.panicking or now.shedding or now.deploying or unknown or (now.burn or 0.0) > guard.MOST_BURN:
        return guard.frozen(now)
    return None


def _ended(state: TunerState, at_s: float, happened: TunerEvent, reason: str) -> tuple[TunerState, Orders]:
    state = replace(state, trial=None, next_epoch_s=at_s)
    return state, Orders(state.force, happened=happened, reason=reason)


def _orders(
    state: TunerState,
    trying: Trial,
    at_s: float,
    now: Conditions,
    happened: TunerEvent = TunerEvent.NOTHING,
    reason: str = "",
) -> Orders:
    if trying.reach is Reach.REPLICA:
        return Orders(state.force, trying.after, trial.canaries(now.ready), False, happened, reason)
    pool = trying.after if trying.trying(at_s) else state.force
    return Orders(pool, None, 0, False, happened, reason)


def _narrower(search: Search, ratio: float) -> Search:
    return replace(search, trust=widened(search.trust, ratio))


def _watch(state: TunerState, tick: Tick) -> tuple[TunerState, str | None]:
    """Update the watched figures; a drift restarts a search that had stopped."""
    before = dict(state.watched)
    after = {name: before.get(name, DriftWatch()).after(value) for name, value in tick.ground}
    drifted = next((name for name, watch in after.items() if watch.drifted), None)
    state = replace(state, watched=tuple({**before, **after}.items()))
    if drifted is not None:
        state = replace(state, search=replace(state.search, still=0), next_epoch_s=min(state.next_epoch_s, tick.at_s))
    return state, drifted
