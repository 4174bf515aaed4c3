"""A deployment's figures as a page: charts with the objective as a line, windows as a table. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

from kaon.cli.shared.charts import (
    BAD,
    DIM,
    GOOD,
    LABEL,
    TITLE,
    UNKNOWN,
    WORSE,
    StyledLine,
    StyledText,
    chart,
    columns,
    cut,
    duration,
    fitted,
    mark,
    number,
    runs,
    share,
)
from kaon.cli.shared.text import age, plain, size, width
from kaon.types.window import RevisionStats, SeriesPoint, Stats, Window

_STALE_S = 10.0
_FULL = 0.9
"""Share of the memory limit above which a replica is in danger."""
_HEIGHTS, _FLAT = (4, 5, 2), (3, 4, 1)
"""Lines of the charts of rates, latencies and counts; and on terminals of fewer than `_TALL` lines."""
_TALL = 28


def page(stats: Stats, across: int, down: int = _TALL) -> list[StyledLine]:
    """The page, `across` columns wide; it fits `down` lines when revisions are few."""
    rates, latencies, counts = _HEIGHTS if down >= _TALL else _FLAT
    wide = max(10, across - LABEL)
    now, points = stats.windows[0], stats.series
    lines = [_head(stats, across), []]
    lines += _rates(stats, points, wide, rates)
    lines += _latencies(stats, points, wide, latencies)
    calls: StyledLine = [(TITLE, "in flight "), ("", _now(now.in_flight)), (DIM, "  waiting in replicas ")]
    calls += [("", _now(now.queued)), (DIM, "  held at the edge "), ("", f"{now.held}")]
    lines += chart(calls, [p.in_flight for p in points], wide, counts, "cyan")
    low, high = stats.objective.utilisation
    replicas: StyledLine = [
        (TITLE, "replicas "),
        ("", f"{now.ready} ready"),
        (DIM, f"  {now.starting} starting  busy "),
    ]
    replicas += [("", share(now.busy)), (DIM, f" ({100 * low:.0f} to {share(high)})")]
    replicas += _memory(now.memory_bytes, stats.memory_limit_bytes)
    alive = [None if p.ready is None else p.ready + (p.starting or 0) for p in points]
    lines += chart(replicas, alive, wide, counts, "blue")
    lines += [_axis(stats, wide), [], *_table(stats, across)]
    return [cut(line, across) for line in lines]


def _memory(used: int | None, limit: int | None) -> StyledLine:
    """Memory of the fullest replica, and its limit."""
    if used is None:
        return []
    style = BAD if limit and used >= _FULL * limit else ""
    return [(DIM, "  memory "), (style, size(used)), (DIM, f" of {size(limit)}" if limit else "")]


def _head(stats: Stats, across: int) -> StyledLine:
    """The deployment and its loss; parts of the loss that do not fit are left out."""
    now = stats.windows[1]
    prefix = "" if stats.workspace == "default" else f"{plain(stats.workspace)}/"
    line: StyledLine = [(TITLE, f"{prefix}{plain(stats.deployment)}")]
    if not now.at_s:
        return [*line, (WORSE, "  no figures in the last minute")]
    stale_s = stats.now_s - now.at_s
    if stale_s > _STALE_S:
        line.append((WORSE, f"  figures are {age(stale_s)} old"))
    if now.loss is not None:
        loss = now.loss
        misses = f"{loss.completion:.2f}" + (f" x {loss.price:.3g}" if loss.price > 1 else "")
        line += [(DIM, "  loss "), ("", f"{loss.total:.2f}")]
        left = across - width("".join(part for _, part in line))
        for name, value in (
            ("latency", f"{loss.latency:.2f}"),
            ("misses", misses),
            ("utilisation", f"{loss.utilisation:.2f}"),
            ("cost", f"{loss.cost:.2f}"),
        ):
            text = f"  {name} {value}"
            if width(text) <= left:
                line.append((DIM, text))
                left -= width(text)
    return line


def _rates(stats: Stats, points: Sequence[SeriesPoint], wide: int, height: int) -> list[StyledLine]:
    short, half = stats.windows[0], stats.windows[-1]
    title: StyledLine = [(TITLE, "calls/s "), ("", number(short.rps)), (DIM, f"  in 30 min {number(half.rps)}")]
    failed = 0.0 if short.failed is None else short.failed
    allowed = 1 - stats.objective.completion
    style = BAD if failed > allowed else GOOD
    title += [(DIM, "  failed "), (style, share(short.failed, fine=True)), (DIM, f" of {share(allowed, fine=True)}")]
    bad = {name: n for name, n in (short.codes or {}).items() if name in ("5xx", "shed", "none") and n}
    title += [(BAD, "  " + ", ".join(f"{n} {name}" for name, n in sorted(bad.items())))] if bad else []
    lines = chart(title, [p.rps for p in points], wide, height, "green")
    failed_rps = [p.failed_rps for p in points]
    if any(failed_rps):
        lines += chart([(TITLE, "failed/s")], failed_rps, wide, 1, BAD)
    return lines


def _latencies(stats: Stats, points: Sequence[SeriesPoint], wide: int, height: int) -> list[StyledLine]:
    """Columns of p90, a point at p99 above each, and the objective as a line."""
    goal, now = stats.objective.latency_s, stats.windows[0]
    style = BAD if now.p90_s is not None and now.p90_s > goal else GOOD
    title: StyledLine = [(TITLE, "latency "), (DIM, "p50 "), ("", duration(now.p50_s)), (DIM, "  p90 ")]
    title += [(style, duration(now.p90_s)), (DIM, "  p99 "), ("", duration(now.p99_s))]
    title.append((DIM, f"  ┄ objective {duration(goal)} for {share(stats.objective.quantile)}"))
    middle, tail = fitted([p.p90_s for p in points], wide), fitted([p.p99_s for p in points], wide)
    values = sorted(value for value in (*middle, *tail) if value is not None)
    # One slow call must not flatten all others: the scale ends at the 95th percentile.
    top = max([goal * 1.25, *(values[: max(1, math.ceil(0.95 * len(values)))] or [0.0])])
    rows = columns([value or 0.0 for value in middle], top, height)
    at_goal = height - 1 - min(height - 1, int(goal / top * height))
    lines: list[StyledLine] = [title]
    for row, cells in enumerate(rows):
        low = (height - 1 - row) * top / height
        shown = [
            _cell(cell, t, low, top / height, line=row == at_goal, top=row == 0)
            for cell, t in zip(cells, tail, strict=True)
        ]
        lines.append([mark(top if row == 0 else 0.0 if row == height - 1 else None, duration), *runs(shown)])
    return lines


def _cell(cell: str, tail: float | None, low: float, step: float, *, line: bool, top: bool) -> StyledText:
    if cell != " ":
        return "magenta", cell
    if tail is not None and tail >= low and (tail < low + step or top):
        return "bright_black", "•"
    return (WORSE, "┄") if line else ("", " ")


def _axis(stats: Stats, wide: int) -> StyledLine:
    drawn = len(fitted([0.0] * len(stats.series), wide))
    begin = f"{age(stats.step_s * len(stats.series))} ago"
    return [(DIM, " " * LABEL + begin + "now".rjust(max(3, drawn - len(begin))))]


_LEAST_IMPORTANT = ("loss", "batch", "queue", "p50", "busy", "p90")
_TITLES = ("", "calls/s", "p50", "p90", "p99", "failed", "queue", "busy", "batch", "loss")


def _table(stats: Stats, across: int) -> list[StyledLine]:
    rows = [(age(w.span_s), w) for w in stats.windows]
    if len(stats.revisions) > 1:
        for one in stats.revisions:
            rows.append((f"{_revision(one)}, {age(one.windows[1].span_s)}", one.windows[1]))
    cells = [list(_TITLES), *(_row(name, window) for name, window in rows)]
    widths = [max(width(row[n]) for row in cells) for n in range(len(_TITLES))]
    for title in _LEAST_IMPORTANT:  # a table is never cut: it has fewer columns where it is narrow
        if sum(widths) + 2 * (len(widths) - 1) <= across:
            break
        n = cells[0].index(title)
        cells = [[*row[:n], *row[n + 1 :]] for row in cells]
        del widths[n]
    lines: list[StyledLine] = []
    for at, row in enumerate(cells):
        aligned = [
            f"{cell:<{wide}}" if n == 0 else f"{cell:>{wide}}"
            for n, (cell, wide) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append([(DIM if at == 0 else "", "  ".join(aligned))])
    return lines


def _revision(stats: RevisionStats) -> str:
    if stats.revision == 0:
        return "at the edge"
    return f"revision {stats.revision} (shadow)" if stats.shadow else f"revision {stats.revision}"


def _row(name: str, w: Window) -> list[str]:
    batch = UNKNOWN if w.batch_rows is None else f"{w.batch_rows:.1f}"
    loss = UNKNOWN if w.loss is None else f"{w.loss.total:.2f}"
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


def _now(value: int | None) -> str:
    return UNKNOWN if value is None else str(value)
