"""The sequential test: how rarely it cries wolf, how soon it sees one, and what it says."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaon.laws.sequential import Counts, SequentialVerdict, compare


def looks(
    p: float, q: float, *, margin: float, share: float, calls: int, seed: int, every: int = 20
) -> list[SequentialVerdict]:
    """What is said at each look at calls that go to the new one with a probability of `share`; new fails with `p`."""
    dice = random.Random(seed)
    new, new_bad, old, old_bad, said = 0, 0, 0, 0, []
    for number in range(1, calls + 1):
        if dice.random() < share:
            new, new_bad = new + 1, new_bad + (dice.random() < p)
        else:
            old, old_bad = old + 1, old_bad + (dice.random() < q)
        if number % every == 0:
            said.append(compare(Counts(new, new_bad), Counts(old, old_bad), margin).verdict)
    return said


@pytest.mark.parametrize(("p", "q"), [(0.01, 0.0), (0.03, 0.02), (0.31, 0.3), (0.02, 0.02)])
def test_looked_at_again_and_again_it_calls_a_good_one_worse_in_at_most_5_percent(p: float, q: float) -> None:
    """At the very edge of what is allowed, where it is hardest; a test for one look is wrong in about a third."""
    runs = 200
    wrong = sum(
        SequentialVerdict.WORSE in looks(p, q, margin=0.01, share=0.3, calls=4000, seed=seed, every=80)
        for seed in range(runs)
    )
    assert wrong <= 0.05 * runs


@pytest.mark.parametrize(("p", "calls"), [(1.0, 20), (0.3, 60), (0.1, 250), (0.05, 1000)])
def test_a_worse_one_is_found_in_few_of_its_calls(p: float, calls: int) -> None:
    """Of 20 runs each with 5 % of the traffic, at least 19 are found by then."""
    found = sum(
        SequentialVerdict.WORSE in looks(p, 0.001, margin=0.01, share=0.05, calls=calls * 20, seed=seed)
        for seed in range(20)
    )
    assert found >= 19


def test_one_that_is_much_better_than_it_must_be_is_found_fine() -> None:
    assert looks(0.0, 0.0, margin=0.05, share=0.5, calls=1000, seed=1)[-1] is SequentialVerdict.FINE
    assert looks(0.0, 0.1, margin=0.01, share=0.5, calls=1000, seed=1)[-1] is SequentialVerdict.FINE


def test_without_calls_there_is_no_verdict() -> None:
    assert compare(Counts(), Counts(1000, 0), 0.01).verdict is SequentialVerdict.UNKNOWN
    assert compare(Counts(), Counts(), 0.01).odds == 1


def test_the_figures_are_shown_in_a_sentence() -> None:
    evidence = compare(Counts(80, 12), Counts(1500, 3), 0.01)
    assert evidence.verdict is SequentialVerdict.WORSE
    assert evidence.words("failed") == ("12 of 80 calls failed (15 %), against 3 of 1,500 (0.2 %) of the old revision")


sides = st.integers(0, 100_000).flatmap(lambda calls: st.builds(Counts, st.just(calls), st.integers(0, calls)))


@given(sides, sides, st.floats(0.001, 0.9), st.floats(0.001, 0.2))
def test_any_counts_have_an_answer_that_fits_them(new: Counts, old: Counts, margin: float, level: float) -> None:
    evidence = compare(new, old, margin, level)
    assert compare(new, old, margin, level) == evidence
    assert evidence.odds >= 1
    assert (evidence.leans is SequentialVerdict.WORSE) == (new.share > old.share + margin)
    assert evidence.verdict in (SequentialVerdict.UNKNOWN, evidence.leans)
    assert (evidence.verdict is SequentialVerdict.UNKNOWN) == (evidence.odds < evidence.needed * (1 - 1e-9))


@given(st.integers(1, 5000), st.integers(0, 5000))
def test_more_calls_of_the_same_kind_never_weaken_the_evidence(calls: int, bad: int) -> None:
    new, old = Counts(calls, min(bad, calls)), Counts(calls, 0)
    more = compare(Counts(new.calls * 10, new.bad * 10), Counts(old.calls * 10, 0), 0.01)
    whole = compare(new, old, 0.01)
    assert whole.verdict in (SequentialVerdict.UNKNOWN, more.verdict)
