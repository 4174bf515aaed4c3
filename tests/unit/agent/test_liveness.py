"""Whether a silent replica is busy or hung."""

from hypothesis import given
from hypothesis import strategies as st

from kaon.agent.decide.liveness import HUNG_S, START_S, judge
from kaon.types.flight import Flight

SECONDS = st.floats(0, 5000)


def flight(left_s: float) -> Flight:
    return Flight(request_id="one", left_s=left_s)


@given(SECONDS, st.lists(st.floats(-5000, 5000), min_size=1))
def test_a_replica_is_never_hung_while_a_call_in_flight_is_in_time(silent_s: float, lefts: list[float]) -> None:
    silence = judge(silent_s, [flight(left_s) for left_s in lefts], None)
    if max(lefts) > 0:
        assert silence.busy
        assert not silence.hung


@given(SECONDS, st.lists(st.floats(-5000, 0)))
def test_it_is_hung_ten_seconds_after_the_last_call_should_have_ended_and_no_sooner(
    silent_s: float, lefts: list[float]
) -> None:
    overdue_s = min([silent_s, *(-left_s for left_s in lefts)])
    assert judge(silent_s, [flight(left_s) for left_s in lefts], None).hung == (overdue_s >= HUNG_S)


@given(SECONDS, st.floats(0.1, 3600))
def test_a_start_may_be_silent_for_as_long_as_it_may_take(silent_s: float, start_s: float) -> None:
    silence = judge(silent_s, [], start_s)
    assert silence.hung == (silent_s >= max(START_S, start_s))
    assert not silence.busy


def test_the_reason_says_for_how_long_and_where_to_look() -> None:
    assert judge(12.4, [], None).reason == (
        "It did not answer for 12 s, and no call in flight has time left; the stacks of its threads are in its log."
    )
