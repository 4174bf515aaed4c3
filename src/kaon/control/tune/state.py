"""The state of a tuner for users: a word, its reason, and all figures. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from kaon.control.tune.messages import moves
from kaon.control.tune.queries import TwinQueryKind
from kaon.control.tune.session import LEARNS_S, Tuner
from kaon.laws.tune import guard, trial
from kaon.laws.tune.board import lasting
from kaon.types.resource import Deployment
from kaon.types.tuning import KnobState, Tried, TuningMode, TuningState


def state(deployment: Deployment, tuner: Tuner, trials: Iterable[Tried], now: float) -> TuningState:
    """The complete state."""
    word, reason = summary(tuner, now)
    status, search = tuner.desired_status(now), tuner.state.search
    sought = tuner.mode is not TuningMode.OFF and not search.done and tuner.state.trial is None
    return TuningState(
        workspace=deployment.workspace,
        deployment=deployment.name,
        mode=tuner.mode,
        state=word,
        reason=reason,
        knobs=tuner.board(),
        asked=status.asked,
        trial=status.trial,
        recommended=status.recommended,
        probation=status.probation,
        trusted=tuner.queries.trusted,
        twin=tuner.queries.problem,
        epochs=tuner.epochs,
        next_epoch_at=max(now, tuner.state.next_epoch_s, now + LEARNS_S - tuner.inputs.covered_s(now))
        if sought
        else None,
        off_until=status.off_until,
        trials=tuple(trials),
        losses=tuple(tuner.inputs.losses),
        weights=tuner.terms.objective.weights,
    )


def idle(deployment: Deployment, knobs: tuple[KnobState, ...], reason: str) -> TuningState:
    """The state of a deployment that is not tuned; `knobs` are those that users may set."""
    return TuningState(
        workspace=deployment.workspace,
        deployment=deployment.name,
        mode=deployment.spec.tuning.mode,
        state="still",
        reason=reason,
        knobs=knobs,
    )


def summary(tuner: Tuner, now: float) -> tuple[str, str]:
    """The state in one word, and its reason."""
    tried, queries, search = tuner.state.trial, tuner.queries, tuner.state.search
    if tried is not None:
        return "trying", _trying(tuner, now)
    if tuner.status.asked is not None:
        if tuner.blocked:
            return "frozen", f"the requested trial waits: {tuner.blocked}"
        return "searching", "the twin predicts the requested trial"
    if tuner.mode is TuningMode.OFF:
        return "off", "it is switched off"
    if now < tuner.state.guard.off_until_s:
        left = lasting(tuner.state.guard.off_until_s - now)
        return "frozen", f"{guard.MOST_ROLLBACKS} rollbacks within an hour: paused for {left}"
    if queries.problem and queries.trusted is None:  # a missing twin is reported before learning ends
        return "frozen", f"the twin: {queries.problem}"
    if tuner.inputs.covered_s(now) < LEARNS_S:
        return "learning", _learning(tuner, now)
    if tuner.blocked:
        return "frozen", tuner.blocked
    if queries.is_pending(TwinQueryKind.EPOCH):
        return "searching", "the twin searches for better values"
    if queries.problem and queries.trusted is not True:
        return "frozen", f"the twin's replay is inaccurate, so its results are not tried: {queries.problem}"
    if tuner.state.advice is not None:
        return "recommending", _advice(tuner, now)
    if search.done:
        return (
            "still",
            f"{search.still} searches in a row found nothing better; a change of the traffic starts it again",
        )
    due_s = tuner.state.next_epoch_s - now
    if due_s <= 0:
        return "searching", "the twin is asked next"
    if tuner.epochs:
        return "searching", f"the twin is asked again in {lasting(due_s)}"
    return "searching", f"the twin is asked for the first time in {lasting(due_s)}"


def _learning(tuner: Tuner, now: float) -> str:
    """The remaining time of learning, which starts with the first call."""
    covered_s = tuner.inputs.covered_s(now)
    if not covered_s:
        return f"no calls yet; the twin searches {lasting(LEARNS_S)} after the first call"
    return f"the first search of the twin is in {lasting(LEARNS_S - covered_s)}, with the traffic until then"


def _trying(tuner: Tuner, now: float) -> str:
    tried = tuner.state.trial
    assert tried is not None
    pairs, status = min(len(tried.force), len(tried.tried)), tuner.desired_status(now).trial
    how = "all by turns" if status is None or not status.replicas else f"a canary of {status.replicas}"
    spans = f"{trial.LEAST_WINDOWS} to {trial.MOST_WINDOWS[tried.reach]}"
    text = f"{moves(tried.before, tried.after)}, {how}: {pairs} minutes of each side so far, of {spans}"
    return f"{text}; {tuner.blocked}" if tuner.blocked else text


def _advice(tuner: Tuner, now: float) -> str:
    advice = tuner.state.advice
    assert advice is not None
    text = f"{moves(advice.before, advice.after)}: {advice.verdict.reason}"
    return f"{text}; it is not tried: {_why_not_tried(tuner, now)}" if tuner.mode is TuningMode.AUTO else text


def _why_not_tried(tuner: Tuner, now: float) -> str:
    """Why a tuner in mode auto only recommends."""
    conditions = tuner.conditions(now)
    if guard.quiet(conditions):
        least = min(calls for calls in (conditions.calls or 0, conditions.calmest) if calls is not None)
        return f"the quietest of the last ten minutes had {least} calls, and {guard.LEAST_CALLS} are needed"
    if tuner.blocked:
        return tuner.blocked
    return f"the conditions did not allow it; the twin is asked again in {lasting(tuner.state.next_epoch_s - now)}"
