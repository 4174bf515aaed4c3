"""Figures of speed that tests come by. `make chaos` checks them, on a machine that does nothing else; others do not."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field

CHECKED = bool(os.environ.get("KAON_CHAOS"))


def examples(count: int) -> int:
    """How many examples of a property are tried: `count`, and ten times as many in `make chaos`."""
    return 10 * count if CHECKED else count


@dataclass
class Stopwatch:
    """Seconds since it was made."""

    began: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began


def at_most(what: str, measured: float, bound: float) -> None:
    """That `measured` is no more than `bound`, where figures are checked."""
    if CHECKED:
        assert measured <= bound, f"{what}: {measured:.3g} > {bound:.3g}"


def at_least(what: str, measured: float, bound: float) -> None:
    """That `measured` is no less than `bound`, where figures are checked."""
    if CHECKED:
        assert measured >= bound, f"{what}: {measured:.3g} < {bound:.3g}"


def median(values: list[float]) -> float:
    """The upper one of the two in the middle."""
    return sorted(values)[len(values) // 2]
