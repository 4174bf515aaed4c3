"""Findings about the bounds of the number of replicas.

Each command moves one bound; the scaling law continues between them. A lower minimum is advised only where the busiest
minute of the last hour, or of each hour of the day, needed less: a minimum that a burst needs is no waste. A higher
minimum is advised only from 0 to 1, where callers waited; and 1 is never too large while there are calls. So following
one advice never leads to the opposite one.
"""

from __future__ import annotations

from kaon.laws.advise import day
from kaon.laws.advise.minute import AdviceMinute, FindingText, duration, replicas, share
from kaon.laws.advise.state import AdviceState

MOST_REPLICAS = 1000
"""The limit of `Scaling.max`."""
_KNOWN_MINUTES = 30
"""Least minutes with figures for a statement on the last hour."""
_DAY_HOURS, _DAY_MINUTES = 20, 23 * 60
"""Least hours for a statement on the day, and least minutes for one on no calls at all."""
_SAVED = 0.2
"""Least share of all replica-hours that is worth a change."""
_LEAST_WAITED = 10
"""Least calls of a day that waited."""


def undersized(_: AdviceState, minute: AdviceMinute) -> FindingText | bool | None:
    """All allowed replicas are ready, and they are too busy, or too many calls fail or are late."""
    window, terms = minute.window, minute.terms
    needed, demand = minute.needed, minute.demand
    if window.busy is None or window.loss is None or needed is None or demand is None:
        return None
    low, high = terms.objective.utilisation
    if window.ready < terms.most or not 0 < terms.most < MOST_REPLICAS or window.busy < low:
        return False  # when calls fail although replicas are idle, more of them would not help
    crowded, late = window.busy > high, _late(minute)
    if not crowded and not late:
        return False
    more = min(max(terms.most + 1, needed), MOST_REPLICAS)
    verb = "is" if terms.most == 1 else "are"
    evidence = f"{replicas(terms.most)}, the maximum, {verb} busy {share(window.busy)} of the time"
    evidence += f"; at most {share(high)} is right" if crowded else ""
    wanted = share(terms.objective.completion)
    evidence += f"; {share(window.loss.completed)} of calls succeed in time, {wanted} should" if late else ""
    busy = min(1.0, demand / more)
    gain = f"busy {share(busy)} instead of {share(window.busy)}, for up to {more - terms.most} more"
    return FindingText(evidence, gain, terms.command(f"scale NAME --max {more}"))


def _late(minute: AdviceMinute) -> bool:
    """Whether too many calls are refused or late. Failures in the code do not count: replicas would not help."""
    completed = minute.window.loss.completed if minute.window.loss else 1.0
    missed = (1 - completed) * sum((minute.window.codes or {}).values())
    return completed < minute.terms.objective.completion and minute.code("5xx") <= missed / 2


def oversized(state: AdviceState, minute: AdviceMinute) -> FindingText | bool | None:
    """The minimum is more than the load needs now, and needed in the last hour."""
    window, terms = minute.window, minute.terms
    if window.busy is None or not window.ready:
        return None
    fewer, minutes = day.lately(day.add(state.day, minute))
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


def elastic(state: AdviceState, minute: AdviceMinute) -> FindingText | bool | None:
    """The number is fixed, and only some hours of the day need it."""
    terms, hours = minute.terms, [h for h in state.day if h.sized >= _KNOWN_MINUTES]
    if len(hours) < _DAY_HOURS:
        return None
    needed = [min(hour.needed, terms.most) for hour in hours]
    saved = 1 - sum(needed) / (max(terms.most, 1) * len(needed))
    if terms.least != terms.most or terms.least <= 1 or saved < _SAVED or max(needed) == min(needed):
        return False
    mean = sum(needed) / len(needed)
    evidence = (
        f"{replicas(terms.most)} at all times; the busiest minutes of the last {len(needed)} hours needed "
        f"{min(needed)} to {max(needed)}, {mean:.1f} on average"
    )
    gain = f"up to {share(saved)} of the replica-hours ({terms.most - mean:.1f} of {terms.most} replicas)"
    return FindingText(evidence, gain, terms.command(f"scale NAME --min {min(needed)}"))


def idle(state: AdviceState, minute: AdviceMinute) -> FindingText | bool | None:
    """There were no calls for a day."""
    terms, counted = minute.terms, sum(hour.counted for hour in state.day)
    if minute.window.arrivals is None or (counted < _DAY_MINUTES and not minute.window.arrivals):
        return None
    if terms.least == 0 or minute.window.arrivals or any(hour.arrivals for hour in state.day):
        return False
    start_s = day.mean_start_s(state.day)
    waits = "for a start" if start_s is None else f"{duration(start_s)} for a start"
    gain = f"{terms.least} of {replicas(terms.least)} while there are no calls; the first caller waits {waits}"
    return FindingText(
        f"there were no calls in the last 24 hours; a minimum of {terms.least} is kept",
        gain,
        terms.command("scale NAME --min 0"),
    )


def cold_starts(state: AdviceState, minute: AdviceMinute) -> FindingText | bool | None:
    """More callers wait for a start from zero, and longer, than the objective allows."""
    terms, whole = minute.terms, day.add(state.day, minute)
    if minute.waited is None or not minute.window.arrivals:
        return None
    waited, arrivals, start_s = sum(h.waited for h in whole), sum(h.arrivals for h in whole), day.mean_start_s(whole)
    if terms.least > 0 or terms.most == 0 or waited < _LEAST_WAITED or start_s is None:
        return False
    part = min(1.0, waited / max(arrivals, 1))
    if part <= 1 - terms.objective.completion or start_s <= terms.objective.patience_s:
        return False
    evidence = (
        f"{waited:,} of {arrivals:,} calls of the last 24 hours ({share(part)}) waited for a replica to start, which "
        f"takes {duration(start_s)}; {share(terms.objective.completion)} should be answered within "
        f"{duration(terms.objective.patience_s)}"
    )
    empty = sum(hour.empty for hour in whole) / sum(hour.minutes for hour in whole)
    gain = f"{share(part)} of calls answered {duration(start_s)} sooner, for 1 replica {share(empty)} of the time"
    return FindingText(evidence, gain, terms.command("scale NAME --min 1"))
