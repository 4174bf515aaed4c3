"""From running totals to samples: what each revision got since the last reading. Pure.

    step(cloud, history, reading) -> (history, samples)

Each total restarts at its own time: with its process, with its cluster, with Envoy. A sample then has what was counted
since the restart, never a negative number. What was not read is None: while the edge does not answer no sample is made,
and the next one spans the whole time, unless that is too long for a useful rate; counts of replicas that do not answer
are left out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from kaon.agent.traffic import edge_traffic
from kaon.agent.traffic.edge_traffic import EdgeHistory, EdgeTraffic
from kaon.agent.traffic.reading import LONGEST_SPAN_S, TrafficReading
from kaon.agent.traffic.work import WorkDone, works
from kaon.types.names import RevisionKey
from kaon.types.observation import Batches
from kaon.types.replica import Phase, ReplicaStatus
from kaon.types.traffic import Sample

_STARTING = frozenset({Phase.BUILDING, Phase.INSTALLING, Phase.STARTING, Phase.LOADING})


@dataclass(frozen=True)
class TrafficHistory:
    """What is kept from the readings before."""

    reading: TrafficReading
    edge: EdgeHistory


def step(
    cloud: str, history: TrafficHistory | None, reading: TrafficReading
) -> tuple[TrafficHistory | None, list[Sample]]:
    """The history to keep, and the samples since the last reading."""
    if reading.edge is None:
        return history, []
    if history is None or not 0 < reading.now - history.reading.now <= LONGEST_SPAN_S:
        return TrafficHistory(reading, edge_traffic.first(reading.edge)), []
    before = history.reading
    replicas: defaultdict[RevisionKey, list[ReplicaStatus]] = defaultdict(list)
    for replica in reading.replicas:
        replicas[replica.workspace, replica.deployment, replica.revision].append(replica)
    done = works(before, reading)
    at_edge, edge = edge_traffic.traffic(history.edge, before, reading, done)
    span_s = reading.now - before.now
    samples = [
        _sample(cloud, key, reading, span_s, at_edge.get(key, EdgeTraffic()), replicas.get(key, ()), done.get(key, ()))
        for key in sorted({*reading.served, *at_edge, *replicas, *_held(reading, before)})
    ]
    running = {replica.id for replica in reading.replicas}
    last = {id_: figures for id_, figures in before.figures.items() if id_ in running}
    return TrafficHistory(replace(reading, figures={**last, **reading.figures}), edge), samples


def _sample(
    cloud: str,
    key: RevisionKey,
    reading: TrafficReading,
    span_s: float,
    edge: EdgeTraffic,
    replicas: Sequence[ReplicaStatus],
    works: Sequence[WorkDone | None],
) -> Sample:
    workspace, deployment, revision = key
    done = [work for work in works if work is not None]
    unknown = bool(works) and not done
    memory = [reading.figures[r.id].memory_bytes for r in replicas if r.id in reading.figures]
    return Sample(
        workspace=workspace,
        deployment=deployment,
        revision=revision,
        cloud=cloud,
        at_s=reading.at_s,
        span_s=span_s,
        arrivals=edge.arrivals,
        codes=edge.codes,
        latency=edge.latency,
        in_flight=edge.in_flight,
        queued=None if unknown else sum(work.queued for work in done),
        queue_s=None if unknown else sum(work.queue_s for work in done),
        began=None if unknown else sum(work.began for work in done),
        busy_s=None if unknown else sum(work.busy_s for work in done),
        batches=_sum(work.batches for work in done),
        ready=sum(r.phase is Phase.READY for r in replicas),
        starting=sum(r.phase in _STARTING for r in replicas),
        held=0 if revision else reading.held.get((workspace, deployment), 0),
        starts=tuple(reading.starts[r.id] for r in replicas if r.id in reading.starts),
        memory_bytes=max(memory, default=0) or None,
    )


def _sum(batches: Iterable[Batches]) -> Batches:
    found = list(batches)
    return Batches(
        count=sum(b.count for b in found),
        rows=sum(b.rows for b in found),
        seconds=sum(b.seconds for b in found),
        rows_squared=sum(b.rows_squared for b in found),
        rows_seconds=sum(b.rows_seconds for b in found),
        seconds_squared=sum(b.seconds_squared for b in found),
    )


def _held(reading: TrafficReading, before: TrafficReading) -> set[RevisionKey]:
    """Deployments whose calls are held, or were at the reading before."""
    return {(workspace, deployment, 0) for workspace, deployment in {*reading.held, *before.held}}
