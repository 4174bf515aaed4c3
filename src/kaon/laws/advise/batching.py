"""Findings about knobs: batches that never fill, and the tuner's recommendation."""

from __future__ import annotations

from kaon.laws import service_time
from kaon.laws.advise.minute import AdviceMinute, FindingText, duration, share
from kaon.laws.advise.state import AdviceState
from kaon.types.tuning import TuningMode

_EMPTY = 0.25
"""Batches with a lower mean fill count as never full."""
_WORTH = 0.9
"""Largest share of the present work that is left by a change worth advising."""
_WAIT_SHARE = 0.1
"""Share of the target latency for which a call may be held for others."""
_OF_BATCHES = {"max_batch", "max_wait_s"}


def batch(state: AdviceState, minute: AdviceMinute) -> FindingText | bool | None:
    """Batches are nearly empty, replicas are busy, and the cost of a batch hardly depends on its rows."""
    window, terms, batches = minute.window, minute.terms, minute.batches
    service = service_time.learn(state.service, batches)
    if window.batch_rows is None or window.busy is None or not service.learned or not minute.enough:
        return None
    rows, most = window.batch_rows, terms.largest_batch
    if (
        most <= 1
        or rows >= _EMPTY * most
        or window.busy < terms.objective.utilisation[0]
        or terms.mode is TuningMode.AUTO
    ):
        return False
    a, b = service.line()
    if a + b <= 0:
        return False
    evidence = (
        f"batches have {rows:.1f} rows on average, of at most {most}; replicas are busy {share(window.busy)} of the "
        f"time; a batch takes {duration(b)}, and {duration(a)} more for each row"
    )
    recommended = terms.recommended
    if recommended is not None and terms.mode is TuningMode.RECOMMEND and _OF_BATCHES & recommended.values.keys():
        return _applied(minute, f"{evidence}; {_found(minute)}")
    rps = batches.rows / window.span_s / max(window.ready, 1)
    wait_s = min(_WAIT_SHARE * terms.objective.latency_s, (most - 1) / max(rps, 1e-9))
    knob = terms.knobs.get("max_wait_s")
    if (
        knob is not None
        and terms.mode is TuningMode.RECOMMEND
        and knob.value < (held := _round(min(wait_s, knob.high)))
    ):
        fuller, command = min(most, rows + rps * (held - knob.value)), f"tune NAME --try max_wait_s={held:g}"
    else:
        fuller = float(service.best(most, terms.objective.patience_s)[0])
        command = "tune NAME --recommend" if terms.mode is TuningMode.OFF else "tune NAME --auto"
    left = (a + b / max(fuller, rows)) / (a + b / rows) if rows > 0 else 1.0
    if left > _WORTH:
        return False
    gain = f"busy {share(window.busy * left)} instead of {share(window.busy)}, with {fuller:.1f} rows in a batch"
    return FindingText(evidence, gain, terms.command(command))


def knobs(_: AdviceState, minute: AdviceMinute) -> FindingText | bool | None:
    """The tuner recommends better values."""
    terms = minute.terms
    if terms.recommended is None or terms.mode is not TuningMode.RECOMMEND:
        return False
    return _applied(minute, _found(minute))


def _found(minute: AdviceMinute) -> str:
    assert minute.terms.recommended is not None
    values = ", ".join(f"{name}={value:g}" for name, value in minute.terms.recommended.values.items())
    return f"the tuner's twin predicts that {values} is better"


def _applied(minute: AdviceMinute, evidence: str) -> FindingText:
    better = minute.terms.recommended
    assert better is not None
    gain = f"a loss that is {share(better.gain)} lower, {share(better.least)} at least"
    return FindingText(evidence, gain, minute.terms.command("tune NAME --apply"))


def _round(seconds: float) -> float:
    """To two digits, for typing."""
    return float(f"{seconds:.2g}")
