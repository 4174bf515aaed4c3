"""What advice must never be, whatever is seen."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from kaon.laws import advise
from kaon.laws.advise import FIRM, Seen, State
from kaon.types.advice import Finding
from kaon.types.objective import Objective
from kaon.types.window import LossParts, Window

shares = st.none() | st.floats(0, 1)
seconds = st.none() | st.floats(0, 100)


@st.composite
def sights(draw: st.DrawFn) -> Seen:
    completed = draw(shares)
    loss = (
        None
        if completed is None
        else LossParts(total=1, latency=0, completion=0, utilisation=0, cost=0, completed=completed, price=1)
    )
    window = Window(
        at_s=draw(st.floats(0, 1e6)),
        span_s=60,
        arrivals=draw(st.none() | st.integers(0, 10_000)),
        failed=draw(shares),
        p99_s=draw(seconds),
        busy=draw(shares),
        batch_rows=draw(st.none() | st.floats(0, 32)),
        start_s=draw(seconds),
        ready=draw(st.integers(0, 20)),
        starting=draw(st.integers(0, 5)),
        loss=loss,
    )
    least = draw(st.integers(0, 10))
    return Seen(
        "greeter",
        window,
        Objective(),
        least,
        least + draw(st.integers(0, 10)),
        draw(st.none() | st.integers(1, 64)),
        draw(st.none() | st.integers(0, 2**34)),
        draw(st.none() | st.integers(2**24, 2**34)),
        draw(st.none() | st.integers(0, 10_000)),
    )


@settings(max_examples=60)
@given(st.lists(st.tuples(sights(), st.integers(1, 12)), max_size=8))
def test_advice_is_whole_debounced_and_never_contradicts_itself(history: list[tuple[Seen, int]]) -> None:
    state, windows = State(), 0
    for seen, times in history:
        for _ in range(times):
            state, advice = advise.step(state, seen)
            windows += 1
            told = {a.finding for a in advice}
            assert not {Finding.OVERSIZED, Finding.UNDERSIZED} <= told
            assert len(told) == len(advice)
            assert windows >= FIRM or not told
            assert all(a.evidence and a.gain and a.command.startswith("kaon ") for a in advice)
            bounds = {a.finding: int(a.command.split()[-1]) for a in advice if a.command.startswith("kaon scale")}
            assert bounds.get(Finding.OVERSIZED, 1) >= 1


@given(st.integers(1, 100))
def test_no_figures_no_advice(windows: int) -> None:
    state = State()
    for i in range(windows):
        state, advice = advise.step(state, Seen("greeter", Window(at_s=60.0 * i, span_s=60), Objective()))
        assert advice == ()
