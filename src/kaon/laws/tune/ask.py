"""The queries of the tuner to its twin, and their results: plain values, independent of a simulator."""

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
    """A query about one deployment; `past` must not change any more (`Past.copied`).

    It requests a proposal. With `attempt` it requests the gain of these values over `force`; with `foresee_s` (from,
    until) only the losses of that time with the values that were in force and, if there are any, with `attempt`: a
    trial's windows are compared with them.
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
    """The values in force, each with its start, oldest first; the first ones also count for the time before."""
    price: float
    past: Past
    now_s: float
    seed: int
    attempt: KnobValues | None = None
    foresee_s: tuple[float, float] | None = None
    reference_s: float | None = None
    """The reference cost of a call, replica-seconds: the unit of the loss's cost. None: as measured."""
    noise: float | None = None
    """The variation of batches in the last result; None: to be determined."""
    by_hand: KnobValues = field(default_factory=dict)
    """Values that users have set of knobs that are not searched; the twin uses them too."""


@dataclass(frozen=True, slots=True)
class TwinResult:
    """The result of a query. Not `trusted`: there is only the reason (`distrust`, with figures)."""

    search: Search
    proposal: Proposal | None = None
    distrust: str = ""
    trusted: bool = True
    off: str = ""
    """The error of the replay of the last half hour, as text; empty: it was not replayed."""
    record: RecordFigures | None = None
    foreseen: tuple[tuple[KnobValues, float], ...] = ()
    """Losses of the last minute of `foresee_s`: with the values in force, then with those of the attempt."""
    foreseen_plain: tuple[float, ...] = ()
    """The same without the price of missed calls."""
    replayed: tuple[tuple[float, float, float], ...] = ()
    """Of an epoch: the end of each minute of the last half hour, and its loss in the twin with the values in force,
    with the price of missed calls and without."""
    cpu_s: float = 0.0
    reference_s: float = 0.0
    """The reference cost of a call in these losses; live losses are comparable only in the same unit."""
    noise: float | None = None
    """To be passed to the next query."""
