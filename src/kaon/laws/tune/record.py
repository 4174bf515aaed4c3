"""Every decision as data, from which it can be taken again, bit for bit, without the twin or the traffic.

An epoch's record has what the twin answered, so replaying it means running the same search and the same gate on
the same answers. A trial's record has its windows. JSON keeps a float's every bit.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from kaon.laws.tune import epoch, trial
from kaon.laws.tune.epoch import Proposal, Search
from kaon.laws.tune.gate import Block, Played
from kaon.laws.tune.knobs import Knob, Reach, Shape, Space, Values
from kaon.laws.tune.spsa import Slope
from kaon.laws.tune.trial import Finding, Trial, Window

Figures = dict[str, Any]
"""What goes into `JournalEntry.figures`."""


def of_epoch(
    space: Space,
    before: Search,
    seed: int,
    target: float,
    hints: tuple[Values, ...],
    inputs: str,
    found: Proposal,
) -> Figures:
    """An epoch's record. `inputs` is the hash of what the twin was made from."""
    return {
        "kind": "epoch",
        "inputs": inputs,
        "seed": seed,
        "target": target,
        "knobs": [asdict(knob) for knob in space.knobs],
        "search": asdict(before),
        "hints": list(hints),
        "before": found.before,
        "after": found.after,
        "predicted": found.predicted,
        "open": found.verdict.open,
        "reason": found.verdict.reason,
        "looks": [[look.values, look.whole, _packed(look.played)] for look in found.looks],
    }


def of_trial(tried: Trial, finding: Finding) -> Figures:
    """A trial's record: what was predicted and what was realised."""
    return {
        "kind": "trial",
        "reach": tried.reach.value,
        "before": tried.before,
        "after": tried.after,
        "predicted": tried.predicted,
        "loss": tried.loss,
        "began_s": tried.began_s,
        "force": [[w.loss, w.calls, w.twin] for w in tried.force],
        "tried": [[w.loss, w.calls, w.twin] for w in tried.tried],
        "promoted": finding.promoted,
        "realised": finding.realised,
        "reason": finding.reason,
    }


def replays(figures: Figures) -> bool:
    """Whether the decision, taken again from its record, is the same to the last bit."""
    if figures["kind"] == "trial":
        again = trial.judge(_trial(figures))
        return again == Finding(figures["promoted"], figures["realised"], figures["reason"])
    again_search, found = _epoch(figures)
    told = (found.after, found.predicted, found.verdict.open, found.verdict.reason, len(found.looks))
    kept = (figures["after"], figures["predicted"], figures["open"], figures["reason"], len(figures["looks"]))
    return told == kept and again_search.epoch == figures["search"]["epoch"] + 1


def _epoch(figures: Figures) -> tuple[Search, Proposal]:
    kept = {(_key(values), whole): _unpacked(blocks) for values, whole, blocks in figures["looks"]}

    def play(values: Values, seed: int, whole: bool) -> Played:
        return kept[_key(values), whole]

    knobs = [{**k, "shape": Shape(k["shape"]), "reach": Reach(k["reach"])} for k in figures["knobs"]]
    was = figures["search"]
    slope = Slope(tuple(was["slope"]["squares"]), was["slope"]["weight"])
    search = Search(was["epoch"], was["trust"], slope, was["still"])
    space = Space(tuple(Knob(**knob) for knob in knobs))
    hints = tuple(figures["hints"])
    return epoch.propose(space, search, figures["before"], play, figures["seed"], figures["target"], hints)


def _trial(figures: Figures) -> Trial:
    force, tried = (tuple(Window(*w) for w in figures[side]) for side in ("force", "tried"))
    named = {name: figures[name] for name in ("before", "after", "predicted", "loss", "began_s")}
    return Trial(reach=Reach(figures["reach"]), force=force, tried=tried, **named)


def _key(values: Values) -> tuple[tuple[str, float], ...]:
    return tuple(sorted(values.items()))


def _packed(played: Played) -> list[list[float]]:
    return [[b.loss, b.arrivals, b.well, int(b.burst)] for b in played]


def _unpacked(blocks: list[list[float]]) -> Played:
    return tuple(Block(loss, int(arrivals), int(well), bool(burst)) for loss, arrivals, well, burst in blocks)
