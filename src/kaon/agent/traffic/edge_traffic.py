"""What the edge counted between two readings, by revision. Pure.

The edge also counts requests that are no calls (refused for their key or origin, or for documents); replicas and
activator count these separately, so they can be subtracted.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from kaon.agent.traffic.reading import TrafficReading, gained
from kaon.agent.traffic.work import WorkDone
from kaon.edge.counts import ClusterCounts, EdgeCounts
from kaon.types.names import RevisionKey
from kaon.types.traffic import LatencyCounts

Works = Mapping[RevisionKey, Sequence[WorkDone | None]]

_EDGE_CLASS = {"429": "shed"}
"""Class in a replica's figures -> class in a sample, where they differ."""
_ARRIVALS, _ANSWERS = "arrivals", "answers"


@dataclass(slots=True)
class EdgeTraffic:
    """What the edge counted of one revision."""

    arrivals: int = 0
    codes: dict[str, int] = field(default_factory=dict)
    latency: LatencyCounts = field(default_factory=dict)
    in_flight: int = 0

    def add(self, name: str, answers: int) -> None:
        """Add answers of a class."""
        if answers > 0:
            self.codes[name] = self.codes.get(name, 0) + answers

    def subtract(self, name: str, most: int) -> int:
        """Subtract at most `most` from a class of answers, the arrivals, or the times of answers; returns how many were
        subtracted.

        The shortest times are subtracted first: requests that are no calls are answered at once.
        """
        if name == _ANSWERS:
            return self._subtract_times(most)
        if name == _ARRIVALS:
            taken = min(most, self.arrivals)
            self.arrivals -= taken
            return taken
        taken = min(most, self.codes.get(name, 0))
        if taken:
            self.codes[name] -= taken
            self.codes = {code: count for code, count in self.codes.items() if count}
        return taken

    def _subtract_times(self, most: int) -> int:
        left = most
        for bucket in sorted(self.latency):
            taken = min(left, self.latency[bucket])
            left -= taken
            self.latency[bucket] -= taken
        self.latency = {bucket: count for bucket, count in self.latency.items() if count}
        return most - left


@dataclass(frozen=True)
class EdgeHistory:
    """What is carried over from earlier readings."""

    counts: EdgeCounts
    arrived: Mapping[str, int]
    """Cluster -> attempts less retries, the most so far: a retry is counted before its attempt."""
    refusals: Mapping[RevisionKey, int] = field(default_factory=dict)
    """Answers with 503 that replicas had counted when the edge was read, and the edge had not."""
    not_calls: Mapping[RevisionKey, Mapping[str, int]] = field(default_factory=dict)
    """The same for answers to requests that are no calls, by class."""


def first(edge: EdgeCounts) -> EdgeHistory:
    """The history after the first reading."""
    return EdgeHistory(edge, _net(edge))


def traffic(
    history: EdgeHistory, before: TrafficReading, now: TrafficReading, works: Works
) -> tuple[dict[RevisionKey, EdgeTraffic], EdgeHistory]:
    """The traffic of each revision since the reading before. `works`: what replicas did meanwhile."""
    assert now.edge is not None
    refused = {key: sum(work.refused for work in done if work) for key, done in works.items()}
    found, arrived, refusals = _counted(history, now.edge, refused)
    not_calls = _subtract(found, _not_calls(before, now, works), history.not_calls)
    return found, EdgeHistory(now.edge, arrived, refusals, not_calls)


def key_of(cluster: str) -> RevisionKey | None:
    """The revision whose calls a cluster counts: of `workspace~deployment~revision`, and of the same with `~held` where
    calls may wait. Those that wait are counted by `workspace~deployment~activator`: revision 0. None: not callers'."""
    parts = cluster.split("~")
    if len(parts) == 3 and parts[2] == "activator":
        return parts[0], parts[1], 0
    if len(parts) == 3 or (len(parts) == 4 and parts[3] == "held"):
        return (parts[0], parts[1], int(parts[2])) if parts[2].isdecimal() else None
    return None


