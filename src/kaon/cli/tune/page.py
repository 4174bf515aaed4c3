"""The tuner's state as a page: knobs, trials, the loss by its parts. Pure."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence

from kaon.cli.shared.charts import (
    BAD,
    DIM,
    GOOD,
    LABEL,
    TITLE,
    UNKNOWN,
    WORSE,
    StyledLine,
    bars,
    cut,
    duration,
    fitted,
    number,
)
from kaon.cli.shared.text import age, plain, since, stamp, width
from kaon.types.knobs import KnobValues
from kaon.types.objective import Weights
from kaon.types.tuning import KnobState, LossPoint, Reach, TrialStatus, Tried, TuningMode, TuningState
from kaon.types.window import LossParts

_STATES = {"trying": WORSE, "frozen": WORSE, "recommending": GOOD}
_OUTCOMES = {"promoted": GOOD, "rejected": WORSE, "rolled back": BAD, "went back": BAD}
_FULLNESS = ((True, 8), (True, 4), (True, 2), (False, 4), (False, 2), (False, 1))
"""Whether knobs are described, and how many trials are shown: the first that fits is used."""
_DESCRIPTION = 32
"""Minimum width of a knob's description beside its values."""
_HEIGHT = 4
_FIGURES = 11
"""Columns at the right of a chart: its last and its highest value."""
_PARTS = ("cost", "latency", "misses", "busy")


def page(state: TuningState, now: float, across: int, down: int | None = None) -> list[StyledLine]:
    """The page, `across` columns wide; to fit `down` lines it leaves out descriptions, trials, empty lines."""
    head, chart = _head(state, now, across), _losses(state, across)
    for described, trials in _FULLNESS:
        knobs = _knobs(state, across, described=described)
        lines = [*head, *knobs, *_trials(state.trials, now, across, trials), *chart]
        if down is None or len(lines) <= down:
            break
    else:
        lines = [line for line in lines if line][:down]
    return [cut(line, across) for line in lines]


def knob_text(name: str, value: float | None) -> str:
    """A knob's value with its unit."""
    if value is None:
        return UNKNOWN
    return duration(value) if name.endswith("_s") else f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def knob_changes(before: Mapping[str, float], after: KnobValues) -> str:
    """The knobs that change: 'max_batch 8 -> 16'."""
    return ", ".join(
        f"{plain(name)} {knob_text(name, before[name])} -> {knob_text(name, value)}"
        if name in before
        else f"{plain(name)} -> {knob_text(name, value)}"
        for name, value in after.items()
        if before.get(name) != value
    )


def loss_change(gain: float | None) -> str:
    """A gain as the change of the loss: '-6.0 %' is better."""
    return UNKNOWN if gain is None else f"{-100 * gain or 0.0:+.1f} %"


def _head(state: TuningState, now: float, across: int) -> list[StyledLine]:
    prefix = "" if state.workspace == "default" else f"{plain(state.workspace)}/"
    title: StyledLine = [(TITLE, f"{prefix}{plain(state.deployment)}"), (DIM, "  mode "), ("", state.mode)]
    lines = [[*title, (DIM, "  "), (_STATES.get(state.state, ""), plain(state.state))]]
    lines += _labelled("why", state.reason, across)
    lines += [row for text in [_next(state)] if text for row in _labelled("", text, across, DIM)]
    force = {knob.name: knob.value for knob in state.knobs}
    if state.trial is not None:
        lines += _labelled("trying", _trying(state.trial, force, now), across, WORSE)
    if state.asked is not None:
        lines += _labelled(
            "queued",
            f"{knob_changes(force, state.asked) or 'the values in force'}: begins at the tuner's next tick",
            across,
        )
    if state.recommended is not None:
        better = state.recommended
        loss = f"loss {loss_change(better.gain)}, at least {loss_change(better.least)}"
        found = f"{knob_changes(force, better.values)}: {loss}; found {age(now - better.at)} ago"
        lines += _labelled("better", found, across, GOOD)
        lines += _labelled("", f"kaon tune {state.deployment} --apply", across, DIM)
    if state.probation is not None and state.probation.until > now:
        left = age(state.probation.until - now)
        lines += _labelled("watched", f"rolled back if many calls fail, for {left} more", across)
    if state.off_until > now:
        lines += _labelled("paused", f"three rollbacks in an hour: no trials until {stamp(state.off_until)}", across)
    return [*lines, *_twin(state, now, across), []]


