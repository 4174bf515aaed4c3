"""How many replicas: square-root staffing that needs no tuning.

1. *What a call costs* is learnt: s(n) = a n + b per batch (`service_time`). The largest batch whose rows are
   still answered in time gives mu, the calls per second that a replica can serve.
2. *Demand* is rate / mu, in replicas, twice: steady (the higher of the rates over 12 s and 60 s) and quick
   (the higher of that, the rate over 4 s, and the 0.9 quantile of the forecast for when a start would be done).
   Whichever candidate wins, a rising rate is always provided for: the rate when a start would be done, if it goes on
   rising as in the last minute.
3. *How to follow it* (which demand, held for how long, with which margin) is decided by a contest of all
   candidates over what really arrived (`contest`).
4. *What the model does not know* (stragglers, uneven balancing, slow machines) shows as misses although
   capacity was there. So all demand is multiplied by a `headroom` that rises with such misses and falls, slowly,
   without: in balance when `budget_share` of the error budget is spent, whatever the cause (conformal control).
5. *Backlog* adds queue / (mu x 15 s). *Panic* forbids going down: for a minute when the quick demand is twice what is
   ready, for five when a steady load has broken down all at once.
6. Bounds and floors by schedule always hold. Without figures the number does not fall. Zero is reached only where
   the minimum is 0, after `keep_alive` without a call. No decision waits for a starting replica, so one that cannot
   start blocks nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from statistics import median
from typing import NamedTuple

from kaon.laws import contest, forecast, headroom, keep_alive, service_time
from kaon.laws.contest import Contest, WantedReplicas
from kaon.laws.forecast import Forecast
from kaon.laws.headroom import Headroom
from kaon.laws.keep_alive import Gaps
from kaon.laws.scaling import Bounds, ScalingDecision
from kaon.laws.service_time import ServiceTime
from kaon.laws.windows import Samples
from kaon.types.objective import Objective
from kaon.types.observation import Observation

_QUICK_S, _SHORT_S, _STEADY_S = 4.0, 12.0, 60.0
_BACKLOG_S = 15.0
_SLOW_START = 1.2
_PANIC_SHARE, _PANIC_S = 2.0, 60.0
_CLIMB, _MOST_CLIMB = 1.5, 0.5
"""Factor on the slope between two means, which lag behind a rise; and the most that is added to the rate,
as a share of it, since a step is no slope."""
_CUT, _CUT_S = 0.1, 300.0
"""A steady load of more than one replica that falls below this share within seconds was cut off on its way, and will
come back at once: for so many seconds the number of replicas does not fall."""
_LONE_S = 300.0
"""Seconds without a call after which only one replica is kept."""


class ScaleState(NamedTuple):
    """The state of the law."""

    arrivals: Samples
    service: ServiceTime
    ahead: Forecast
    contest: Contest
    headroom: Headroom = Headroom()
    panic_until_s: float = -math.inf
    last_call_s: float = -math.inf
    gaps: Gaps = Gaps()
    chosen: int | None = None


class _Pace(NamedTuple):
    """Calls per second over the last 4 s, 12 s and 60 s, and all calls of the last 60 s."""

    quick: float
    short: float
    steady: float
    calls: float


def _pace(arrivals: Samples) -> _Pace:
    calls = arrivals.total()
    return _Pace(arrivals.rate(_QUICK_S), arrivals.rate(_SHORT_S), calls / _STEADY_S, calls)


@dataclass(frozen=True, slots=True)
class Scale:
    """The law for an objective and handlers of at most `max_batch` rows. `start_s` is assumed until one is observed.

    Without `keep_alive_s` the last replica stays as long as `keep_alive` has learnt. Until the cost of a call is known,
    a replica is assumed to run `at_once` calls at a time.
    The tuner sets the last three. Two are shares of the error budget: how much of it misses may use before the headroom
    rises, and how much a candidate of the contest may have missed and still be followed. `margin` multiplies all demand
    immediately, held demand too; later the headroom corrects it.
    """

    objective: Objective = field(default_factory=Objective)
    max_batch: int = 1
    start_s: float = 20.0
    keep_alive_s: float | None = None
    at_once: int | None = None
    budget_share: float = 0.25
    contest_share: float = 0.1
    margin: float = 1.0

    def begin(self) -> ScaleState:
        """The state before the first observation."""
        return ScaleState(Samples(_STEADY_S), ServiceTime(), Forecast(), contest.begin(2, self.start_s))

    def step(self, state: ScaleState, bounds: Bounds, observed: Observation) -> tuple[ScaleState, ScalingDecision]:
        """The next state and decision, from an observation every 2 s (1 s to 10 s work too)."""
        now = observed.at_s
        last = observed.ready + observed.starting if state.chosen is None else state.chosen
        if observed.arrivals is None:
            replicas = bounds.clip(last, now)
            return state._replace(chosen=replicas), ScalingDecision(replicas, "no figures: unchanged")
        arrivals = state.arrivals.add(now, observed.arrivals)
        pace = _pace(arrivals)
        state = self._learn(state, observed, observed.arrivals, arrivals, pace)
        quiet = self._quiet(state, observed, pace)
        replicas, reason = self._idle(state, now, last) if quiet else self._follow(state, observed, pace)
        if now < state.panic_until_s and 0 < replicas < last:
            replicas, reason = last, f"not scaled down in a surge of load; {reason}"
        clipped = bounds.clip(replicas, now)
        if clipped != replicas:
            reason += f"; {replicas} is outside the bounds"
        return state._replace(chosen=clipped), ScalingDecision(clipped, reason)

    def with_replicas(self, state: ScaleState, replicas: int) -> ScaleState:
        """The state with this number of replicas as the current one; others may have set it."""
        return state if state.chosen == replicas else state._replace(chosen=replicas)

    def with_gaps(self, state: ScaleState, gaps: Gaps) -> ScaleState:
        """The state with idle gaps from earlier days."""
        return state._replace(gaps=gaps)

    def figures(self, state: ScaleState) -> dict[str, float]:
        """The numbers behind a decision, by name: rates per second, times in seconds, demand in replicas."""
        pace = _pace(state.arrivals)
        found = {"rps_12s": pace.short, "rps_60s": pace.steady}
        found |= {"rps_ahead": state.ahead.high(state.contest.start_s), "start_s": state.contest.start_s}
        if state.service.learned:
            cost_s = self._call(state.service, state.headroom)[0]
            plan = self._plan(state, pace, cost_s)
            found |= {"call_s": cost_s, "headroom": state.headroom.factor, "demand": plan.demand}
            found |= {"hold_s": plan.hold_s, "beta": plan.beta, "share": plan.share}
        return found | {"gaps": state.gaps.count}

    def _learn(
        self, state: ScaleState, observed: Observation, calls: int, arrivals: Samples, pace: _Pace
    ) -> ScaleState:
        service = service_time.learn(state.service, observed.batches, observed.began)
        start_s = state.contest.start_s
        if observed.cold_start_s is not None:
            # Starts differ, figures are stale, and a decision waits for its tick.
            likely_s = _SLOW_START * observed.cold_start_s + 2 * observed.span_s
            start_s = start_s if 0.8 * start_s <= likely_s <= 1.25 * start_s else likely_s
        ahead = forecast.learn(state.ahead, observed.at_s, calls / observed.span_s, start_s)
        judged = state.contest
        if start_s != judged.start_s:
            judged = contest.begin(2, start_s)._replace(holds=judged.holds, chosen=judged.chosen)
        last_call_s, gaps = self._last_call(state, observed)
        room, panic_until_s = state.headroom, state.panic_until_s
        if service.learned:
            room = self._headroom(room, service, state.contest, observed, calls, pace)
            cost_s, slack_s = self._call(service, room)
            demands = self._demands(ahead, state.contest.start_s, pace, cost_s)
            # The margin may change while a demand is held.
            held = (demands[0] / self.margin, demands[1] / self.margin)
            work, patience_s = calls * cost_s, self.objective.patience_s
            judged = contest.step(judged, observed.at_s, observed.span_s, held, work, slack_s, patience_s, self.margin)
            judged = contest.choose(judged, self.contest_share * (1 - self.objective.completion))
            if demands[1] >= _PANIC_SHARE * max(1, observed.ready):
                panic_until_s = max(panic_until_s, observed.at_s + _PANIC_S)
            elif self._cut_off(arrivals, pace, cost_s / observed.span_s):
                panic_until_s = observed.at_s + _CUT_S
        return ScaleState(arrivals, service, ahead, judged, room, panic_until_s, last_call_s, gaps, state.chosen)

    def _cut_off(self, arrivals: Samples, pace: _Pace, each: float) -> bool:
        """Whether a steady load was cut off; `each` is the replicas that one call in every observation occupies."""
        left = arrivals.mean(_SHORT_S)
        if left >= _CUT * (pace.calls / len(arrivals.values)):
            return False
        usual = median(arrivals.values)
        return usual * each > 1 and left < _CUT * usual

    def _last_call(self, state: ScaleState, observed: Observation) -> tuple[float, Gaps]:
        """The time of the last call (before any, of the first observation), and the idle gaps until then."""
        if not observed.arrivals and not observed.in_flight:
            return (observed.at_s if math.isinf(state.last_call_s) else state.last_call_s), state.gaps
        idle_s = observed.at_s - observed.span_s - state.last_call_s
        return observed.at_s, state.gaps if math.isinf(idle_s) else keep_alive.learn(state.gaps, idle_s)

    def _headroom(
        self, before: Headroom, service: ServiceTime, judged: Contest, observed: Observation, calls: int, pace: _Pace
    ) -> Headroom:
        """The headroom after this observation; misses during the first starts do not concern the model."""
        cost_s, slack_s = self._call(service, before)
        work, ready, patience_s = calls * cost_s, observed.ready, self.objective.patience_s
        watched = headroom.watch(before, observed.at_s, observed.span_s, work, ready, slack_s, patience_s)
        if not observed.answered or observed.missed is None or judged.seen_s < contest.TRUSTED_AFTER_S:
            return watched
        allowed = self.budget_share * (1 - self.objective.completion)
        used = work / max(1e-9, ready * observed.span_s)
        return headroom.learn(watched, observed.at_s, observed.answered, observed.missed, allowed, pace.calls, used)

    def _call(self, service: ServiceTime, room: Headroom) -> tuple[float, float]:
        """Replica-seconds of a call, headroom included, and the seconds that it may wait."""
        patience_s = self.objective.patience_s
        rows, seconds = service.best(self.max_batch, patience_s)
        row_s = room.factor * self.margin * seconds / rows
        return row_s * service.rows_per_call, max(patience_s - 2 * seconds, 0.1 * seconds)

    def _demands(self, ahead: Forecast, start_s: float, pace: _Pace, cost_s: float) -> tuple[float, float]:
        steady = max(pace.short, pace.steady)
        quick = max(steady, pace.quick, ahead.high(start_s))
        return steady * cost_s, quick * cost_s

    def _plan(self, state: ScaleState, pace: _Pace, cost_s: float) -> WantedReplicas:
        """The replicas of the contest's winner, with a climb; a call costs `cost_s` replica-seconds."""
        return contest.wanted(state.contest, self._climb(state, pace) * cost_s, self.margin)

    def _climb(self, state: ScaleState, pace: _Pace) -> float:
        """Calls per second when a start would be done, if the climb from the last minute to its last 12 s goes on."""
        short = pace.short
        slope = max(0.0, short - pace.steady) / ((_STEADY_S - _SHORT_S) / 2)
        ahead = _CLIMB * slope * (state.contest.start_s + _SHORT_S / 2)
        return short + min(ahead, _MOST_CLIMB * short)

    def _quiet(self, state: ScaleState, observed: Observation, pace: _Pace) -> bool:
        """Whether no call came for a minute, or for `keep_alive_s`, and none is in flight."""
        keep_alive_s = math.inf if self.keep_alive_s is None else self.keep_alive_s
        idle = pace.calls == 0 or observed.at_s - state.last_call_s >= keep_alive_s
        return idle and not observed.in_flight

    def _idle(self, state: ScaleState, now: float, last: int) -> tuple[int, str]:
        quiet_s = now - state.last_call_s
        keep_s = self.keep_alive_s
        if keep_s is None:
            cost_s = keep_alive.start_cost_s(state.contest.start_s, self.objective)
            keep_s = keep_alive.keep_s(state.gaps, cost_s)
        if quiet_s >= keep_s or last == 0:
            return 0, f"no call for {quiet_s:.0f} s"
        lone = quiet_s >= _LONE_S or not state.service.learned
        kept = 1 if lone else max(1, contest.wanted(state.contest, 0.0, self.margin).replicas)
        return min(kept, last), f"no call for {quiet_s:.0f} s; kept until {keep_s:.0f} s"

    def _follow(self, state: ScaleState, observed: Observation, pace: _Pace) -> tuple[int, str]:
        if not state.service.learned:
            # Calls in flight beyond their deadline have no caller any more.
            alive = state.arrivals.highest() * (1 + self.objective.patience_s / observed.span_s)
            at_once = max(self.max_batch, self.at_once or 1)
            wanted = max(1, math.ceil(min(observed.in_flight or 0, alive) / at_once))
            return max(wanted, observed.ready), "the cost of a call is not known yet: by calls in flight"
        cost_s, _ = self._call(state.service, state.headroom)
        plan = self._plan(state, pace, cost_s)
        waiting = max(
            0, (observed.queued or 0) - math.ceil(observed.ready * self.max_batch / state.service.rows_per_call)
        )
        backlog = waiting * cost_s / _BACKLOG_S
        replicas = max(1, math.ceil(plan.replicas + backlog - 1e-9))
        reason = (
            f"{pace.short:.1f} calls/s at {cost_s * 1000:.1f} ms each; "
            f"{plan.demand:.1f} replicas' worth at most in {plan.hold_s:g} s, share {plan.share:g}, beta {plan.beta:g}"
        )
        return replicas, reason + (f", backlog of {waiting}" if backlog else "")
