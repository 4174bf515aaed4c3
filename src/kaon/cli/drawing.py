"""What is drawn on a terminal as lines of (style, text): charts under their titles, numbers in few digits. Pure.

Styles are rich's. Without them a picture is plain text and says the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kaon.cli.charts import columns
from kaon.cli.text import width

StyledText = tuple[str, str]
StyledLine = list[StyledText]
ChartValues = Sequence[float | None]

LABEL = 9
"""Columns at the left of a chart."""
GOOD, WORSE, BAD, DIM, TITLE = "green", "yellow", "red", "dim", "bold"
UNKNOWN = "-"


def text(lines: Sequence[StyledLine]) -> str:
    """Without styles."""
    return "\n".join("".join(part for _, part in line).rstrip() for line in lines)


def chart(title: StyledLine, values: ChartValues, wide: int, height: int, style: str) -> list[StyledLine]:
    """Columns under their title; what is unknown is a gap. The scale ends at the highest, and not below 1."""
    most = max([1.0, *(value for value in values if value is not None)])
    return [title, *bars(values, wide, height, style, most, number)]


def bars(
    values: ChartValues, wide: int, height: int, style: str, most: float, said: Callable[[float], str]
) -> list[StyledLine]:
    """Columns from 0 to `most`, with that scale at the left."""
    rows = columns([value or 0.0 for value in fitted(values, wide)], most, height)
    marks = [most, *[None] * (height - 2), 0.0] if height > 1 else [most]
    return [[mark(value, said), (style, row)] for value, row in zip(marks, rows, strict=True)]


def fitted(values: ChartValues, wide: int) -> list[float | None]:
    """As many values as there are columns: each drawn several times, or the highest of several."""
    if not values:
        return [None] * wide
    if len(values) <= wide:
        times = wide // len(values)
        return [value for value in values for _ in range(times)]
    size = -(-len(values) // wide)
    first = len(values) % size
    cuts = [values[:first]] if first else []
    cuts += [values[i : i + size] for i in range(first, len(values), size)]
    return [max((v for v in cut if v is not None), default=None) for cut in cuts]


def mark(value: float | None, said: Callable[[float], str]) -> StyledText:
    """A value of the scale at the left of a chart."""
    label = "" if value is None else said(value)
    return DIM, f"{label:>{LABEL - 2}} ┤"


def runs(cells: Sequence[StyledText]) -> StyledLine:
    """Neighbours of one style as one."""
    line: StyledLine = []
    for style, part in cells:
        if line and line[-1][0] == style:
            line[-1] = (style, line[-1][1] + part)
        else:
            line.append((style, part))
    return line


def number(value: float | None) -> str:
    """A count or a rate in few digits."""
    if value is None:
        return UNKNOWN
    if value >= 10_000:
        return f"{value / 1000:.0f}k"
    return f"{value:.0f}" if value >= 100 or value == int(value) else f"{value:.1f}"


def duration(value: float | None) -> str:
    """Seconds in the unit that fits."""
    if value is None:
        return UNKNOWN
    if value < 0.0095:
        return f"{value * 1000:.1f} ms" if value else "0"
    return f"{value * 1000:.0f} ms" if value < 0.9995 else f"{value:.1f} s"


def share(value: float | None, *, fine: bool = False) -> str:
    """A share in per cent."""
    if value is None:
        return UNKNOWN
    return f"{value * 100:.3g} %" if fine else f"{value * 100:.0f} %"


def cut(line: StyledLine, across: int) -> StyledLine:
    """What fits."""
    kept: StyledLine = []
    for style, part in line:
        left = across - sum(width(p) for _, p in kept)
        if left > 0:
            kept.append((style, part[:left]))
    return kept
