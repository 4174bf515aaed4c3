"""What the figures of a deployment say could be better: each finding with evidence, gain and command.

A window is judged by one rule per finding; the rule says nothing (None) where figures are missing. A finding is
told only after it held in `FIRM` windows on end, and is dropped after as many in which it did not: advice that
flickers is not read. Windows without figures change nothing. Latency and errors have no fixed limits: what is usual
is learnt, slowly, and not from windows that look wrong.

No two findings contradict each other: too large is only said where the floor of replicas holds more than the load
needs, too small only where the ceiling does, and too small comes first.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from kaon.types.advice import Advice, Finding
from kaon.types.objective import Objective
from kaon.types.window import Window

FIRM = 5
"""Windows on end in which a finding must hold, or not hold, before it is told, or dropped."""
LEAST_CALLS = 50
FULL_MEMORY = 0.9
MORE_MEMORY = 1.5
EMPTY_BATCH = 0.25
"""A batch that is on the mean filled less than this never fills."""
STRANGE = 4.0
"""Mean deviations from the usual."""
SLOWER, MORE_ERRORS = 1.5, 0.01
_LEARNING = 10
_MEMORY = 0.05
"""Weight of a new window in what is usual."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A window, and what of the deployment its figures are judged by."""

    deployment: str
    window: Window
    objective: Objective
    least: int = 1
    most: int = 1
    largest_batch: int | None = None
    memory_bytes: int | None = None
    """What the fullest replica uses."""
    memory_limit_bytes: int | None = None
    waited: int | None = None
    """Of the calls that came, those that were held until a replica had started."""


@dataclass(frozen=True, slots=True)
class Usual:
    """What a figure usually is: its mean and mean deviation, over `count` windows."""

    count: int = 0
    mean: float = 0.0
    deviation: float = 0.0

    def strange(self, value: float, least: float) -> bool:
        """Whether `value` is far above the usual, by `least` at least."""
        return self.count >= _LEARNING and value > self.mean + max(STRANGE * self.deviation, least)

    def after(self, value: float) -> Usual:
        """With one more window."""
        count = self.count + 1
        rate = max(1 / count, _MEMORY)
        mean = self.mean + rate * (value - self.mean)
        deviation = self.deviation + rate * (abs(value - self.mean) - self.deviation) if self.count else 0.0
        return Usual(count, mean, deviation)


@dataclass(frozen=True, slots=True)
class Mark:
    """How often on end a finding held, or did not; since when it is told."""

    held: int = 0
    missing: int = 0
    first_s: float = 0.0
    advice: Advice | None = None


@dataclass(frozen=True, slots=True)
class State:
    """All that is remembered of a deployment."""

    marks: tuple[tuple[Finding, Mark], ...] = ()
    p99_s: Usual = field(default_factory=Usual)
    failed: Usual = field(default_factory=Usual)


Told = tuple[str, str, str]
"""Evidence, gain and command."""
Rule = Callable[[State, Seen], Told | bool | None]
"""What is to be said; False: all is well; None: there are no figures."""


def step(known: State, seen: Seen) -> tuple[State, tuple[Advice, ...]]:
    """The next state, and the advice that stands now."""
    marks, at_s = dict(known.marks), seen.window.at_s
    for finding, rule in _RULES.items():
        said = rule(known, seen)
        if said is not None:
            marks[finding] = _marked(marks.get(finding, Mark()), finding, said, seen.deployment, at_s)
    known = replace(_learnt(known, seen), marks=tuple(marks.items()))
    advice = tuple(mark.advice for mark in marks.values() if mark.advice is not None)
    if any(a.finding is Finding.UNDERSIZED for a in advice):
        advice = tuple(a for a in advice if a.finding is not Finding.OVERSIZED)
    return known, advice


def _marked(mark: Mark, finding: Finding, said: Told | bool, name: str, at_s: float) -> Mark:
    if isinstance(said, bool):
        missing = mark.missing + 1
        return Mark() if missing >= FIRM else replace(mark, held=0, missing=missing)
    held = mark.held + 1
    since = mark.first_s if mark.held or mark.advice else at_s
    advice = mark.advice
    if held >= FIRM or advice is not None:
        evidence, gain, command = said
        advice = Advice(deployment=name, finding=finding, since=since, evidence=evidence, gain=gain, command=command)
    return Mark(held, 0, since, advice)


def _learnt(known: State, seen: Seen) -> State:
    """What is usual, from windows that are."""
    window = seen.window
    if not _enough(window):
        return known
    p99, failed = known.p99_s, known.failed
    if window.p99_s is not None and not _slow(known, window.p99_s):
        p99 = p99.after(window.p99_s)
    if window.failed is not None and not known.failed.strange(window.failed, MORE_ERRORS):
        failed = failed.after(window.failed)
    return replace(known, p99_s=p99, failed=failed)


def _enough(window: Window) -> bool:
    return window.arrivals is not None and window.arrivals >= LEAST_CALLS


def _slow(known: State, p99_s: float) -> bool:
    return known.p99_s.strange(p99_s, (SLOWER - 1) * known.p99_s.mean)


