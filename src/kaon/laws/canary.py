"""The progress of a canary: its share of the traffic, step by step, by the calls that it answers.

A step gives the new revision a share of the calls, on enough replicas for it. From then on the answers of both
revisions are counted, and `kaon.laws.sequential` tests whether the new one is worse by more than is allowed, in two
ways: *errors*, the share of failed calls; and *slowness*, the share of calls that took longer than the old revision's
p99 times `slower`, of which the old one has about 1 % by definition, and the new one may have 1 % more.

- Worse: as soon as the test shows it, the rollout stops, and all calls go back to the old revision.
- Passed: the step lasted `step_s`, the new revision answered `min_calls`, the times of as many were judged (unless the
  old revision has too few calls to define slowness), and neither test leans to worse. A test that leans to worse
  without being certain is waited for: it becomes certain or stops leaning.
- No calls: the step waits.

The level is shared by all tests of all steps: a canary as good as the old revision is ever sent back with a probability
of at most 5 %.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Sequence

from kaon.laws.sequential import Counts, Evidence, SequentialVerdict, compare
from kaon.laws.traffic import FAILURES, quantile
from kaon.types.deployment import (
    Canary,
    CanaryArm,
    CanaryGate,
    CanaryStatus,
    DeploymentSpec,
    RolloutState,
    RolloutStatus,
)
from kaon.types.traffic import LATENCY_BOUNDS_S, LatencyCounts, Sample

LEVEL = 0.05
"""Largest probability that a good canary is sent back."""

SLOW_MARGIN = 0.01
NOISE_S = 0.005
"""A smaller difference from the old revision's p99 is no slowness."""

WARM_S = 5.0
"""Times are not judged for so long after a share is in force: the first calls of new replicas are slow."""

LOOK_S = 2.0
LATE_S = 2.0
"""Age at which calls are counted: by then all clouds have reported them."""

BRIEF_S = 5.0
"""Age of the oldest sample whose open calls count."""

BACK_S = 600.0
_TYPICAL_CALLS = 100
"""Least calls of the last `BACK_S` for the old revision's p99."""


def follow(
    spec: DeploymentSpec, status: RolloutStatus, target: int, restarted: bool, samples: Sequence[Sample], now: float
) -> CanaryStatus | None:
    """The canary of `target` with all calls counted and judged; None: there is no canary or no old revision."""
    rules, stable = spec.rollout.canary, status.stable
    if rules is None or stable is None or stable == target:
        return None
    canary, stopped = status.canary, status.state is RolloutState.STOPPED
    if canary is None or canary.revision != target or (stopped and restarted):
        canary, stopped = CanaryStatus(revision=target, since=now, until=now), False
    if stopped:
        return canary
    if spec.promoted == target:
        canary = canary.model_copy(update={"promoted": True})
    return _judged(rules, _counted(rules, canary, stable, samples, now))


def passed(rules: Canary, canary: CanaryStatus) -> bool:
    """Whether it may take over."""
    return canary.promoted or (canary.step >= len(rules.steps) and not rules.hold)


def share(rules: Canary, canary: CanaryStatus) -> int:
    """Per cent of the calls for its step."""
    return rules.steps[min(canary.step, len(rules.steps) - 1)]


def needs(percent: int, count: int) -> int:
    """Replicas for that share of the work of `count` replicas."""
    return math.ceil(count * percent / 100)


