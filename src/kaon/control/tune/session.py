"""One deployment's tuner at work: it hears what agents counted, is looked at every 10 s, and says what should be.

It knows no store and no clock. What should be is a `TuningStatus`, what happened is `News`, what the twin should be
asked is a `TwinQuery`. Whoever owns it (`kaon.control.tune.controller`, or a test) writes the one, tells the other
and fetches the answer:

    hear(samples), look(world, now), [ask(now), answered(answer, now)], wanted(now), written(status)

What others write into the status, the API above all, is taken up by `adapt`. So all that must survive is there, but
for a trial: one that is found at the start is ended at once.
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
from kaon.control.tune.queries import TwinQueries, TwinQueryKind, foreseen
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
"""So much traffic must be known before the twin is asked for the first time."""
REST_S = 1800.0
"""As long as nobody applies what is recommended, it is looked for anew only so often."""


class TunerContext(NamedTuple):
    """How a deployment stands, besides what agents counted. `stood` is what its scaling law kept; None: it has none."""

    ready: int
    starting: int = 0
    deploying: bool = False
    panicking: bool = False
    stood: Sequence[ScalerSnapshot] | None = None

    @property
    def there(self) -> int:
        """Replicas, also those that have just ended and will be back: whose fault that was is the guard's matter."""
        return self.ready + self.starting


