"""A sequential test whether a new side is worse than an old one. It may be evaluated any number of times.

A test for a single evaluation finds differences that do not exist when it is repeated: at a level of 5 %, evaluated
every second for ten minutes, it is wrong in about every third case. The evidence here may be evaluated as often as
needed, and the test may stop at any time.

Each side is a sequence of calls that were bad or not. With k of n bad, its *mixture likelihood* is the mean of
p^k (1-p)^(n-k) over a Beta prior, which has a closed form. The evidence against "p_new <= p_old + margin" is

    E = mixture(new) * mixture(old) / max { likelihood(new, p) * likelihood(old, q) : p <= q + margin }

For any p and q for which the claim is true, the denominator is at least their own likelihood, so E is at most a
likelihood ratio, which is a martingale with a mean of 1, and by Ville's inequality it ever reaches 1/level with a
probability of no more than `level`, however often it is evaluated. This is universal inference (Wasserman, Ramdas and
Balakrishnan 2020, "Universal inference", section 8) with a mixture as its numerator (Robbins 1970). The evidence
against "p_new >= p_old + margin" is the same with the sign turned, and shows that the new one is fine.

E depends on the four counts alone: they are the whole state, and can be added up. The prior affects the power only,
never the validity; this one, Beta(0.2, 1), expects that bad calls are rare.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from functools import cache

_PRIOR = (0.2, 1.0)
_HALVINGS = 40
_MOST_LOG_ODDS = math.log(1e9)


class SequentialVerdict(StrEnum):
    """The result of a test."""

    WORSE = "worse"
    FINE = "fine"
    UNKNOWN = "not known yet"


@dataclass(frozen=True, slots=True)
class Counts:
    """One side: the number of calls, and of bad ones."""

    calls: int = 0
    bad: int = 0

    @property
    def share(self) -> float:
        """The share of bad calls; 0 without calls."""
        return self.bad / self.calls if self.calls else 0.0


@dataclass(frozen=True, slots=True)
class Evidence:
    """The result for some counts, and its strength."""

    verdict: SequentialVerdict
    leans: SequentialVerdict
    """The tendency of the shares, which may be by chance: FINE when the new one is within the margin."""
    odds: float
    """E for the tendency: so many to one."""
    needed: float
    """The odds that are required for a verdict."""
    new: Counts
    old: Counts
    margin: float

    def words(self, bad: str) -> str:
        """The figures in a sentence; `bad` is a verb for bad calls: 'failed'."""
        return (
            f"{self.new.bad:,} of {self.new.calls:,} calls {bad} ({_percent(self.new.share)}), "
            f"against {self.old.bad:,} of {self.old.calls:,} ({_percent(self.old.share)}) of the old revision"
        )


def compare(new: Counts, old: Counts, margin: float, level: float = 0.05) -> Evidence:
    """Whether the new one's share of bad calls is beyond the old one's by more than `margin`, a share.

    When it is not, WORSE is ever the verdict with a probability of at most `level`, over all evaluations together; when
    it is, so is FINE.
    """
    beyond = new.share > old.share + margin
    log_odds = 0.0
    if new.calls:
        fair = _log_mixture(new) + _log_mixture(old)
        log_odds = fair - _log_best_at_margin(new, old, margin)
    certain = log_odds >= -math.log(level)
    leans = SequentialVerdict.WORSE if beyond else SequentialVerdict.FINE
    return Evidence(
        verdict=leans if certain else SequentialVerdict.UNKNOWN,
        leans=leans,
        odds=math.exp(min(max(log_odds, 0.0), _MOST_LOG_ODDS)),
        needed=1 / level,
        new=new,
        old=old,
        margin=margin,
    )


def _log_mixture(side: Counts) -> float:
    """Log of the mean likelihood over the prior: B(k + a, n - k + b) / B(a, b)."""
    a, b = _PRIOR
    return _log_beta(side.bad + a, side.calls - side.bad + b) - _log_beta_of_prior()


def _log_beta(x: float, y: float) -> float:
    return math.lgamma(x) + math.lgamma(y) - math.lgamma(x + y)


@cache
def _log_beta_of_prior() -> float:
    return _log_beta(*_PRIOR)


def _log_best_at_margin(new: Counts, old: Counts, margin: float) -> float:
    """Log of the likelihood's maximum over p = q + margin.

    The likelihood is log-concave, so where the shares lie outside of a claim its maximum lies on the claim's edge,
    and its slope falls along it: halving the interval finds where it is zero.
    """
    low, high = 0.0, 1.0 - margin
    for _ in range(_HALVINGS):
        q = (low + high) / 2
        if _slope(new, q + margin) + _slope(old, q) > 0:
            low = q
        else:
            high = q
    q = (low + high) / 2
    return _log_likelihood(new, q + margin) + _log_likelihood(old, q)


def _slope(side: Counts, p: float) -> float:
    return side.bad / p - (side.calls - side.bad) / (1 - p)


def _log_likelihood(side: Counts, p: float) -> float:
    good = side.calls - side.bad
    return (side.bad * math.log(p) if side.bad else 0.0) + (good * math.log1p(-p) if good else 0.0)


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
