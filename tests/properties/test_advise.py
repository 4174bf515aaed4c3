"""What advice must never be, for any observations."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from kaon.laws import advise
from kaon.laws.advise import FIRM, AdviceMinute, AdviceState, AdviceTerms
from kaon.types.advice import Advice, Finding
from kaon.types.observation import Batches
from kaon.types.tuning import KnobState, Reach, Recommendation, TuningMode
from kaon.types.window import LossParts, Window

shares = st.none() | st.floats(0, 1)
seconds = st.none() | st.floats(0, 100)
WAIT = KnobState(name="max_wait_s", what="", reach=Reach.REPLICA, low=0, high=0.2, usual=0, value=0)
BETTER = Recommendation(values={"max_batch": 4.0}, gain=0.08, least=0.03, at=1)


@st.composite
def terms(draw: st.DrawFn) -> AdviceTerms:
    least = draw(st.integers(0, 10))
    return AdviceTerms(
        "default",
        "greeter",
        least=least,
        most=draw(st.integers(least, 12) | st.just(1000)),
        largest_batch=draw(st.integers(1, 64)),
        memory_limit_bytes=draw(st.none() | st.integers(2**24, 2**34)),
        revision=draw(st.none() | st.integers(1, 3)),
        mode=draw(st.sampled_from(TuningMode)),
        recommended=draw(st.none() | st.just(BETTER)),
        knobs=draw(st.sampled_from([{}, {"max_wait_s": WAIT}])),
    )


@st.composite
def sights(draw: st.DrawFn) -> AdviceMinute:
    completed = draw(shares)
    loss = (
        None
        if completed is None
        else LossParts(total=1, latency=0, completion=0, utilisation=0, cost=0, completed=completed, price=1)
    )
    rows = draw(st.floats(1, 32))
    count = draw(st.integers(0, 5000))
    window = Window(
        at_s=0,
        span_s=60,
        arrivals=draw(st.none() | st.integers(0, 10_000)),
        codes=draw(st.none() | st.dictionaries(st.sampled_from(["2xx", "5xx", "shed", "none"]), st.integers(0, 5000))),
        failed=draw(shares),
        p90_s=draw(seconds),
        p99_s=draw(seconds),
        queue_s=draw(seconds),
        busy=draw(shares),
        batch_rows=rows if count else None,
        start_s=draw(seconds),
        ready=draw(st.integers(0, 20)),
        starting=draw(st.integers(0, 5)),
        memory_bytes=draw(st.none() | st.integers(0, 2**34)),
        loss=loss,
    )
    batches = Batches(
        count=count, rows=count * rows, seconds=count * 0.1, rows_squared=count * rows**2, rows_seconds=count * rows
    )
    return AdviceMinute(draw(terms()), window, draw(st.none() | st.integers(0, 10_000)), batches)


def bound(one: Advice, option: str) -> int | None:
    """What a command sets a bound of replicas to."""
    words = one.command.split()
    return int(words[words.index(option) + 1]) if option in words else None


def check(advice: tuple[Advice, ...], terms: AdviceTerms) -> None:
    """No two pieces of advice contradict each other, and each moves what there is, to where it may be."""
    kinds = [a.finding for a in advice]
    assert len(set(kinds)) == len(kinds)
    assert len({a.command for a in advice}) == len(advice), "the same is not advised twice"
    assert all(a.evidence and a.gain and a.command.startswith("kaon ") and "greeter" in a.command for a in advice)
    lows = [low for a in advice if (low := bound(a, "--min")) is not None]
    highs = [high for a in advice if (high := bound(a, "--max")) is not None]
    assert len(lows) <= 1
    assert len(highs) <= 1
    assert not (highs and lows), "more and less, or two who move the same bounds"
    assert all(terms.most < high <= 1000 for high in highs)
    for one in advice:
        if one.finding in (Finding.OVERSIZED, Finding.ELASTIC, Finding.IDLE):
            assert 0 <= (bound(one, "--min") or 0) < terms.least
        if one.finding is Finding.COLD_STARTS:
            assert (terms.least, bound(one, "--min")) == (0, 1)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(sights(), st.sampled_from([1, 2, 4, 5, 6, 40])), max_size=5))
def test_advice_is_whole_debounced_and_never_contradicts_itself(history: list[tuple[AdviceMinute, int]]) -> None:
    state, minutes = AdviceState(), 0
    for seen, times in history:
        for _ in range(times):
            minutes += 1
            at_s = 60.0 * minutes
            before = {a.finding for a in advise.advice(state)}
            state = advise.step(state, replace(seen, window=seen.window.model_copy(update={"at_s": at_s})))
            advice = advise.advice(state)
            check(advice, seen.terms)
            assert minutes >= FIRM or not advice
            assert all(a.since <= at_s - 60.0 * (FIRM - 1) for a in advice if a.finding not in before)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(sights(), st.sampled_from([5, 40])), min_size=1, max_size=3), terms())
def test_other_terms_leave_no_advice_that_contradicts_them(
    history: list[tuple[AdviceMinute, int]], after: AdviceTerms
) -> None:
    state, minutes = AdviceState(), 0
    for seen, times in history:
        for _ in range(times):
            minutes += 1
            state = advise.step(state, replace(seen, window=seen.window.model_copy(update={"at_s": 60.0 * minutes})))
    check(advise.advice(advise.adapt(state, after, 60.0 * minutes)), after)


@settings(max_examples=30, deadline=None)
@given(terms(), st.integers(1, 20))
def test_no_figures_no_advice(of: AdviceTerms, minutes: int) -> None:
    state = AdviceState()
    for i in range(minutes):
        state = advise.step(state, AdviceMinute(of, Window(at_s=60.0 * i, span_s=60)))
        assert {a.finding for a in advise.advice(state)} <= {Finding.KNOBS}, "which the tuner's own figures say"