class News(NamedTuple):
    """Something that happened, for the journal (if it has figures) and for people."""

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
            self._whole(status.values),
            guard=TunerGuard(status.rollbacks, status.off_until),
            probation=self._probation(status),
        )
        self.senses = TunerInputs(terms.objective)
        self.questions = TwinQueries(*place, now, self.state.force)
        self._ticks = TunerTicks(self.senses, self.questions)
        self.news: list[News] = []
        self.world = TunerContext(0)
        self.held = ""
        """Why nothing begins now; empty: nothing is in the way."""
        self.epochs = 0
        self.course: TrialMeasurement | None = None
        """Of the trial that is under way."""
        self.wish = TrialRequest()
        """What is known of what somebody asks to be tried."""
        self._unwritten: list[Callable[[TuningStatus], TuningStatus]] = []
        """Changes of what is in force that the store does not have yet: what was promoted, or went back."""
        if status.trial is not None:
            self._found(status.trial, now)

    @property
    def mode(self) -> TuningMode:
        """What it may do by itself."""
        return self.spec.tuning.mode

    # What others wrote

    def adapt(self, spec: DeploymentSpec, terms: ScalerTerms, space: Space, status: TuningStatus, now: float) -> None:
        """Take up the deployment as the store has it; what the tuner wrote itself is no news."""
        known, self.status = self.status, values_in_force.commanded(status, spec.tuning.commands)
        status = self.status
        if spec.model_copy(update={"tuning": self.spec.tuning}) != self.spec:
            self._stop(now, "the spec was changed")
        self.spec = spec
        if terms != self.terms:
            self._turn(terms, space, now)
        if status.values != known.values:
            before, after = self.state.force, self._whole(status.values)
            who = f"by key '{status.changed_by}'"
            self._stop(now, f"other values were put in force {who}")
            self.state = tuner.undone(self.state, now, after)
            self.wish = TrialRequest()
            self._unwritten.clear()  # whoever it was did not know of it, and has the last word
            before, after = {**known.values, **before}, {**status.values, **after}  # with what the tuner never moves
            self._tell(now, "changed", who, before, after, record.of_change(before, after, status.changed_by))
        elif known.trial is not None and status.trial is None:
            self._stop(now, "somebody ended it")
        if known.probation is not None and status.probation is None:
            self.state = replace(self.state, probation=None)
        if known.recommended is not None and status.recommended is None:
            self.state = replace(self.state, advice=None)
        if status.asked != known.asked:
            self.wish = TrialRequest()
            self.questions.open.pop(TwinQueryKind.ATTEMPT, None)
        self.questions.in_force(now, self._pool(now))

    def written(self, status: TuningStatus) -> None:
        """The store has what was wanted."""
        self.status, self.wish = status, replace(self.wish, refused=False)
        self._unwritten.clear()

    # A tick

    def hear(self, samples: Sequence[Sample]) -> None:
        """Take in what agents counted, of revisions that serve."""
        self.senses.hear(samples, lawless=self.world.stood is None, tried=self.state.trial is not None)
        if self.course is not None:
            self.course.hear(samples)

    def look(self, world: TunerContext, now: float) -> None:
        """A tick: what is over, what goes back, what begins."""
        self.world = world
        self.senses.stand(world.stood or ())
        fresh = self.senses.fresh(now, self.state.trial is not None)
        if world.there == 0:
            self._stop(now, "there are no replicas")
        elif self._canary and trial.canaries(world.there) == 0:
            self._stop(now, "there is no other replica beside it any more")
        known = self.state
        conditions = self.conditions(now)
        tick = self._ticks.tick(known, self.course, fresh[-1] if fresh else None, conditions, now)
        if known.trial is None and not self._may_search(now):
            known = replace(known, next_epoch_s=max(known.next_epoch_s, now + 1.0))
        asked_for = self.course is not None and self.course.by != ""
        meant = TuningMode.AUTO if asked_for and self.mode is not TuningMode.OFF else self.mode
        after, orders = tuner.step(known, meant, self.terms.objective, tick)
        sought = known.trial is None and self.status.asked is None  # what is asked for does not wait for a climb
        held = tuner.waits(meant, conditions) if sought else guard.frozen(conditions)
        self.held = held or ("" if conditions.calls else "nobody calls")
        self._heed(known, after, orders, meant, tick)
        if self.status.asked is not None and self.state.trial is None and not self.wish.refused:
            self._try(self.status.asked, self.conditions(now), now)
        self.questions.in_force(now, self._pool(now))

    def conditions(self, now: float) -> Conditions:
        """How it is: what nobody knows is None, and freezes."""
        world, tried = self.world, self.state.trial
        # Whether the twin is right is found by asking it. What it never promised does not hang on it.
        doubted = tried is not None and tried.predicted > 0 and self.questions.trusted is False
        return Conditions(
            ready=world.ready,
            starting=world.starting,
            panicking=world.panicking,
            shedding=self.senses.shed(now) > 0,
            deploying=world.deploying,
            burn=self.senses.burn,
            calls=self.senses.calls(now),
            calmest=self.senses.calmest,
            trusted=not doubted,
            climbing=self.senses.climbing,
        )

    # What should be

    def wanted(self, now: float) -> TuningStatus:
        """The status as it should be, made from the one that the store has."""
        base, known = self._base, self.state
        tried, course = known.trial, self.course
        changes: dict[str, Any] = {
            "trial": course.status(tried, self.world.there, now) if tried is not None and course is not None else None,
            "recommended": self._recommended(base, now),
            "rollbacks": known.guard.rollbacks,
            "off_until": known.guard.off_until_s,
        }
        if known.probation is None:
            changes["probation"] = None
        if self.wish.refused or known.trial is not None:
            changes |= {"asked": None, "asked_by": ""}
        return base.model_copy(update=changes)

    @property
    def _base(self) -> TuningStatus:
        """The status that the store has, with what is in force by now."""
        return reduce(lambda status, change: change(status), self._unwritten, self.status)

    def _recommended(self, base: TuningStatus, now: float) -> Recommendation | None:
        advice = self.state.advice
        if advice is None:
            return None
        values, known = changed(advice.before, advice.after), base.recommended
        if known is not None and known.values == values and known.gain == advice.verdict.gain:
            return known
        told = advice.verdict
        return Recommendation(values=values, gain=told.gain, least=told.bound, at=now, reason=told.reason)

    # The twin

    def ask(self, now: float) -> TwinQuery:
        """The next question, which is being asked from now on."""
        unit = None if self.course is None else self.course.unit
        if self.questions.next is TwinQueryKind.CHECK and self.questions.unit_s is not None:
            unit = self.questions.unit_s, self.senses.price.value
        asked = self.questions.ask(self.senses, self.terms, self.space, self.state, now, unit)
        return replace(asked, by_hand={n: v for n, v in self.status.values.items() if n not in self.state.force})

    def answered(self, answer: TwinResult, now: float) -> None:
        """The twin's answer to what it was asked last."""
        question = self.questions.answered(answer)
        found = answer.proposal if answer.trusted else None
        match question:
            case TwinQueryKind.FORESEE:
                if self.course is not None:
                    self.course.foreseen(self.questions.until_s, *foreseen(answer))
            case TwinQueryKind.ATTEMPT:
                self.wish = replace(self.wish, promise=found.predicted if found is not None else 0.0)
            case TwinQueryKind.AGAIN:
                if found is not None and not found.verdict.open:
                    self.state = replace(self.state, advice=None)
            case TwinQueryKind.EPOCH:
                self._proposed(answer, now)
            case TwinQueryKind.CHECK if (loss := foreseen(answer)[0]) is not None:
                self._ticks.checked(loss)

    def failed(self, reason: str) -> None:
        """The twin did not answer."""
        match self.questions.failed(reason):
            case TwinQueryKind.FORESEE if self.course is not None:
                self.course.foreseen(self.questions.until_s, None)
            case TwinQueryKind.ATTEMPT:
                self.wish = replace(self.wish, promise=0.0)

    def _proposed(self, answer: TwinResult, now: float) -> None:
        self.epochs += 1
        found = answer.proposal
        if found is None:
            return
        known = self.state
        if known.trial is not None or self.status.asked is not None:
            self._sought(now, answer, found)
            self.state = replace(known, search=answer.search)
            return
        pool = self.space.reach(found.before, found.after) is Reach.POOL or trial.canaries(self.world.ready) == 0
        at_s = _whole_minute(now) if pool else now
        conditions = self.conditions(now)
        since = first_turn(answer, self.senses, self.questions.schedule, known.force)
        self.state, orders = tuner.proposed(known, self.mode, self.space, at_s, conditions, answer.search, found, since)
        self._sought(now, answer, found, orders.reason)
        if orders.happened is TunerEvent.BEGAN:
            self._began(now, orders.reason, "")
        elif orders.happened is TunerEvent.RECOMMENDED:
            self.state = replace(self.state, next_epoch_s=now + REST_S)
            if known.advice is None or known.advice.after != found.after:
                self._tell(now, "recommended", found.verdict.reason, found.before, found.after)
        elif known.advice is not None:
            self.questions.put(TwinQueryKind.AGAIN, now, known.advice.after)

    def _sought(self, now: float, answer: TwinResult, found: Proposal, but: str = "") -> None:
        """Say what an epoch came to, and, where that is another matter, why nothing came of it."""
        told = found.verdict.reason
        told += f"; {but}" if but and but != told else ""
        self._tell(now, "epoch", told, found.before, found.after, answer.record)

    # Of a tick

    def _may_search(self, now: float) -> bool:
        """Whether the twin can be asked for something better: enough is known, somebody calls, nobody wants else."""
        learnt = self.senses.knows_s(now) >= LEARNS_S
        return learnt and bool(self.senses.calls(now)) and self.status.asked is None

    def _heed(self, known: TunerState, after: TunerState, orders: Orders, meant: TuningMode, tick: Tick) -> None:
        """What a step decided."""
        self.state = after
        if orders.epoch:
            self.questions.put(TwinQueryKind.EPOCH, tick.at_s)
        if orders.happened is TunerEvent.WENT_BACK:
            self._went_back(known, orders, meant, tick)
            return
        tried = known.trial
        if tried is None or after.trial is not None:
            return
        if self.course is not None and self.course.by:  # it was not the search's idea
            self.state = replace(self.state, search=known.search)
        if tick.window is not None and orders.happened in (TunerEvent.PROMOTED, TunerEvent.REJECTED):
            tried = tried.seen(tick.at_s if tick.window_s is None else tick.window_s, tick.window, tick.beside)
            finding = trial.judge(tried)
            assert finding is not None
            figures = record.of_trial(tried, finding)
        else:
            figures = record.of_end(tried, orders.happened, orders.reason, self.terms.objective, meant, known, tick)
        if orders.happened is TunerEvent.PROMOTED:
            better = changed(tried.before, tried.after)
            self._unwritten.append(partial(values_in_force.promoted, values=better, at_s=tick.at_s))
            self.state = replace(self.state, force=self._whole(tried.after))
        self._over(tick.at_s, orders.happened.value, orders.reason, tried, figures)
        self._off_for_hours(known.guard, after.guard, tick.at_s)

    def _went_back(self, known: TunerState, orders: Orders, meant: TuningMode, tick: Tick) -> None:
        """What was promoted goes back, and what is tried beside it ends."""
        if known.trial is not None:
            reason = "what was in force went back"
            figures = record.of_stop(known.trial, TunerEvent.STOPPED.value, reason)
            self._over(tick.at_s, TunerEvent.STOPPED.value, reason, known.trial, figures)
        self._unwritten.append(partial(values_in_force.returned, at_s=tick.at_s))
        figures = record.of_return(known, meant, orders.reason, self.terms.objective, tick)
        self._tell(tick.at_s, orders.happened.value, orders.reason, known.force, orders.pool, figures)
        self._off_for_hours(known.guard, self.state.guard, tick.at_s)

    def _off_for_hours(self, before: TunerGuard, after: TunerGuard, now: float) -> None:
        """Say it, if this was one rollback too many."""
        if after.off_until_s > before.off_until_s:
            reason = f"{guard.MOST_ROLLBACKS} times within an hour something was taken back"
            self._tell(now, "off", reason, self.state.force, self.state.force)

    # What somebody wants to try

    def _try(self, asked: KnobValues, conditions: Conditions, now: float) -> None:
        match requests.judge(self.wish, asked, self.board(), self.state, self.mode, conditions, now):
            case TrialRefused(reason, before, after):
                self.wish = replace(self.wish, refused=True)
                self._tell(now, "refused", reason, before, after)
            case PromiseUnknown(after) if not self.questions.waits_for(TwinQueryKind.ATTEMPT):
                self.questions.put(TwinQueryKind.ATTEMPT, now, after)
            case TrialBegins(reach, move, promise):
                at_s = _whole_minute(now) if reach is Reach.POOL else now
                loss = self.senses.loss()
                self.state, _ = tuner.attempted(self.state, reach, at_s, conditions, move, promise, loss)
                self._began(now, f"asked for by key '{self.status.asked_by}'", self.status.asked_by)

    # How trials begin and end

    @property
    def _canary(self) -> bool:
        return self.state.trial is not None and self.state.trial.reach is Reach.REPLICA

    def _began(self, now: float, reason: str, by: str) -> None:
        tried = self.state.trial
        assert tried is not None
        self.state = replace(self.state, trial=replace(tried, allowed=1 - self.terms.objective.completion))
        unit = (self.questions.unit_s or self.senses.unit_s(), self.senses.price.value)
        elastic = self.terms.scaling.min < self.terms.scaling.max
        self.course = TrialMeasurement(tried, self.status.values, by, unit, elastic)
        self._tell(now, TunerEvent.BEGAN.value, reason, tried.before, tried.after)

    def _stop(self, now: float, reason: str) -> None:
        """End a trial for what no law decided."""
        tried = self.state.trial
        if tried is not None:
            self.state = replace(self.state, trial=None)
            self._over(
                now, TunerEvent.STOPPED.value, reason, tried, record.of_stop(tried, TunerEvent.STOPPED.value, reason)
            )

    def _over(self, now: float, what: str, reason: str, tried: Trial, figures: RecordFigures) -> None:
        self.course, self.wish = None, replace(self.wish, promise=None)
        self.questions.open.pop(TwinQueryKind.FORESEE, None)
        self._tell(now, what, reason, tried.before, tried.after, figures)

    def _found(self, left: TrialStatus, now: float) -> None:
        """A trial that another control plane left behind: nobody knows any more what it has shown."""
        force = self.state.force
        gain = left.predicted or 0.0
        self.state = replace(self.state, trial=Trial(left.reach, force, {**force, **left.after}, gain, 1.0, left.since))
        self._stop(now, "the control plane was started anew")

    def _turn(self, terms: ScalerTerms, space: Space, now: float) -> None:
        """Go by another spec: what was learnt of calls stays, what was found with other knobs or targets does not."""
        self.terms, self.space, self.usual = terms, space, scaling.usual(space, terms.service)
        self.senses.objective = terms.objective
        base = self._base
        known = replace(self.state, force=self._whole(base.values), probation=self._probation(base))
        self.state = replace(known, advice=None, search=Search(), next_epoch_s=now)

    # Names and values

    def board(self) -> tuple[KnobState, ...]:
        """All knobs that there are, those that only people set too."""
        return board.knobs(self.terms.service, self.terms.scaling, self.terms.objective, self.status)

    def _whole(self, values: KnobValues) -> KnobValues:
        """A value for each knob, within what it takes now."""
        told = {**self.usual, **values}
        return {knob.name: min(max(told[knob.name], knob.low), knob.high) for knob in self.space.knobs}

    def _probation(self, status: TuningStatus) -> Probation | None:
        told = status.probation
        return None if told is None else Probation(self._whole(told.safe), told.until)

    def _pool(self, now: float) -> KnobValues:
        tried = self.state.trial
        turn = tried is not None and not self._canary and tried.trying(now)
        return tried.after if tried is not None and turn else self.state.force

    def _tell(
        self,
        now: float,
        what: str,
        reason: str,
        before: KnobValues,
        after: KnobValues,
        figures: RecordFigures | None = None,
    ) -> None:
        self.news.append(News(now, what, reason, before, after, figures))


def _whole_minute(now: float) -> float:
    """The next whole minute: windows are whole minutes, and none of a block is lost when it begins with one."""
    return math.ceil(now / MINUTE_S) * MINUTE_S
