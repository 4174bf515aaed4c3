"""Charts for terminals as lines of (style, text), with numbers in few digits. Pure.

Styles are rich's. Without them a chart is plain text with the same content.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kaon.cli.shared.text import clipped, width

StyledText = tuple[str, str]
StyledLine = list[StyledText]
ChartValues = Sequence[float | None]

LABEL = 9
"""Columns of the scale at the left of a chart."""
GOOD, WORSE, BAD, DIM, TITLE = "green", "yellow", "red", "dim", "bold"
UNKNOWN = "-"
_EIGHTHS = " ▁▂▃▄▅▆▇█"


def text(lines: Sequence[StyledLine]) -> str:
    """The lines without styles."""
    return "\n".join("".join(part for _, part in line).rstrip() for line in lines)


def columns(values: Sequence[float], top: float, height: int) -> list[str]:
    """One column for each value, on a scale from 0 to `top`; the highest line first."""
    filled = [max(0, min(8 * height, round(8 * height * value / top))) if top > 0 else 0 for value in values]
    return ["".join(_EIGHTHS[min(8, max(0, f - 8 * line))] for f in filled) for line in range(height - 1, -1, -1)]


def chart(
    title: StyledLine, values: ChartValues, wide: int, height: int, style: str = "", *, top: float | None = None
) -> list[StyledLine]:
    """Columns under a title; unknown values are gaps. The scale ends at `top`, else at the maximum, at least at 1."""
    if top is None:
        top = max([1.0, *(value for value in values if value is not None)])
    return [title, *bars(values, wide, height, style, top, number)]


def bars(
    values: ChartValues, wide: int, height: int, style: str, top: float, label: Callable[[float], str]
) -> list[StyledLine]:
    """Columns from 0 to `top`, with that scale at the left."""
    rows = columns([value or 0.0 for value in fitted(values, wide)], top, height)
    marks = [top, *[None] * (height - 2), 0.0] if height > 1 else [top]
    return [[mark(value, label), (style, row)] for value, row in zip(marks, rows, strict=True)]


def fitted(values: ChartValues, wide: int) -> list[float | None]:
    """The values as at most `wide` columns: each repeated, or the highest of several."""
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


def mark(value: float | None, label: Callable[[float], str]) -> StyledText:
    """A value of the scale at the left of a chart."""
    return DIM, f"{'' if value is None else label(value):>{LABEL - 2}} ┤"


def runs(cells: Sequence[StyledText]) -> StyledLine:
    """Adjacent cells of one style joined."""
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
    """Seconds in a suitable unit."""
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


def cut(line: StyledLine, columns: int) -> StyledLine:
    """The part of a line that fits, with an ellipsis when it is cut, so that no number looks like a shorter one."""
    kept: StyledLine = []
    left = columns
    for style, part in line:
        fits = clipped(part, left) if width(part) > left else part
        if left > 0:
            kept.append((style, fits))
        left -= width(fits)
        if fits != part:
            break
    return kept
