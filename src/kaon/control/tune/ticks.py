"""The input of the tuner's law at each tick, and the queries to the twin about a minute that is a part of it."""

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
"""How often the twin's accuracy is checked while no search runs."""


class TunerTicks:
    """The ticks of one deployment. Times are epoch seconds."""

    def __init__(self, inputs: TunerInputs, queries: TwinQueries) -> None:
        self._inputs, self._queries = inputs, queries
        self._real = 0.0
        """The measured loss of the minute that the twin is asked about."""
        self._off: float | None = None

    def checked(self, loss: float) -> None:
        """Take in the twin's loss of the minute that it was asked about."""
        self._off = self._real - loss

    def tick(
        self,
        state: TunerState,
        measurement: TrialMeasurement | None,
        minute: Sample | None,
        conditions: Conditions,
        now: float,
    ) -> Tick:
        """The tick at `now`; `minute` is one that has just ended."""
        tick = Tick(now, conditions)
        if state.trial is None or measurement is None:
            return tick if minute is None else self._without_trial(tick, state, minute)
        trying, control = measurement.arms(state.trial, self._inputs, now)
        tick = replace(tick, trying=trying, control=control)
        canary = state.trial.reach is Reach.REPLICA
        if minute is not None:
            burn = self._inputs.burn_of(minute)
            tried = canary or state.trial.trying(minute.at_s - 1e-6)
            tick = replace(tick, burn_now=burn) if tried else replace(tick, burn_force=burn)
        if not canary:
            return self._by_turns(tick, state.trial, measurement, minute)
        sides = None if minute is None else measurement.sides(minute, self._inputs)
        if minute is None or sides is None:
            return tick
        return replace(tick, window=sides[0], beside=sides[1], window_s=minute.at_s)

    def _without_trial(self, tick: Tick, state: TunerState, minute: Sample) -> Tick:
        """A minute of the values in force, watched for drift. While no search runs, the twin's accuracy is checked."""
        ground, self._off, off = self._inputs.ground(), None, self._off
        real = parts(minute, self._inputs.objective, self._inputs.price.value, self._queries.unit_s)
        if state.search.done and self._queries.trusted and real is not None and minute.at_s % CHECK_S == 0:
            self._real = real.total
            self._queries.add(TwinQueryKind.CHECK, tick.at_s, until_s=minute.at_s)
        ground = ground if off is None else (*ground, ("the error of the twin", off))
        return replace(tick, burn_now=0.0, ground=ground, burn_force=self._inputs.burn_of(minute))

    def _by_turns(self, tick: Tick, tried: Trial, measurement: TrialMeasurement, minute: Sample | None) -> Tick:
        """A pool's window waits for the twin's prediction, at most until the next window."""
        window = None if self._queries.is_pending(TwinQueryKind.FORESEE) else measurement.window
        if minute is not None and tried.counts(minute.at_s):
            window = measurement.window
            whole = measurement.pool(minute, self._inputs)
            measurement.window = None if whole is None else (minute.at_s, whole)
            if whole is not None and tried.predicted > 0 and self._queries.trusted:
                self._queries.add(TwinQueryKind.FORESEE, tick.at_s, until_s=minute.at_s)
        elif window is not None:
            measurement.window = None
        return tick if window is None else replace(tick, window=window[1], window_s=window[0])
