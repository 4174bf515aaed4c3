"""From running totals to samples: what each revision got since the last look. Pure.

    step(cloud, memory, look) -> (memory, samples)

Totals restart, and every one at its own time: a counter that is smaller than it was, a process that began anew,
another run of Envoy. What is then told is what was counted since, never a negative number. What
nobody delivered is None: an edge that does not answer makes no sample at all, and the next one spans the time between,
unless that is so long that its rate says nothing; replicas that do not answer leave their own counts out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from kaon.edge.counts import ClusterCounts, EdgeCounts
from kaon.types.figures import ReplicaFigures
from kaon.types.knobs import PlannedKnobs
from kaon.types.names import RevisionKey
from kaon.types.observation import Batches
from kaon.types.replica import Phase, ReplicaStatus
from kaon.types.traffic import ColdStart, LatencyCounts, Sample

LONGEST_SPAN_S = 3.0
"""After a longer time without a look the counts begin anew."""


_STARTING = frozenset({Phase.BUILDING, Phase.INSTALLING, Phase.STARTING, Phase.LOADING})
_WORKING = frozenset({Phase.READY, Phase.DRAINING})


@dataclass(frozen=True)
class TrafficReading:
    """What is seen at one moment."""

    at_s: float
    """Epoch seconds."""
    now: float
    """Seconds of the clock that never goes back."""
    edge: EdgeCounts | None
    figures: Mapping[str, ReplicaFigures] = field(default_factory=dict)
    """By replica; those that did not answer are left out."""
    replicas: tuple[ReplicaStatus, ...] = ()
    served: frozenset[RevisionKey] = frozenset()
    """Revisions that a route leads to; of a deployment with none, revision 0."""
    held: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """Callers that wait at the edge, by deployment."""
    starts: Mapping[str, ColdStart] = field(default_factory=dict)
    """Starts that are over since the last look, by replica."""
    trials: Mapping[tuple[str, str], PlannedKnobs] = field(default_factory=dict)
    """Deployments of which some or all replicas try other knobs; see `kaon.agent.traffic.sides`."""


@dataclass(frozen=True)
class TrafficHistory:
    """What is known from the looks before."""

    look: TrafficReading
    arrived: Mapping[str, int] = field(default_factory=dict)
    """Cluster -> attempts less retries, the most so far: a retry is counted before its attempt."""
    refusals: Mapping[RevisionKey, int] = field(default_factory=dict)
    """503 of replicas that the edge has not told of yet: it was asked a moment before."""
    unauthenticated: Mapping[RevisionKey, Mapping[str, int]] = field(default_factory=dict)
    """Likewise answers to callers without a valid key."""


def step(cloud: str, memory: TrafficHistory | None, look: TrafficReading) -> tuple[TrafficHistory | None, list[Sample]]:
    """What to remember, and the samples since the last look."""
    if look.edge is None:
        return memory, []
    if memory is None or not 0 < look.now - memory.look.now <= LONGEST_SPAN_S:
        return TrafficHistory(look, _net(look.edge)), []
    before = memory.look
    own: defaultdict[RevisionKey, list[ReplicaStatus]] = defaultdict(list)
    for replica in look.replicas:
        own[replica.workspace, replica.deployment, replica.revision].append(replica)
    works, refused = _works(before, look)
    at_edge, arrived, refusals = _at_edge(memory, look, refused)
    unauthenticated = {
        key: _take_out(at_edge[key], memory.unauthenticated.get(key, {}), works.get(key, ())) for key in at_edge
    }
    samples = [
        _sample(
            cloud, key, look, look.now - before.now, at_edge.get(key, _AtEdge()), own.get(key, ()), works.get(key, ())
        )
        for key in sorted({*look.served, *at_edge, *own, *_waited_for(look, before)})
    ]
    there = {replica.id for replica in look.replicas}
    known = {id_: figures for id_, figures in before.figures.items() if id_ in there}
    kept = replace(look, figures={**known, **look.figures})
    return TrafficHistory(
        kept, arrived, refusals, {key: left for key, left in unauthenticated.items() if left}
    ), samples


def _sample(
    cloud: str,
    key: RevisionKey,
    look: TrafficReading,
    span_s: float,
    edge: _AtEdge,
    own: Sequence[ReplicaStatus],
    told: Sequence[WorkDone | None],
) -> Sample:
    workspace, deployment, revision = key
    known = [work for work in told if work is not None]
    nobody = bool(told) and not known
    return Sample(
        workspace=workspace,
        deployment=deployment,
        revision=revision,
        cloud=cloud,
        at_s=look.at_s,
        span_s=span_s,
        arrivals=edge.arrivals,
        codes=edge.codes,
        latency=edge.latency,
        in_flight=edge.in_flight,
        queued=None if nobody else sum(work.queued for work in known),
        queue_s=None if nobody else sum(work.queue_s for work in known),
        began=None if nobody else sum(work.began for work in known),
        busy_s=None if nobody else sum(work.busy_s for work in known),
        batches=_added([work.batches for work in known]),
        ready=sum(r.phase is Phase.READY for r in own),
        starting=sum(r.phase in _STARTING for r in own),
        held=0 if revision else look.held.get((workspace, deployment), 0),
        starts=tuple(look.starts[r.id] for r in own if r.id in look.starts),
        memory_bytes=max((look.figures[r.id].memory_bytes for r in own if r.id in look.figures), default=0) or None,
    )


# At the edge


@dataclass(slots=True)
class _AtEdge:
    """What the edge gained, of one revision."""

    arrivals: int = 0
    codes: dict[str, int] = field(default_factory=dict)
    latency: LatencyCounts = field(default_factory=dict)
    in_flight: int = 0

    def count(self, name: str, calls: int) -> None:
        if calls > 0:
            self.codes[name] = self.codes.get(name, 0) + calls


def key_of(cluster: str) -> RevisionKey | None:
    """Whose calls a cluster counts: `workspace~deployment~revision`, or that with `~held` where calls may wait;
    those that do wait are in `workspace~deployment~activator`, and nobody's."""
    parts = cluster.split("~")
    if len(parts) == 3 and parts[2] == "activator":
        return parts[0], parts[1], 0
    if len(parts) == 3 or (len(parts) == 4 and parts[3] == "held"):
        return (parts[0], parts[1], int(parts[2])) if parts[2].isdecimal() else None
    return None


