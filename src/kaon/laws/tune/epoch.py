"""One epoch: from what is in force to the best that the twin knows, and whether it may be tried.

Plays cost time, so there are short and whole ones. Four pairs of perturbations give a gradient (short). Its step,
four Gaussian neighbours, the better perturbations, the model's own optimum and a point from anywhere in the cube
race each other (short). The best, what lies half-way to it, and the last two hints meet what is in force (whole), at
the gate. Whoever is chosen among many was lucky too: where the twin asks for it, because few calls came, what passed
must pass once more, with other lucks (proof).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import IntEnum
from statistics import fmean

from kaon.laws.tune import gate, randomness, spsa
from kaon.laws.tune.gate import GateVerdict, Played
from kaon.laws.tune.knobs import CubePoint, KnobValues, Space
from kaon.laws.tune.spsa import Slope


class Depth(IntEnum):
    """How much a play takes: a part of the replay set, all of it, or all of it with several other lucks."""

    SHORT = 0
    WHOLE = 1
    PROOF = 2


Play = Callable[[KnobValues, int, Depth], Played]
"""The twin: what `values` would have come to, with the luck of `seed`."""

NEIGHBOURS = 4
SPREAD_EPOCHS, SPREAD_EACH = 64, 1
"""64 points spread over the cube, one an epoch: a warm start that costs no epoch more than another."""
PROVEN = 2
"""So many hints, the last ones, are played whole however they race: a part of the calls tells little of them."""
_STREAM = 100


@dataclass(frozen=True, slots=True)
class Search:
    """What the tuner remembers between epochs."""

    epoch: int = 0
    trust: float = spsa.MOST_TRUST
    slope: Slope = field(default_factory=Slope)
    still: int = 0
    """Epochs on end in which nothing passed the gate."""

    @property
    def done(self) -> bool:
        """Whether it stopped: three epochs brought less than the gate asks for."""
        return self.still >= 3


@dataclass(frozen=True, slots=True)
class EpochInputs:
    """A play as it was: enough to decide the same again without a twin."""

    values: KnobValues
    depth: Depth
    played: Played


@dataclass(frozen=True, slots=True)
class Proposal:
    """What an epoch came to. `predicted` is the gain in units of the loss, per block; `plain` what of it is no matter
    of missed calls."""

    before: KnobValues
    after: KnobValues
    verdict: GateVerdict
    predicted: float
    looks: tuple[EpochInputs, ...]
    plain: float | None = None


def propose(
    space: Space,
    search: Search,
    force: KnobValues,
    play: Play,
    seed: int,
    target: float,
    hints: tuple[KnobValues, ...] = (),
    *,
    prove: bool = False,
    held: tuple[str, ...] = (),
) -> tuple[Search, Proposal]:
    """The next search and the proposal. `hints` are points worth a look, such as the model's optimum; what passes the
    gate must pass it again, on a proof, if `prove`; knobs that are `held` go down only."""
    looks: list[EpochInputs] = []

    def look(values: KnobValues, depth: Depth) -> Played:
        for known in looks:
            if known.values == values and known.depth == depth:
                return known.played
        looks.append(EpochInputs(values, depth, play(values, seed, depth)))
        return looks[-1].played

    start = space.point(force)
    slope, move, probes = _gradient(space, search, force, look, seed)
    aims = [tuple(z + m for z, m in zip(start, move, strict=True)), *probes]
    aims += _neighbours(start, search.trust, seed)
    aims += [space.point(hint) for hint in hints]
    if search.epoch < SPREAD_EPOCHS:
        aims += [randomness.spread(search.epoch * SPREAD_EACH + i, len(start)) for i in range(SPREAD_EACH)]
    tops = tuple(z if knob.name in held else 1.0 for knob, z in zip(space.knobs, start, strict=True))
    aims = [_near(start, aim, search.trust, tops) for aim in aims]
    now = look(force, Depth.SHORT)
    raced = [(space.moved(force, aim), i) for i, aim in enumerate(aims)]
    raced = [(values, i) for values, i in raced if values != force]
    ranked = sorted(raced, key=lambda r: (_behind(now, look(r[0], Depth.SHORT)), r[1]))
    finalists: list[KnobValues] = []
    if ranked:
        # A part of the calls flatters what is daring; half of the way may hold where all of it does not.
        half = tuple((a + z) / 2 for a, z in zip(start, space.point(ranked[0][0]), strict=True))
        drawn = (
            ranked[0][0],
            space.moved(force, half),
            *(space.moved(force, _near(start, space.point(hint), search.trust, tops)) for hint in hints[-PROVEN:]),
        )
        finalists = [v for i, v in enumerate(drawn) if v != force and v not in drawn[:i]]
    best, verdict, depth = _final(force, finalists, look, target, prove)
    found = replace(search, epoch=search.epoch + 1, slope=slope, still=0 if verdict.open else search.still + 1)
    played = look(force, depth)
    predicted = verdict.gain * gate.mean_loss(played)
    plain = gain_in_plain(played, look(best, depth))
    return found, Proposal(force, best, verdict, predicted, tuple(looks), plain)


def gain_in_plain(force: Played, candidate: Played) -> float:
    """The mean gain, per block, without the price of missed calls."""
    return fmean(a.plain - b.plain for a, b in zip(force, candidate, strict=True)) if force else 0.0


def _gradient(
    space: Space, search: Search, force: KnobValues, look: Callable[[KnobValues, Depth], Played], seed: int
) -> tuple[Slope, CubePoint, list[CubePoint]]:
    """The slope learnt, the move, and of each pair the end that did better."""
    start = space.point(force)
    signs = spsa.perturbations(seed, len(start))
    differences, probes = [], []
    for sign in signs:
        ends = [tuple(z + side * search.trust * s for z, s in zip(start, sign, strict=True)) for side in (1, -1)]
        up, down = (look(space.moved(force, end), Depth.SHORT) for end in ends)
        differences.append(_behind(down, up))
        probes.append(ends[0] if differences[-1] < 0 else ends[1])
    slope, move = spsa.step(search.slope, spsa.gradient(signs, differences, search.trust), search.trust)
    best = sorted(range(len(signs)), key=lambda p: -abs(differences[p]))
    return slope, move, [probes[p] for p in best[:2]]


def _near(start: CubePoint, aim: CubePoint, trust: float, tops: CubePoint) -> CubePoint:
    """The point of the trust region, and not above `tops`, that is nearest to `aim`: whoever found it."""
    return tuple(min(max(a, z - trust), z + trust, top) for z, a, top in zip(start, aim, tops, strict=True))


def _neighbours(start: CubePoint, trust: float, seed: int) -> list[CubePoint]:
    return [
        tuple(z + trust * randomness.gaussian(seed, _STREAM + n, i) for i, z in enumerate(start))
        for n in range(NEIGHBOURS)
    ]


def _behind(force: Played, candidate: Played) -> float:
    """By how much `candidate` is worse, per block."""
    return fmean(spsa.winsorised([b.loss - a.loss for a, b in zip(force, candidate, strict=True)]))


def _final(
    force: KnobValues,
    finalists: list[KnobValues],
    look: Callable[[KnobValues, Depth], Played],
    target: float,
    prove: bool,
) -> tuple[KnobValues, GateVerdict, Depth]:
    """The finalist with the highest lower bound that passes; when none does, the one that came nearest. And the depth
    of the plays that the verdict is about."""
    now = look(force, Depth.WHOLE)
    if not finalists:
        return force, GateVerdict(False, 0.0, 0.0, "no better values found"), Depth.WHOLE
    judged = [(values, gate.judge(now, look(values, Depth.WHOLE), target)) for values in finalists]
    best, verdict = max(judged, key=lambda j: (j[1].open, j[1].bound))
    if not (verdict.open and prove):
        return best, verdict, Depth.WHOLE
    return best, gate.judge(look(force, Depth.PROOF), look(best, Depth.PROOF), target), Depth.PROOF
