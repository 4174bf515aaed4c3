"""What the tuner asks its twin, one question at a time, and what it makes of not being answered.

Not to know is no reason to wait for ever: a window of a trial is then taken as it is, and what somebody wants to try
is tried without a promise. Only a search needs an answer.
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Sequence
from enum import StrEnum

from kaon.control.scaler import ScalerTerms
from kaon.control.tune.inputs import TunerInputs
from kaon.laws import choice
from kaon.laws.tune.ask import TwinQuery, TwinResult
from kaon.laws.tune.knobs import KnobValues, Space
from kaon.laws.tune.past import KEPT_S
from kaon.laws.tune.tuner import TunerState


class TwinQueryKind(StrEnum):
    """What the twin is asked."""

    FORESEE = "foresee"
    """What it makes of a minute that was."""
    ATTEMPT = "attempt"
    """What it promises of values that somebody wants to try."""
    AGAIN = "again"
    """Whether what is recommended still holds."""
    EPOCH = "epoch"
    """What would be better."""
    CHECK = "check"
    """How far it is off a minute that was, while nothing is sought: a drift wakes the search."""


_OF_A_MINUTE = (TwinQueryKind.FORESEE, TwinQueryKind.CHECK)
URGENT = (TwinQueryKind.FORESEE, TwinQueryKind.ATTEMPT)
"""Somebody, or a trial, waits for the answer."""


class TwinQueries:
    """The questions of one deployment."""

    def __init__(self, workspace: str, name: str, now: float, pool: KnobValues) -> None:
        self.place = workspace, name
        self.open: dict[TwinQueryKind, tuple[float, KnobValues | None, float]] = {}
        """What is to be asked: since when, about which values, and, of a minute, when it ended."""
        self.asking: TwinQueryKind | None = None
        self.since_s = 0.0
        self.until_s = 0.0
        """The end of the minute that it was asked to foresee last."""
        self.trusted: bool | None = None
        self.word = ""
        """What the twin's last replay was off by, or why it cannot be asked; empty: nothing."""
        self.noise: float | None = None
        self.unit_s: float | None = None
        """What a call should cost in the twin's losses, replica-seconds."""
        self._schedule: deque[tuple[float, KnobValues]] = deque([(now, pool)])

    def put(self, question: TwinQueryKind, now: float, values: KnobValues | None = None, until_s: float = 0.0) -> None:
        """Let it be asked. What was asked for already keeps its place."""
        since_s = self.open[question][0] if question in self.open else now
        self.open[question] = (since_s, values, until_s)

    def in_force(self, now: float, pool: KnobValues) -> None:
        """From now on the pool goes by these values."""
        if pool != self._schedule[-1][1]:
            self._schedule.append((now, pool))
        while len(self._schedule) > 1 and self._schedule[1][0] < now - KEPT_S:
            self._schedule.popleft()

    @property
    def schedule(self) -> tuple[tuple[float, KnobValues], ...]:
        """What the pool went by, from when on; the last two hours."""
        return tuple(self._schedule)

    @property
    def next(self) -> TwinQueryKind | None:
        """What is to be asked next; None while something is being asked, or there is nothing to ask."""
        return None if self.asking else next((question for question in TwinQueryKind if question in self.open), None)

    def waits_for(self, question: TwinQueryKind) -> bool:
        """Whether an answer to it is still to come."""
        return question in self.open or self.asking is question

    def ask(
        self,
        senses: TunerInputs,
        terms: ScalerTerms,
        space: Space,
        state: TunerState,
        now: float,
        unit: tuple[float, float] | None,
    ) -> TwinQuery:
        """The next question, which is being asked from now on. `unit`: what a call should cost and what a miss does
        while something is tried; None: as it is."""
        question = self.next
        assert question is not None
        _, values, until_s = self.open.pop(question)
        self.asking, self.since_s = question, now
        if question in _OF_A_MINUTE:
            self.until_s = until_s
        seed = zlib.crc32("/".join(self.place).encode()) % 100_000 * 10_000
        if question not in _OF_A_MINUTE:
            seed += 1 + state.search.epoch % 9_999
        return TwinQuery(
            workspace=self.place[0],
            deployment=self.place[1],
            objective=terms.objective,
            bounds=choice.bounds(terms.scaling),
            service=terms.service,
            scaling=terms.scaling,
            space=space,
            search=state.search,
            force=state.force,
            schedule=self.schedule,
            price=senses.price.value if unit is None else unit[1],
            past=senses.past.copied(),
            now_s=until_s if question in _OF_A_MINUTE else now,
            seed=seed,
            attempt=values,
            foresee_s=(until_s - 60.0, until_s) if question in _OF_A_MINUTE else None,
            reference_s=None if unit is None else unit[0],
            noise=self.noise,
        )

    def answered(self, answer: TwinResult) -> TwinQueryKind | None:
        """What it was that is answered now."""
        question, self.asking = self.asking, None
        if question not in _OF_A_MINUTE:
            self.trusted, self.word = answer.trusted, answer.distrust or answer.off
            self.noise = answer.noise
            self.unit_s = answer.reference_s or self.unit_s
        return question

    def failed(self, reason: str) -> TwinQueryKind | None:
        """What it was that is not answered."""
        question, self.asking = self.asking, None
        if question not in _OF_A_MINUTE:
            self.trusted, self.word = None, reason
        return question


def foreseen(answer: TwinResult) -> tuple[float | None, float | None]:
    """What the twin makes of a minute, with what was in force in it: its loss, with the price of missed calls and
    without."""
    losses: Sequence[tuple[KnobValues, float]] = answer.foreseen
    plain = answer.foreseen_plain[0] if answer.foreseen_plain else None
    return (losses[0][1], plain) if losses else (None, None)
