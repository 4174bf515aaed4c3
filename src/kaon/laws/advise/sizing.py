"""Findings about how many replicas there may be.

Each command moves one bound, and the scaling law goes on between them. To lower the minimum is only advised where the
busiest minute of the last hour, or of each hour of the day, would have done with less: what a minimum holds ready for
a burst is no waste. To raise it is only advised from 0 to 1, where callers waited; and 1 is never taken for too large
while somebody calls. So no advice brings about the opposite one.
"""

from __future__ import annotations

from kaon.laws.advise import day
from kaon.laws.advise.minute import AdviceMinute, FindingText, duration, replicas, share
from kaon.laws.advise.state import AdviceState

MOST_REPLICAS = 1000
"""`Scaling.max` takes no more."""
_KNOWN_MINUTES = 30
"""Of the last hour, before it is known what its busiest minute needed."""
_DAY_HOURS, _DAY_MINUTES = 20, 23 * 60
"""Of the last 24 hours, before it is known how the day goes; and that nobody calls."""
_SAVED = 0.2
"""Of all replica-hours: less is not worth a change."""
_LEAST_WAITED = 10
"""Calls of a day; fewer are bad luck."""


def undersized(_: AdviceState, seen: AdviceMinute) -> FindingText | bool | None:
    """All replicas that are allowed are ready, and too busy, or too many calls fail or are late."""
    window, terms = seen.window, seen.terms
    needed, demand = seen.needed, seen.demand
    if window.busy is None or window.loss is None or needed is None or demand is None:
        return None
    low, high = terms.objective.utilisation
    if window.ready < terms.most or not 0 < terms.most < MOST_REPLICAS or window.busy < low:
        return False  # when calls fail although replicas are idle, more of them would not help
    crowded, late = window.busy > high, _late(seen)
    if not crowded and not late:
        return False
    more = min(max(terms.most + 1, needed), MOST_REPLICAS)
    verb = "is" if terms.most == 1 else "are"
    evidence = f"{replicas(terms.most)}, all that may be, {verb} busy {share(window.busy)} of the time"
    evidence += f"; {share(high)} is right at most" if crowded else ""
    wanted = share(terms.objective.completion)
    evidence += (
        f"; {share(window.loss.completed)} of calls are answered well in time, {wanted} should be" if late else ""
    )
    busy = min(1.0, demand / more)
    gain = f"busy {share(busy)} in place of {share(window.busy)}, for up to {more - terms.most} more"
    return FindingText(evidence, gain, terms.command(f"scale NAME --max {more}"))


def _late(seen: AdviceMinute) -> bool:
    """Whether too many calls are refused or late; those that the code failed are no matter of replicas."""
    completed = seen.window.loss.completed if seen.window.loss else 1.0
    missed = (1 - completed) * sum((seen.window.codes or {}).values())
    return completed < seen.terms.objective.completion and seen.code("5xx") <= missed / 2


def oversized(known: AdviceState, seen: AdviceMinute) -> FindingText | bool | None:
    """The minimum keeps more than the load needs, and needed in the last hour."""
    window, terms = seen.window, seen.terms
    if window.busy is None or not window.ready:
        return None
    fewer, minutes = day.lately(day.add(known.day, seen))
    quiet = window.busy < terms.objective.utilisation[0] / 2
    if terms.least <= 1 or window.ready > terms.least or not quiet or fewer >= terms.least or minutes < _KNOWN_MINUTES:
        return False
    evidence = (
        f"{replicas(window.ready)}, kept by a minimum of {terms.least}, are busy {share(window.busy)} of the time; "
        f"no minute of the last hour needed more than {fewer}"
    )
    saved = terms.least - fewer
    gain = f"{saved} of {replicas(terms.least)} fewer ({share(saved / terms.least)} of the cost) when as quiet as now"
    return FindingText(evidence, gain, terms.command(f"scale NAME --min {fewer}"))


def elastic(known: AdviceState, seen: AdviceMinute) -> FindingText | bool | None:
    """The number is fixed, and the day needs it only by the hour."""
    terms, hours = seen.terms, [h for h in known.day if h.sized >= _KNOWN_MINUTES]
    if len(hours) < _DAY_HOURS:
        return None
    needed = [min(hour.needed, terms.most) for hour in hours]
    saved = 1 - sum(needed) / (max(terms.most, 1) * len(needed))
    if terms.least != terms.most or terms.least <= 1 or saved < _SAVED or max(needed) == min(needed):
        return False
    mean = sum(needed) / len(needed)
    evidence = (
        f"{replicas(terms.most)} at all times; the busiest minutes of the last {len(needed)} hours needed "
        f"{min(needed)} to {max(needed)}, {mean:.1f} in the mean"
    )
    gain = f"up to {share(saved)} of the replica-hours ({terms.most - mean:.1f} of {terms.most} replicas)"
    return FindingText(evidence, gain, terms.command(f"scale NAME --min {min(needed)}"))


def idle(known: AdviceState, seen: AdviceMinute) -> FindingText | bool | None:
    """Nobody has called for a day."""
    terms, counted = seen.terms, sum(hour.counted for hour in known.day)
    if seen.window.arrivals is None or (counted < _DAY_MINUTES and not seen.window.arrivals):
        return None
    if terms.least == 0 or seen.window.arrivals or any(hour.arrivals for hour in known.day):
        return False
    start_s = day.mean_start_s(known.day)
    waits = "for a start" if start_s is None else f"{duration(start_s)} for a start"
    gain = f"{terms.least} of {replicas(terms.least)} when nobody calls; the first caller waits {waits}"
    return FindingText(
        f"nobody called in the last 24 hours; a minimum of {terms.least} is kept",
        gain,
        terms.command("scale NAME --min 0"),
    )


def cold_starts(known: AdviceState, seen: AdviceMinute) -> FindingText | bool | None:
    """At zero, more callers wait for a start, and longer, than the objective allows."""
    terms, whole = seen.terms, day.add(known.day, seen)
    if seen.waited is None or not seen.window.arrivals:
        return None
    waited, arrivals, start_s = sum(h.waited for h in whole), sum(h.arrivals for h in whole), day.mean_start_s(whole)
    if terms.least > 0 or terms.most == 0 or waited < _LEAST_WAITED or start_s is None:
        return False
    part = min(1.0, waited / max(arrivals, 1))
    if part <= 1 - terms.objective.completion or start_s <= terms.objective.patience_s:
        return False
    evidence = (
        f"{waited:,} of {arrivals:,} calls of the last 24 hours ({share(part)}) waited for a replica to start, which "
        f"takes {duration(start_s)}; {share(terms.objective.completion)} are wanted within "
        f"{duration(terms.objective.patience_s)}"
    )
    empty = sum(hour.empty for hour in whole) / sum(hour.minutes for hour in whole)
    gain = f"{share(part)} of calls answered {duration(start_s)} sooner, for 1 replica {share(empty)} of the time"
    return FindingText(evidence, gain, terms.command("scale NAME --min 1"))
