"""The limits of the tuner, independent of the optimiser: they depend on measured figures only, every tick of 10 s."""

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
"""Least calls of a window for a trial."""
CALM = 10
"""Windows in a row that must have as many: a load with pauses shows little, and a trial during its next burst costs
more than it could gain."""
TELLING_CALLS = 20
"""Least calls for a share of errors or a quantile."""
WORSE_ERRORS = 0.01
CLIMB = 1.25
"""Times the calls of the minutes before; above it the load climbs."""
WORSE_P99 = 1.25
LATE_P99 = 1.5
BAD_BURN = 2.0
MOST_BAD = 2
"""Windows in a row with a bad burn that are an alarm."""
PROBATION_S, FRESH_S = 86_400.0, 1800.0
"""How long promoted values are on probation: a trial's quarter of an hour may be better than the day's worst one. While
they are fresh, two bad minutes in a row are enough."""
SPENT_BURN = 1.5
"""Largest burn rate over half an hour. At 1, which uses the budget up as intended, chance would decide."""
MOST_ROLLBACKS, ROLLBACKS_S, OFF_S = 3, 3600.0, 6 * 3600.0


@dataclass(frozen=True, slots=True)
class Conditions:
    """The conditions of a deployment. None: unknown, which prevents trials."""

    ready: int
    starting: int = 0
    panicking: bool = False
    shedding: bool = False
    deploying: bool = False
    burn: float | None = 0.0
    """The burn rate of the error budget over half an hour; at 1 it is used up exactly."""
    calls: int | None = None
    """Arrivals of the last window of 60 s."""
    calmest: int | None = None
    """Arrivals of the quietest of the last ten windows."""
    trusted: bool = False
    """Whether the twin's replay of the last half hour was accurate."""
    climbing: bool = False
    """Whether the load climbs: no trial begins then, but a running one goes on."""


@dataclass(frozen=True, slots=True)
class TrialArm:
    """Counts of one side of a trial in its last window."""

    calls: int = 0
    failed: int = 0
    p99_s: float | None = None
    restarts: int = 0
    """Replicas of it that ended by themselves (out of memory included) since the trial began."""


@dataclass(frozen=True, slots=True)
class TunerGuard:
    """Rollbacks of the last hour, until when trials are paused, and the number of windows in a row with a bad burn."""

    rollbacks: tuple[float, ...] = ()
    off_until_s: float = 0.0
    burning: int = 0

    def after_window(self, burn_now: float | None) -> TunerGuard:
        """The guard after a window with the burn rate `burn_now`; None: no window has ended in this tick."""
        return replace(self, burning=_burning(self.burning, burn_now))

    def rolled_back(self, at_s: float) -> TunerGuard:
        """After a rollback: the third within an hour switches the tuner off for six."""
        rollbacks = (*(r for r in self.rollbacks if r > at_s - ROLLBACKS_S), at_s)
        if len(rollbacks) >= MOST_ROLLBACKS:
            return TunerGuard((), at_s + OFF_S)
        return TunerGuard(rollbacks, self.off_until_s)


@dataclass(frozen=True, slots=True)
class Probation:
    """Promoted values, replaced by `before` if they burn the error budget until `until_s`: `burning` windows in a row
    had a bad burn, or `burn`, over half an hour, is above `SPENT_BURN`."""

    before: KnobValues
    until_s: float
    burning: int = 0
    burn: float = 0.0

    def after_window(self, at_s: float, burn: float | None) -> Probation:
        """The probation after a window with the burn rate `burn`; None: no window has ended in this tick."""
        if burn is None:
            return self
        fresh = at_s < self.until_s - PROBATION_S + FRESH_S
        burning = _burning(self.burning, burn) if fresh else 0
        return replace(self, burning=burning, burn=faded(self.burn, burn, MINUTE_S))

    @property
    def failed(self) -> str | None:
        """Why the values must be rolled back; None: they need not."""
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
    """Why trials are not possible now; None: they are."""
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
    """Why there is no traffic to search with now; None: there is."""
    if now.deploying:
        return "a rollout is under way"
    return "there are no figures" if now.burn is None or now.calls is None else None


def climbing(minutes: Sequence[int]) -> bool:
    """Whether the last of these minutes has many more calls than those before it.

    A trial that begins in a climb would not meet the load for which its gain was predicted.
    """
    if len(minutes) < 2:
        return False
    *before, last = minutes
    return last > CLIMB * sum(before) / len(before)


def quiet(now: Conditions) -> bool:
    """Whether there are too few calls for a trial: recommend only."""
    return now.calls is None or min(now.calls, now.calls if now.calmest is None else now.calmest) < LEAST_CALLS


def worst(arms: Sequence[TrialArm]) -> TrialArm:
    """The worst figures of windows without a trial: the control of a switchback."""
    counted = [arm for arm in arms if arm.calls >= TELLING_CALLS]
    failing = max(counted, key=lambda arm: arm.failed / arm.calls, default=TrialArm())
    return replace(failing, p99_s=max((arm.p99_s for arm in counted if arm.p99_s is not None), default=None))


def alarm(objective: Objective, guard: TunerGuard, trying: TrialArm, control: TrialArm) -> str | None:
    """Why a trial must end at once; None: it need not. `control` has the values in force, beside or before it."""
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