def _at_edge(
    memory: TrafficHistory, look: TrafficReading, refused: Mapping[RevisionKey, int]
) -> tuple[dict[RevisionKey, _AtEdge], dict[str, int], dict[RevisionKey, int]]:
    assert look.edge is not None
    earlier = memory.look.edge
    same = earlier is not None and look.edge.run == earlier.run
    before = earlier.clusters if earlier is not None and same else {}
    arrived = _net(look.edge)
    found: defaultdict[RevisionKey, _AtEdge] = defaultdict(_AtEdge)
    unavailable: defaultdict[RevisionKey, int] = defaultdict(int)
    unseen = defaultdict(int, memory.refusals)
    for name, after in look.edge.clusters.items():
        key, was = key_of(name), before.get(name, ClusterCounts())
        if key is None:
            continue
        part = found[key]
        most = memory.arrived.get(name, 0) if name in before else 0
        if after.attempts < was.attempts:  # another cluster of the same name
            most = 0
        part.arrivals += max(0, arrived[name] - most)
        arrived[name] = max(arrived[name], most)
        part.in_flight += after.in_flight
        for bucket, count in enumerate(after.latency):
            if more := _gained(was.latency[bucket] if bucket < len(was.latency) else 0, count):
                part.latency[bucket] = part.latency.get(bucket, 0) + more
        unavailable[key] += _count_codes(part, was, after)
        unseen[key] -= _gained(was.refusals_retried, after.refusals_retried)
    left: dict[RevisionKey, int] = {}
    for key, part in found.items():
        by_replicas = max(0, refused.get(key, 0) + unseen[key])
        part.count("shed", min(unavailable[key], by_replicas))
        part.count("none", unavailable[key] - by_replicas)
        left[key] = min(refused.get(key, 0), max(0, by_replicas - unavailable[key]))  # kept for one look
    return dict(found), arrived, {key: count for key, count in left.items() if count}


_AT_EDGE = {"4xx": "4xx", "429": "shed"}
"""Class of a replica's answer -> that of the edge's count."""


def _take_out(part: _AtEdge, before: Mapping[str, int], works: Sequence[WorkDone | None]) -> dict[str, int]:
    """Take answers to callers without a valid key out of the edge's counts: they are no load of the service.

    Returns those that the edge has not counted yet; they are kept for one look.
    """
    left = {}
    for name, at_edge in _AT_EDGE.items():
        now = sum(work.unauthenticated.get(name, 0) for work in works if work is not None)
        taken = min(before.get(name, 0) + now, part.codes.get(at_edge, 0), part.arrivals)
        part.arrivals -= taken
        if taken and taken == part.codes[at_edge]:
            del part.codes[at_edge]
        elif taken:
            part.codes[at_edge] -= taken
        left[name] = min(now, before.get(name, 0) + now - taken)
    return {name: count for name, count in left.items() if count}


