"""The knobs of a deployment's replicas, from the values in force and those of a trial."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kaon.laws.tune.trial import canaries
from kaon.types.knobs import MOST_WAIT_S, Knobs, PlannedKnobs
from kaon.types.tuning import Reach, TuningStatus


def replica_knobs(values: Mapping[str, float]) -> Knobs:
    """The values of a replica's own knobs, within their bounds."""
    wait_s = values.get("max_wait_s")
    return Knobs(
        max_batch=_whole(values.get("max_batch")),
        max_wait_s=None if wait_s is None else min(max(wait_s, 0.0), MOST_WAIT_S),
        concurrency=_whole(values.get("concurrency")),
    ).named()


def planned(tuning: TuningStatus, stable: Sequence[str], now_s: float) -> PlannedKnobs:
    """The knobs of a deployment's replicas at `now_s`, epoch seconds.

    `stable` are the ids of the replicas of the revision that serves, by ordinal: the first of them are the canary,
    one in ten, at least one; none without another one to compare with. A trial whose time is over is ignored.
    """
    trial = tuning.trial
    force = after = replica_knobs(tuning.values)
    replicas: tuple[str, ...] | None = None
    if trial is not None and now_s < trial.until:
        if trial.reach is Reach.REPLICA:
            replicas = tuple(stable[: canaries(len(stable))])
        if trial.trying if replicas is None else replicas:
            after = replica_knobs({**tuning.values, **trial.after})
    if after != force:
        return PlannedKnobs(force=force, trial=after, replicas=replicas)
    return PlannedKnobs(force=force)


def _whole(value: float | None) -> int | None:
    return None if value is None else max(1, round(value))
