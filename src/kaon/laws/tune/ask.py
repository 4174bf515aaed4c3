"""What the tuner asks its twin, and what it is answered: plain values, so that whoever asks needs no simulator."""

from __future__ import annotations

from dataclasses import dataclass, field

from kaon.laws.scaling import Bounds
from kaon.laws.tune.epoch import Proposal, Search
from kaon.laws.tune.knobs import KnobValues, Space
from kaon.laws.tune.past import Past
from kaon.laws.tune.record import RecordFigures
from kaon.types.deployment import Scaling
from kaon.types.objective import Objective
from kaon.types.service import ServiceSpec


@dataclass(frozen=True, slots=True)
class TwinQuery:
    """A question about one deployment; `past` must not change any more (`Past.copied`).

    It asks for a proposal. With `attempt` it asks what just those values promise, against `force`; with `foresee_s`
    (from, until) only what the twin makes of that time with what was in force then and, if there is an `attempt`, with
    that: what a trial's windows are compared with.
    """

    workspace: str
    deployment: str
    objective: Objective
    bounds: Bounds
    service: ServiceSpec
    scaling: Scaling
    space: Space
    search: Search
    force: KnobValues
    schedule: tuple[tuple[float, KnobValues], ...]
    """What was in force, each from its time on, oldest first; what was before the first counts as the first."""
    price: float
    past: Past
    now_s: float
    seed: int
    attempt: KnobValues | None = None
    foresee_s: tuple[float, float] | None = None
    reference_s: float | None = None
    """What a call should cost, replica-seconds: the unit of the loss's cost. None: as measured."""
    noise: float | None = None
    """What the last answer found to make batches uneven; None: to be found."""
    by_hand: KnobValues = field(default_factory=dict)
    """What people have set of the knobs that are never searched: the twin goes by that too."""


@dataclass(frozen=True, slots=True)
class TwinResult:
    """What the twin says. Not `trusted`: it says nothing but why (`distrust`, with figures)."""

    search: Search
    proposal: Proposal | None = None
    distrust: str = ""
    trusted: bool = True
    off: str = ""
    """What the replay of the last half hour was off by, in words; empty: it was not played."""
    record: RecordFigures | None = None
    foreseen: tuple[tuple[KnobValues, float], ...] = ()
    """Losses of the last minute of what was to be foreseen: with what was in force, then with what is attempted."""
    foreseen_plain: tuple[float, ...] = ()
    """The same without the price of missed calls."""
    replayed: tuple[tuple[float, float, float], ...] = ()
    """Of an epoch: when each minute of the last half hour ended, and its loss in the twin with what was in force, with
    the price of missed calls and without."""
    cpu_s: float = 0.0
    reference_s: float = 0.0
    """What a call should cost in these losses: live ones are only comparable in the same unit."""
    noise: float | None = None
    """To be handed back with the next question."""
