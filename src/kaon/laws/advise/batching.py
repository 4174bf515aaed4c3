"""Findings that the knobs mend: batches that never fill, and what the tuner recommends."""

from __future__ import annotations

from kaon.laws import service_time
from kaon.laws.advise.minute import AdviceMinute, FindingText, duration, share
from kaon.laws.advise.state import AdviceState
from kaon.types.tuning import TuningMode

_EMPTY = 0.25
"""A batch that is in the mean filled less than this never fills."""
_WORTH = 0.9
"""Of the work that batches are now: what saves less than the rest is not worth a change."""
_WAIT_SHARE = 0.1
"""Of the latency that is wanted: a call may be held so long for others."""
_OF_BATCHES = {"max_batch", "max_wait_s"}


def batch(known: AdviceState, seen: AdviceMinute) -> FindingText | bool | None:
    """Batches are nearly empty, replicas are busy, and a batch costs much the same however full it is."""
    window, terms, batches = seen.window, seen.terms, seen.batches
    service = service_time.learn(known.service, batches)
    if window.batch_rows is None or window.busy is None or not service.known or not seen.enough:
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
        f"batches have {rows:.1f} rows in the mean, {most} may be, and replicas are busy {share(window.busy)} of the "
        f"time; a batch takes {duration(b)}, and {duration(a)} more for each row"
    )
    recommended = terms.recommended
    if recommended is not None and terms.mode is TuningMode.RECOMMEND and _OF_BATCHES & recommended.values.keys():
        return _applied(seen, f"{evidence}; {_found(seen)}")
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
    gain = f"busy {share(window.busy * left)} in place of {share(window.busy)}, with {fuller:.1f} rows in a batch"
    return FindingText(evidence, gain, terms.command(command))


def knobs(_: AdviceState, seen: AdviceMinute) -> FindingText | bool | None:
    """The tuner has found better values, and waits for a word."""
    terms = seen.terms
    if terms.recommended is None or terms.mode is not TuningMode.RECOMMEND:
        return False
    return _applied(seen, _found(seen))


def _found(seen: AdviceMinute) -> str:
    assert seen.terms.recommended is not None
    values = ", ".join(f"{name}={value:g}" for name, value in seen.terms.recommended.values.items())
    return f"the tuner's twin found {values} to be better"


def _applied(seen: AdviceMinute, evidence: str) -> FindingText:
    better = seen.terms.recommended
    assert better is not None
    gain = f"a loss that is {share(better.gain)} lower, {share(better.least)} at least"
    return FindingText(evidence, gain, seen.terms.command("tune NAME --apply"))


def _round(seconds: float) -> float:
    """Two digits are enough to type."""
    return float(f"{seconds:.2g}")
