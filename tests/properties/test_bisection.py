"""Whatever a proxy refuses is found, alone, with few tries, and everything else is taken in."""

from __future__ import annotations

import math

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.figures import examples

from kaon.edge.bisection import Bisection


class Proxy:
    """Refuses every table that has one of its bad rules; else the table is in force."""

    def __init__(self, bad: set[int]) -> None:
        self.bad = bad
        self.in_force: frozenset[int] = frozenset()
        self.tries = 0
        self.lost: set[int] = set()

    def take(self, table: frozenset[int]) -> str:
        self.tries += 1
        if found := table & self.bad:
            return f"{min(found)} is bad"
        self.lost |= self.in_force - table
        self.in_force = table
        return ""


@settings(max_examples=examples(100), deadline=None)
@given(
    changes=st.lists(st.integers(0, 10_000), unique=True, min_size=1, max_size=200),
    bad=st.sets(st.integers(0, 199), max_size=6),
    suspects=st.sets(st.integers(0, 199), max_size=6),
)
def test_exactly_the_bad_changes_are_left_out(changes: list[int], bad: set[int], suspects: set[int]) -> None:
    n = len(changes)
    chosen = {changes[i % n] for i in bad}
    proxy = Proxy(chosen)
    search = Bisection(changes, {changes[i % n] for i in suspects})
    while (trying := search.trying) is not None:
        search.report(proxy.take(trying))
    assert search.refused.keys() == chosen
    assert search.taken == set(changes) - chosen
    assert proxy.in_force == search.taken
    assert not proxy.lost  # nothing that was taken in is taken out again on the way
    assert proxy.tries <= 2 + 2 * len(chosen) * (1 + math.ceil(math.log2(n)) if n > 1 else 1)


@given(st.sets(st.integers(0, 500), min_size=2, max_size=100))
def test_all_others_wait_for_one_try_when_those_at_fault_are_known(changes: set[int]) -> None:
    (culprit, *others) = changes
    search = Bisection(sorted(changes), {culprit})
    assert search.trying == set(others)


def test_each_refusal_comes_with_its_own_reason() -> None:
    proxy, search = Proxy({3, 7}), Bisection(range(10))
    while (trying := search.trying) is not None:
        search.report(proxy.take(trying))
    assert search.refused == {3: "3 is bad", 7: "7 is bad"}