def _count_codes(part: _AtEdge, was: ClusterCounts, after: ClusterCounts) -> int:
    """Add the answers by class but for 503, of which it returns how many there are."""
    gained = {name: _gained(was.answers.get(name, 0), count) for name, count in after.answers.items()}
    busy, timeouts = _gained(was.busy, after.busy), _gained(was.timeouts, after.timeouts)
    unavailable = _gained(was.unavailable, after.unavailable)
    part.count("2xx", gained.get("1xx", 0) + gained.get("2xx", 0))
    part.count("3xx", gained.get("3xx", 0))
    part.count("4xx", gained.get("4xx", 0) - busy)
    part.count("5xx", gained.get("5xx", 0) - unavailable - timeouts)
    part.count("shed", busy)
    part.count("none", timeouts)
    return unavailable


def _net(edge: EdgeCounts) -> dict[str, int]:
    return {name: counts.attempts - counts.retries for name, counts in edge.clusters.items()}


def _gained(before: float, after: float) -> int:
    return int(after - before if after >= before else after)


# In the replicas


@dataclass(frozen=True, slots=True)
class WorkDone:
    """What a replica did, and how many calls wait in it."""

    queued: int
    queue_s: float
    began: int
    busy_s: float
    refused: int
    unauthenticated: Mapping[str, int]
    """Answers to callers without a valid key, by class."""
    batches: Batches


def _works(
    before: TrafficReading, look: TrafficReading
) -> tuple[dict[RevisionKey, list[WorkDone | None]], dict[RevisionKey, int]]:
    """What each replica that works did, None where that is not known; and their 503 by revision."""
    works: defaultdict[RevisionKey, list[WorkDone | None]] = defaultdict(list)
    refused: defaultdict[RevisionKey, int] = defaultdict(int)
    for replica in look.replicas:
        if replica.phase in _WORKING:
            key = (replica.workspace, replica.deployment, replica.revision)
            after = look.figures.get(replica.id)
            done = None if after is None else work(before.figures.get(replica.id), after, look.now - before.now)
            works[key].append(done)
            refused[key] += 0 if done is None else done.refused
    return works, refused


def work(before: ReplicaFigures | None, after: ReplicaFigures, span_s: float) -> WorkDone | None:
    """What a replica did between two readings; None when they are too far apart.

    One that was not read before, or is another process now, did all that it tells within `span_s`; what it took of
    the processor until it was ready was no work. A replica is as busy as its slots are, or as its processors when
    those are busier: a handler that never waits leaves most of a thousand slots free.
    """
    anew = before is None or before.began_at != after.began_at
    was = ReplicaFigures(began_at=after.began_at, at_s=after.at_s - span_s, cpu_s=after.cpu_s) if anew else before
    assert was is not None
    long_s = after.at_s - was.at_s
    if not 0 < long_s <= LONGEST_SPAN_S:
        return None
    slots_s, cpu_s = after.busy_s - was.busy_s, after.cpu_s - was.cpu_s
    plain, plain_s = after.calls - was.calls, after.calls_s - was.calls_s
    # What the processors did beyond the batches was done for the other calls, if there were any.
    plain_s = max(plain_s, min(cpu_s, long_s) - (slots_s - plain_s)) if plain else 0.0
    return WorkDone(
        queued=after.queued,
        queue_s=max(0.0, after.queue_s - was.queue_s),
        began=max(0, after.began - was.began),
        busy_s=min(max(slots_s, cpu_s, 0.0), long_s),
        refused=max(0, after.codes.get("503", 0) - was.codes.get("503", 0)),
        unauthenticated={
            name: max(0, count - was.unauthenticated.get(name, 0)) for name, count in after.unauthenticated.items()
        },
        batches=_more(was.batches, after.batches, max(0, plain), max(0.0, plain_s)),
    )


def _more(was: Batches, now: Batches, calls: int, seconds: float) -> Batches:
    """The batches since, and calls without batching as batches of one row. By hand: it is done for each replica.

    Nobody adds up the squares of single calls: where there are any, how uneven all of it is is not known.
    """
    return Batches(
        count=max(0, now.count - was.count) + calls,
        rows=max(0.0, now.rows - was.rows) + calls,
        seconds=max(0.0, now.seconds - was.seconds) + seconds,
        rows_squared=max(0.0, now.rows_squared - was.rows_squared) + calls,
        rows_seconds=max(0.0, now.rows_seconds - was.rows_seconds) + seconds,
        seconds_squared=0.0 if calls else max(0.0, now.seconds_squared - was.seconds_squared),
    )


def _added(found: Sequence[Batches]) -> Batches:
    return Batches(
        count=sum(b.count for b in found),
        rows=sum(b.rows for b in found),
        seconds=sum(b.seconds for b in found),
        rows_squared=sum(b.rows_squared for b in found),
        rows_seconds=sum(b.rows_seconds for b in found),
        seconds_squared=sum(b.seconds_squared for b in found),
    )


def _waited_for(look: TrafficReading, before: TrafficReading) -> set[RevisionKey]:
    """Deployments that somebody waits for, or did a moment ago."""
    return {(workspace, deployment, 0) for workspace, deployment in {*look.held, *before.held}}
