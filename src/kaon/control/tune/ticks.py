"""What the tuner's law is shown at each look, and what the twin is asked of a minute before it is shown."""

from __future__ import annotations

from dataclasses import replace

from kaon.control.tune.inputs import TunerInputs
from kaon.control.tune.measurement import TrialMeasurement
from kaon.control.tune.queries import TwinQueries, TwinQueryKind
from kaon.laws.traffic import parts
from kaon.laws.tune.guard import Conditions
from kaon.laws.tune.knobs import Reach
from kaon.laws.tune.trial import Trial
from kaon.laws.tune.tuner import Tick, TunerState
from kaon.types.traffic import Sample

CHECK_S = 600.0
"""How often the twin is asked how far it is off, while nothing is sought."""


class TunerTicks:
    """Those of one deployment. Times are epoch seconds."""

    def __init__(self, senses: TunerInputs, questions: TwinQueries) -> None:
        self._senses, self._questions = senses, questions
        self._real = 0.0
        """What the minute cost that the twin is asked about, and, when it has said so, how far it was off."""
        self._off: float | None = None

    def checked(self, loss: float) -> None:
        """What the twin makes of the minute that it was asked about."""
        self._off = self._real - loss

    def tick(
        self,
        known: TunerState,
        course: TrialMeasurement | None,
        minute: Sample | None,
        conditions: Conditions,
        now: float,
    ) -> Tick:
        """What there is to see; `minute` is one that has just become full."""
        tick = Tick(now, conditions)
        if known.trial is None or course is None:
            return tick if minute is None else self._untried(tick, known, minute)
        trying, control = course.arms(known.trial, self._senses, now)
        tick = replace(tick, trying=trying, control=control)
        canary = known.trial.reach is Reach.REPLICA
        if minute is not None:
            burnt = self._senses.burnt(minute)
            tried = canary or known.trial.trying(minute.at_s - 1e-6)
            tick = replace(tick, burn_now=burnt) if tried else replace(tick, burn_force=burnt)
        if not canary:
            return self._by_turns(tick, known.trial, course, minute)
        sides = None if minute is None else course.sides(minute, self._senses)
        if minute is None or sides is None:
            return tick
        return replace(tick, window=sides[0], beside=sides[1], window_s=minute.at_s)

    def _untried(self, tick: Tick, known: TunerState, minute: Sample) -> Tick:
        """A minute of what is in force, watched for drift. While nothing is sought, the twin is asked now and then how
        far it is off."""
        ground, self._off, off = self._senses.ground(), None, self._off
        real = parts(minute, self._senses.objective, self._senses.price.value, self._questions.unit_s)
        if known.search.done and self._questions.trusted and real is not None and minute.at_s % CHECK_S == 0:
            self._real = real.total
            self._questions.put(TwinQueryKind.CHECK, tick.at_s, until_s=minute.at_s)
        ground = ground if off is None else (*ground, ("how far the twin is off", off))
        return replace(tick, burn_now=0.0, ground=ground, burn_force=self._senses.burnt(minute))

    def _by_turns(self, tick: Tick, tried: Trial, course: TrialMeasurement, minute: Sample | None) -> Tick:
        """A pool's window waits for what the twin makes of it: until it says so, or the next one is there."""
        known = None if self._questions.waits_for(TwinQueryKind.FORESEE) else course.window
        if minute is not None and tried.counts(minute.at_s):
            known = course.window
            whole = course.pool(minute, self._senses)
            course.window = None if whole is None else (minute.at_s, whole)
            if whole is not None and tried.predicted > 0 and self._questions.trusted:
                self._questions.put(TwinQueryKind.FORESEE, tick.at_s, until_s=minute.at_s)
        elif known is not None:
            course.window = None
        return tick if known is None else replace(tick, window=known[1], window_s=known[0])
