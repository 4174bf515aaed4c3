"""Counters and gauges of every deployment, in Prometheus' text format.

Counters start at zero with the control plane and count what agents send from then on: older samples that are sent again
after a restart are not counted. They are updated on each scrape from the samples that came into the ring since the last
one; updates between scrapes prevent samples from getting too old for that.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from kaon.api.keyring import Caller
from kaon.clock import Clock
from kaon.store.failures import Failures
from kaon.store.snapshot import Snapshot
from kaon.store.traffic import SECONDS_S, TrafficRing
from kaon.types.kinds import KINDS
from kaon.types.names import RevisionKey
from kaon.types.resource import Deployment
from kaon.types.traffic import LATENCY_BOUNDS_S, Sample

BOUNDS_S = tuple(bound for bound in LATENCY_BOUNDS_S if round(bound * 1000).bit_count() == 1)
"""Bounds of the latency histogram: 1 ms to 131 s, each twice the one before; every fourth of the stored ones."""

_OWN = ("workspace", "deployment", "revision")


class MetricDescription(NamedTuple):
    """One metric, for the reference."""

    type: str
    labels: tuple[str, ...]
    help: str


METRICS: dict[str, MetricDescription] = {
    "kaon_deployment_arrivals_total": MetricDescription("counter", _OWN, "Calls that arrived at the edge."),
    "kaon_deployment_answers_total": MetricDescription(
        "counter",
        (*_OWN, "class"),
        "Calls that ended, by what callers got: 2xx to 5xx, shed (refused), none (no answer).",
    ),
    "kaon_deployment_latency_seconds": MetricDescription("histogram", _OWN, "Latency of replicas, at the edge."),
    "kaon_deployment_queue_seconds_total": MetricDescription("counter", _OWN, "Time that calls waited in replicas."),
    "kaon_deployment_began_total": MetricDescription("counter", _OWN, "Calls that left a replica's queue."),
    "kaon_deployment_busy_seconds_total": MetricDescription("counter", _OWN, "Replica-seconds of work."),
    "kaon_deployment_ready_seconds_total": MetricDescription("counter", _OWN, "Replica-seconds of being ready."),
    "kaon_deployment_batches_total": MetricDescription("counter", _OWN, "Batches; a call without batching is one."),
    "kaon_deployment_batch_rows_total": MetricDescription("counter", _OWN, "Rows of these batches."),
    "kaon_deployment_batch_seconds_total": MetricDescription("counter", _OWN, "Replica-seconds of these batches."),
    "kaon_deployment_starts_total": MetricDescription("counter", _OWN, "Replicas that became ready."),
    "kaon_deployment_start_seconds_total": MetricDescription(
        "counter", (*_OWN, "part"), "Duration of these starts, by part: install, start, load."
    ),
    "kaon_deployment_in_flight": MetricDescription("gauge", _OWN, "Calls in flight, at the edge."),
    "kaon_deployment_queued": MetricDescription("gauge", _OWN, "Calls in flight that wait in a replica."),
    "kaon_deployment_held": MetricDescription("gauge", _OWN, "Calls that wait at the edge for a replica (revision 0)."),
    "kaon_deployment_ready": MetricDescription("gauge", _OWN, "Replicas that are ready."),
    "kaon_deployment_starting": MetricDescription("gauge", _OWN, "Replicas that are starting."),
    "kaon_deployment_sample_seconds": MetricDescription("gauge", _OWN, "When the newest sample ended, epoch seconds."),
}

PLATFORM_METRICS: dict[str, MetricDescription] = {
    "kaon_controller_failures_total": MetricDescription(
        "counter", ("controller",), "Failures of a controller, for one resource or for all."
    ),
    "kaon_controller_failing": MetricDescription(
        "gauge", ("controller",), "Resources on which the controller fails at present."
    ),
    "kaon_unreadable_rows": MetricDescription("gauge", ("kind",), "Stored resources that cannot be read."),
}
"""Metrics of the platform itself, for keys of every workspace."""

Labels = tuple[str, ...]


@dataclass(slots=True)
class _Total:
    """The counters of one revision."""

    counts: defaultdict[tuple[str, Labels], float] = field(default_factory=lambda: defaultdict(float))
    """Metric and further labels -> its value."""
    latency: list[int] = field(default_factory=lambda: [0] * (len(LATENCY_BOUNDS_S) + 1))
    newest: dict[str, Sample] = field(default_factory=dict)
    """By cloud."""
    first_s: float = float("inf")
    """End of the oldest counted sample, epoch seconds."""

    def add(self, sample: Sample) -> None:
        counts, batches = self.counts, sample.batches
        self.first_s = min(self.first_s, sample.at_s)
        for name, value in (
            ("arrivals_total", sample.arrivals),
            ("queue_seconds_total", sample.queue_s),
            ("began_total", sample.began),
            ("busy_seconds_total", sample.busy_s),
            ("ready_seconds_total", sample.ready * sample.span_s if sample.ready_s is None else sample.ready_s),
            ("batches_total", batches.count),
            ("batch_rows_total", batches.rows),
            ("batch_seconds_total", batches.seconds),
            ("starts_total", len(sample.starts)),
        ):
            counts[f"kaon_deployment_{name}", ()] += value or 0
        for class_, calls in (sample.codes or {}).items():
            counts["kaon_deployment_answers_total", (class_,)] += calls
        for start in sample.starts:
            for part in ("install", "start", "load"):
                counts["kaon_deployment_start_seconds_total", (part,)] += getattr(start, f"{part}_s")
        for bucket, calls in (sample.latency or {}).items():
            self.latency[bucket] += calls
        self.newest[sample.cloud] = sample

    def values(self) -> Iterator[tuple[str, Labels, float]]:
        """Metric, further labels and value."""
        for (name, labels), value in self.counts.items():
            yield name, labels, value
        for name in ("in_flight", "queued", "held", "ready", "starting"):
            present = [value for s in self.newest.values() if (value := getattr(s, name)) is not None]
            if present:
                yield f"kaon_deployment_{name}", (), sum(present)
        yield "kaon_deployment_sample_seconds", (), max(s.at_s for s in self.newest.values())


class Meters:
    """Counters of every revision, fed from the ring."""

    def __init__(self, traffic: TrafficRing, clock: Clock) -> None:
        self._traffic = traffic
        self._clock = clock
        self._since: float | None = None
        """When counting started, epoch seconds."""
        self._number = 0
        self._updated_at = 0.0
        self._totals: dict[RevisionKey, _Total] = {}

    def update_if_due(self) -> None:
        """Update when the last update was so long ago that the ring would soon add up its seconds; with all traffic."""
        if self._since is None or self._clock.monotonic() - self._updated_at > SECONDS_S / 2:
            self.update()

    def update(self) -> None:
        """Count what came since the last update, and forget revisions of which the ring has nothing any more."""
        self._updated_at = self._clock.monotonic()
        self._since = self._clock.now() if self._since is None else self._since
        moments, self._number = self._traffic.arrived(self._number)
        for moment in moments:
            if moment.at_s > self._since:
                for key in moment.samples:
                    for sample in moment.of(key):
                        self._totals.setdefault((*key, sample.revision), _Total()).add(sample)
        here = set(self._traffic.deployments())
        for place in [place for place in self._totals if place[:2] not in here]:
            del self._totals[place]

    def reset_replaced(self, deployments: Iterable[Deployment]) -> None:
        """Drop the counters of deployments that have ended, or that had the name of an existing one before it."""
        created = {(d.workspace, d.name): d.created_at for d in deployments}
        old = {p[:2] for p, total in self._totals.items() if total.first_s <= created.get(p[:2], float("inf"))}
        self._totals = {place: total for place, total in self._totals.items() if place[:2] not in old}
        for key in old & created.keys():
            for sample in self._traffic.since(*key, max(created[key], self._since or 0.0)):
                self._totals.setdefault((*key, sample.revision), _Total()).add(sample)

    def text(self, caller: Caller) -> str:
        """The metrics that the caller may see."""
        visible = {p: t for p, t in sorted(self._totals.items()) if caller.rights.sees(p[0], p[1])}
        found: defaultdict[str, list[str]] = defaultdict(list)
        for place, total in visible.items():
            own = dict(zip(_OWN, map(str, place), strict=True))
            for name, labels, value in total.values():
                more = dict(zip(METRICS[name].labels[len(_OWN) :], labels, strict=True))
                found[name].append(f"{name}{_labels(own | more)} {value:.12g}")
            found["kaon_deployment_latency_seconds"] += _histogram(own, total.latency)
        lines = []
        for name, described in METRICS.items():
            lines += [f"# HELP {name} {described.help}", f"# TYPE {name} {described.type}", *found[name]]
        return "\n".join(lines) + "\n"


def platform_text(snapshot: Snapshot, failures: Failures) -> str:
    """The platform's own metrics."""
    values: dict[str, dict[str, int]] = {
        "kaon_controller_failures_total": failures.total,
        "kaon_controller_failing": failures.failing(),
        "kaon_unreadable_rows": {kind: len(snapshot.unreadable(kind)) for kind, of in KINDS.items() if of.stored},
    }
    lines = []
    for name, described in PLATFORM_METRICS.items():
        lines += [f"# HELP {name} {described.help}", f"# TYPE {name} {described.type}"]
        (label,) = described.labels
        lines += [f"{name}{_labels({label: key})} {value}" for key, value in sorted(values[name].items())]
    return "\n".join(lines) + "\n"


def _histogram(own: dict[str, str], counts: list[int]) -> Iterable[str]:
    name, below, middle_s = "kaon_deployment_latency_seconds", 0, 0.0
    for bound, count, low in zip(LATENCY_BOUNDS_S, counts, (0.0, *LATENCY_BOUNDS_S), strict=False):
        below += count
        middle_s += count * (low + bound) / 2
        if bound in BOUNDS_S:
            yield f"{name}_bucket{_labels({**own, 'le': f'{bound:g}'})} {below}"
    yield f"{name}_bucket{_labels({**own, 'le': '+Inf'})} {sum(counts)}"
    yield f"{name}_sum{_labels(own)} {middle_s + counts[-1] * LATENCY_BOUNDS_S[-1]:.12g}"
    yield f"{name}_count{_labels(own)} {sum(counts)}"


def _labels(labels: dict[str, str]) -> str:
    """As Prometheus reads them; names hold nothing that must be escaped."""
    return "{" + ",".join(f'{name}="{value}"' for name, value in labels.items()) + "}"
