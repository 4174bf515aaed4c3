"""The tuner's queries to its twin, one at a time.

Only a search needs a result. Without one, a window of a trial counts as measured, and a requested trial begins without
a predicted gain.
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
    """What a query is about."""

    FORESEE = "foresee"
    """The loss of a past minute."""
    ATTEMPT = "attempt"
    """The gain of requested values."""
    AGAIN = "again"
    """Whether the recommendation is still valid."""
    EPOCH = "epoch"
    """A search for better values."""
    CHECK = "check"
    """The error of its replay of a past minute, while no search runs: a drift restarts the search."""


_OF_A_MINUTE = (TwinQueryKind.FORESEE, TwinQueryKind.CHECK)
URGENT = (TwinQueryKind.FORESEE, TwinQueryKind.ATTEMPT)
"""A trial or a user waits for the result."""


class TwinQueries:
    """The queries of one deployment: at most one of each kind is due, and at most one runs."""

    def __init__(self, workspace: str, name: str, now: float, pool: KnobValues) -> None:
        self.workspace, self.name = workspace, name
        self.due: dict[TwinQueryKind, tuple[float, KnobValues | None, float]] = {}
        """Kind -> since when it is due, its values, and the end of the minute that it is about."""
        self.running: TwinQueryKind | None = None
        self.since_s = 0.0
        self.until_s = 0.0
        """The end of the minute of the last query about one."""
        self.trusted: bool | None = None
        self.problem = ""
        """The error of the twin's last replay, or why it is not available; empty: none."""
        self.noise: float | None = None
        self.unit_s: float | None = None
        """The reference cost of a call in the twin's losses, replica-seconds."""
        self._schedule: deque[tuple[float, KnobValues]] = deque([(now, pool)])

    def add(self, kind: TwinQueryKind, now: float, values: KnobValues | None = None, until_s: float = 0.0) -> None:
        """Make a query of this kind due. One that is due already keeps its turn."""
        since_s = self.due[kind][0] if kind in self.due else now
        self.due[kind] = (since_s, values, until_s)

    def set_pool(self, now: float, pool: KnobValues) -> None:
        """From now on the pool has these values."""
        if pool != self._schedule[-1][1]:
            self._schedule.append((now, pool))
        while len(self._schedule) > 1 and self._schedule[1][0] < now - KEPT_S:
            self._schedule.popleft()

    @property
    def schedule(self) -> tuple[tuple[float, KnobValues], ...]:
        """The values of the pool, each with its start; the last two hours."""
        return tuple(self._schedule)

    @property
    def next(self) -> TwinQueryKind | None:
        """The next query to start; None: one is running, or none is due."""
        return None if self.running else next((kind for kind in TwinQueryKind if kind in self.due), None)

    def is_pending(self, kind: TwinQueryKind) -> bool:
        """Whether a query of this kind is due or running."""
        return kind in self.due or self.running is kind

    def start_next(
        self,
        inputs: TunerInputs,
        terms: ScalerTerms,
        space: Space,
        state: TunerState,
        now: float,
        unit: tuple[float, float] | None,
    ) -> TwinQuery:
        """The next query, which is running from now on. `unit`: the reference cost of a call and the price of a miss
        during a trial; None: as measured."""
        kind = self.next
        assert kind is not None
        _, values, until_s = self.due.pop(kind)
        self.running, self.since_s = kind, now
        if kind in _OF_A_MINUTE:
            self.until_s = until_s
        seed = zlib.crc32(f"{self.workspace}/{self.name}".encode()) % 100_000 * 10_000
        if kind not in _OF_A_MINUTE:
            seed += 1 + state.search.epoch % 9_999
        return TwinQuery(
            workspace=self.workspace,
            deployment=self.name,
            objective=terms.objective,
            bounds=choice.bounds(terms.scaling),
            service=terms.service,
            scaling=terms.scaling,
            space=space,
            search=state.search,
            force=state.force,
            schedule=self.schedule,
            price=inputs.price.value if unit is None else unit[1],
            past=inputs.past.copied(),
            now_s=until_s if kind in _OF_A_MINUTE else now,
            seed=seed,
            attempt=values,
            foresee_s=(until_s - 60.0, until_s) if kind in _OF_A_MINUTE else None,
            reference_s=None if unit is None else unit[0],
            noise=self.noise,
        )

    def finish(self, result: TwinResult) -> TwinQueryKind | None:
        """The running query has this result. Returns its kind."""
        kind, self.running = self.running, None
        if kind not in _OF_A_MINUTE:
            self.trusted, self.problem = result.trusted, result.distrust or result.off
            self.noise = result.noise
            self.unit_s = result.reference_s or self.unit_s
        return kind

    def fail(self, reason: str) -> TwinQueryKind | None:
        """The running query has failed. Returns its kind."""
        kind, self.running = self.running, None
        if kind not in _OF_A_MINUTE:
            self.trusted, self.problem = None, reason
        return kind


def predicted_losses(result: TwinResult) -> tuple[float | None, float | None]:
    """The twin's loss of a minute with the values that were in force, with the price of missed calls and without."""
    losses: Sequence[tuple[KnobValues, float]] = result.foreseen
    plain = result.foreseen_plain[0] if result.foreseen_plain else None
    return (losses[0][1], plain) if losses else (None, None)
