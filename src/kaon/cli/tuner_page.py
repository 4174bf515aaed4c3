"""How a tuner stands, as a picture for a terminal: state, knobs, what was tried, the loss by its parts. Pure."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence

from kaon.cli.drawing import (
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
from kaon.cli.text import age, plain, since, stamp, width
from kaon.types.knobs import KnobValues
from kaon.types.objective import Weights
from kaon.types.tuning import KnobState, LossPoint, Reach, TrialStatus, Tried, TuningMode, TuningState
from kaon.types.window import LossParts

_STATES = {"trying": WORSE, "frozen": WORSE, "recommending": GOOD}
_OUTCOMES = {"promoted": GOOD, "rejected": WORSE, "rolled back": BAD, "went back": BAD}
_FULLNESS = ((True, 8), (True, 4), (True, 2), (False, 4), (False, 2), (False, 1))
"""Whether there are words on knobs, and how many trials: the most of it that fits."""
_LEAST = 32
"""Columns that the words on a knob need to stand beside it."""
_HEIGHT = 4
_FIGURES = 11
"""Columns at the right of a chart: its last and its highest value."""
_PARTS = ("cost", "latency", "misses", "busy")


def picture(state: TuningState, now: float, across: int, down: int | None = None) -> list[StyledLine]:
    """All of it, `across` columns wide; to fit `down` lines it leaves out words, trials, what is empty."""
    head, chart = _head(state, now, across), _losses(state, across)
    for words, most in _FULLNESS:
        lines = [*head, *_knobs(state, across, words=words), *_trials(state.trials, now, across, most), *chart]
        if down is None or len(lines) <= down:
            break
    else:
        lines = [line for line in lines if line][:down]
    return [cut(line, across) for line in lines]


def valued(name: str, value: float | None) -> str:
    """A knob's value as people read it."""
    if value is None:
        return UNKNOWN
    return duration(value) if name.endswith("_s") else f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def moved(before: Mapping[str, float], after: KnobValues) -> str:
    """A move of knobs: 'max_batch 8 -> 16'."""
    return ", ".join(
        f"{plain(name)} {valued(name, before[name])} -> {valued(name, value)}"
        if name in before
        else f"{plain(name)} -> {valued(name, value)}"
        for name, value in after.items()
        if before.get(name) != value
    )


def changed(gain: float | None) -> str:
    """What a gain does to the loss, in per cent of it: '-6.0 %' is better."""
    return UNKNOWN if gain is None else f"{-100 * gain or 0.0:+.1f} %"


def _head(state: TuningState, now: float, across: int) -> list[StyledLine]:
    home = "" if state.workspace == "default" else f"{plain(state.workspace)}/"
    title: StyledLine = [(TITLE, f"{home}{plain(state.deployment)}"), (DIM, "  mode "), ("", state.mode)]
    lines = [[*title, (DIM, "  "), (_STATES.get(state.state, ""), plain(state.state))]]
    lines += _said("why", state.reason, across)
    lines += [row for text in [_next(state)] if text for row in _said("", text, across, DIM)]
    force = {knob.name: knob.value for knob in state.knobs}
    if state.trial is not None:
        lines += _said("trying", _trying(state.trial, force, now), across, WORSE)
    if state.asked is not None:
        lines += _said(
            "asked", f"{moved(force, state.asked) or 'what is in force'}: it begins when the tuner looks next", across
        )
    if state.recommended is not None:
        better = state.recommended
        found = f"{moved(force, better.values)}: loss {changed(better.gain)}, {changed(better.least)} at least"
        lines += _said("better", f"{found}; found {age(now - better.at)} ago", across, GOOD)
        lines += _said("", f"kaon tune {state.deployment} --apply", across, DIM)
    if state.probation is not None and state.probation.until > now:
        left = age(state.probation.until - now)
        lines += _said("watched", f"what was promoted goes back if many calls are missed, for {left} more", across)
    if state.off_until > now:
        lines += _said("paused", f"three rollbacks in an hour: nothing is tried until {stamp(state.off_until)}", across)
    return [*lines, *_twin(state, now, across), []]


