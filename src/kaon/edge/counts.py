"""What Envoy has counted of each cluster, read from its admin socket: running totals.

Two kinds of counters look alike but differ. `upstream_rq_total` and the like count *attempts*: a repeated call counts
again. `upstream_rq_2xx` and the like count *answers as callers got them*, Envoy's own included; answers replaced by a
retry are counted separately (`retry.upstream_rq_503`). `upstream_rq_time` is also about callers, from a call's arrival
to the end of the last replica's answer, without calls that Envoy answered itself.

So the number of arrived calls is that of all attempts, including those that reached no replica, less the retries.

Envoy merges the histograms of its threads once a second (`stats_flush_interval`), so they are up to a second behind the
counters.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from kaon.edge import stats
from kaon.edge.resources.bootstrap import LATENCY

_ATTEMPTS = (
    "upstream_rq_total",
    "upstream_rq_pending_failure_eject",
    "upstream_rq_pending_overflow",
    "upstream_rq_cancelled",
    "upstream_cx_none_healthy",
)
_NAMES = (
    *_ATTEMPTS,
    *(f"upstream_rq_{code}" for code in ("1xx", "2xx", "3xx", "4xx", "5xx", "429", "503")),
    "upstream_rq_retry",
    "upstream_rq_timeout",
    "upstream_rq_active",
    "upstream_rq_pending_active",
    "retry.upstream_rq_503",
    LATENCY,
)
_FILTER = rf"^cluster\.[^.]+~[^.]+\.({'|'.join(re.escape(name) for name in _NAMES)})$"
_QUERY = f"/stats?usedonly&histogram_buckets=disjoint&filter={quote(_FILTER)}"
_LINE = re.compile(r"^cluster\.([^.]+)\.(\S+): (.*)$", re.MULTILINE)
_BUCKET = re.compile(r"\(\d+,(\d+)\)")


@dataclass(frozen=True, slots=True)
class ClusterCounts:
    """Totals of one cluster since it was added or Envoy started; current values of gauges."""

    attempts: int = 0
    """Times that a call was sent to a replica, or could not be sent to one."""
    retries: int = 0
    """Of these, repetitions of a call."""
    answers: dict[str, int] = field(default_factory=dict)
    """By class: '1xx' to '5xx'. As callers got them; those of Envoy itself are in '5xx'."""
    busy: int = 0
    """Of the '4xx': 429."""
    unavailable: int = 0
    """Of the '5xx': 503, of Envoy or of a replica."""
    refusals_retried: int = 0
    """503 of replicas that no caller got, since the call was repeated."""
    timeouts: int = 0
    """Of the '5xx': Envoy's own 504."""
    latency: tuple[int, ...] = ()
    """Counts by bucket; empty: none yet."""
    in_flight: int = 0


@dataclass(frozen=True, slots=True)
class EdgeCounts:
    """All clusters of callers' traffic that were called, by name."""

    run: int
    """Identifies the process of Envoy; another one counts from zero."""
    clusters: dict[str, ClusterCounts]


async def counts(admin: Path) -> EdgeCounts:
    """What Envoy has counted. Raises `Unavailable` when it does not answer."""
    text = await stats.ask(admin, "GET", _QUERY)
    return EdgeCounts(stats.run(admin), read(text))


def read(text: str) -> dict[str, ClusterCounts]:
    """The counts in Envoy's text."""
    found: dict[str, dict[str, str]] = {}
    for cluster, name, value in _LINE.findall(text):
        found.setdefault(cluster, {})[name] = value
    return {cluster: _of_cluster(values) for cluster, values in found.items()}


def _of_cluster(values: dict[str, str]) -> ClusterCounts:
    def total(names: Iterable[str]) -> int:
        return sum(int(values.get(name, 0)) for name in names)

    return ClusterCounts(
        attempts=total(_ATTEMPTS),
        retries=total(["upstream_rq_retry"]),
        answers={f"{n}xx": int(values[name]) for n in range(1, 6) if (name := f"upstream_rq_{n}xx") in values},
        busy=total(["upstream_rq_429"]),
        unavailable=total(["upstream_rq_503"]),
        refusals_retried=total(["retry.upstream_rq_503"]),
        timeouts=total(["upstream_rq_timeout"]),
        latency=tuple(int(count) for count in _BUCKET.findall(values.get(LATENCY, ""))),
        in_flight=total(["upstream_rq_active", "upstream_rq_pending_active"]),
    )
