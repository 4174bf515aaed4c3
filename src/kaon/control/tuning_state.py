"""How a tuner stands, for people: a word, the reason for it, and all figures. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from kaon.control.questions import Question
from kaon.control.tuner import LEARNS_S, Tuner
from kaon.control.tuning_news import moves
from kaon.laws.tune import guard, trial
from kaon.types.resource import Deployment
from kaon.types.tuning import KnobState, Mode, Tried, TuningState


def state(deployment: Deployment, known: Tuner, trials: Iterable[Tried], now: float) -> TuningState:
    """All that there is to see."""
    word, reason = standing(known, now)
    status, search = known.wanted(now), known.state.search
    sought = known.mode is not Mode.OFF and not search.done and known.state.trial is None
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
    """A deployment of which nothing is tuned; `knobs` are those that people may set."""
    return TuningState(
        workspace=deployment.workspace,
        deployment=deployment.name,
        mode=deployment.spec.tuning.mode,
        state="still",
        reason=reason,
        knobs=knobs,
    )


def standing(known: Tuner, now: float) -> tuple[str, str]:
    """The state in a word, and why it is so."""
    tried, questions, search = known.state.trial, known.questions, known.state.search
    if tried is not None:
        return "trying", _trying(known, now)
    if known.status.asked is not None:
        if known.held:
            return "frozen", f"somebody asked for a trial; it waits: {known.held}"
        return "searching", "the twin is asked what somebody wants to try"
    if known.mode is Mode.OFF:
        return "off", "it was switched off"
    if now < known.state.guard.off_until_s:
        minutes = (known.state.guard.off_until_s - now) / 60
        return "frozen", f"{guard.MOST_ROLLBACKS} trials were taken back within an hour: off for {minutes:.0f} minutes"
    if questions.word and questions.trusted is None:  # there is none: nobody should wait half an hour for that
        return "frozen", f"the twin: {questions.word}"
    if known.senses.knows_s(now) < LEARNS_S:
        left = (LEARNS_S - known.senses.knows_s(now)) / 60
        return "learning", f"it knows what is usual in {left:.0f} minutes"
    if known.held:
        return "frozen", known.held
    if questions.waits_for(Question.EPOCH):
        return "searching", "the twin is asked for something better"
    if questions.word and questions.trusted is not True:
        return "frozen", f"the twin: {questions.word}"
    if known.state.advice is not None:
        return "recommending", _advice(known)
    if search.done:
        return "still", f"{search.still} searches on end found nothing better; a drift wakes it"
    return "searching", f"the twin is asked again in {max(0.0, known.state.next_epoch_s - now) / 60:.0f} minutes"


def _trying(known: Tuner, now: float) -> str:
    tried = known.state.trial
    assert tried is not None
    pairs, status = min(len(tried.force), len(tried.tried)), known.wanted(now).trial
    how = "all by turns" if status is None or not status.replicas else f"a canary of {status.replicas}"
    spans = f"{trial.LEAST_WINDOWS} to {trial.MOST_WINDOWS}"
    told = f"{moves(tried.before, tried.after)}, {how}: {pairs} minutes of each side so far, of {spans}"
    return f"{told}; {known.held}" if known.held else told


def _advice(known: Tuner) -> str:
    advice = known.state.advice
    assert advice is not None
    told = f"{moves(advice.before, advice.after)}: {advice.verdict.reason}"
    few = known.mode is Mode.AUTO
    return f"{told}; there are too few calls to try it on, or it was no time for it" if few else told