def _needed(seen: Seen) -> int:
    """Replicas that would be busy in the middle of the band."""
    low, high = seen.objective.utilisation
    busy = seen.window.busy or 0.0
    return max(1, math.ceil(seen.window.ready * busy / ((low + high) / 2) - 1e-9))


def _oversized(_: State, seen: Seen) -> Told | bool | None:
    window, low = seen.window, seen.objective.utilisation[0]
    if window.busy is None or not window.ready:
        return None
    fewer = _needed(seen)
    if seen.least <= 1 or window.ready > seen.least or fewer >= seen.least or window.busy >= low / 2:
        return False
    evidence = f"{window.ready} replicas, kept by a minimum of {seen.least}, are busy {window.busy:.0%} of the time"
    gain = f"{seen.least - fewer} replicas fewer ({1 - fewer / seen.least:.0%} of the cost) when it is as quiet as now"
    return evidence, gain, f"kaon scale {seen.deployment} --min {fewer}"


def _undersized(_: State, seen: Seen) -> Told | bool | None:
    window, high = seen.window, seen.objective.utilisation[1]
    if window.busy is None or window.loss is None or not window.ready:
        return None
    completed = window.loss.completed
    at_most = window.ready + window.starting >= seen.most
    if not at_most or (window.busy <= high and completed >= seen.objective.completion):
        return False
    if window.busy < seen.objective.utilisation[0]:
        return False  # calls fail although replicas are idle: more of them would not help
    more = max(seen.most + 1, _needed(seen))
    evidence = (
        f"all {seen.most} replicas that are allowed are busy {window.busy:.0%} of the time; "
        f"{completed:.2%} of calls are answered well in time, {seen.objective.completion:.2%} are wanted"
    )
    return evidence, f"busy {window.busy * window.ready / more:.0%}", f"kaon scale {seen.deployment} --max {more}"


def _memory(_: State, seen: Seen) -> Told | bool | None:
    used, limit = seen.memory_bytes, seen.memory_limit_bytes
    if used is None or limit is None:
        return None
    if used < FULL_MEMORY * limit:
        return False
    more = math.ceil(MORE_MEMORY * used / 2**20)
    evidence = f"a replica uses {used / 2**20:.0f} of {limit / 2**20:.0f} MiB ({used / limit:.0%})"
    command = f"kaon deploy FILE.py:CLASS --name {seen.deployment} --set template.resources.memory_bytes={more * 2**20}"
    return evidence, "no replica is ended for its memory", command


def _batch(_: State, seen: Seen) -> Told | bool | None:
    window, largest = seen.window, seen.largest_batch
    if largest is None or window.batch_rows is None or window.busy is None or not _enough(window):
        return None
    if largest <= 1 or window.batch_rows >= EMPTY_BATCH * largest or window.busy < seen.objective.utilisation[0]:
        return False
    evidence = (
        f"batches have {window.batch_rows:.1f} rows on the mean, {largest} are allowed, "
        f"and replicas are busy {window.busy:.0%} of the time"
    )
    gain = "fuller batches, so fewer replicas, where an empty batch costs nearly as much as a full one"
    return evidence, gain, f"kaon tune {seen.deployment} --recommend"


def _cold_starts(_: State, seen: Seen) -> Told | bool | None:
    window = seen.window
    if seen.waited is None or not window.arrivals:
        return None
    share = seen.waited / window.arrivals
    if seen.least > 0 or seen.most == 0 or share <= 1 - seen.objective.completion:
        return False
    waited = "" if window.start_s is None else f", {window.start_s:.1f} s each"
    evidence = f"{seen.waited} of {window.arrivals} calls ({share:.1%}) waited for a replica to start{waited}"
    return evidence, "nobody waits for the first replica; it costs one replica", f"kaon scale {seen.deployment} --min 1"


def _latency(known: State, seen: Seen) -> Told | bool | None:
    p99_s = seen.window.p99_s
    if p99_s is None or not _enough(seen.window):
        return None
    if not _slow(known, p99_s):
        return False
    evidence = f"p99 is {p99_s:.3g} s; usually it is {known.p99_s.mean:.3g} s"
    return evidence, "the cause", f"kaon explain {seen.deployment}"


def _errors(known: State, seen: Seen) -> Told | bool | None:
    failed = seen.window.failed
    if failed is None or not _enough(seen.window):
        return None
    if not known.failed.strange(failed, MORE_ERRORS):
        return False
    evidence = f"{failed:.1%} of calls fail; usually {known.failed.mean:.1%} do"
    return evidence, "the cause", f"kaon logs {seen.deployment} --since 10m"


_RULES: dict[Finding, Rule] = {
    Finding.UNDERSIZED: _undersized,
    Finding.OVERSIZED: _oversized,
    Finding.MEMORY: _memory,
    Finding.BATCH: _batch,
    Finding.COLD_STARTS: _cold_starts,
    Finding.LATENCY: _latency,
    Finding.ERRORS: _errors,
}