def _next(state: TuningState) -> str:
    """What to type where the tuner is not likely to do anything by itself; empty: it is."""
    name = state.deployment
    if state.mode is TuningMode.OFF:
        return f"kaon tune {name} --recommend"
    if _untuned(state):
        return f"kaon scale {name} --min 1 --max 4 gives it a choice; @kaon.endpoint(batch=...) gives it batches"
    return ""


def _untuned(state: TuningState) -> bool:
    """Whether nothing of it is tuned: the tuner does not even look."""
    return bool(state.knobs) and not any(knob.tuned for knob in state.knobs)


def _trying(trial: TrialStatus, force: KnobValues, now: float) -> str:
    """A trial: what, where, since when, what it promises, who asked."""
    if trial.reach is Reach.REPLICA:
        where = f"on {trial.replicas} replica{'s' if trial.replicas != 1 else ''}"
    else:
        where = "on all replicas by turns, " + ("on now" if trial.trying else "off now")
        where += f", for {age(trial.until - now)}" if trial.until > now else ""
    parts = [f"{moved(force, trial.after)} {where}", f"since {since(trial.since, now)}"]
    parts += [f"predicted: loss {changed(trial.predicted)}"] if trial.predicted is not None else []
    parts += [f"key '{trial.asked_by}' asked for it"] if trial.asked_by else []
    return ", ".join(parts)


def _twin(state: TuningState, now: float, across: int) -> list[StyledLine]:
    if _untuned(state):
        return []
    word, style = {None: ("", ""), True: ("right", GOOD), False: ("not believed", WORSE)}[state.trusted]
    parts = [part for part in (word, "" if state.twin in state.reason else state.twin) if part]
    said = ": ".join(parts) or ("cannot be asked" if state.twin else "not asked yet")
    if state.epochs:
        said += f"; asked {state.epochs} time{'s' if state.epochs != 1 else ''}"
    if state.state != "learning" and state.next_epoch_at is not None and state.next_epoch_at > now:
        said += f"; {'again' if state.epochs else 'first'} in {age(state.next_epoch_at - now)}"
    return _said("twin", said, across, style)


def _said(label: str, text: str, across: int, style: str = "") -> list[StyledLine]:
    """A text under its label, over as many lines as it needs."""
    rows = textwrap.wrap(plain(text), max(20, across - LABEL), break_on_hyphens=False) or [UNKNOWN]
    return [[(DIM, f"{label if n == 0 else '':<{LABEL}}"), (style, row)] for n, row in enumerate(rows)]


def _knobs(state: TuningState, across: int, *, words: bool) -> list[StyledLine]:
    """The knobs as a table; what nothing is said of has no column. `words` say what each is: beside it, or below."""
    if not state.knobs:
        return [[(DIM, "no knobs are known yet")], []]
    titles = ["knob", "in force", "usual", "range"]
    cells = [[k.name, valued(k.name, k.value), valued(k.name, k.usual), _range(k)] for k in state.knobs]
    for title, values in (
        ("tried", [k.tried for k in state.knobs]),
        ("better", [k.recommended for k in state.knobs]),
    ):
        if any(value is not None for value in values):
            titles.append(title)
            for row, knob, value in zip(cells, state.knobs, values, strict=True):
                row.append(UNKNOWN if value == knob.value else valued(knob.name, value))
    wide = [max(width(row[n]) for row in [titles, *cells]) for n in range(len(titles))]
    begin = sum(wide) + 2 * len(wide)
    beside = words and across - begin >= _LEAST
    lines: list[StyledLine] = [[(DIM, _row(titles, wide) + ("  what it is" if beside else ""))]]
    for row, knob in zip(cells, state.knobs, strict=True):
        what = knob.what if knob.tuned else f"{knob.what} Moved by hand only."
        said = textwrap.wrap(plain(what), across - (begin if beside else 4)) if words else []
        first = f"  {said.pop(0)}" if beside and said else ""
        lines.append([("" if knob.value == knob.usual else TITLE, _row(row, wide)), (DIM, first)])
        lines += [[(DIM, " " * (begin if beside else 4) + text)] for text in said]
    return [*lines, []]


