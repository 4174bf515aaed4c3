"""The running tuner of one deployment: takes samples, decides every 10 s, and gives the status that should be.

It has no store and no clock. Its owner (`kaon.control.tune.controller`, or a test) writes its `TuningStatus`, records
its `News`, and gets the result of each `TwinQuery`:

    add_samples(samples), tick(context, now), [next_query(now), take_result(result, now)],
    desired_status(now), mark_written(status)

`update` gives it the stored deployment, with commands of users. The status holds all that must survive a restart,
except a trial's measurements: a trial that is found at the start is ended.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial, reduce
from typing import Any, NamedTuple

from kaon.control.scaler import ScalerSnapshot, ScalerTerms
from kaon.control.tune import requests
from kaon.control.tune.inputs import TunerInputs
from kaon.control.tune.measurement import TrialMeasurement, changed, first_turn
from kaon.control.tune.queries import TwinQueries, TwinQueryKind, predicted_losses
from kaon.control.tune.requests import PromiseUnknown, TrialBegins, TrialRefused, TrialRequest
from kaon.control.tune.ticks import TunerTicks
from kaon.laws.traffic import MINUTE_S
from kaon.laws.tune import board, guard, record, scaling, trial, tuner, values_in_force
from kaon.laws.tune.ask import TwinQuery, TwinResult
from kaon.laws.tune.epoch import Proposal, Search
from kaon.laws.tune.guard import Conditions, Probation, TunerGuard
from kaon.laws.tune.knobs import KnobValues, Reach, Space
from kaon.laws.tune.record import RecordFigures
from kaon.laws.tune.trial import Trial
from kaon.laws.tune.tuner import Orders, Tick, TunerEvent, TunerState
from kaon.types.deployment import DeploymentSpec
from kaon.types.traffic import Sample
from kaon.types.tuning import KnobState, Recommendation, TrialStatus, TuningMode, TuningStatus

LEARNS_S = 1500.0
"""Seconds of traffic before the first query to the twin."""
REST_S = 1800.0
"""Interval of searches while a recommendation is not applied."""


class TunerContext(NamedTuple):
    """The state of a deployment besides its samples. `snapshots` are those of its scaling law; None: it has no law."""

    ready: int
    starting: int = 0
    deploying: bool = False
    panicking: bool = False
    snapshots: Sequence[ScalerSnapshot] | None = None

    @property
    def replicas(self) -> int:
        """Ready and starting replicas: one that has ended is starting again."""
        return self.ready + self.starting


class News(NamedTuple):
    """Something that happened, for the journal (if it has figures) and for events."""

    at_s: float
    what: str
    reason: str
    before: KnobValues
    after: KnobValues
    figures: RecordFigures | None = None


class Tuner:
    """The tuner of a deployment with at least one knob. Times are epoch seconds."""

    def __init__(
        self,
        place: tuple[str, str],
        spec: DeploymentSpec,
        terms: ScalerTerms,
        space: Space,
        status: TuningStatus,
        now: float,
    ) -> None:
        self.spec, self.terms, self.space = spec, terms, space
        self.status = status = values_in_force.commanded(status, spec.tuning.commands)
        """The status in the store, with the commands of the spec carried out."""
        self.usual = scaling.usual(space, terms.service)
        self.state = TunerState(
            self._complete(status.values),
            guard=TunerGuard(status.rollbacks, status.off_until),
            probation=self._probation(status),
        )
        self.inputs = TunerInputs(terms.objective)
        self.queries = TwinQueries(*place, now, self.state.force)
        self._ticks = TunerTicks(self.inputs, self.queries)
        self.news: list[News] = []
        self.context = TunerContext(0)
        self.blocked = ""
        """Why no trial or search can begin now; empty: one can."""
        self.epochs = 0
        self.measurement: TrialMeasurement | None = None
        """Of the running trial."""
        self.request = TrialRequest()
        """The state of the requested trial."""
        self._unwritten: list[Callable[[TuningStatus], TuningStatus]] = []
        """Changes of the values in force, promotions and rollbacks, that are not in the store yet."""
        if status.trial is not None:
            self._end_left_trial(status.trial, now)

    @property
    def mode(self) -> TuningMode:
        """What it may do without a request."""
        return self.spec.tuning.mode

    # The stored deployment

    def update(self, spec: DeploymentSpec, terms: ScalerTerms, space: Space, status: TuningStatus, now: float) -> None:
        """Take in the deployment as it is stored, and carry out new commands."""
        before, self.status = self.status, values_in_force.commanded(status, spec.tuning.commands)
        status = self.status
        if spec.model_copy(update={"tuning": self.spec.tuning}) != self.spec:
            self._stop_trial(now, "the spec was changed")
        self.spec = spec
        if terms != self.terms:
            self._use_terms(terms, space, now)
        if status.values != before.values:
            self._change_values(before, now)
        elif before.trial is not None and status.trial is None:
            self._stop_trial(now, "a user ended it")
        if before.probation is not None and status.probation is None:
            self.state = replace(self.state, probation=None)
        if before.recommended is not None and status.recommended is None:
            self.state = replace(self.state, advice=None)
        if status.asked != before.asked:
            self.request = TrialRequest()
            self.queries.due.pop(TwinQueryKind.ATTEMPT, None)
        self.queries.set_pool(now, self._pool_values(now))

    def _change_values(self, before: TuningStatus, now: float) -> None:
        """A user has put other values in force."""
        status, by = self.status, f"by key '{self.status.changed_by}'"
        old, new = self.state.force, self._complete(status.values)
        self._stop_trial(now, f"other values were put in force {by}")
        self.state = tuner.undone(self.state, now, new)
        self.request = TrialRequest()
        self._unwritten.clear()  # the user did not see these changes, and the user's change is the later one
        old, new = {**before.values, **old}, {**status.values, **new}  # with knobs that are never tuned
        self._report(now, "changed", by, old, new, record.of_change(old, new, status.changed_by))

    def mark_written(self, status: TuningStatus) -> None:
        """The desired status has been stored."""
        self.status, self.request = status, replace(self.request, refused=False)
        self._unwritten.clear()

    # A tick

    def add_samples(self, samples: Sequence[Sample]) -> None:
        """Add samples of the serving revisions."""
        self.inputs.add_samples(samples, unscaled=self.context.snapshots is None, tried=self.state.trial is not None)
        if self.measurement is not None:
            self.measurement.add_samples(samples)

    def tick(self, context: TunerContext, now: float) -> None:
        """Decide: end, roll back or begin trials, and make queries due."""
        self.context = context
        self.inputs.add_snapshots(context.snapshots or ())
        minutes = self.inputs.new_minutes(now, self.state.trial is not None)
        if context.replicas == 0:
            self._stop_trial(now, "there are no replicas")
        elif self._canary and trial.canaries(context.replicas) == 0:
            self._stop_trial(now, "there is no other replica to compare with any more")
        state = self.state
        conditions = self.conditions(now)
        tick = self._ticks.tick(state, self.measurement, minutes[-1] if minutes else None, conditions, now)
        if state.trial is None and not self._can_search(now):
            state = replace(state, next_epoch_s=max(state.next_epoch_s, now + 1.0))
        requested = self.measurement is not None and self.measurement.by != ""
        mode = TuningMode.AUTO if requested and self.mode is not TuningMode.OFF else self.mode
        after, orders = tuner.step(state, mode, self.terms.objective, tick)
        searching = state.trial is None and self.status.asked is None  # a requested trial may begin during a climb
        blocked = tuner.waits(mode, conditions) if searching else guard.frozen(conditions)
        self.blocked = blocked or ("" if conditions.calls else "there are no calls")
        self._apply(state, after, orders, mode, tick)
        if self.status.asked is not None and self.state.trial is None and not self.request.refused:
            self._judge_request(self.status.asked, self.conditions(now), now)
        self.queries.set_pool(now, self._pool_values(now))

    def conditions(self, now: float) -> Conditions:
        """The conditions for trials; an unknown one is None, and prevents them."""
        context, tried = self.context, self.state.trial
        # An inaccurate twin ends only trials that began because of its prediction.
        doubted = tried is not None and tried.predicted > 0 and self.queries.trusted is False
        return Conditions(
            ready=context.ready,
            starting=context.starting,
            panicking=context.panicking,
            shedding=self.inputs.shed(now) > 0,
            deploying=context.deploying,
            burn=self.inputs.burn,
            calls=self.inputs.calls(now),
            calmest=self.inputs.calmest,
            trusted=not doubted,
            climbing=self.inputs.climbing,
        )

    # The status

    def desired_status(self, now: float) -> TuningStatus:
        """The status that should be stored."""
        base, state = self._base, self.state
        trial_status = None
        if state.trial is not None and self.measurement is not None:
            trial_status = self.measurement.status(state.trial, self.context.replicas, now)
        changes: dict[str, Any] = {
            "trial": trial_status,
            "recommended": self._recommended(base, now),
            "rollbacks": state.guard.rollbacks,
            "off_until": state.guard.off_until_s,
        }
        if state.probation is None:
            changes["probation"] = None
        if self.request.refused or state.trial is not None:
            changes |= {"asked": None, "asked_by": ""}
        return base.model_copy(update=changes)

    @property
    def _base(self) -> TuningStatus:
        """The stored status with the unwritten changes."""
        status: TuningStatus = reduce(lambda status, change: change(status), self._unwritten, self.status)
        return status

    def _recommended(self, base: TuningStatus, now: float) -> Recommendation | None:
        advice = self.state.advice
        if advice is None:
            return None
        values, verdict, existing = changed(advice.before, advice.after), advice.verdict, base.recommended
        if existing is not None and existing.values == values and existing.gain == verdict.gain:
            return existing
        return Recommendation(values=values, gain=verdict.gain, least=verdict.bound, at=now, reason=verdict.reason)

    # The twin

    def next_query(self, now: float) -> TwinQuery:
        """The next query, which is running from now on."""
        unit = None if self.measurement is None else self.measurement.unit
        if self.queries.next is TwinQueryKind.CHECK and self.queries.unit_s is not None:
            unit = self.queries.unit_s, self.inputs.price.value
        query = self.queries.start_next(self.inputs, self.terms, self.space, self.state, now, unit)
        return replace(query, by_hand={n: v for n, v in self.status.values.items() if n not in self.state.force})

    def take_result(self, result: TwinResult, now: float) -> None:
        """Take in the result of the running query."""
        kind = self.queries.finish(result)
        found = result.proposal if result.trusted else None
        match kind:
            case TwinQueryKind.FORESEE:
                if self.measurement is not None:
                    self.measurement.add_prediction(self.queries.until_s, *predicted_losses(result))
            case TwinQueryKind.ATTEMPT:
                self.request = replace(self.request, promise=found.predicted if found is not None else 0.0)
            case TwinQueryKind.AGAIN:
                if found is not None and not found.verdict.open:
                    self.state = replace(self.state, advice=None)
            case TwinQueryKind.EPOCH:
                self._proposed(result, now)
            case TwinQueryKind.CHECK if (loss := predicted_losses(result)[0]) is not None:
                self._ticks.checked(loss)

    def query_failed(self, reason: str) -> None:
        """The running query has failed."""
        match self.queries.fail(reason):
            case TwinQueryKind.FORESEE if self.measurement is not None:
                self.measurement.add_prediction(self.queries.until_s, None)
            case TwinQueryKind.ATTEMPT:
                self.request = replace(self.request, promise=0.0)

    def _proposed(self, result: TwinResult, now: float) -> None:
        self.epochs += 1
        found = result.proposal
        if found is None:
            return
        state = self.state
        if state.trial is not None or self.status.asked is not None:
            self._report_search(now, result, found)
            self.state = replace(state, search=result.search)
            return
        pool = self.space.reach(found.before, found.after) is Reach.POOL or trial.canaries(self.context.ready) == 0
        at_s = _next_minute(now) if pool else now
        conditions = self.conditions(now)
        since = first_turn(result, self.inputs, self.queries.schedule, state.force)
        self.state, orders = tuner.proposed(state, self.mode, self.space, at_s, conditions, result.search, found, since)
        self._report_search(now, result, found, orders.reason)
        if orders.happened is TunerEvent.BEGAN:
            self._begin_trial(now, orders.reason, "")
        elif orders.happened is TunerEvent.RECOMMENDED:
            self.state = replace(self.state, next_epoch_s=now + REST_S)
            if state.advice is None or state.advice.after != found.after:
                self._report(now, "recommended", found.verdict.reason, found.before, found.after)
        elif state.advice is not None:
            self.queries.add(TwinQueryKind.AGAIN, now, state.advice.after)

    def _report_search(self, now: float, result: TwinResult, found: Proposal, but: str = "") -> None:
        """Report the result of an epoch; `but`: why no trial follows."""
        reason = found.verdict.reason
        reason += f"; {but}" if but and but != reason else ""
        self._report(now, "epoch", reason, found.before, found.after, result.record)

    # Parts of a tick

    def _can_search(self, now: float) -> bool:
        """Whether a search can begin: there is enough traffic, there are calls, and no trial is requested."""
        learnt = self.inputs.covered_s(now) >= LEARNS_S
        return learnt and bool(self.inputs.calls(now)) and self.status.asked is None

    def _apply(self, before: TunerState, after: TunerState, orders: Orders, mode: TuningMode, tick: Tick) -> None:
        """Carry out what a step decided."""
        self.state = after
        if orders.epoch:
            self.queries.add(TwinQueryKind.EPOCH, tick.at_s)
        if orders.happened is TunerEvent.WENT_BACK:
            self._went_back(before, orders, mode, tick)
            return
        tried = before.trial
        if tried is None or after.trial is not None:
            return
        if self.measurement is not None and self.measurement.by:  # a requested trial does not change the search
            self.state = replace(self.state, search=before.search)
        if tick.window is not None and orders.happened in (TunerEvent.PROMOTED, TunerEvent.REJECTED):
            tried = tried.with_window(tick.at_s if tick.window_s is None else tick.window_s, tick.window, tick.beside)
            finding = trial.judge(tried)
            assert finding is not None
            figures = record.of_trial(tried, finding)
        else:
            figures = record.of_end(tried, orders.happened, orders.reason, self.terms.objective, mode, before, tick)
        if orders.happened is TunerEvent.PROMOTED:
            better = changed(tried.before, tried.after)
            self._unwritten.append(partial(values_in_force.promoted, values=better, at_s=tick.at_s))
            self.state = replace(self.state, force=self._complete(tried.after))
        self._close_trial(tick.at_s, orders.happened.value, orders.reason, tried, figures)
        self._report_pause(before.guard, after.guard, tick.at_s)

    def _went_back(self, before: TunerState, orders: Orders, mode: TuningMode, tick: Tick) -> None:
        """Roll back promoted values, and end a trial."""
        if before.trial is not None:
            reason = "the values in force were rolled back"
            figures = record.of_stop(before.trial, TunerEvent.STOPPED.value, reason)
            self._close_trial(tick.at_s, TunerEvent.STOPPED.value, reason, before.trial, figures)
        self._unwritten.append(partial(values_in_force.returned, at_s=tick.at_s))
        figures = record.of_return(before, mode, orders.reason, self.terms.objective, tick)
        self._report(tick.at_s, orders.happened.value, orders.reason, before.force, orders.pool, figures)
        self._report_pause(before.guard, self.state.guard, tick.at_s)

    def _report_pause(self, before: TunerGuard, after: TunerGuard, now: float) -> None:
        """Report that trials are paused, if there was one rollback too many."""
        if after.off_until_s > before.off_until_s:
            reason = f"{guard.MOST_ROLLBACKS} rollbacks within an hour"
            self._report(now, "off", reason, self.state.force, self.state.force)

    # Requested trials

    def _judge_request(self, asked: KnobValues, conditions: Conditions, now: float) -> None:
        match requests.judge(self.request, asked, self.board(), self.state, self.mode, conditions, now):
            case TrialRefused(reason, before, after):
                self.request = replace(self.request, refused=True)
                self._report(now, "refused", reason, before, after)
            case PromiseUnknown(after) if not self.queries.is_pending(TwinQueryKind.ATTEMPT):
                self.queries.add(TwinQueryKind.ATTEMPT, now, after)
            case TrialBegins(reach, move, promise):
                at_s = _next_minute(now) if reach is Reach.POOL else now
                loss = self.inputs.loss()
                self.state, _ = tuner.attempted(self.state, reach, at_s, conditions, move, promise, loss)
                self._begin_trial(now, f"requested by key '{self.status.asked_by}'", self.status.asked_by)

    # How trials begin and end

    @property
    def _canary(self) -> bool:
        return self.state.trial is not None and self.state.trial.reach is Reach.REPLICA

    def _begin_trial(self, now: float, reason: str, by: str) -> None:
        tried = self.state.trial
        assert tried is not None
        self.state = replace(self.state, trial=replace(tried, allowed=1 - self.terms.objective.completion))
        unit = (self.queries.unit_s or self.inputs.unit_s(), self.inputs.price.value)
        elastic = self.terms.scaling.min < self.terms.scaling.max
        self.measurement = TrialMeasurement(tried, self.status.values, by, unit, elastic)
        self._report(now, TunerEvent.BEGAN.value, reason, tried.before, tried.after)

    def _stop_trial(self, now: float, reason: str) -> None:
        """End a running trial for a reason outside of the law."""
        tried = self.state.trial
        if tried is not None:
            self.state = replace(self.state, trial=None)
            self._close_trial(
                now, TunerEvent.STOPPED.value, reason, tried, record.of_stop(tried, TunerEvent.STOPPED.value, reason)
            )

    def _close_trial(self, now: float, what: str, reason: str, tried: Trial, figures: RecordFigures) -> None:
        self.measurement, self.request = None, replace(self.request, promise=None)
        self.queries.due.pop(TwinQueryKind.FORESEE, None)
        self._report(now, what, reason, tried.before, tried.after, figures)

    def _end_left_trial(self, left: TrialStatus, now: float) -> None:
        """End the trial of an earlier control plane: its measurements are lost."""
        force = self.state.force
        gain = left.predicted or 0.0
        self.state = replace(self.state, trial=Trial(left.reach, force, {**force, **left.after}, gain, 1.0, left.since))
        self._stop_trial(now, "the control plane was restarted")

    def _use_terms(self, terms: ScalerTerms, space: Space, now: float) -> None:
        """Use other terms: what was learnt of calls stays, results with other knobs or targets do not."""
        self.terms, self.space, self.usual = terms, space, scaling.usual(space, terms.service)
        self.inputs.objective = terms.objective
        base = self._base
        state = replace(self.state, force=self._complete(base.values), probation=self._probation(base))
        self.state = replace(state, advice=None, search=Search(), next_epoch_s=now)

    # Names and values

    def board(self) -> tuple[KnobState, ...]:
        """All knobs, with those that only users set."""
        return board.knobs(self.terms.service, self.terms.scaling, self.terms.objective, self.status)

    def _complete(self, values: KnobValues) -> KnobValues:
        """A value for each knob, within its range."""
        all_values = {**self.usual, **values}
        return {knob.name: min(max(all_values[knob.name], knob.low), knob.high) for knob in self.space.knobs}

    def _probation(self, status: TuningStatus) -> Probation | None:
        stored = status.probation
        return None if stored is None else Probation(self._complete(stored.safe), stored.until)

    def _pool_values(self, now: float) -> KnobValues:
        tried = self.state.trial
        turn = tried is not None and not self._canary and tried.trying(now)
        return tried.after if tried is not None and turn else self.state.force

    def _report(
        self,
        now: float,
        what: str,
        reason: str,
        before: KnobValues,
        after: KnobValues,
        figures: RecordFigures | None = None,
    ) -> None:
        self.news.append(News(now, what, reason, before, after, figures))


def _next_minute(now: float) -> float:
    """The next whole minute, so that a block consists of whole windows."""
    return math.ceil(now / MINUTE_S) * MINUTE_S
