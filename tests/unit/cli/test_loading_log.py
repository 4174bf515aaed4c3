"""What a slow constructor writes is shown while `kaon deploy` waits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.replicas import replica_status

from kaon.cli.shared.loading_log import LoadingLog, added
from kaon.drivers.port import LogLine
from kaon.errors import Unavailable
from kaon.types.replica import Phase

LOADING = replica_status("0" * 12, Phase.LOADING, name="slow-1-0")
READY = LOADING.model_copy(update={"phase": Phase.READY})


def line(text: str) -> LogLine:
    return LogLine(replica="slow-1-0", text=text, at=0.0)


def test_prints_are_shown_once_each_and_the_last_when_it_is_ready() -> None:
    written: list[LogLine] = []
    log = LoadingLog(lambda replica: list(written))
    shown: list[list[str]] = []
    for second, text in enumerate(["shard 0", "shard 1", "shard 1", "", "done"]):
        written += [line(text)] if text else []
        shown.append(
            [row.split("  ", 2)[-1].strip() for row in log.new_lines(LOADING if text != "done" else READY, second)]
        )
    assert shown == [[], ["shard 0", "shard 1"], ["shard 1"], [], ["done"]]
    assert log.new_lines(READY, 9) == []


def test_the_log_of_a_short_start_is_not_read() -> None:
    log = LoadingLog(lambda replica: pytest.fail("it was read"))
    assert [log.new_lines(LOADING, 0.0), log.new_lines(LOADING, 0.5), log.new_lines(READY, 0.9)] == [[], [], []]
    assert log.new_lines(None, 5) == []


def test_the_wait_goes_on_when_the_log_cannot_be_read_and_nothing_is_shown_twice() -> None:
    answers = iter([[line("a")], Unavailable("The agent is away.", hint="Wait."), [line("a"), line("b")]])

    def read(_: str) -> list[LogLine]:
        answer = next(answers)
        if isinstance(answer, Unavailable):
            raise answer
        return answer

    log = LoadingLog(read)
    counts = [len(log.new_lines(LOADING, second)) for second in range(4)]
    assert counts == [0, 1, 0, 1]


@given(st.lists(st.integers(), unique=True, max_size=20), st.integers(0, 20), st.integers(1, 8))
def test_two_ends_of_a_log_give_the_lines_between_them(numbers: list[int], earlier: int, tail: int) -> None:
    log = [line(str(number)) for number in numbers]
    before, after = log[:earlier][-tail:], log[-tail:]
    assert list(added(before, after)) == log[earlier:][-tail:]
