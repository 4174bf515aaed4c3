"""What stands: the rules asked, their answers debounced, and what would contradict left out. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from kaon.laws.advise import batching, health, sizing
from kaon.laws.advise.minute import AdviceMinute, AdviceTerms, FindingText
from kaon.laws.advise.state import AdviceState, FindingStreak, RevisionChange, learnt
from kaon.types.advice import Advice, Finding

FIRM = 5
"""Minutes on end in which a finding must hold, or not hold, before it is told, or dropped."""

AdviceRule = Callable[[AdviceState, AdviceMinute], FindingText | bool | None]
"""What is to be said; False: all is well; None: there are no figures."""

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

_YIELDS: Mapping[Finding, frozenset[Finding]] = {
    Finding.LATENCY: frozenset({Finding.UNDERSIZED}),
    Finding.SLOW: frozenset({Finding.UNDERSIZED, Finding.LATENCY, Finding.COLD_STARTS}),
    Finding.KNOBS: frozenset({Finding.BATCH}),
    Finding.IDLE: frozenset({Finding.UNDERSIZED, Finding.COLD_STARTS}),
    Finding.OVERSIZED: frozenset({Finding.UNDERSIZED, Finding.COLD_STARTS, Finding.IDLE}),
    Finding.ELASTIC: frozenset({Finding.UNDERSIZED, Finding.COLD_STARTS, Finding.IDLE, Finding.OVERSIZED}),
}
"""Beside which others a finding is not told: they are its cause, or say of the same bound what it would undo."""


def _sizes(terms: AdviceTerms) -> Any:
    return terms.least, terms.most, terms.objective


def _knobs(terms: AdviceTerms) -> Any:
    return terms.mode, terms.tuned, terms.largest_batch, terms.recommended is None


_ABOUT: Mapping[Finding, Callable[[AdviceTerms], Any]] = {
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
"""What a finding is about: when that is changed it must prove itself anew."""


def begin(terms: AdviceTerms) -> AdviceState:
    """Nothing is known yet."""
    return AdviceState(terms=terms)


def adapt(known: AdviceState, terms: AdviceTerms, now_s: float) -> AdviceState:
    """Go by new terms: what is said of those that were is not said any more."""
    was = known.terms
    if was is None or was == terms:
        return replace(known, terms=terms)
    marks = tuple((f, mark) for f, mark in known.marks if _ABOUT[f](was) == _ABOUT[f](terms))
    change = known.change
    if was.revision is not None and terms.revision is not None and was.revision != terms.revision:
        change = RevisionChange(was.revision, terms.revision, now_s)
    return replace(known, terms=terms, marks=marks, change=change)


def step(known: AdviceState, seen: AdviceMinute) -> AdviceState:
    """The next state."""
    at_s = seen.window.at_s
    known = adapt(known, seen.terms, at_s)
    marks = dict(known.marks)
    for finding, rule in RULES.items():
        said = rule(known, seen)
        if said is not None:
            marks[finding] = _marked(marks.get(finding, FindingStreak()), finding, said, seen.terms, at_s)
    return replace(learnt(known, seen), marks=tuple((f, marks[f]) for f in RULES if f in marks))


def advice(known: AdviceState) -> tuple[Advice, ...]:
    """What stands, the most urgent first."""
    standing = {finding: mark.advice for finding, mark in known.marks if mark.advice is not None}
    none: frozenset[Finding] = frozenset()
    return tuple(said for finding, said in standing.items() if not _YIELDS.get(finding, none) & standing.keys())


def _marked(
    mark: FindingStreak, finding: Finding, said: FindingText | bool, terms: AdviceTerms, at_s: float
) -> FindingStreak:
    if isinstance(said, bool):
        missing = mark.missing + 1
        return FindingStreak() if missing >= FIRM else replace(mark, held=0, missing=missing)
    held = mark.held + 1
    since = mark.first_s if mark.held or mark.advice else at_s
    advice = mark.advice
    if held >= FIRM or advice is not None:
        advice = Advice(
            workspace=terms.workspace, deployment=terms.deployment, finding=finding, since=since, **said._asdict()
        )
    return FindingStreak(held, 0, since, advice)
