"""A replica's metrics in Prometheus' text format, made from the lanes' figures at each scrape.

prometheus-client is imported by the first scrape. Metrics in its default registry, such as the service's own, are
included.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from kaon.runtime.batcher import BatchLane
from kaon.runtime.figures import EndpointFigures, Histogram
from kaon.runtime.serving import Serving

if TYPE_CHECKING:
    from prometheus_client.core import HistogramMetricFamily
    from prometheus_client.metrics_core import Metric


class ReplicaMetric(NamedTuple):
    """One metric, for the reference."""

    type: str
    labels: tuple[str, ...]
    help: str


METRICS: dict[str, ReplicaMetric] = {
    "kaon_requests_total": ReplicaMetric(
        "counter", ("endpoint", "code"), "Requests answered; endpoint is empty for those that reached none."
    ),
    "kaon_request_seconds": ReplicaMetric("histogram", ("endpoint",), "From a request's headers to its answer's end."),
    "kaon_queue_seconds": ReplicaMetric("histogram", ("endpoint",), "Time that a call waited for a slot or a batch."),
    "kaon_in_flight": ReplicaMetric("gauge", ("endpoint",), "Requests that are not answered yet."),
    "kaon_queue": ReplicaMetric("gauge", ("endpoint",), "Requests that wait for a slot or a batch."),
    "kaon_slots": ReplicaMetric("gauge", ("endpoint",), "Calls (or batches) that may run at once."),
    "kaon_slots_busy": ReplicaMetric(
        "gauge", ("endpoint",), "Slots that are taken, also by calls whose caller has gone."
    ),
    "kaon_busy_seconds_total": ReplicaMetric(
        "counter", ("endpoint",), "Time that slots were taken, added up over slots."
    ),
    "kaon_batch_rows": ReplicaMetric("histogram", ("endpoint",), "Rows of a batch."),
    "kaon_batch_seconds": ReplicaMetric("histogram", ("endpoint",), "Time that a batch took in the handler."),
    "kaon_stream_items_total": ReplicaMetric("counter", ("endpoint",), "Items sent by streams."),
}


class _Collector:
    """Collects the metrics of a serving."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving

    def collect(self) -> Iterable[Metric]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        def counter(name: str) -> CounterMetricFamily:
            return CounterMetricFamily(name, METRICS[name].help, labels=METRICS[name].labels)

        def histogram(name: str) -> HistogramMetricFamily:
            return HistogramMetricFamily(name, METRICS[name].help, labels=METRICS[name].labels)

        lanes = self._serving.lanes
        requests, seconds, items = (
            counter("kaon_requests_total"),
            histogram("kaon_request_seconds"),
            counter("kaon_stream_items_total"),
        )
        all_figures: list[tuple[str, EndpointFigures]] = [(lane.name, lane.figures) for lane in lanes]
        for name, figures in [*all_figures, ("", self._serving.others.plus(self._serving.not_calls))]:
            for code, count in sorted(figures.codes.items()):
                requests.add_metric([name, str(code)], count)
            _add(seconds, name, figures.seconds)
            items.add_metric([name], figures.stream_items)
        yield from (requests, seconds, items)
        for metric, attribute in (
            ("kaon_in_flight", "in_flight"),
            ("kaon_queue", "queued"),
            ("kaon_slots", "slots"),
            ("kaon_slots_busy", "busy"),
        ):
            gauge = GaugeMetricFamily(metric, METRICS[metric].help, labels=METRICS[metric].labels)
            for lane in lanes:
                gauge.add_metric([lane.name], getattr(lane, attribute))
            yield gauge
        now, busy, waited = time.monotonic(), counter("kaon_busy_seconds_total"), histogram("kaon_queue_seconds")
        for lane in lanes:
            busy.add_metric([lane.name], lane.busy_s(now))
            queue = lane.figures.queue_seconds
            _add(waited, lane.name, queue, at_once=max(0, lane.began - queue.count))
        yield from (busy, waited)
        rows, took = histogram("kaon_batch_rows"), histogram("kaon_batch_seconds")
        for lane in lanes:
            if isinstance(lane, BatchLane):
                _add(rows, lane.name, lane.figures.batch_rows)
                _add(took, lane.name, lane.figures.batch_seconds)
        yield from (rows, took)


def _add(family: HistogramMetricFamily, name: str, histogram: Histogram, at_once: int = 0) -> None:
    """Add `histogram`, and `at_once` values of zero."""
    below = at_once
    buckets: list[tuple[str, float]] = []
    for bound, count in zip((*map(str, histogram.bounds), "+Inf"), histogram.counts, strict=True):
        below += count
        buckets.append((bound, below))
    family.add_metric([name], buckets, sum_value=histogram.total)


def text(serving: Serving) -> bytes:
    """All metrics of the process."""
    from prometheus_client import REGISTRY, generate_latest
    from prometheus_client.registry import CollectorRegistry

    own = CollectorRegistry()
    own.register(_Collector(serving))
    return generate_latest(own) + generate_latest(REGISTRY)