def _counted(
    history: EdgeHistory, edge: EdgeCounts, refused: Mapping[RevisionKey, int]
) -> tuple[dict[RevisionKey, EdgeTraffic], dict[str, int], dict[RevisionKey, int]]:
    """The traffic; what arrived at each cluster so far; 503 of replicas that the edge has not counted yet."""
    before = history.counts.clusters if edge.run == history.counts.run else {}
    arrived = _net(edge)
    found: defaultdict[RevisionKey, EdgeTraffic] = defaultdict(EdgeTraffic)
    unavailable: defaultdict[RevisionKey, int] = defaultdict(int)
    pending = defaultdict(int, history.refusals)
    for name, after in edge.clusters.items():
        key, was = key_of(name), before.get(name, ClusterCounts())
        if key is None:
            continue
        part = found[key]
        most = history.arrived.get(name, 0) if name in before else 0
        if after.attempts < was.attempts:  # a new cluster of the same name
            most = 0
        part.arrivals += max(0, arrived[name] - most)
        arrived[name] = max(arrived[name], most)
        part.in_flight += after.in_flight
        for bucket, count in enumerate(after.latency):
            if more := gained(was.latency[bucket] if bucket < len(was.latency) else 0, count):
                part.latency[bucket] = part.latency.get(bucket, 0) + more
        unavailable[key] += _add_codes(part, was, after)
        pending[key] -= gained(was.refusals_retried, after.refusals_retried)
    left: dict[RevisionKey, int] = {}
    for key, part in found.items():
        by_replicas = max(0, refused.get(key, 0) + pending[key])
        part.add("shed", min(unavailable[key], by_replicas))
        part.add("none", unavailable[key] - by_replicas)
        left[key] = min(refused.get(key, 0), max(0, by_replicas - unavailable[key]))  # kept for one reading
    return dict(found), arrived, {key: count for key, count in left.items() if count}


def _add_codes(part: EdgeTraffic, was: ClusterCounts, after: ClusterCounts) -> int:
    """Add the answers by class but for 503; returns how many 503 there were."""
    more = {name: gained(was.answers.get(name, 0), count) for name, count in after.answers.items()}
    busy, timeouts = gained(was.busy, after.busy), gained(was.timeouts, after.timeouts)
    unavailable = gained(was.unavailable, after.unavailable)
    part.add("2xx", more.get("1xx", 0) + more.get("2xx", 0))
    part.add("3xx", more.get("3xx", 0))
    part.add("4xx", more.get("4xx", 0) - busy)
    part.add("5xx", more.get("5xx", 0) - unavailable - timeouts)
    part.add("shed", busy)
    part.add("none", timeouts)
    return unavailable


def _not_calls(before: TrafficReading, now: TrafficReading, works: Works) -> dict[RevisionKey, Counter[str]]:
    """Answers by class to requests that are no calls: those of the replicas, and of the activator as revision 0."""
    found: defaultdict[RevisionKey, Counter[str]] = defaultdict(Counter)
    for key, replicas in works.items():
        for done in replicas:
            if done is not None and done.not_calls:
                found[key].update(done.not_calls)
    for (workspace, deployment), codes in now.turned_away.items():
        was = before.turned_away.get((workspace, deployment), {})
        found[workspace, deployment, 0].update({code: gained(was.get(code, 0), count) for code, count in codes.items()})
    return found


def _subtract(
    found: Mapping[RevisionKey, EdgeTraffic],
    not_calls: Mapping[RevisionKey, Counter[str]],
    pending: Mapping[RevisionKey, Mapping[str, int]],
) -> dict[RevisionKey, dict[str, int]]:
    """Subtract requests that are no calls; returns those that the edge has not counted yet.

    The edge is read a moment before the replicas, and its times are up to a second old: what is missing now is
    subtracted from the next reading, and from no later one. Calls that reach the activator arrive at revision 0 and are
    answered at any revision.
    """
    left: dict[RevisionKey, dict[str, int]] = {}
    revisions: defaultdict[tuple[str, str], list[RevisionKey]] = defaultdict(list)
    for key in sorted(found):
        revisions[key[:2]].append(key)
    for key in not_calls.keys() | pending.keys():
        codes = Counter({_EDGE_CLASS.get(code, code): count for code, count in not_calls.get(key, {}).items()})
        new = codes + Counter({_ARRIVALS: codes.total(), _ANSWERS: codes.total()})
        missing = new + Counter(pending.get(key, {}))
        for at in revisions[key[:2]]:
            if key[2] in (0, at[2]):
                missing -= Counter({name: found[at].subtract(name, count) for name, count in missing.items()})
        if kept := {name: count for name, n in missing.items() if (count := min(n, new[name]))}:
            left[key] = kept
    return left


def _net(edge: EdgeCounts) -> dict[str, int]:
    return {name: counts.attempts - counts.retries for name, counts in edge.clusters.items()}
