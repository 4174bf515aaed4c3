"""The inputs of the tuner's laws from the agents' samples: windows with their loss, arms, the cost of a batch.

On a canary each side is judged by its own counts. Replicas of one pool get about equal calls, so a larger batch saves
work per call, not replicas: where their number follows the load, a call costs its work at the middle of the band, as it
will when the number has followed; where it is fixed, the ready time.
"""

from __future__ import annotations

from statistics import fmean

from kaon.laws.service_time import fit
from kaon.laws.traffic import FAILURES, parts, quantile
from kaon.laws.tune.guard import TrialArm
from kaon.laws.tune.trial import TrialWindow
from kaon.types.objective import Objective
from kaon.types.observation import Batches
from kaon.types.traffic import Sample, Side

LEAST_CALLS_P99 = 100
"""Least calls for a p99."""


def reference_s(sample: Sample, objective: Objective) -> float | None:
    """The reference cost of a call, replica-seconds: its work at the middle of the objective's band; None: unknown."""
    answered = sum((sample.codes or {}).values())
    return sample.busy_s / answered / fmean(objective.utilisation) if sample.busy_s and answered else None


def window(sample: Sample, objective: Objective, unit_s: float, price: float) -> TrialWindow | None:
    """The window of a whole pool, with the reference cost `unit_s` of a call; None: there were no calls."""
    found = parts(sample, objective, price, unit_s)
    if found is None:
        return None
    calls = sum((sample.codes or {}).values())
    plain = found.total - found.price * found.completion
    return TrialWindow(found.total, calls, plain=plain, missed=calls * (1 - found.completed))


def beside(side: Side, objective: Objective, unit_s: float, price: float, *, elastic: bool) -> TrialWindow | None:
    """The window of one side of a canary; `elastic`: whether the number of replicas follows the load."""
    paid_s = side.busy_s / fmean(objective.utilisation) if elastic else side.ready_s
    well = side.answered - side.failed
    as_sample = Sample.model_construct(
        workspace="",
        deployment="",
        revision=0,
        at_s=0.0,
        span_s=1.0,
        codes={"2xx": well, "5xx": side.failed},
        latency=side.latency,
        busy_s=side.busy_s,
        ready_s=side.ready_s,
        paid_s=paid_s,
    )
    return window(as_sample, objective, unit_s, price)


def arm_of(side: Side | None, ended: int = 0) -> TrialArm:
    """The counts of one side of a canary; `ended`: its replicas that ended by themselves since the trial began."""
    if side is None:
        return TrialArm(restarts=ended)
    p99_s = quantile(side.latency, 0.99) if side.answered >= LEAST_CALLS_P99 else None
    return TrialArm(side.answered, side.failed, p99_s, ended)


def arm(sample: Sample | None, ended: int = 0) -> TrialArm:
    """The counts of a whole pool."""
    codes = (sample.codes or {}) if sample else {}
    answered = sum(codes.values())
    p99_s = quantile(sample.latency, 0.99) if sample and answered >= LEAST_CALLS_P99 else None
    return TrialArm(answered, sum(codes.get(name, 0) for name in FAILURES), p99_s, ended)


def batch_s(batches: Batches, rows: int = 4) -> float | None:
    """The time of a batch of `rows` rows, seconds; None before the first."""
    line = fit([batches])
    return None if line is None else line[0] * rows + line[1]
