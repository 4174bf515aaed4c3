"""What stops the tuner, whatever the optimiser believes. It looks at figures only, every tick of 10 s."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from kaon.laws.loss import faded
from kaon.laws.traffic import MINUTE_S
from kaon.laws.tune.knobs import KnobValues
from kaon.types.objective import Objective

TICK_S = 10.0
MOST_STARTING = 0.2
MOST_BURN = 1.0
LEAST_CALLS = 200
"""A window, for anything to be tried."""
CALM = 10
"""So many windows on end must have had them: a load with pauses tells little, and a try that meets its next burst costs
more than it could gain."""
TELLING_CALLS = 20
"""Fewer calls than these say nothing about errors or a quantile."""
WORSE_ERRORS = 0.01
CLIMB = 1.25
"""Times the calls of the minutes before: the load climbs."""
WORSE_P99 = 1.25
LATE_P99 = 1.5
BAD_BURN = 2.0
MOST_BAD = 2
"""So many windows on end with a bad burn are no accident."""
PROBATION_S, FRESH_S = 86_400.0, 1800.0
"""For so long what was promoted is watched: a trial's quarter of an hour need not be like the day's worst one. While it
is fresh, two bad minutes on end are enough."""
SPENT_BURN = 1.5
"""Over half an hour. To use the budget up is what was asked for, so that at 1 chance would decide."""
MOST_ROLLBACKS, ROLLBACKS_S, OFF_S = 3, 3600.0, 6 * 3600.0


@dataclass(frozen=True, slots=True)
class Conditions:
    """How the deployment is. None: nobody knows, which freezes."""

    ready: int
    starting: int = 0
    panicking: bool = False
    shedding: bool = False
    deploying: bool = False
    burn: float | None = 0.0
    """How many times as fast as it lasts the error budget goes, over half an hour."""
    calls: int | None = None
    """Arrivals of the last window of 60 s."""
    calmest: int | None = None
    """Arrivals of the quietest of the last ten windows."""
    trusted: bool = False
    """Whether the twin's replay of the last half hour was right."""
    climbing: bool = False
    """Whether the load climbs: nothing begins then, but what is being tried goes on."""


@dataclass(frozen=True, slots=True)
class TrialArm:
    """What one side of a trial answered in its last window."""

    calls: int = 0
    failed: int = 0
    p99_s: float | None = None
    restarts: int = 0
    """Replicas of it that ended by themselves (out of memory included) since the trial began."""


@dataclass(frozen=True, slots=True)
class TunerGuard:
    """Rollbacks of the last hour, until when the tuner is off, and how many windows on end burnt the budget badly."""

    rollbacks: tuple[float, ...] = ()
    off_until_s: float = 0.0
    burning: int = 0

    def seen(self, burn_now: float | None) -> TunerGuard:
        """After a window with a burn rate of `burn_now`; None: no window has ended in this tick."""
        return replace(self, burning=_burning(self.burning, burn_now))

    def rolled_back(self, at_s: float) -> TunerGuard:
        """After a rollback: the third within an hour switches the tuner off for six."""
        rollbacks = (*(r for r in self.rollbacks if r > at_s - ROLLBACKS_S), at_s)
        if len(rollbacks) >= MOST_ROLLBACKS:
            return TunerGuard((), at_s + OFF_S)
        return TunerGuard(rollbacks, self.off_until_s)


@dataclass(frozen=True, slots=True)
class Probation:
    """What was promoted goes back to `before` if, until `until_s`, it burns the error budget as nothing that is tried
    may: `burning` windows on end did, or `burn`, over half an hour, is above `SPENT_BURN`."""

    before: KnobValues
    until_s: float
    burning: int = 0
    burn: float = 0.0

    def seen(self, at_s: float, burn: float | None) -> Probation:
        """After a window of what was promoted, with a burn rate of `burn`; None: none has ended in this tick."""
        if burn is None:
            return self
        fresh = at_s < self.until_s - PROBATION_S + FRESH_S
        burning = _burning(self.burning, burn) if fresh else 0
        return replace(self, burning=burning, burn=faded(self.burn, burn, MINUTE_S))

    @property
    def failed(self) -> str | None:
        """Why it must go back; None: it need not."""
        if self.burning >= MOST_BAD:
            return f"{_BURNT}, on probation"
        if self.burn > SPENT_BURN:
            return f"the error budget burnt {self.burn:.2f} times as fast as it lasts over half an hour, on probation"
        return None


_BURNT = f"the error budget burnt over {BAD_BURN:g} times as fast as it lasts, twice"


def _burning(windows: int, burn: float | None) -> int:
    if burn is None:
        return windows
    return windows + 1 if burn > BAD_BURN else 0


def frozen(now: Conditions) -> str | None:
    """Why nothing may be tried now; None: it may."""
    if now.panicking:
        return "the scaler panics"
    if now.shedding:
        return "calls are shed"
    if now.deploying:
        return "a rollout is under way"
    if now.starting > MOST_STARTING * max(now.ready + now.starting, 1):
        return f"{now.starting} of {now.ready + now.starting} replicas are starting"
    if now.burn is None or now.calls is None:
        return "there are no figures"
    if now.burn > MOST_BURN:
        return f"the error budget burns {now.burn:.1f} times as fast as it lasts"
    if not now.trusted:
        return "the twin's replay does not agree with what was seen"
    return None


def blind(now: Conditions) -> str | None:
    """Why there is nothing to search in now; None: there is."""
    if now.deploying:
        return "a rollout is under way"
    return "there are no figures" if now.burn is None or now.calls is None else None


def climbing(minutes: Sequence[int]) -> bool:
    """Whether the last of these minutes brought more calls than those before it by more than they differ anyhow.

    A trial that begins in a climb meets the climb and not the minutes that its promise is about.
    """
    if len(minutes) < 2:
        return False
    *before, last = minutes
    return last > CLIMB * sum(before) / len(before)


def quiet(now: Conditions) -> bool:
    """Whether there are too few calls to try anything on: recommend only."""
    return now.calls is None or min(now.calls, now.calls if now.calmest is None else now.calmest) < LEAST_CALLS


def worst(arms: Sequence[TrialArm]) -> TrialArm:
    """What is usual without the trial, at its worst: the control of a switchback, which has nobody beside it."""
    told = [arm for arm in arms if arm.calls >= TELLING_CALLS]
    failing = max(told, key=lambda arm: arm.failed / arm.calls, default=TrialArm())
    return replace(failing, p99_s=max((arm.p99_s for arm in told if arm.p99_s is not None), default=None))


def alarm(objective: Objective, guard: TunerGuard, trying: TrialArm, control: TrialArm) -> str | None:
    """Why what is tried must go at once; None: nothing is wrong. `control` is what is in force beside or before it."""
    if trying.restarts:
        return f"{trying.restarts} replicas ended"
    if guard.burning >= MOST_BAD:
        return _BURNT
    if trying.calls < TELLING_CALLS:
        return None
    errors, usual = trying.failed / trying.calls, control.failed / max(control.calls, 1)
    if errors > usual + WORSE_ERRORS:
        return f"{100 * errors:.1f} % of calls failed, {100 * usual:.1f} % without"
    if trying.p99_s is not None:
        limit_s = max(LATE_P99 * objective.latency_s, WORSE_P99 * (control.p99_s or 0.0))
        if trying.p99_s > limit_s:
            return f"p99 of {trying.p99_s:.3g} s is above {limit_s:.3g} s"
    return None
