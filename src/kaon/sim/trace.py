"""Traces: numbers of calls over time, read from CSV files, and turned into calls to replay.

There are three forms, chosen by the first line; columns after the second are ignored:

- `second,count`: calls in a second, seconds in rising order; a missing second has none;
- `t_s,rate_rps`: calls per second over steps of one length, which begin at `t_s`;
- `timestamp,value`: calls in steps of one length, which begin at an ISO 8601 date and time. Missing steps are
  interpolated linearly.

The count of a second is replayed exactly, its calls uniformly at random within the second. Over longer steps the rate
is interpolated linearly between the middles of steps, and calls are a Poisson process.
"""

from __future__ import annotations

import csv
import io
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

from kaon.errors import InvalidInput

NS = 1_000_000_000
FORMS = ("second,count", "t_s,rate_rps", "timestamp,value")
MOST_BYTES = 64 * 2**20
MOST_S = 31 * 86_400
MOST_RPS = 1e6
_REPORTED = 10
"""The most wrong lines that are listed."""


@dataclass(frozen=True, slots=True)
class Trace:
    """Calls per second in steps of `step_s`; `counted`: exact counts of seconds."""

    name: str
    rates: tuple[float, ...]
    step_s: float
    counted: bool = False

    @property
    def span_s(self) -> float:
        """How long it is, seconds."""
        return len(self.rates) * self.step_s

    @property
    def calls(self) -> float:
        """The expected number of calls."""
        return sum(self.rates) * self.step_s

    def part(self, from_s: float, span_s: float | None) -> Trace:
        """The steps that begin at `from_s` or later, for `span_s`. Raises `InvalidInput` when none do."""
        first = math.ceil(from_s / self.step_s)
        last = len(self.rates) if span_s is None else math.ceil((from_s + span_s) / self.step_s)
        if not self.rates[first:last]:
            raise InvalidInput(f"{self.name} has no steps in this range: it is {self.span_s:g} s long.")
        return replace(self, rates=self.rates[first:last])

    def times(self, factor: float) -> Trace:
        """The trace with `factor` times as many calls; no longer exact counts, unless it is 1."""
        return self if factor == 1 else replace(self, rates=tuple(r * factor for r in self.rates), counted=False)


