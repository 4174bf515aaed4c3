"""A small chart of values over time, such as replicas, as SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from itertools import pairwise

WIDTH, HEIGHT, LEFT, RIGHT, BOTTOM, TOP = 760, 260, 46, 10, 34, 34
GREY, BLUE, ORANGE, GREEN = "#b0b0b0", "#0b6e99", "#d1603d", "#4c8c4a"
POINTS = 600
"""The most points of a line; more are reduced to the highest of each part."""


def picture(
    title: str,
    series: Mapping[str, tuple[Sequence[float], str]],
    seconds: float,
    *,
    below: str | None = None,
    marks: Sequence[float] = (),
) -> str:
    """A chart of lines, by name with their values and colour, over `seconds`; a grey one is thin.

    `below` is the text below the chart, by default that they are replicas; `marks` are moments to mark, as shares of
    the time.
    """
    most = 1.1 * max(max(values, default=0) for values, _ in series.values()) or 1.0
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        f'font-size="12" role="img" aria-label="{escape(title)}">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
    ]
    for i in range(5):
        y = HEIGHT - BOTTOM - i / 4 * (HEIGHT - TOP - BOTTOM)
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#e3e3e3"/>')
        parts.append(
            f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end" fill="#555">{_number(most * i / 4, most)}</text>'
        )
    for mark in marks:
        x = LEFT + mark * (WIDTH - LEFT - RIGHT)
        ends = f'x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"'
        parts.append(f'<line {ends} stroke="#999" stroke-dasharray="4"/>')
    x = LEFT
    for name, (values, colour) in series.items():
        parts.append(_line(values, most, colour))
        parts.append(f'<rect x="{x}" y="10" width="14" height="4" fill="{colour}"/>')
        parts.append(f'<text x="{x + 19}" y="16" fill="#333">{escape(name)}</text>')
        x += 40 + 7 * len(name)
    parts.append(f'<text x="{WIDTH / 2}" y="{HEIGHT - 10}" text-anchor="middle" fill="#555">')
    parts.append(escape(below or f"{title}; {seconds / 60:.0f} minutes, replicas") + "</text></svg>")
    return "\n".join(parts) + "\n"


def _number(value: float, most: float) -> str:
    return f"{value:.0f}" if most >= 4 else f"{value:.2g}"


def _line(values: Sequence[float], most: float, colour: str) -> str:
    """A polyline over the whole width of the plot."""
    shown = thinned(values, POINTS)
    step = (WIDTH - LEFT - RIGHT) / max(1, len(shown) - 1)
    room = HEIGHT - TOP - BOTTOM
    points = " ".join(
        f"{LEFT + i * step:.1f},{HEIGHT - BOTTOM - min(v, most) / most * room:.1f}" for i, v in enumerate(shown)
    )
    width = 1.0 if colour == GREY else 1.8
    return f'<polyline fill="none" stroke="{colour}" stroke-width="{width}" points="{points}"/>'


def thinned(values: Sequence[float], most: int) -> list[float]:
    """At most so many values: the highest of each of as many equal parts."""
    if len(values) <= most:
        return list(values)
    edges = [round(i * len(values) / most) for i in range(most + 1)]
    return [max(values[first:last]) for first, last in pairwise(edges)]
