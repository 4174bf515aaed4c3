"""The work of a deployment's replicas by the knobs that each has, while some or all of them try others. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from kaon.agent.traffic.reading import TrafficReading
from kaon.agent.traffic.work import work
from kaon.laws.sides import added
from kaon.types.figures import ReplicaFigures
from kaon.types.knobs import PlannedKnobs
from kaon.types.replica import Phase, ReplicaStatus
from kaon.types.traffic import Sample, Side

_ALIVE = frozenset({Phase.STARTING, Phase.LOADING, Phase.READY})
_ENDED = frozenset({Phase.CRASHED, Phase.CONFIG_ERROR})
_FAILED = ("5xx", "503", "429")


def with_sides(samples: Iterable[Sample], before: TrafficReading, look: TrafficReading) -> list[Sample]:
    """The samples between two looks; those of deployments under trial with their sides."""
    return [
        sample.model_copy(update={"sides": _sides(sample, planned, before, look)})
        if (planned := look.trials.get((sample.workspace, sample.deployment)))
        else sample
        for sample in samples
    ]


def _sides(sample: Sample, planned: PlannedKnobs, before: TrafficReading, look: TrafficReading) -> tuple[Side, ...]:
    key = sample.workspace, sample.deployment, sample.revision
    earlier = {replica.id: replica for replica in before.replicas}
    found: list[Side | None] = []
    for replica in look.replicas:
        if (replica.workspace, replica.deployment, replica.revision) == key:
            found.append(_work_of(replica, before, look))
            found.append(_ended(replica, earlier.get(replica.id), before.figures.get(replica.id), planned))
    return added(side for side in found if side is not None)


def _work_of(replica: ReplicaStatus, before: TrafficReading, look: TrafficReading) -> Side | None:
    """The work of a replica since the previous reading; None when it is unknown, or was done with two sets of knobs."""
    after, was = look.figures.get(replica.id), before.figures.get(replica.id)
    done = None if after is None else work(was, after, look.now - before.now)
    if after is None or done is None:
        return None
    if was is None or was.began_at != after.began_at:
        was = ReplicaFigures(began_at=after.began_at, at_s=after.at_s, knobs=after.knobs)
    if was.knobs != after.knobs:
        return None
    ready = replica.phase is Phase.READY
    codes = {code: count - was.codes.get(code, 0) for code, count in after.codes.items()}
    gained = {bucket: count - was.latency.get(bucket, 0) for bucket, count in after.latency.items()}
    return Side(
        knobs=after.knobs,
        replicas=int(ready),
        answered=sum(codes.values()),
        failed=sum(codes.get(code, 0) for code in _FAILED),
        latency={bucket: count for bucket, count in gained.items() if count},
        busy_s=done.busy_s,
        ready_s=look.now - before.now if ready else 0.0,
        batches=done.batches,
    )


def _ended(
    replica: ReplicaStatus, earlier: ReplicaStatus | None, was: ReplicaFigures | None, planned: PlannedKnobs
) -> Side | None:
    """A replica that ran and ended by itself, out of memory included.

    It counts for the trial when the plan gives it the trial's knobs or its last figures had them: it may have taken the
    knobs after the last reading, and ended because of them.
    """
    if earlier is None or earlier.phase not in _ALIVE:
        return None
    if replica.phase not in _ENDED and replica.restarts == earlier.restarts:
        return None
    knobs = planned.of(replica.id)
    if planned.trial is not None and was is not None and was.knobs == planned.trial.version:
        knobs = planned.trial
    return Side(knobs=knobs.version, ended=1)