def read(path: Path) -> Trace:
    """The trace in a file. Raises `InvalidInput`, which lists the wrong lines."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise InvalidInput(f"{path} is over {MOST_BYTES // 2**20} MiB.", hint="Shorten it, or count per minute.")
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise InvalidInput(f"{path} is not text.", hint=f"It must be CSV: {' or '.join(FORMS)}.") from None
    return parse(path.stem, text)


def parse(name: str, text: str) -> Trace:
    """The trace in a text. Raises `InvalidInput`, which lists the wrong lines."""
    lines = csv.reader(io.StringIO(text))
    try:
        rows = [(lines.line_num, row) for row in lines if row]
    except csv.Error as error:
        raise InvalidInput(f"{name} is no CSV file, line {lines.line_num}: {error}.") from None
    form = ",".join(cell.strip() for cell in rows[0][1][:2]) if rows else ""
    if form not in FORMS:
        raise InvalidInput(
            f"The first line of {name} is no known header.",
            hint=f"It must begin with {' or '.join(FORMS)}.",
        )
    when: Callable[[str], float] = _date if form == FORMS[2] else float
    found = _values(name, rows[1:], when)
    if form == FORMS[0]:
        return _of_seconds(name, found)
    return _of_steps(name, found, rates=form == FORMS[1])


def _values(
    name: str, rows: Sequence[tuple[int, list[str]]], when: Callable[[str], float]
) -> list[tuple[int, float, float]]:
    """(line, seconds, value) of each row. Raises `InvalidInput`."""
    found: list[tuple[int, float, float]] = []
    wrong: list[tuple[int, str]] = []
    for line, row in rows:
        try:
            at_s, value = when(row[0].strip()), float(row[1])
        except (ValueError, IndexError):
            wrong.append((line, f"not a time and a number: {','.join(row)[:60]}"))
            continue
        if not (math.isfinite(at_s) and math.isfinite(value)):
            wrong.append((line, "not a finite number"))
        elif value < 0:
            wrong.append((line, "a negative number of calls"))
        elif found and at_s <= found[-1][1]:
            wrong.append((line, f"not later than line {found[-1][0]}"))
        else:
            found.append((line, at_s, value))
    _refuse(name, wrong)
    if not found:
        raise InvalidInput(f"{name} has no rows.")
    if found[-1][1] - found[0][1] > MOST_S:
        raise InvalidInput(f"{name} is longer than {MOST_S // 86_400} days.", hint="Shorten it.")
    return found


def _of_seconds(name: str, found: list[tuple[int, float, float]]) -> Trace:
    _refuse(name, [(line, "not a whole second") for line, at_s, _ in found if at_s != int(at_s)])
    _refuse(name, [(line, "not a whole number of calls") for line, _, value in found if value != int(value)])
    first = int(found[0][1])
    rates = [0.0] * (int(found[-1][1]) - first + 1)
    for _, at_s, value in found:
        rates[int(at_s) - first] = value
    return _sound(name, Trace(name, tuple(rates), 1.0, counted=True))


def _of_steps(name: str, found: list[tuple[int, float, float]], *, rates: bool) -> Trace:
    if len(found) < 2:
        raise InvalidInput(f"{name} has one row: the length of its steps is unknown.")
    step_s = found[1][1] - found[0][1]
    if step_s < 1:
        raise InvalidInput(f"The steps of {name} are shorter than a second.", hint="Count per second: second,count.")
    uneven = [
        (line, f"{at_s - before:g} s after the row before, not a multiple of {step_s:g} s")
        for (_, before, _), (line, at_s, _) in pairwise(found)
        if abs((at_s - before) / step_s - round((at_s - before) / step_s)) > 1e-3
    ]
    _refuse(name, uneven)
    values = [found[0][2]]
    for (_, before_s, before), (_, at_s, value) in pairwise(found):
        steps = round((at_s - before_s) / step_s)
        values += [before + (value - before) * n / steps for n in range(1, steps + 1)]
    return _sound(name, Trace(name, tuple(value / (1 if rates else step_s) for value in values), step_s))


def _sound(name: str, trace: Trace) -> Trace:
    if max(trace.rates) > MOST_RPS:
        raise InvalidInput(f"{name} has more than {MOST_RPS:g} calls in a second.")
    if not any(trace.rates):
        raise InvalidInput(f"{name} has no calls.")
    return trace


def _date(text: str) -> float:
    at = datetime.fromisoformat(text)
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def _refuse(name: str, wrong: list[tuple[int, str]]) -> None:
    if wrong:
        places = [{"where": f"line {line}", "message": what} for line, what in wrong[:_REPORTED]]
        more = f", the first {_REPORTED} of them here" if len(wrong) > _REPORTED else ""
        lines = "1 line is" if len(wrong) == 1 else f"{len(wrong)} lines are"
        raise InvalidInput(f"{lines} wrong in {name}{more}.", errors=places)


def calls(trace: Trace, seed: int) -> list[int]:
    """Arrival times, ns, sorted; a function of the trace and the seed."""
    rng = random.Random(seed)  # noqa: S311 - a simulation's
    if trace.counted:
        found: list[int] = []
        for second, count in enumerate(trace.rates):
            found += sorted(second * NS + int(rng.random() * NS) for _ in range(int(count)))
        return found
    return _poisson(per_second(trace.rates, trace.step_s), rng)


def _poisson(rates: Sequence[float], rng: random.Random) -> list[int]:
    """Calls of a Poisson process with `rates[i]` calls a second in second i: exponential gaps of expected calls."""
    found = []
    due = rng.expovariate(1.0)
    for second, rate in enumerate(rates):
        left = rate
        while due < left:
            found.append(second * NS + int(due / rate * NS))
            due += rng.expovariate(1.0)
        due -= left
    return found


def per_second(rates: Sequence[float], step_s: float) -> list[float]:
    """Rates of steps of `step_s` (>= 1 s), as rates of seconds, in straight lines between the steps' middles."""
    last = len(rates) - 1
    found = []
    for second in range(round(len(rates) * step_s)):
        place = min(max((second + 0.5) / step_s - 0.5, 0.0), last)
        before = min(int(place), max(0, last - 1))
        after = min(before + 1, last)
        found.append(rates[before] + (place - before) * (rates[after] - rates[before]))
    return found
