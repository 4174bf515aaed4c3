"""Active findings: the rules' results, debounced, without those that would contradict others. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from kaon.laws.advise import batching, health, sizing
from kaon.laws.advise.minute import AdviceMinute, AdviceTerms, FindingText
from kaon.laws.advise.state import AdviceState, FindingStreak, RevisionChange, learnt
from kaon.types.advice import Advice, Finding

FIRM = 5
"""Minutes in a row after which a finding becomes active, or ends."""

AdviceRule = Callable[[AdviceState, AdviceMinute], FindingText | bool | None]
"""The finding; False: it does not hold; None: there are no figures."""

RULES: Mapping[Finding, AdviceRule] = {
    Finding.ERRORS: health.errors,
    Finding.MEMORY: health.memory,
    Finding.UNDERSIZED: sizing.undersized,
    Finding.LATENCY: health.latency,
    Finding.SLOW: health.slow,
    Finding.COLD_STARTS: sizing.cold_starts,
    Finding.BATCH: batching.batch,
    Finding.KNOBS: batching.knobs,
    Finding.IDLE: sizing.idle,
    Finding.OVERSIZED: sizing.oversized,
    Finding.ELASTIC: sizing.elastic,
}
"""The most urgent first."""

_SUPPRESSED_BY: Mapping[Finding, frozenset[Finding]] = {
    Finding.LATENCY: frozenset({Finding.UNDERSIZED}),
    Finding.SLOW: frozenset({Finding.UNDERSIZED, Finding.LATENCY, Finding.COLD_STARTS}),
    Finding.KNOBS: frozenset({Finding.BATCH}),
    Finding.IDLE: frozenset({Finding.UNDERSIZED, Finding.COLD_STARTS}),
    Finding.OVERSIZED: frozenset({Finding.UNDERSIZED, Finding.COLD_STARTS, Finding.IDLE}),
    Finding.ELASTIC: frozenset({Finding.UNDERSIZED, Finding.COLD_STARTS, Finding.IDLE, Finding.OVERSIZED}),
}
"""Finding -> other ones that suppress it: its causes, and those about the same bound that it would undo."""


def _sizes(terms: AdviceTerms) -> Any:
    return terms.least, terms.most, terms.objective


def _knobs(terms: AdviceTerms) -> Any:
    return terms.mode, terms.tuned, terms.largest_batch, terms.recommended is None


_SUBJECT: Mapping[Finding, Callable[[AdviceTerms], Any]] = {
    Finding.ERRORS: lambda terms: terms.revision,
    Finding.LATENCY: lambda terms: terms.revision,
    Finding.MEMORY: lambda terms: terms.memory_limit_bytes,
    Finding.UNDERSIZED: _sizes,
    Finding.SLOW: lambda terms: (terms.revision, terms.objective),
    Finding.COLD_STARTS: _sizes,
    Finding.BATCH: _knobs,
    Finding.KNOBS: _knobs,
    Finding.IDLE: _sizes,
    Finding.OVERSIZED: _sizes,
    Finding.ELASTIC: _sizes,
}
"""The subject of a finding: when it changes, the finding starts again."""


def begin(terms: AdviceTerms) -> AdviceState:
    """The state before the first minute."""
    return AdviceState(terms=terms)


def adapt(state: AdviceState, terms: AdviceTerms, now_s: float) -> AdviceState:
    """The state with new terms, without findings whose subject has changed."""
    before = state.terms
    if before is None or before == terms:
        return replace(state, terms=terms)
    streaks = tuple((f, streak) for f, streak in state.streaks if _SUBJECT[f](before) == _SUBJECT[f](terms))
    change = state.change
    if before.revision is not None and terms.revision is not None and before.revision != terms.revision:
        change = RevisionChange(before.revision, terms.revision, now_s)
    return replace(state, terms=terms, streaks=streaks, change=change)


def step(state: AdviceState, minute: AdviceMinute) -> AdviceState:
    """The next state."""
    at_s = minute.window.at_s
    state = adapt(state, minute.terms, at_s)
    streaks = dict(state.streaks)
    for finding, rule in RULES.items():
        result = rule(state, minute)
        if result is not None:
            streaks[finding] = _next_streak(streaks.get(finding, FindingStreak()), finding, result, minute.terms, at_s)
    return replace(learnt(state, minute), streaks=tuple((f, streaks[f]) for f in RULES if f in streaks))


def advice(state: AdviceState) -> tuple[Advice, ...]:
    """The active findings, the most urgent first."""
    active = {finding: streak.advice for finding, streak in state.streaks if streak.advice is not None}
    none: frozenset[Finding] = frozenset()
    return tuple(advice for finding, advice in active.items() if not _SUPPRESSED_BY.get(finding, none) & active.keys())


def _next_streak(
    streak: FindingStreak, finding: Finding, result: FindingText | bool, terms: AdviceTerms, at_s: float
) -> FindingStreak:
    if isinstance(result, bool):
        missing = streak.missing + 1
        return FindingStreak() if missing >= FIRM else replace(streak, held=0, missing=missing)
    held = streak.held + 1
    since = streak.first_s if streak.held or streak.advice else at_s
    advice = streak.advice
    if held >= FIRM or advice is not None:
        advice = Advice(
            workspace=terms.workspace, deployment=terms.deployment, finding=finding, since=since, **result._asdict()
        )
    return FindingStreak(held, 0, since, advice)
