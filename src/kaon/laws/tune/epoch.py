"""One epoch: a search from the values in force for the best that the twin can find, and its verdict.

Plays cost time, so there are short and whole ones. Four pairs of perturbations give a gradient (short). Its step, four
Gaussian neighbours, the better perturbations, the model's own optimum and a point from the whole cube are compared
(short). The best one, the point half-way to it, and the last two hints are compared with the values in force at the
gate (whole). The best of many is also a lucky one: where the twin requires it, because there are few calls, the winner
must pass again with other random numbers (proof).
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
    """The extent of a play: a part of the replay set, all of it, or all of it with several other seeds."""

    SHORT = 0
    WHOLE = 1
    PROOF = 2


Play = Callable[[KnobValues, int, Depth], Played]
"""The twin: the blocks of a replay with these values and this seed."""

NEIGHBOURS = 4
SPREAD_EPOCHS, SPREAD_EACH = 64, 1
"""64 points spread over the cube, one per epoch: a warm start at no extra cost."""
PROVEN = 2
"""The number of hints, the last ones, that are always played whole: a part of the calls shows little of them."""
_STREAM = 100


@dataclass(frozen=True, slots=True)
class Search:
    """The state of the search between epochs."""

    epoch: int = 0
    trust: float = spsa.MOST_TRUST
    slope: Slope = field(default_factory=Slope)
    still: int = 0
    """Epochs in a row in which no candidate passed the gate."""

    @property
    def done(self) -> bool:
        """Whether it has stopped: three epochs in a row gained less than the gate requires."""
        return self.still >= 3


@dataclass(frozen=True, slots=True)
class EpochInputs:
    """One play: enough to repeat the decision without a twin."""

    values: KnobValues
    depth: Depth
    played: Played


@dataclass(frozen=True, slots=True)
class Proposal:
    """The result of an epoch. `predicted` is the gain in units of the loss, per block; `plain` is the part of it that
    does not come from missed calls."""

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
    """The next search and the proposal. `hints` are candidates such as the model's optimum; with `prove` the winner
    must pass the gate again, on a proof; knobs that are `held` go down only."""
    looks: list[EpochInputs] = []

    def play_once(values: KnobValues, depth: Depth) -> Played:
        for earlier in looks:
            if earlier.values == values and earlier.depth == depth:
                return earlier.played
        looks.append(EpochInputs(values, depth, play(values, seed, depth)))
        return looks[-1].played

    start = space.point(force)
    slope, move, probes = _gradient(space, search, force, play_once, seed)
    aims = [tuple(z + m for z, m in zip(start, move, strict=True)), *probes]
    aims += _neighbours(start, search.trust, seed)
    aims += [space.point(hint) for hint in hints]
    if search.epoch < SPREAD_EPOCHS:
        aims += [randomness.spread(search.epoch * SPREAD_EACH + i, len(start)) for i in range(SPREAD_EACH)]
    tops = tuple(z if knob.name in held else 1.0 for knob, z in zip(space.knobs, start, strict=True))
    aims = [_near(start, aim, search.trust, tops) for aim in aims]
    now = play_once(force, Depth.SHORT)
    candidates = [(space.moved(force, aim), i) for i, aim in enumerate(aims)]
    candidates = [(values, i) for values, i in candidates if values != force]
    ranked = sorted(candidates, key=lambda r: (_loss_difference(now, play_once(r[0], Depth.SHORT)), r[1]))
    finalists: list[KnobValues] = []
    if ranked:
        # A part of the calls favours large moves; half of a move may pass where the whole one does not.
        half = tuple((a + z) / 2 for a, z in zip(start, space.point(ranked[0][0]), strict=True))
        several = (
            ranked[0][0],
            space.moved(force, half),
            *(space.moved(force, _near(start, space.point(hint), search.trust, tops)) for hint in hints[-PROVEN:]),
        )
        finalists = [v for i, v in enumerate(several) if v != force and v not in several[:i]]
    best, verdict, depth = _final(force, finalists, play_once, target, prove)
    found = replace(search, epoch=search.epoch + 1, slope=slope, still=0 if verdict.open else search.still + 1)
    played = play_once(force, depth)
    predicted = verdict.gain * gate.mean_loss(played)
    plain = gain_in_plain(played, play_once(best, depth))
    return found, Proposal(force, best, verdict, predicted, tuple(looks), plain)


def gain_in_plain(force: Played, candidate: Played) -> float:
    """The mean gain, per block, without the price of missed calls."""
    return fmean(a.plain - b.plain for a, b in zip(force, candidate, strict=True)) if force else 0.0


def _gradient(
    space: Space, search: Search, force: KnobValues, play_once: Callable[[KnobValues, Depth], Played], seed: int
) -> tuple[Slope, CubePoint, list[CubePoint]]:
    """The learnt slope, the move, and the better end of each pair."""
    start = space.point(force)
    signs = spsa.perturbations(seed, len(start))
    differences, probes = [], []
    for sign in signs:
        ends = [tuple(z + side * search.trust * s for z, s in zip(start, sign, strict=True)) for side in (1, -1)]
        up, down = (play_once(space.moved(force, end), Depth.SHORT) for end in ends)
        differences.append(_loss_difference(down, up))
        probes.append(ends[0] if differences[-1] < 0 else ends[1])
    slope, move = spsa.step(search.slope, spsa.gradient(signs, differences, search.trust), search.trust)
    best = sorted(range(len(signs)), key=lambda p: -abs(differences[p]))
    return slope, move, [probes[p] for p in best[:2]]


def _near(start: CubePoint, aim: CubePoint, trust: float, tops: CubePoint) -> CubePoint:
    """The point of the trust region, not above `tops`, that is nearest to `aim`."""
    return tuple(min(max(a, z - trust), z + trust, top) for z, a, top in zip(start, aim, tops, strict=True))


def _neighbours(start: CubePoint, trust: float, seed: int) -> list[CubePoint]:
    return [
        tuple(z + trust * randomness.gaussian(seed, _STREAM + n, i) for i, z in enumerate(start))
        for n in range(NEIGHBOURS)
    ]


def _loss_difference(force: Played, candidate: Played) -> float:
    """The loss of `candidate` above that of `force`, per block."""
    return fmean(spsa.winsorised([b.loss - a.loss for a, b in zip(force, candidate, strict=True)]))


def _final(
    force: KnobValues,
    finalists: list[KnobValues],
    play_once: Callable[[KnobValues, Depth], Played],
    target: float,
    prove: bool,
) -> tuple[KnobValues, GateVerdict, Depth]:
    """The finalist with the highest lower bound that passes, or else the nearest to passing, its verdict, and the depth
    of the plays of that."""
    now = play_once(force, Depth.WHOLE)
    if not finalists:
        return force, GateVerdict(False, 0.0, 0.0, "no better values found"), Depth.WHOLE
    judged = [(values, gate.judge(now, play_once(values, Depth.WHOLE), target)) for values in finalists]
    best, verdict = max(judged, key=lambda j: (j[1].open, j[1].bound))
    if not (verdict.open and prove):
        return best, verdict, Depth.WHOLE
    return best, gate.judge(play_once(force, Depth.PROOF), play_once(best, Depth.PROOF), target), Depth.PROOF
