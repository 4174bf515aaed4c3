"""Findings about failures: memory, latency, errors, slow code."""

from __future__ import annotations

import math

from kaon.laws.advise.minute import AdviceMinute, FindingText, duration, share
from kaon.laws.advise.state import AdviceState
from kaon.types.advice import Finding

_FULL_MEMORY, _MORE_MEMORY = 0.9, 1.5
_STEP_BYTES = 64 * 2**20
_MIB = 2**20
_LATE = 1.2
"""Times the target latency; above it the target is missed by more than chance."""
_QUEUE_SHARE = 0.1
"""Share of the latency; calls that queue for less spend their time in the handler."""
_MANY = 5.0
"""Times the failures that the objective allows; more are a finding even if they are usual."""
_KINDS = {"5xx": "with 5xx", "shed": "refused for overload", "none": "without an answer"}
_BLAMED_S = 1800.0
"""A finding that begins so soon after a change of revision is attributed to it."""


def memory(_: AdviceState, minute: AdviceMinute) -> FindingText | bool | None:
    """The replica with the most memory is near the limit at which it is killed."""
    used, limit = minute.window.memory_bytes, minute.terms.memory_limit_bytes
    if used is None or limit is None:
        return None
    if used < _FULL_MEMORY * limit:
        return False
    more = math.ceil(max(_MORE_MEMORY * used, limit + 1) / _STEP_BYTES) * _STEP_BYTES
    evidence = f"the fullest replica uses {used / _MIB:,.0f} of {limit / _MIB:,.0f} MiB ({share(used / limit)})"
    gain = f"{share(used / more)} of {more / _MIB:,.0f} MiB; a replica above its limit is killed with its calls"
    command = minute.terms.command(f"set NAME template.resources.memory_bytes={more / _MIB:.0f}MiB")
    return FindingText(evidence, gain, command)


def latency(state: AdviceState, minute: AdviceMinute) -> FindingText | bool | None:
    """p99 is far above the usual one."""
    if minute.window.p99_s is None or not minute.enough:
        return None
    if not state.slow(minute):
        return False
    usual, now = state.p99_s.mean, minute.window.p99_s
    evidence = f"p99 is {duration(now)}; usually it is {duration(usual)}"
    gain = f"{duration(now - usual)} less at p99, when the cause is fixed"
    return _with_revision(
        state, minute, Finding.LATENCY, FindingText(evidence, gain, minute.terms.command("explain NAME --since 1h"))
    )


def errors(state: AdviceState, minute: AdviceMinute) -> FindingText | bool | None:
    """More calls fail than usual, or many fail with 5xx."""
    failed, answers = minute.window.failed, sum((minute.window.codes or {}).values())
    if failed is None or not minute.enough:
        return None
    allowed, unusual = 1 - minute.terms.objective.completion, state.failing(minute)
    if not unusual and minute.code("5xx") <= min(_MANY * allowed, 0.5) * answers:
        return False
    kinds = {name: text for name, text in _KINDS.items() if minute.code(name)}
    counts = ", ".join(f"{minute.code(name):,} {text}" for name, text in kinds.items())
    right, than = (state.failed.mean, "usually") if unusual else (allowed, "at most")
    evidence = f"{share(failed)} of calls fail{f' ({counts} in a minute)' if counts else ''}; {than} {share(right)} "
    evidence += "do" if unusual else "should"
    crowded = minute.code("shed") > sum(minute.code(name) for name in kinds) / 2
    command = minute.terms.command("explain NAME --since 1h" if crowded else "logs NAME --since 10m")
    fewer = max(0.0, failed - right) * (minute.window.arrivals or 0)
    gain = f"{fewer:,.0f} fewer failed calls per minute, when the cause is fixed"
    return _with_revision(state, minute, Finding.ERRORS, FindingText(evidence, gain, command))


def _with_revision(state: AdviceState, minute: AdviceMinute, finding: Finding, text: FindingText) -> FindingText:
    """The finding with the revision that it began with, and the command that undoes that one."""
    change, streak = state.change, state.streak(finding)
    began_s = streak.first_s if streak.held else minute.window.at_s
    if change is None or not 0 <= began_s - change.at_s <= _BLAMED_S:
        return text
    evidence = f"{text.evidence}; it began with revision {change.after}"
    return text._replace(evidence=evidence, command=minute.terms.command(f"rollout undo NAME --to {change.before}"))


def slow(_: AdviceState, minute: AdviceMinute) -> FindingText | bool | None:
    """The target latency is missed although replicas are idle and no calls wait: the handler is slow."""
    window, wanted = minute.window, minute.terms.objective.latency_s
    if window.p90_s is None or window.busy is None or window.queue_s is None or not minute.enough:
        return None
    waits = window.queue_s > _QUEUE_SHARE * window.p90_s or bool(minute.waited) or window.starting > 0
    if window.p90_s <= _LATE * wanted or window.busy >= minute.terms.objective.utilisation[0] or waits:
        return False
    evidence = (
        f"p90 is {duration(window.p90_s)}, {duration(wanted)} is the target, although replicas are busy "
        f"{share(window.busy)} of the time and calls wait {duration(window.queue_s)} for one"
    )
    gain = f"the handler must be {duration(window.p90_s - wanted)} faster: more replicas would not help"
    return FindingText(evidence, gain, minute.terms.command("stats NAME --since 1h"))
