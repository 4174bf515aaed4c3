"""A deployment's figures as a picture for a terminal: charts with the objective as a line, windows as a table. Pure.

The picture is a list of lines, a line a list of (style, text); styles are rich's. Without them it is plain text.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from kaon.cli.charts import columns
from kaon.cli.text import age, plain, width
from kaon.types.window import Point, Stats, Window

Span = tuple[str, str]
Line = list[Span]
Values = Sequence[float | None]

_LABEL = 9
_GOOD, _WORSE, _BAD, _DIM, _TITLE = "green", "yellow", "red", "dim", "bold"
_STALE_S = 10.0
_UNKNOWN = "-"


_HEIGHTS, _FLAT = (4, 5, 2), (3, 4, 1)
"""Of the charts of rates, of latencies and of counts; and where there are fewer than `_TALL` lines."""
_TALL = 28


def picture(stats: Stats, across: int, down: int = _TALL) -> list[Line]:
    """All of it, `across` columns wide, to fit `down` lines as long as revisions are few."""
    rates, latencies, counts = _HEIGHTS if down >= _TALL else _FLAT
    wide = max(10, across - _LABEL)
    now, points = stats.windows[0], stats.series
    lines = [_head(stats), []]
    lines += _rates(stats, points, wide, rates)
    lines += _latencies(stats, points, wide, latencies)
    calls: Line = [(_TITLE, "in flight "), ("", _now(now.in_flight)), (_DIM, "  waiting in replicas ")]
    calls += [("", _now(now.queued)), (_DIM, "  held at the edge "), ("", f"{now.held}")]
    lines += _chart(calls, [p.in_flight for p in points], wide, counts, "cyan")
    low, high = stats.objective.utilisation
    replicas: Line = [(_TITLE, "replicas "), ("", f"{now.ready} ready"), (_DIM, f"  {now.starting} starting  busy ")]
    replicas += [("", share(now.busy)), (_DIM, f"  ({share(low)} to {share(high)} is right)")]
    alive = [None if p.ready is None else p.ready + (p.starting or 0) for p in points]
    lines += _chart(replicas, alive, wide, counts, "blue")
    lines += [_axis(stats, wide), [], *_table(stats, across)]
    return [_cut(line, across) for line in lines]


def text(lines: Sequence[Line]) -> str:
    """Without styles."""
    return "\n".join("".join(part for _, part in line).rstrip() for line in lines)


def _head(stats: Stats) -> Line:
    now = stats.windows[1]
    home = "" if stats.workspace == "default" else f"{plain(stats.workspace)}/"
    line: Line = [(_TITLE, f"{home}{plain(stats.deployment)}")]
    if not now.at_s:
        return [*line, (_WORSE, "  no figures in the last minute")]
    stale_s = stats.now_s - now.at_s
    if stale_s > _STALE_S:
        line.append((_WORSE, f"  figures are {age(stale_s)} old"))
    if now.loss is not None:
        found = now.loss
        misses = f"{found.completion:.2f}" + (f" x {found.price:.3g}" if found.price > 1 else "")
        parts = f"latency {found.latency:.2f}  misses {misses}  utilisation {found.utilisation:.2f}"
        line += [(_DIM, "  loss "), ("", f"{found.total:.2f}"), (_DIM, f"  {parts}  cost {found.cost:.2f}")]
    return line


def _rates(stats: Stats, points: Sequence[Point], wide: int, height: int) -> list[Line]:
    short, half = stats.windows[0], stats.windows[-1]
    title: Line = [(_TITLE, "calls/s "), ("", number(short.rps)), (_DIM, f"  in 30 min {number(half.rps)}")]
    missed = 0.0 if short.failed is None else short.failed
    allowed = 1 - stats.objective.completion
    style = _BAD if missed > allowed else _GOOD
    title += [(_DIM, "  failed "), (style, share(short.failed, fine=True)), (_DIM, f" of {share(allowed, fine=True)}")]
    bad = {name: n for name, n in (short.codes or {}).items() if name in ("5xx", "shed", "none") and n}
    title += [(_BAD, "  " + ", ".join(f"{n} {name}" for name, n in sorted(bad.items())))] if bad else []
    lines = _chart(title, [p.rps for p in points], wide, height, "green")
    failed = [p.failed_rps for p in points]
    if any(failed):
        lines += _chart([(_TITLE, "failed/s")], failed, wide, 1, _BAD)
    return lines


def _latencies(stats: Stats, points: Sequence[Point], wide: int, height: int) -> list[Line]:
    """Columns of p90 with a point at p99 above each, and the objective as a line."""
    goal, now = stats.objective.latency_s, stats.windows[0]
    style = _BAD if now.p90_s is not None and now.p90_s > goal else _GOOD
    title: Line = [(_TITLE, "latency "), (_DIM, "p50 "), ("", duration(now.p50_s)), (_DIM, "  p90 ")]
    title += [(style, duration(now.p90_s)), (_DIM, "  p99 "), ("", duration(now.p99_s))]
    title.append((_DIM, f"  ┄ {duration(goal)} is wanted of {share(stats.objective.quantile)}"))
    middle, tail = fitted([p.p90_s for p in points], wide), fitted([p.p99_s for p in points], wide)
    known = sorted(value for value in (*middle, *tail) if value is not None)
    # One call that took long must not flatten all others: the scale ends where nineteen of twenty do.
    most = max([goal * 1.25, *(known[: max(1, math.ceil(0.95 * len(known)))] or [0.0])])
    rows = columns([value or 0.0 for value in middle], most, height)
    at_goal = height - 1 - min(height - 1, int(goal / most * height))
    lines: list[Line] = [title]
    for row, cells in enumerate(rows):
        low = (height - 1 - row) * most / height
        shown = [
            _cell(cell, t, low, most / height, line=row == at_goal, top=row == 0)
            for cell, t in zip(cells, tail, strict=True)
        ]
        lines.append([_mark(most if row == 0 else 0.0 if row == height - 1 else None, duration), *_runs(shown)])
    return lines


def _cell(cell: str, tail: float | None, low: float, step: float, *, line: bool, top: bool) -> Span:
    if cell != " ":
        return "magenta", cell
    if tail is not None and tail >= low and (tail < low + step or top):
        return "bright_black", "•"
    return (_WORSE, "┄") if line else ("", " ")


def _chart(title: Line, values: Values, wide: int, height: int, style: str) -> list[Line]:
    """Columns under their title; what is unknown is a gap."""
    shown = fitted(values, wide)
    most = max([1.0, *(value for value in shown if value is not None)])
    rows = columns([value or 0.0 for value in shown], most, height)
    marks = [most, *[None] * (height - 2), 0.0] if height > 1 else [most]
    return [title, *([_mark(mark, number), (style, row)] for mark, row in zip(marks, rows, strict=True))]


def fitted(values: Values, wide: int) -> list[float | None]:
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


def _mark(value: float | None, said: object) -> Span:
    label = "" if value is None else said(value)  # type: ignore[operator]
    return _DIM, f"{label:>{_LABEL - 2}} ┤"


def _runs(cells: Sequence[Span]) -> Line:
    """Neighbours of one style as one."""
    line: Line = []
    for style, part in cells:
        if line and line[-1][0] == style:
            line[-1] = (style, line[-1][1] + part)
        else:
            line.append((style, part))
    return line


def _axis(stats: Stats, wide: int) -> Line:
    drawn = len(fitted([0.0] * len(stats.series), wide))
    begin = f"{age(stats.step_s * len(stats.series))} ago"
    return [(_DIM, " " * _LABEL + begin + "now".rjust(max(3, drawn - len(begin))))]


_TITLES = ("", "calls/s", "p50", "p90", "p99", "failed", "queue", "busy", "batch", "loss")


def _table(stats: Stats, across: int) -> list[Line]:
    rows = [(age(w.span_s), w) for w in stats.windows]
    if len(stats.revisions) > 1:
        for one in stats.revisions:
            name = "at the edge" if one.revision == 0 else f"revision {one.revision}{' (shadow)' if one.shadow else ''}"
            rows.append((f"{name}, {age(one.windows[1].span_s)}", one.windows[1]))
    cells = [list(_TITLES), *(_row(name, window) for name, window in rows)]
    widths = [max(width(row[n]) for row in cells) for n in range(len(_TITLES))]
    lines: list[Line] = []
    for at, row in enumerate(cells):
        aligned = [
            f"{cell:<{wide}}" if n == 0 else f"{cell:>{wide}}"
            for n, (cell, wide) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append([(_DIM if at == 0 else "", "  ".join(aligned))])
    return lines


def _row(name: str, w: Window) -> list[str]:
    batch = _UNKNOWN if w.batch_rows is None else f"{w.batch_rows:.1f}"
    loss = _UNKNOWN if w.loss is None else f"{w.loss.total:.2f}"
    latencies = [duration(value) for value in (w.p50_s, w.p90_s, w.p99_s)]
    return [
        name,
        number(w.rps),
        *latencies,
        share(w.failed, fine=True),
        duration(w.queue_s),
        share(w.busy),
        batch,
        loss,
    ]


def number(value: float | None) -> str:
    """A count or a rate in few digits."""
    if value is None:
        return _UNKNOWN
    if value >= 10_000:
        return f"{value / 1000:.0f}k"
    return f"{value:.0f}" if value >= 100 or value == int(value) else f"{value:.1f}"


def duration(value: float | None) -> str:
    """Seconds in the unit that fits."""
    if value is None:
        return _UNKNOWN
    if value < 0.0095:
        return f"{value * 1000:.1f} ms" if value else "0"
    return f"{value * 1000:.0f} ms" if value < 0.9995 else f"{value:.1f} s"


def share(value: float | None, *, fine: bool = False) -> str:
    """A share in per cent."""
    if value is None:
        return _UNKNOWN
    return f"{value * 100:.3g} %" if fine else f"{value * 100:.0f} %"


def _now(value: int | None) -> str:
    return _UNKNOWN if value is None else str(value)


def _cut(line: Line, across: int) -> Line:
    """What fits."""
    kept: Line = []
    for style, part in line:
        left = across - sum(width(p) for _, p in kept)
        if left > 0:
            kept.append((style, part[:left]))
    return kept