def weight(percent: int, ready: int, count: int) -> int:
    """Per cent of the calls for `ready` replicas of it: those of the step, but no more than they can take."""
    return min(percent, 100 * ready // count) if count else 0


def worse(canary: CanaryStatus, stable: int) -> str:
    """Why it must go back; empty: it need not."""
    bad = next((gate for gate in canary.gates if gate.verdict == SequentialVerdict.WORSE), None)
    if bad is None or canary.promoted:
        return ""
    return (
        f"Revision {canary.revision} answers worse than revision {stable}: {bad.reason}; "
        f"the evidence is {_odds(bad.odds)} to 1."
    )


def moved(rules: Canary, canary: CanaryStatus, given: int, now: float) -> CanaryStatus:
    """The canary after a pass in which it gets `given` per cent of the calls: its share in force, or the next step."""
    if not canary.in_force:
        if given < share(rules, canary):
            return canary.model_copy(update={"reason": ""})
        fresh = {"until": now, "slow_s": None, "new": CanaryArm(), "old": CanaryArm(), "gates": ()}
        canary = canary.model_copy(update={"in_force": True, "since": now, **fresh})
    at_end = canary.step >= len(rules.steps)
    missing = "it waits for `promote`" if at_end else _missing(rules, canary, now)
    if missing:
        name = "All steps are passed" if at_end else f"Step {canary.step + 1} of {len(rules.steps)}"
        return canary.model_copy(update={"reason": f"{name}, {given} % of the calls: {missing}."})
    # The step's results stay until the next one's share is in force, so that they can be reported.
    return canary.model_copy(update={"step": canary.step + 1, "since": now, "in_force": False, "reason": ""})


def _missing(rules: Canary, canary: CanaryStatus, now: float) -> str:
    """What the step waits for; empty when it is passed."""
    calls = canary.new.calls
    if not calls:
        return "it has answered no call yet; without calls, only `promote` continues"
    if calls < rules.min_calls:
        return f"{calls:,} of {rules.min_calls:,} calls answered"
    if now - canary.since < rules.step_s:
        return f"it lasts {rules.step_s:g} s; {calls:,} calls answered"
    timed = canary.new.timed + canary.new.overdue
    if canary.slow_s and timed < rules.min_calls:
        return f"the times of {timed:,} of {rules.min_calls:,} calls are known"
    leaning = next((gate for gate in canary.gates if gate.leans == SequentialVerdict.WORSE), None)
    if leaning:
        return f"not known yet whether it is worse: {leaning.reason}"
    return ""


def _counted(rules: Canary, canary: CanaryStatus, stable: int, samples: Sequence[Sample], now: float) -> CanaryStatus:
    """The canary with the calls of both revisions that ended since the last pass."""
    until = min(now - LATE_S, max((sample.at_s for sample in samples), default=0.0))
    if until - canary.until < LOOK_S - 0.1:
        return canary
    slow_s = canary.slow_s or _slow_s(rules, [s for s in samples if s.revision == stable and s.at_s > now - BACK_S])
    timed = slow_s if canary.in_force and now - canary.since >= WARM_S + LATE_S else None
    span = canary.until, until
    return canary.model_copy(
        update={
            "until": until,
            "slow_s": slow_s,
            "new": _added(canary.new, [s for s in samples if s.revision == canary.revision], span, timed),
            "old": _added(canary.old, [s for s in samples if s.revision == stable], span, timed),
        }
    )


def _added(arm: CanaryArm, samples: Sequence[Sample], span: tuple[float, float], slow_s: float | None) -> CanaryArm:
    """With the calls of the samples that end within `span`; with their times only when `slow_s` is given.

    A call that its caller gives up has no answer: it is counted as one that arrived and is not open any more. One that
    is open for longer than `slow_s` is slow, whenever it ends.
    """
    after, until = span
    fresh = [s for s in samples if after < s.at_s <= until and s.codes is not None]
    codes = [s.codes or {} for s in fresh]
    answered = sum(sum(found.values()) for found in codes)
    arrived = sum(s.arrivals or 0 for s in fresh)
    given_up = arm.given_up + arrived - answered - (_open(samples, until) - _open(samples, after))
    more = max(0, given_up) - max(0, arm.given_up)
    times = [s.latency for s in fresh if s.latency] if slow_s else []
    first_slow = bisect_left(LATENCY_BOUNDS_S, slow_s or 0.0) + 1
    recent = sum(s.arrivals or 0 for s in samples if until - (slow_s or 0.0) - LOOK_S / 2 < s.at_s <= until)
    return CanaryArm(
        calls=max(0, arm.calls + answered + more),
        failed=max(0, arm.failed + sum(found.get(name, 0) for found in codes for name in FAILURES) + more),
        given_up=given_up,
        timed=arm.timed + sum(sum(found.values()) for found in times),
        slow=arm.slow + sum(n for found in times for bucket, n in found.items() if bucket >= first_slow),
        overdue=max(0, _open(samples, until) - recent) if slow_s else 0,
        p99_s=quantile(_whole(s.latency for s in samples if until - 60.0 < s.at_s <= until), 0.99),
    )


def _open(samples: Iterable[Sample], at_s: float) -> int:
    """Calls in flight at a time, in all clouds."""
    newest: dict[str, Sample] = {}
    for sample in samples:
        if at_s - BRIEF_S < sample.at_s <= at_s and sample.at_s >= newest.get(sample.cloud, sample).at_s:
            newest[sample.cloud] = sample
    return sum(sample.in_flight or 0 for sample in newest.values())


def _slow_s(rules: Canary, old: Sequence[Sample]) -> float | None:
    """The time above which a call is slow: a bound of the histograms, so that slow calls are counted exactly."""
    whole = _whole(sample.latency for sample in old)
    p99_s = quantile(whole, 0.99)
    if p99_s is None or sum(whole.values()) < _TYPICAL_CALLS:
        return None
    at_least = max(p99_s * rules.slower, p99_s + NOISE_S)
    return next((bound for bound in LATENCY_BOUNDS_S if bound >= at_least), LATENCY_BOUNDS_S[-1])


def _whole(histograms: Iterable[LatencyCounts | None]) -> LatencyCounts:
    found: LatencyCounts = {}
    for histogram in histograms:
        for bucket, count in (histogram or {}).items():
            found[bucket] = found.get(bucket, 0) + count
    return found


def _judged(rules: Canary, canary: CanaryStatus) -> CanaryStatus:
    level = LEVEL / (2 * (len(rules.steps) + rules.hold))
    new, old, slow_s = canary.new, canary.old, canary.slow_s or 0.0
    failed = compare(Counts(new.calls, new.failed), Counts(old.calls, old.failed), rules.errors, level)
    slow = compare(_timed(new), _timed(old), SLOW_MARGIN, level)
    gates = [_gate("errors", failed, "failed")]
    if new.timed + new.overdue:
        gates.append(_gate("slowness", slow, f"took longer than {1000 * slow_s:,.0f} ms"))
    return canary.model_copy(update={"gates": tuple(gates) if new.calls + new.overdue else ()})


def _timed(arm: CanaryArm) -> Counts:
    return Counts(arm.timed + arm.overdue, arm.slow + arm.overdue)


def _gate(name: str, evidence: Evidence, bad: str) -> CanaryGate:
    return CanaryGate(
        name=name,
        verdict=evidence.verdict,
        leans=evidence.leans,
        odds=round(evidence.odds, 2),
        needed=evidence.needed,
        reason=evidence.words(bad),
    )


def _odds(odds: float) -> str:
    return f"{odds:,.0f}" if odds < 1e6 else "over a million"