def _next(state: TuningState) -> str:
    """The next command where the tuner will not act by itself; else empty."""
    name = state.deployment
    if state.mode is TuningMode.OFF:
        return f"kaon tune {name} --recommend"
    if _untuned(state):
        return f"kaon scale {name} --min 1 --max 4 gives it a choice; @kaon.endpoint(batch=...) gives it batches"
    return ""


def _untuned(state: TuningState) -> bool:
    """Whether no knob is tuned; the tuner is idle then."""
    return bool(state.knobs) and not any(knob.tuned for knob in state.knobs)


def _trying(trial: TrialStatus, force: KnobValues, now: float) -> str:
    """A trial: knobs, replicas, start, predicted gain, the key that requested it."""
    if trial.reach is Reach.REPLICA:
        where = f"on {trial.replicas} replica{'s' if trial.replicas != 1 else ''}"
    else:
        where = f"on all replicas by turns, {'on' if trial.trying else 'off'} now"
        where += f", for {age(trial.until - now)}" if trial.until > now else ""
    parts = [f"{knob_changes(force, trial.after)} {where}", f"since {since(trial.since, now)}"]
    parts += [f"predicted: loss {loss_change(trial.predicted)}"] if trial.predicted is not None else []
    parts += [f"requested by key '{trial.asked_by}'"] if trial.asked_by else []
    return ", ".join(parts)


def _twin(state: TuningState, now: float, across: int) -> list[StyledLine]:
    if _untuned(state):
        return []
    verdict, style = {None: ("", ""), True: ("trusted", GOOD), False: ("not trusted", WORSE)}[state.trusted]
    parts = [part for part in (verdict, "" if state.twin in state.reason else state.twin) if part]
    text = ": ".join(parts) or ("not available" if state.twin else "no prediction yet")
    if state.epochs:
        text += f"; {state.epochs} prediction{'s' if state.epochs != 1 else ''}"
    if state.state != "learning" and state.next_epoch_at is not None and state.next_epoch_at > now:
        text += f"; {'next' if state.epochs else 'first'} in {age(state.next_epoch_at - now)}"
    return _labelled("twin", text, across, style)


def _labelled(label: str, text: str, across: int, style: str = "") -> list[StyledLine]:
    """A text beside its label, wrapped."""
    rows = textwrap.wrap(plain(text), max(20, across - LABEL), break_on_hyphens=False) or [UNKNOWN]
    return [[(DIM, f"{label if n == 0 else '':<{LABEL}}"), (style, row)] for n, row in enumerate(rows)]


def _knobs(state: TuningState, across: int, *, described: bool) -> list[StyledLine]:
    """The knobs as a table without empty columns; descriptions are beside the values, or below where that is narrow."""
    if not state.knobs:
        return [[(DIM, "no knobs yet")], []]
    titles = ["knob", "in force", "usual", "range"]
    cells = [[k.name, knob_text(k.name, k.value), knob_text(k.name, k.usual), _range(k)] for k in state.knobs]
    for title, values in (
        ("tried", [k.tried for k in state.knobs]),
        ("better", [k.recommended for k in state.knobs]),
    ):
        if any(value is not None for value in values):
            titles.append(title)
            for row, knob, value in zip(cells, state.knobs, values, strict=True):
                row.append(UNKNOWN if value == knob.value else knob_text(knob.name, value))
    wide = [max(width(row[n]) for row in [titles, *cells]) for n in range(len(titles))]
    begin = sum(wide) + 2 * len(wide)
    beside = described and across - begin >= _DESCRIPTION
    lines: list[StyledLine] = [[(DIM, _row(titles, wide) + ("  description" if beside else ""))]]
    for row, knob in zip(cells, state.knobs, strict=True):
        description = knob.what if knob.tuned else f"{knob.what} Changed by hand only."
        rest = textwrap.wrap(plain(description), across - (begin if beside else 4)) if described else []
        first = f"  {rest.pop(0)}" if beside and rest else ""
        lines.append([("" if knob.value == knob.usual else TITLE, _row(row, wide)), (DIM, first)])
        lines += [[(DIM, " " * (begin if beside else 4) + text)] for text in rest]
    return [*lines, []]


def _row(cells: Sequence[str], wide: Sequence[int]) -> str:
    """The name left-aligned, the values right-aligned."""
    return "  ".join(
        plain(cell).ljust(size) if n == 0 else plain(cell).rjust(size)
        for n, (cell, size) in enumerate(zip(cells, wide, strict=True))
    )


def _range(knob: KnobState) -> str:
    return f"{knob_text(knob.name, knob.low)} to {knob_text(knob.name, knob.high)}"