def _row(cells: Sequence[str], wide: Sequence[int]) -> str:
    """The name at the left, the values at the right of their columns."""
    return "  ".join(
        plain(cell).ljust(size) if n == 0 else plain(cell).rjust(size)
        for n, (cell, size) in enumerate(zip(cells, wide, strict=True))
    )


def _range(knob: KnobState) -> str:
    return f"{valued(knob.name, knob.low)} to {valued(knob.name, knob.high)}"


def _trials(trials: Sequence[Tried], now: float, across: int, most: int) -> list[StyledLine]:
    """What was tried, the newest last: what was promised beside what came of it."""
    shown = trials[-most:]
    if not shown:
        return [[(DIM, "nothing was tried yet")], []]
    titles = ("when", "loss predicted", "realised", "outcome", "tried")
    rows = [
        (
            f"{age(now - t.at)} ago",
            changed(t.predicted),
            changed(t.realised),
            plain(t.outcome),
            moved(t.before, t.after),
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
        lines += _said("", tried.reason, across, DIM)
    return [*lines, []]


def _losses(state: TuningState, across: int) -> list[StyledLine]:
    """The loss by the minute, when other values were tried, and the parts that it is the sum of."""
    points = state.losses
    known = [point.loss for point in points if point.loss is not None]
    if not known:
        return [[(DIM, "no minute of calls has been counted yet")]]
    wide = max(10, across - LABEL - _FIGURES)
    totals = [None if p.loss is None else p.loss.total for p in points]
    drawn = len(fitted(totals, wide))
    under = " by the minute; below its parts, all to one scale"
    said = under if len(under) <= drawn + LABEL - 4 else " by the minute, and its parts"
    title: StyledLine = [(TITLE, "loss"), (DIM, f"{said:<{drawn + LABEL - 4}}")]
    total = bars(totals, wide, _HEIGHT, "cyan", _most([loss.total for loss in known]), _loss)
    total[0].append(_figures([loss.total for loss in known]))
    lines = [[*title, (DIM, " now/most")], *total]
    if any(point.tried for point in points):
        turns = fitted([1.0 if point.tried else None for point in points], wide)
        lines.append([(DIM, f"{'tried':>{LABEL - 2}} ┤"), (WORSE, "".join("▔" if on else " " for on in turns))])
    lines += _parts(points, state.weights, wide)
    begin = f"{len(points)}m ago"
    return [*lines, [(DIM, " " * LABEL + begin + "now".rjust(max(3, drawn - len(begin))))]]


def _parts(points: Sequence[LossPoint], weights: Weights, wide: int) -> list[StyledLine]:
    """A line for each part, to one scale: it is seen at once which of them matters."""
    parts = [None if p.loss is None else parts_of(p.loss, weights) for p in points]
    known = {name: [part[name] for part in parts if part is not None] for name in _PARTS}
    most = max(_most(values) for values in known.values())
    lines = []
    for name in _PARTS:
        values = [None if part is None else part[name] for part in parts]
        (_, drawn) = bars(values, wide, 1, BAD if name == "misses" else "cyan", most, _loss)[0]
        lines.append([(DIM, f"{name:>{LABEL - 2}} ┤"), drawn, _figures(known[name])])
    return lines


def _most(values: Sequence[float]) -> float:
    """Where a scale ends: at the highest; but one burst must not flatten all others, so where nineteen of twenty do."""
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
