"""`kaon.progress`: a job reports how far it is, and its metrics."""

from __future__ import annotations

import math
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from kaon.errors import InvalidInput

TEXT_MAX = 500
METRICS_MAX = 64
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")


@dataclass(frozen=True, slots=True)
class ProgressReport:
    """One call of `kaon.progress`."""

    step: int
    """Counts the reports of this process, from 1."""
    at: float
    fraction: float | None = None
    text: str = ""
    values: dict[str, float] = field(default_factory=dict)


Receiver: TypeAlias = Callable[[ProgressReport], None]

_lock = threading.Lock()
_receiver: Receiver | None = None
_steps = 0
_own_receiver: ContextVar[Receiver | None] = ContextVar("_own_receiver", default=None)


def receive(receiver: Receiver | None) -> None:
    """Set the receiver of this process's reports; None: they are dropped, as outside the platform."""
    global _receiver, _steps
    with _lock:
        _receiver, _steps = receiver, 0


@contextmanager
def reporting_to(receiver: Receiver) -> Iterator[None]:
    """Give the reports of this thread and of tasks in it to `receiver`, each with number 0."""
    token = _own_receiver.set(receiver)
    try:
        yield
    finally:
        _own_receiver.reset(token)


def progress(fraction: float | None = None, text: str = "", **metrics: float) -> None:
    """Report how far the job is, from 0 to 1, what it does now, and its metrics, which become curves.

    May be called from any thread and as often as you like. Numbers of numpy and torch are accepted; a metric that is
    NaN or infinite is left out. Raises InvalidInput for what is no number.
    """
    global _steps
    values = {name: number for name, value in metrics.items() if math.isfinite(number := _metric(name, value))}
    if len(values) > METRICS_MAX:
        raise InvalidInput(
            f"{len(values)} metrics were given in one call.", hint=f"Report at most {METRICS_MAX} metrics in one call."
        )
    share = _fraction(fraction)
    if (own := _own_receiver.get()) is not None:
        own(ProgressReport(0, time.time(), share, str(text)[:TEXT_MAX], values))
        return
    with _lock:
        if _receiver is not None:
            _steps += 1
            _receiver(ProgressReport(_steps, time.time(), share, str(text)[:TEXT_MAX], values))


def _fraction(given: Any) -> float | None:
    if given is None:
        return None
    try:
        number = float(given)
    except (TypeError, ValueError):
        number = math.nan
    if math.isnan(number):
        raise InvalidInput(f"The progress is {given!r:.80}.", hint="Write a number from 0 to 1, or None.")
    return min(1.0, max(0.0, number))


def _metric(name: str, given: Any) -> float:
    if not _NAME.fullmatch(name):
        raise InvalidInput(f"The metric is named {name[:80]!r}.", hint="Use letters, digits and underscores.")
    try:
        return float(given)
    except (TypeError, ValueError):
        raise InvalidInput(
            f"The metric {name!r} is of the type {type(given).__name__}.", hint="Write a number, such as float(loss)."
        ) from None
