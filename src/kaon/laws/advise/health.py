"""Findings about what goes wrong: memory, latency, errors, slow code."""

from __future__ import annotations

import math

from kaon.laws.advise.minute import AdviceMinute, FindingText, duration, share
from kaon.laws.advise.state import AdviceState
from kaon.types.advice import Finding

_FULL_MEMORY, _MORE_MEMORY = 0.9, 1.5
_STEP_BYTES = 64 * 2**20
_MIB = 2**20
_LATE = 1.2
"""Times the latency that is wanted, from which on it is missed by more than chance."""
_QUEUE_SHARE = 0.1
"""Of the latency: who waits no longer than this waits for the handler."""
_MANY = 5.0
"""Times the failures that the objective allows, from which on the code is at fault whatever is usual."""
_KINDS = {"5xx": "with 5xx", "shed": "refused as too much", "none": "without an answer"}
_BLAMED_S = 1800.0
"""What begins so soon after another revision took over is put down to it."""


def memory(_: AdviceState, seen: AdviceMinute) -> FindingText | bool | None:
    """The fullest replica is near the limit at which it is ended."""
    used, limit = seen.window.memory_bytes, seen.terms.memory_limit_bytes
    if used is None or limit is None:
        return None
    if used < _FULL_MEMORY * limit:
        return False
    more = math.ceil(max(_MORE_MEMORY * used, limit + 1) / _STEP_BYTES) * _STEP_BYTES
    evidence = f"the fullest replica uses {used / _MIB:,.0f} of {limit / _MIB:,.0f} MiB ({share(used / limit)})"
    gain = f"{share(used / more)} of {more / _MIB:,.0f} MiB; a replica beyond its limit is ended with the calls in it"
    command = seen.terms.command(f"set NAME template.resources.memory_bytes={more / _MIB:.0f}MiB")
    return FindingText(evidence, gain, command)


def latency(known: AdviceState, seen: AdviceMinute) -> FindingText | bool | None:
    """p99 is far above what is usual."""
    if seen.window.p99_s is None or not seen.enough:
        return None
    if not known.slow(seen):
        return False
    usual, now = known.p99_s.mean, seen.window.p99_s
    evidence = f"p99 is {duration(now)}; usually it is {duration(usual)}"
    gain = f"{duration(now - usual)} less at p99, when it is as it was"
    return _blamed(
        known, seen, Finding.LATENCY, FindingText(evidence, gain, seen.terms.command("explain NAME --since 1h"))
    )


def errors(known: AdviceState, seen: AdviceMinute) -> FindingText | bool | None:
    """More calls fail than usually do, or the code fails many."""
    failed, answers = seen.window.failed, sum((seen.window.codes or {}).values())
    if failed is None or not seen.enough:
        return None
    allowed, unusual = 1 - seen.terms.objective.completion, known.failing(seen)
    if not unusual and seen.code("5xx") <= min(_MANY * allowed, 0.5) * answers:
        return False
    kinds = {name: said for name, said in _KINDS.items() if seen.code(name)}
    told = ", ".join(f"{seen.code(name):,} {said}" for name, said in kinds.items())
    right, than = (known.failed.mean, "usually") if unusual else (allowed, "at most")
    evidence = f"{share(failed)} of calls fail{f' ({told} in a minute)' if told else ''}; {than} {share(right)} "
    evidence += "do" if unusual else "should"
    crowded = seen.code("shed") > sum(seen.code(name) for name in kinds) / 2
    command = seen.terms.command("explain NAME --since 1h" if crowded else "logs NAME --since 10m")
    fewer = max(0.0, failed - right) * (seen.window.arrivals or 0)
    gain = f"{fewer:,.0f} calls a minute fewer that fail, when the cause is mended"
    return _blamed(known, seen, Finding.ERRORS, FindingText(evidence, gain, command))


def _blamed(known: AdviceState, seen: AdviceMinute, finding: Finding, told: FindingText) -> FindingText:
    """With the revision that it began with, and the way back to the one before."""
    change, mark = known.change, known.mark(finding)
    began_s = mark.first_s if mark.held else seen.window.at_s
    if change is None or not 0 <= began_s - change.at_s <= _BLAMED_S:
        return told
    evidence = f"{told.evidence}; it began with revision {change.after}"
    return told._replace(evidence=evidence, command=seen.terms.command(f"rollout undo NAME --to {change.before}"))


def slow(_: AdviceState, seen: AdviceMinute) -> FindingText | bool | None:
    """The latency that is wanted is missed though replicas are idle and nobody waits: the time goes in the handler."""
    window, wanted = seen.window, seen.terms.objective.latency_s
    if window.p90_s is None or window.busy is None or window.queue_s is None or not seen.enough:
        return None
    waits = window.queue_s > _QUEUE_SHARE * window.p90_s or bool(seen.waited) or window.starting > 0
    if window.p90_s <= _LATE * wanted or window.busy >= seen.terms.objective.utilisation[0] or waits:
        return False
    evidence = (
        f"p90 is {duration(window.p90_s)}, {duration(wanted)} is wanted, though replicas are busy "
        f"{share(window.busy)} of the time and calls wait {duration(window.queue_s)} for one"
    )
    gain = f"what the handler does would have to take {duration(window.p90_s - wanted)} less: replicas would not help"
    return FindingText(evidence, gain, seen.terms.command("stats NAME --since 1h"))
