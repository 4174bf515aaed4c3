"""Before and after: a service as somebody would deploy it, the same with the tuner at work, and with what it found.

All arms of a load meet the same calls. First the untuned one and the one that is tuned from the first second stand
beside each other; then, under the same calls again, the untuned one and one that has from the start what was found.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from benchmarks.live.loads import Load
from benchmarks.live.platform import platform
from benchmarks.tune_live import roles, score
from benchmarks.tune_live.match import Entrant, Match, Outcome, Service
from kaon.laws.tune import record
from kaon.types.knobs import KnobValues
from kaon.types.tuning import TuningMode

UNTUNED, TUNED, FOUND = "untuned", "tuned", "found"
Told = dict[str, Any]


@dataclass(frozen=True)
class Setting:
    """What is compared on what: `usual` is what somebody who has not measured would set.

    `serves_rps` is what a replica serves with it, `reference_s` the replica-seconds of a call that cost 1 in the loss;
    of the tuner's seconds `times` pass in one.
    """

    service: Service
    loads: Sequence[Load]
    times: float
    usual: KnobValues
    serves_rps: float
    reference_s: float

    @property
    def window_s(self) -> float:
        """A minute of the tuner's."""
        return score.MINUTE_S / self.times

    def first_replicas(self, load: Load) -> int:
        """As many as the first seconds need, so that no arm begins with a queue."""
        first = load.rates[: int(10 * load.times)]
        return max(1, math.ceil(1.6 * sum(first) / len(first) / self.serves_rps))

    def told(self) -> Told:
        """The same for the reader of the results."""
        return {
            "seconds": self.loads[0].seconds,
            "times": self.times,
            "objective": self.service.objective.model_dump(mode="json"),
            "loading_s": self.service.load_s,
            "most": self.service.most,
            "usual": self.usual,
            "serves_rps": self.serves_rps,
            "reference_s": self.reference_s,
        }


def while_tuned(setting: Setting) -> Told:
    """The untuned and the tuned arm of each load, side by side."""
    usual = {load.name: setting.usual for load in setting.loads}
    return _played(setting, {UNTUNED: (TuningMode.OFF, usual), TUNED: (TuningMode.AUTO, usual)}, setting.loads)


def in_turn(setting: Setting) -> Told:
    """The untuned arm and the tuned one, one after the other."""
    usual = {load.name: setting.usual for load in setting.loads}
    told = _played(setting, {UNTUNED: (TuningMode.OFF, usual)}, setting.loads)
    for name, arms in _played(setting, {TUNED: (TuningMode.AUTO, usual)}, setting.loads)["loads"].items():
        told["loads"][name] |= arms
    return told


def from_the_start(setting: Setting, before: Told) -> Told:
    """The untuned arm again, beside one that has from the start what the tuned one of `before` ended with; on those
    loads where that is anything new."""
    usual = {load.name: setting.usual for load in setting.loads}
    ended = {name: arms[TUNED]["tuner"] for name, arms in before["loads"].items()}
    found = {name: dict(it["values"]) for name, it in ended.items() if it["values"] != it["usual"] | setting.usual}
    loads = [load for load in setting.loads if load.name in found]
    return _played(setting, {UNTUNED: (TuningMode.OFF, usual), FOUND: (TuningMode.OFF, found)}, loads)


def _played(setting: Setting, arms: dict[str, tuple[TuningMode, dict[str, KnobValues]]], loads: Sequence[Load]) -> Told:
    """`loads`, one after the other, with their arms side by side."""
    told: Told = {"loads": {}, "machine_busy": [], "setting": setting.told()}
    for load in loads:
        told["loads"][load.name], machine = _side_by_side(setting, load, arms)
        told["machine_busy"].append(machine["busy"])
    return told


def _side_by_side(
    setting: Setting, load: Load, arms: dict[str, tuple[TuningMode, dict[str, KnobValues]]]
) -> tuple[Told, dict[str, float]]:
    entrants = {
        arm: Entrant(arm, load, mode, values[load.name], setting.first_replicas(load))
        for arm, (mode, values) in arms.items()
    }
    with platform(partial(roles.start, times=setting.times)) as kaon:
        outcomes, machine = Match(kaon, setting.service, list(entrants.values()), setting.times).play()
    return {
        arm: _told(setting, outcomes[entrant.name]) | {"set": entrant.values} for arm, entrant in entrants.items()
    }, machine


def _told(setting: Setting, outcome: Outcome) -> Told:
    objective = setting.service.objective
    seen = score.windows(objective, outcome.heard, outcome.counted, setting.window_s)
    state = outcome.tuning
    return {
        **score.told(objective, outcome.heard, seen, setting.window_s, setting.reference_s),
        "generator": outcome.generator,
        "replicas": outcome.replicas,
        "tuner": {
            "values": {knob["name"]: knob["value"] for knob in state["knobs"]},
            "usual": {knob["name"]: knob["usual"] for knob in state["knobs"]},
            "epochs": state["epochs"],
            "twin": state["twin"],
            "trials": state["trials"],
            "story": outcome.story,
            "replay": outcome.replay,
            **_journal(outcome.journal),
        },
    }


def _journal(entries: Sequence[Told]) -> Told:
    """What the journal has of a tuner: its decisions, and how many of them replay to the last bit."""
    decided = [entry for entry in entries if entry["figures"].get("kind") in ("epoch", "trial")]
    said = [{key: entry[key] for key in ("at", "before", "after", "reason")} for entry in entries]
    return {
        "records": len(decided),
        "replayed": sum(record.replays(entry["figures"]) for entry in decided),
        "trials_of_record": sum(entry["figures"]["kind"] == "trial" for entry in decided),
        "said": said,
    }
