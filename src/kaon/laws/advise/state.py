"""All that is remembered of a deployment from minute to minute, and how it grows."""

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
"""From how many times the usual p99, and from how much beyond the usual share of failures, something is wrong."""
_NOTICED = 0.1
"""Of the latency that is wanted: what is slower by less is no matter."""
ACCEPTED = 360
"""Minutes on end after which what is strange is the usual: nobody minds it."""


@dataclass(frozen=True, slots=True)
class FindingStreak:
    """How often on end a finding held, or did not; since when."""

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
    """What is known of a deployment."""

    terms: AdviceTerms | None = None
    marks: tuple[tuple[Finding, FindingStreak], ...] = ()
    p99_s: Usual = field(default_factory=Usual)
    failed: Usual = field(default_factory=Usual)
    day: Day = ()
    service: ServiceTime = field(default_factory=ServiceTime)
    change: RevisionChange | None = None

    def mark(self, finding: Finding) -> FindingStreak:
        """That of a finding."""
        return dict(self.marks).get(finding, FindingStreak())

    def slow(self, seen: AdviceMinute) -> bool:
        """Whether p99 is far above the usual, by enough to matter."""
        p99_s, least_s = seen.window.p99_s, _NOTICED * seen.terms.objective.latency_s
        return p99_s is not None and self.p99_s.strange(p99_s, max((SLOWER - 1) * self.p99_s.mean, least_s))

    def failing(self, seen: AdviceMinute) -> bool:
        """Whether more calls fail than usually do."""
        failed = seen.window.failed
        return failed is not None and self.failed.strange(failed, MORE_ERRORS)


def learnt(known: AdviceState, seen: AdviceMinute) -> AdviceState:
    """With one more minute."""
    p99, failed = known.p99_s, known.failed
    if seen.enough:
        p99 = _usual(p99, seen.window.p99_s, known.slow(seen), known.mark(Finding.LATENCY))
        failed = _usual(failed, seen.window.failed, known.failing(seen), known.mark(Finding.ERRORS))
    service = service_time.learn(known.service, seen.batches)
    return replace(known, p99_s=p99, failed=failed, day=day.add(known.day, seen), service=service)


def _usual(known: Usual, value: float | None, strange: bool, mark: FindingStreak) -> Usual:
    """What is usual is learnt from minutes that are; what has lasted for hours is learnt anew."""
    if value is None:
        return known
    if strange and mark.held >= ACCEPTED:
        return Usual().after(value)
    return known if strange else known.after(value)
