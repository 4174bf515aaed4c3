"""Samples added up: sums, quantiles, windows with their loss, and observations for scaling laws.

Counts add. Gauges (in flight, queued, ready, starting, held) do not: a sum has those of the newest moment of each
cloud, as an agent samples all revisions of its cloud at once. A count is None only when no sample has it.

The outcome of calls is in two places: `codes` counts how calls ended, `latency` how long those took that a replica
answered. A call is missed when it failed, or when it was answered later than its deadline; a call that the edge gave up
('none') is in no histogram.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import TypeVar

from kaon.laws import loss
from kaon.laws.sides import added_batches, over_time
from kaon.types.objective import Objective
from kaon.types.observation import Observation
from kaon.types.traffic import LATENCY_BOUNDS_S, LatencyCounts, Sample, Side
from kaon.types.window import LossParts, SeriesPoint, Window

MINUTE_S = 60.0

FAILURES = ("5xx", "shed", "none")
"""The classes of answers that are failures; mistakes of callers (4xx) are not."""

K = TypeVar("K", str, int)
N = TypeVar("N", int, float)

_RANGES_S = tuple(zip((0.0, *LATENCY_BOUNDS_S), (*LATENCY_BOUNDS_S, LATENCY_BOUNDS_S[-1]), strict=True))
"""The least and the largest latency in each bucket; the last bucket has no upper end of its own."""


def quantile(histogram: LatencyCounts | None, q: float) -> float | None:
    """The latency, in seconds, that a share `q` of the calls did not exceed; None without calls.

    Calls are assumed to be spread evenly over their bucket; above the last bound the result is that bound.
    """
    total = sum(histogram.values()) if histogram else 0
    if not histogram or not total:
        return None
    rank, passed = q * total, 0.0
    for bucket in sorted(histogram):
        count = histogram[bucket]
        if count and passed + count >= rank:
            low, high = _RANGES_S[bucket]
            return low + (high - low) * max(0.0, rank - passed) / count
        passed += count
    return _RANGES_S[max(histogram)][1]


def middle(bucket: int) -> float:
    """The latency in the middle of a bucket, seconds."""
    return sum(_RANGES_S[bucket]) / 2


def above(histogram: LatencyCounts | None, latency_s: float) -> float:
    """The number of calls that took longer than `latency_s`; a part of a bucket counts as that part of its calls."""
    found = 0.0
    for bucket, count in (histogram or {}).items():
        low, high = _RANGES_S[bucket]
        if low >= latency_s:
            found += count
        elif high > latency_s:
            found += count * (high - latency_s) / (high - low)
    return found


def merge(samples: Sequence[Sample]) -> Sample:
    """One sample of all: from the first one's beginning to the last one's end. Raises `ValueError` for none.

    Its revision and cloud are theirs when they agree, else 0 and empty.
    """
    if not samples:
        raise ValueError("there are no samples")
    if len(samples) == 1:
        return samples[0]
    at_s = max(sample.at_s for sample in samples)
    begin_s = min(sample.at_s - sample.span_s for sample in samples)
    revisions, clouds = {s.revision for s in samples}, {s.cloud for s in samples}
    last = _newest(samples)
    return Sample(
        workspace=samples[0].workspace,
        deployment=samples[0].deployment,
        revision=revisions.pop() if len(revisions) == 1 else 0,
        cloud=clouds.pop() if len(clouds) == 1 else "",
        at_s=at_s,
        span_s=at_s - begin_s,
        arrivals=_sum(s.arrivals for s in samples),
        codes=_added(s.codes for s in samples),
        latency=_added(s.latency for s in samples),
        queue_s=_sum(s.queue_s for s in samples),
        began=_sum(s.began for s in samples),
        busy_s=_sum(s.busy_s for s in samples),
        batches=added_batches(sample.batches for sample in samples),
        ready_s=sum(_ready_s(s) for s in samples),
        paid_s=sum(_paid_s(s) for s in samples),
        starts=tuple(start for s in samples for start in s.starts),
        sides=_sides(samples, last),
        in_flight=_sum(s.in_flight for s in last),
        queued=_sum(s.queued for s in last),
        ready=sum(s.ready for s in last),
        starting=sum(s.starting for s in last),
        held=sum(s.held for s in last),
        memory_bytes=max((s.memory_bytes for s in samples if s.memory_bytes is not None), default=None),
    )


def window(
    samples: Sequence[Sample], now_s: float, span_s: float, objective: Objective, price: float = loss.LEAST_PRICE
) -> Window:
    """The samples that end in the last `span_s` seconds before `now_s`, as rates, shares and quantiles.

    `price` is that of a missed call in the loss (`laws.loss`).
    """
    inside = [sample for sample in samples if now_s - span_s < sample.at_s]
    if not inside:
        return Window(at_s=0.0, span_s=span_s)
    whole = merge(inside)
    known_s = _covered_s(s for s in inside if s.arrivals is not None)
    ready_s, answers = _ready_s(whole), sum((whole.codes or {}).values())
    starts, batches = whole.starts, whole.batches
    return Window(
        at_s=whole.at_s,
        span_s=span_s,
        covered_s=_covered_s(inside),
        arrivals=whole.arrivals,
        rps=whole.arrivals / known_s if whole.arrivals is not None and known_s else None,
        codes=whole.codes,
        failed=_failed(whole.codes) / answers if answers else None,
        p50_s=quantile(whole.latency, 0.5),
        p90_s=quantile(whole.latency, 0.9),
        p99_s=quantile(whole.latency, 0.99),
        queue_s=whole.queue_s / whole.began if whole.queue_s is not None and whole.began else None,
        busy=min(1.0, whole.busy_s / ready_s) if whole.busy_s is not None and ready_s else None,
        batch_rows=batches.rows / batches.count if batches.count else None,
        start_s=sum(start.total_s for start in starts) / len(starts) if starts else None,
        memory_bytes=whole.memory_bytes,
        loss=parts(whole, objective, price),
        in_flight=whole.in_flight,
        queued=whole.queued,
        held=whole.held,
        ready=whole.ready,
        starting=whole.starting,
    )


def observation(samples: Sequence[Sample], now_s: float, span_s: float, objective: Objective) -> Observation:
    """The observation for a law at `now_s`: all of `samples`, which are those since its last observation.

    They are not selected by time, so a sample that arrived late counts now. `span_s` is the span where no sample
    covers any time. Its replicas are those of the newest samples; a caller that has newer numbers replaces them.
    """
    if not samples:
        return Observation(at_s=now_s, span_s=span_s)
    codes, last = _added(s.codes for s in samples), _newest(samples)
    answered = None if codes is None else sum(codes.values())
    missed = _missed(codes, _added(s.latency for s in samples), objective)
    starts = [start.total_s for s in samples for start in s.starts]
    return Observation(
        at_s=now_s,
        span_s=_covered_s(samples) or span_s,
        arrivals=_sum(s.arrivals for s in samples),
        answered=answered,
        missed=None if answered is None else min(answered, round(missed)),
        in_flight=_sum(s.in_flight for s in last),
        queued=_sum(s.queued for s in last),
        busy_s=_sum(s.busy_s for s in samples),
        batches=added_batches(sample.batches for sample in samples),
        began=_sum(s.began for s in samples),
        ready=sum(s.ready for s in last),
        starting=sum(s.starting for s in last),
        cold_start_s=sum(starts) / len(starts) if starts else None,
    )


def series(
    samples: Sequence[Sample], now_s: float, span_s: float, step_s: float, objective: Objective
) -> tuple[SeriesPoint, ...]:
    """The last `span_s` seconds in steps that end at whole multiples of `step_s`; with the loss where a step is
    a minute or longer."""
    last = math.floor(now_s / step_s)
    first = last - math.ceil(span_s / step_s)
    steps: dict[int, list[Sample]] = {}
    for sample in samples:
        steps.setdefault(math.ceil(sample.at_s / step_s), []).append(sample)
    return tuple(_point(steps.get(n, []), n * step_s, step_s, objective) for n in range(first + 1, last + 1))


def _point(samples: Sequence[Sample], at_s: float, step_s: float, objective: Objective) -> SeriesPoint:
    if not samples:
        return SeriesPoint(at_s=at_s)
    whole = window(samples, at_s, step_s + at_s, objective)
    known_s = _covered_s(s for s in samples if s.codes is not None)
    failed = None if whole.codes is None else sum(whole.codes.get(name, 0) for name in FAILURES)
    return SeriesPoint(
        at_s=at_s,
        rps=whole.rps,
        failed_rps=failed / known_s if failed is not None and known_s else None,
        p50_s=whole.p50_s,
        p90_s=whole.p90_s,
        p99_s=whole.p99_s,
        in_flight=whole.in_flight,
        queued=whole.queued,
        held=whole.held,
        ready=whole.ready,
        starting=whole.starting,
        busy=whole.busy,
        loss=whole.loss.total if whole.loss and step_s >= MINUTE_S else None,
    )


def minute(samples: Sequence[Sample], end_s: float) -> Sample:
    """The sum of a minute that ends at `end_s`; its span is the time that the samples cover."""
    return merge(samples).model_copy(
        update={
            "at_s": end_s,
            "span_s": _covered_s(samples),
            "cloud": "",
            "ready_s": sum(_ready_s(s) for s in samples),
            "paid_s": sum(_paid_s(s) for s in samples),
        }
    )


def price(minutes: Sequence[Sample], objective: Objective) -> float:
    """The price of a missed call after these minutes: it rises while the error budget of the last half hour burns."""
    now = loss.Price()
    by_time: dict[float, list[Sample]] = {}
    for sample in minutes:
        by_time.setdefault(sample.at_s, []).append(sample)
    for at_s in sorted(by_time):
        found = parts(merge(by_time[at_s]), objective)
        if found is not None:
            now = now.after(objective, found.completed, MINUTE_S)
    return now.value


def parts(
    sample: Sample, objective: Objective, price: float = loss.LEAST_PRICE, reference_s: float | None = None
) -> LossParts | None:
    """The loss of a sample and its parts; None: there are no answered calls.

    `reference_s` is the reference cost of a call, in replica-seconds. None: its own work at the middle of the
    objective's band; then a pool that is as busy as it should be costs 1.
    """
    answered = sum((sample.codes or {}).values())
    if not answered:
        return None
    busy_s = sample.busy_s or 0.0
    if reference_s is None:
        reference_s = busy_s / answered / fmean(objective.utilisation) if busy_s else 1.0
    inputs = loss.LossInputs(
        arrivals=answered,
        well=max(0, round(answered - _missed(sample.codes, sample.latency, objective))),
        latency_losses=_latency_losses(sample, objective),
        busy_s=busy_s,
        ready_s=_ready_s(sample) if sample.busy_s is not None else 0.0,
        paid_s=_paid_s(sample) if busy_s else 0.0,
    )
    found = loss.loss(objective, inputs, reference_s, price)
    return LossParts(
        total=found.total,
        latency=found.latency,
        completion=found.completion,
        utilisation=found.utilisation,
        cost=found.cost,
        completed=found.completed,
        price=price,
    )


def _failed(codes: dict[str, int] | None) -> int:
    return sum((codes or {}).get(name, 0) for name in FAILURES)


def _missed(codes: dict[str, int] | None, latency: LatencyCounts | None, objective: Objective) -> float:
    return _failed(codes) + above(latency, objective.patience_s)


def _latency_losses(sample: Sample, objective: Objective) -> float:
    """The sum over calls; those without an answer count as the worst."""
    histogram = sample.latency or {}
    answered = sum((sample.codes or {}).values())
    total = sum(count * loss.latency_loss(middle(bucket) / objective.latency_s) for bucket, count in histogram.items())
    return total + max(0, min(_failed(sample.codes), answered - sum(histogram.values()))) * loss.WORST_LATENCY


def _ready_s(sample: Sample) -> float:
    return sample.ready * sample.span_s if sample.ready_s is None else sample.ready_s


def _paid_s(sample: Sample) -> float:
    return (sample.ready + sample.starting) * sample.span_s if sample.paid_s is None else sample.paid_s


def _sum(values: Iterable[N | None]) -> N | None:
    given = [value for value in values if value is not None]
    return sum(given) if given else None


def _added(counts: Iterable[dict[K, int] | None]) -> dict[K, int] | None:
    total: dict[K, int] | None = None
    for one in counts:
        if one is not None:
            total = {} if total is None else total
            for key, count in one.items():
                total[key] = total.get(key, 0) + count
    return total


def _sides(samples: Sequence[Sample], last: Sequence[Sample]) -> tuple[Side, ...]:
    if not any(sample.sides for sample in samples):
        return ()
    all_sides, last_sides = ([side for sample in part for side in sample.sides] for part in (samples, last))
    return over_time(all_sides, last_sides)


def _newest(samples: Sequence[Sample]) -> list[Sample]:
    """The samples of the newest moment of each cloud, which have its gauges."""
    newest: dict[str, float] = {}
    for sample in samples:
        newest[sample.cloud] = max(newest.get(sample.cloud, sample.at_s), sample.at_s)
    return [sample for sample in samples if sample.at_s == newest[sample.cloud]]


def _covered_s(samples: Iterable[Sample]) -> float:
    """Seconds that at least one sample spans."""
    total, until = 0.0, float("-inf")
    for begin, end in sorted((s.at_s - s.span_s, s.at_s) for s in samples):
        total += max(0.0, end - max(begin, until))
        until = max(until, end)
    return total