def _trials(trials: Sequence[Tried], now: float, across: int, limit: int) -> list[StyledLine]:
    """The last trials, newest last: predicted and realised gain."""
    shown = trials[-limit:]
    if not shown:
        return [[(DIM, "no trials yet")], []]
    titles = ("when", "loss predicted", "realised", "outcome", "tried")
    rows = [
        (
            f"{age(now - t.at)} ago",
            loss_change(t.predicted),
            loss_change(t.realised),
            plain(t.outcome),
            knob_changes(t.before, t.after),
        )
        for t in shown
    ]
    wide = [max(width(row[n]) for row in (titles, *rows)) for n in range(4)]
    begin = sum(wide) + 2 * len(wide)
    lines: list[StyledLine] = [[(DIM, _row(titles[:3], wide[:3]) + f"  {titles[3]:<{wide[3]}}  {titles[4]}")]]
    for tried, row in zip(shown, rows, strict=True):
        moves = textwrap.wrap(row[4], max(20, across - begin)) or [""]
        outcome = (_OUTCOMES.get(tried.outcome, ""), f"  {row[3]:<{wide[3]}}  ")
        lines.append([("", _row(row[:3], wide[:3])), outcome, ("", moves[0])])
        lines += [[("", " " * begin + more)] for more in moves[1:]]
        lines += _labelled("", tried.reason, across, DIM)
    return [*lines, []]


def _losses(state: TuningState, across: int) -> list[StyledLine]:
    """The loss by the minute, the minutes of trials, and the parts of the loss."""
    points = state.losses
    losses = [point.loss for point in points if point.loss is not None]
    if not losses:
        return [[(DIM, "no minute with calls yet")]]
    wide = max(10, across - LABEL - _FIGURES)
    totals = [None if p.loss is None else p.loss.total for p in points]
    drawn = len(fitted(totals, wide))
    legend = " by the minute; below its parts, all on one scale"
    if len(legend) > drawn + LABEL - 4:
        legend = " by the minute, and its parts"
    title: StyledLine = [(TITLE, "loss"), (DIM, f"{legend:<{drawn + LABEL - 4}}")]
    total = bars(totals, wide, _HEIGHT, "cyan", _scale_end([loss.total for loss in losses]), _loss)
    total[0].append(_figures([loss.total for loss in losses]))
    lines = [[*title, (DIM, " now/most")], *total]
    if any(point.tried for point in points):
        turns = fitted([1.0 if point.tried else None for point in points], wide)
        lines.append([(DIM, f"{'tried':>{LABEL - 2}} ┤"), (WORSE, "".join("▔" if on else " " for on in turns))])
    lines += _parts(points, state.weights, wide)
    begin = f"{len(points)}m ago"
    return [*lines, [(DIM, " " * LABEL + begin + "now".rjust(max(3, drawn - len(begin))))]]


def _parts(points: Sequence[LossPoint], weights: Weights, wide: int) -> list[StyledLine]:
    """A line for each part, on one scale."""
    parts = [None if p.loss is None else parts_of(p.loss, weights) for p in points]
    present = {name: [part[name] for part in parts if part is not None] for name in _PARTS}
    top = max(_scale_end(values) for values in present.values())
    lines = []
    for name in _PARTS:
        values = [None if part is None else part[name] for part in parts]
        (_, drawn) = bars(values, wide, 1, BAD if name == "misses" else "cyan", top, _loss)[0]
        lines.append([(DIM, f"{name:>{LABEL - 2}} ┤"), drawn, _figures(present[name])])
    return lines


def _scale_end(values: Sequence[float]) -> float:
    """The end of a scale: at most 1.2 times the 95th percentile, so that a burst does not flatten the rest."""
    ranked = sorted(values)
    return max(min(ranked[-1], 1.2 * ranked[math.ceil(0.95 * len(ranked)) - 1]), 0.01)


def parts_of(loss: LossParts, weights: Weights) -> dict[str, float]:
    """What each part adds to a loss."""
    return {
        "cost": weights.cost * loss.cost,
        "latency": weights.latency * loss.latency,
        "misses": loss.price * loss.completion,
        "busy": weights.utilisation * loss.utilisation,
    }


def _figures(values: Sequence[float]) -> tuple[str, str]:
    return DIM, f" {_loss(values[-1])}/{_loss(max(values))}"


def _loss(value: float) -> str:
    return f"{value:.2f}" if value < 9.995 else f"{value:.1f}" if value < 99.95 else number(round(value))
