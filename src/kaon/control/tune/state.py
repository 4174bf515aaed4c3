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


def state(deployment: Deployment, known: Tuner, trials: Iterable[Tried], now: float) -> TuningState:
    """The complete state."""
    word, reason = standing(known, now)
    status, search = known.wanted(now), known.state.search
    sought = known.mode is not TuningMode.OFF and not search.done and known.state.trial is None
    return TuningState(
        workspace=deployment.workspace,
        deployment=deployment.name,
        mode=known.mode,
        state=word,
        reason=reason,
        knobs=known.board(),
        asked=status.asked,
        trial=status.trial,
        recommended=status.recommended,
        probation=status.probation,
        trusted=known.questions.trusted,
        twin=known.questions.word,
        epochs=known.epochs,
        next_epoch_at=max(now, known.state.next_epoch_s, now + LEARNS_S - known.senses.knows_s(now))
        if sought
        else None,
        off_until=status.off_until,
        trials=tuple(trials),
        losses=tuple(known.senses.losses),
        weights=known.terms.objective.weights,
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


def standing(known: Tuner, now: float) -> tuple[str, str]:
    """The state in a word, and its reason."""
    tried, questions, search = known.state.trial, known.questions, known.state.search
    if tried is not None:
        return "trying", _trying(known, now)
    if known.status.asked is not None:
        if known.held:
            return "frozen", f"the requested trial waits: {known.held}"
        return "searching", "the twin predicts the requested trial"
    if known.mode is TuningMode.OFF:
        return "off", "it is switched off"
    if now < known.state.guard.off_until_s:
        left = lasting(known.state.guard.off_until_s - now)
        return "frozen", f"{guard.MOST_ROLLBACKS} times within an hour something was taken back: off for {left}"
    if questions.word and questions.trusted is None:  # there is none: nobody should wait half an hour for that
        return "frozen", f"the twin: {questions.word}"
    if known.senses.knows_s(now) < LEARNS_S:
        return "learning", _learning(known, now)
    if known.held:
        return "frozen", known.held
    if questions.waits_for(TwinQueryKind.EPOCH):
        return "searching", "the twin searches for better values"
    if questions.word and questions.trusted is not True:
        return "frozen", f"the twin's replay is inaccurate, so its results are not tried: {questions.word}"
    if known.state.advice is not None:
        return "recommending", _advice(known, now)
    if search.done:
        return (
            "still",
            f"{search.still} searches in a row found nothing better; a change of the traffic starts it again",
        )
    due_s = known.state.next_epoch_s - now
    asked = "again" if known.epochs else "for the first time"
    return "searching", f"the twin is asked {asked} in {lasting(due_s)}" if due_s > 0 else "the twin is asked next"


def _learning(known: Tuner, now: float) -> str:
    """The remaining time of learning, which starts with the first call."""
    knows_s = known.senses.knows_s(now)
    if not knows_s:
        return f"no calls yet; the twin searches {lasting(LEARNS_S)} after the first call"
    return f"the first search of the twin is in {lasting(LEARNS_S - knows_s)}, with the traffic until then"


def _trying(known: Tuner, now: float) -> str:
    tried = known.state.trial
    assert tried is not None
    pairs, status = min(len(tried.force), len(tried.tried)), known.wanted(now).trial
    how = "all by turns" if status is None or not status.replicas else f"a canary of {status.replicas}"
    spans = f"{trial.LEAST_WINDOWS} to {trial.MOST_WINDOWS[tried.reach]}"
    told = f"{moves(tried.before, tried.after)}, {how}: {pairs} minutes of each side so far, of {spans}"
    return f"{told}; {known.held}" if known.held else told


def _advice(known: Tuner, now: float) -> str:
    advice = known.state.advice
    assert advice is not None
    told = f"{moves(advice.before, advice.after)}: {advice.verdict.reason}"
    return f"{told}; it is not tried: {_untried(known, now)}" if known.mode is TuningMode.AUTO else told


def _untried(known: Tuner, now: float) -> str:
    """Why a tuner in mode auto only recommends."""
    conditions = known.conditions(now)
    if guard.quiet(conditions):
        least = min(told for told in (conditions.calls or 0, conditions.calmest) if told is not None)
        return f"the quietest of the last ten minutes had {least} calls, and {guard.LEAST_CALLS} are needed"
    if known.held:
        return known.held
    return f"it was no time for it; the twin is asked again in {lasting(known.state.next_epoch_s - now)}"
