"""Traces from files: what is read, what is refused, and what is replayed."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaon.errors import InvalidInput
from kaon.sim.trace import NS, Trace, calls, parse, per_second, read


def test_counts_of_seconds_are_replayed_as_they_are() -> None:
    found = parse("day", "second,count\n10,3\n11,0\n14,2\n")
    assert found == Trace("day", (3.0, 0.0, 0.0, 0.0, 2.0), 1.0, counted=True)
    times = calls(found, 1)
    assert [at // NS for at in times] == [0, 0, 0, 4, 4]
    assert times == sorted(times)
    assert times != calls(found, 2)


def test_rates_of_steps_and_counts_with_dates_are_rates() -> None:
    rates = parse("week", "t_s,rate_rps,cv\n0,5,1\n600,7,2\n")
    assert (rates.rates, rates.step_s, rates.counted) == ((5.0, 7.0), 600.0, False)
    counts = parse("elb", "timestamp,value\n2014-04-10 00:04:00,300\n2014-04-10 00:09:00,600\n")
    assert (counts.rates, counts.step_s) == ((1.0, 2.0), 300.0)


def test_a_step_that_is_left_out_is_on_a_straight_line() -> None:
    found = parse("gap", "t_s,rate_rps\n0,2\n60,2\n180,6\n")
    assert found.rates == (2.0, 2.0, 4.0, 6.0)


def test_rates_of_long_steps_go_in_straight_lines() -> None:
    seconds = per_second([0.0, 100.0], 10.0)
    assert len(seconds) == 20
    assert seconds[0] == 0.0
    assert seconds[9] == pytest.approx(45.0)
    assert seconds[-1] == 100.0


def test_calls_of_rates_are_a_poisson_process() -> None:
    found = calls(Trace("steady", (50.0,) * 40, 10.0), 3)
    assert len(found) == pytest.approx(20_000, rel=0.03)
    gaps = [b - a for a, b in pairwise(found)]
    mean = sum(gaps) / len(gaps)
    assert sum((gap / mean - 1) ** 2 for gap in gaps) / len(gaps) == pytest.approx(1.0, rel=0.1)


@given(st.lists(st.floats(0, 30), min_size=1, max_size=40), st.sampled_from([1.0, 2.5, 10.0]), st.booleans())
def test_calls_are_sorted_and_within_the_trace(rates: list[float], step_s: float, counted: bool) -> None:
    counted = counted and step_s == 1
    trace = Trace("any", tuple(map(float, map(int, rates))) if counted else tuple(rates), step_s, counted=counted)
    found = calls(trace, 7)
    assert found == sorted(found)
    assert all(0 <= at < (trace.span_s + 1) * NS for at in found)
    if counted:
        assert len(found) == trace.calls


def test_a_part_of_a_trace_and_more_of_it() -> None:
    whole = parse("day", "second,count\n0,1\n1,2\n2,3\n3,4\n")
    assert whole.part(1, 2).rates == (2.0, 3.0)
    assert whole.part(2, None).rates == (3.0, 4.0)
    assert whole.times(1) is whole
    assert whole.times(2.5).rates == (2.5, 5.0, 7.5, 10.0)
    with pytest.raises(InvalidInput, match="4 s long"):
        whole.part(4, None)


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("second,count\n0,1\n1,x\n", "line 3", "not a time and a number: 1,x"),
        ("second,count\n0,1\n1\n", "line 3", "not a time and a number"),
        ("second,count\n0,1\n\n0,2\n", "line 4", "not later than line 2"),
        ("second,count\n0,-1\n", "line 2", "a negative number of calls"),
        ("second,count\n0,nan\n", "line 2", "not a finite number"),
        ("second,count\n0,1e400\n", "line 2", "not a finite number"),
        ("second,count\n0.5,1\n", "line 2", "not a whole second"),
        ("second,count\n0,1.5\n", "line 2", "not a whole number of calls"),
        ("t_s,rate_rps\n0,1\n60,1\n90,1\n", "line 4", "30 s after the row before, not a multiple of 60 s"),
        ("timestamp,value\nyesterday,1\n", "line 2", "not a time and a number"),
    ],
)
def test_a_wrong_line_is_named(text: str, line: str, what: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse("day", text)
    assert refused.value.errors[0]["where"] == line
    assert what in refused.value.errors[0]["message"]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "no known header"),
        ("when,how many\n0,1\n", "no known header"),
        ("second,count\n", "no rows"),
        ("second,count\n0,0\n", "no calls"),
        ("second,count\n0,99999999\n", "more than 1e\\+06 calls in a second"),
        ("second,count\n0,1\n99999999,1\n", "longer than 31 days"),
        ("t_s,rate_rps\n0,1\n", "one row"),
        ("t_s,rate_rps\n0,1\n0.5,1\n", "shorter than a second"),
    ],
)
def test_what_is_no_trace_is_refused(text: str, what: str) -> None:
    with pytest.raises(InvalidInput, match=what):
        parse("day", text)


def test_of_many_wrong_lines_the_first_are_told(tmp_path: Path) -> None:
    file = tmp_path / "day.csv"
    file.write_text("second,count\n" + "x,y\n" * 50)
    with pytest.raises(InvalidInput, match="50 lines are wrong in day, the first 10") as refused:
        read(file)
    assert len(refused.value.errors) == 10


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    binary = tmp_path / "binary.csv"
    binary.write_bytes(b"\xff\xfe\x00\x01")
    for path, what in ((tmp_path / "none.csv", "cannot be read"), (tmp_path, "cannot be read"), (binary, "not text")):
        with pytest.raises(InvalidInput, match=what):
            read(path)
