"""The state of a deployment's advice from minute to minute."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from kaon.laws import service_time
from kaon.laws.advise import day
from kaon.laws.advise.day import Day
from kaon.laws.advise.minute import AdviceMinute, AdviceTerms
from kaon.laws.advise.usual import Usual
from kaon.laws.service_time import ServiceTime
from kaon.types.advice import Advice, Finding

SLOWER, MORE_ERRORS = 1.5, 0.01
"""Times the usual p99, and share of failures above the usual one, that are unusual."""
_LEAST_SHARE = 0.1
"""Least share of the target latency by which a p99 must be slower."""
ACCEPTED = 360
"""Minutes in a row after which an unusual figure is the usual one."""


@dataclass(frozen=True, slots=True)
class FindingStreak:
    """In how many minutes in a row a finding held, or did not, and since when."""

    held: int = 0
    missing: int = 0
    first_s: float = 0.0
    advice: Advice | None = None


@dataclass(frozen=True, slots=True)
class RevisionChange:
    """Another revision began to serve."""

    before: int
    after: int
    at_s: float


@dataclass(frozen=True, slots=True)
class AdviceState:
    """The state of a deployment's advice."""

    terms: AdviceTerms | None = None
    streaks: tuple[tuple[Finding, FindingStreak], ...] = ()
    p99_s: Usual = field(default_factory=Usual)
    failed: Usual = field(default_factory=Usual)
    day: Day = ()
    service: ServiceTime = field(default_factory=ServiceTime)
    change: RevisionChange | None = None

    def streak(self, finding: Finding) -> FindingStreak:
        """The streak of a finding."""
        return dict(self.streaks).get(finding, FindingStreak())

    def slow(self, minute: AdviceMinute) -> bool:
        """Whether p99 is far above the usual one."""
        p99_s, least_s = minute.window.p99_s, _LEAST_SHARE * minute.terms.objective.latency_s
        return p99_s is not None and self.p99_s.unusual(p99_s, max((SLOWER - 1) * self.p99_s.mean, least_s))

    def failing(self, minute: AdviceMinute) -> bool:
        """Whether more calls fail than usual."""
        failed = minute.window.failed
        return failed is not None and self.failed.unusual(failed, MORE_ERRORS)


def learnt(state: AdviceState, minute: AdviceMinute) -> AdviceState:
    """The state with one more minute learnt."""
    p99, failed = state.p99_s, state.failed
    if minute.enough:
        p99 = _usual(p99, minute.window.p99_s, state.slow(minute), state.streak(Finding.LATENCY))
        failed = _usual(failed, minute.window.failed, state.failing(minute), state.streak(Finding.ERRORS))
    service = service_time.learn(state.service, minute.batches)
    return replace(state, p99_s=p99, failed=failed, day=day.add(state.day, minute), service=service)


def _usual(usual: Usual, value: float | None, unusual: bool, streak: FindingStreak) -> Usual:
    """The usual value, learnt from usual minutes; an unusual one that has lasted for hours replaces it."""
    if value is None:
        return usual
    if unusual and streak.held >= ACCEPTED:
        return Usual().after(value)
    return usual if unusual else usual.after(value)
