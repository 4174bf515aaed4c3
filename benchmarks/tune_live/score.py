"""What an arm came to: the loss as its callers felt it, minute by minute of the tuner's time, and its parts.

Calls are counted by when they came, at the load generator; replicas by the system's list of processes; how busy they
were is what the platform counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

import numpy as np

from benchmarks.live.load import OUTCOMES
from kaon.laws import loss
from kaon.laws.loss import Loss, LossInputs
from kaon.types.objective import Objective

MINUTE_S = 60.0


@dataclass(frozen=True)
class Heard:
    """The calls of an arm as their callers tell it: when each came, ns; how long it took, ns; its place in OUTCOMES."""

    arrivals_ns: Any
    latency_ns: Any
    outcome: Any


@dataclass(frozen=True)
class Counted:
    """Replica-seconds of a window."""

    busy_s: float
    ready_s: float
    paid_s: float


def windows(objective: Objective, heard: Heard, counted: Sequence[Counted], window_s: float) -> list[LossInputs]:
    """The whole minutes of an arm."""
    edges = np.searchsorted(heard.arrivals_ns, np.arange(len(counted) + 1) * window_s * 1e9)
    ok, answered = OUTCOMES.index("ok"), (OUTCOMES.index("ok"), OUTCOMES.index("late"))
    relative = heard.latency_ns / 1e9 / objective.latency_s
    felt = [loss.latency_loss(float(x)) for x in relative]
    felt = np.where(np.isin(heard.outcome, answered), felt, loss.WORST_LATENCY)
    found = []
    for first, last, paid in zip(edges[:-1], edges[1:], counted, strict=True):
        well = int((heard.outcome[first:last] == ok).sum())
        losses = float(felt[first:last].sum())
        found.append(LossInputs(int(last - first), well, losses, paid.busy_s, paid.ready_s, paid.paid_s))
    return found


def losses(objective: Objective, seen: Sequence[LossInputs], reference_s: float) -> list[Loss]:
    """Each minute's loss, the price of a miss as it was then."""
    price, found = loss.Price(), []
    for window in seen:
        found.append(loss.loss(objective, window, reference_s, price.value))
        price = price.after(objective, found[-1].completed, 60.0)
    return found


def told(
    objective: Objective, heard: Heard, seen: Sequence[LossInputs], window_s: float, reference_s: float
) -> dict[str, Any]:
    """All figures of an arm: of the whole, exploration included, and of its second half. `window_s`: a minute here."""
    each = losses(objective, seen, reference_s)
    half = len(seen) // 2
    budget = 1 - objective.completion
    return {
        "whole": _sums(seen, each, heard, 0.0),
        "later": _sums(seen[half:], each[half:], heard, half * window_s),
        "losses": [round(x.total, 5) for x in each],
        "parts": [{name: round(value, 5) for name, value in asdict(x).items()} for x in each],
        "calls": [x.arrivals for x in seen],
        "unsafe": [bool(1 - x.completed > 2 * budget) for x in each],
    }


def _sums(seen: Sequence[LossInputs], each: Sequence[Loss], heard: Heard, from_s: float) -> dict[str, Any]:
    calls, well = sum(x.arrivals for x in seen), sum(x.well for x in seen)
    first = int(np.searchsorted(heard.arrivals_ns, from_s * 1e9))
    outcome = heard.outcome[first:]
    timed = heard.latency_ns[first:][np.isin(outcome, (0, 1))] / 1e9
    p50_s, p90_s, p99_s = (
        (round(float(x), 4) for x in np.quantile(timed, (0.5, 0.9, 0.99))) if len(timed) else (0, 0, 0)
    )
    named = {name: int((outcome == place).sum()) for place, name in enumerate(OUTCOMES)}
    return {
        "loss": fmean(x.total for x in each),
        "latency": fmean(x.latency for x in each),
        "completion": fmean(x.completion for x in each),
        "utilisation": fmean(x.utilisation for x in each),
        "cost": fmean(x.cost for x in each),
        "busy": sum(x.busy_s for x in seen) / max(sum(x.ready_s for x in seen), 1e-9),
        "calls": calls,
        "attainment": well / max(calls, 1),
        "replica_seconds": sum(x.paid_s for x in seen),
        "p50_s": p50_s,
        "p90_s": p90_s,
        "p99_s": p99_s,
        "lost": named["failed"] + named["broken"],
        "shed": named["shed"],
    }
