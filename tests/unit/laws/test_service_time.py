"""What a batch costs, and how many rows a call carries, from sums that fade."""

from __future__ import annotations

import pytest

from kaon.laws import service_time
from kaon.laws.service_time import ServiceTime
from kaon.types.observation import Batches

TWO = Batches(count=2, rows=12, seconds=0.5, rows_squared=72, rows_seconds=3.0)


def test_a_call_carries_as_many_rows_as_calls_that_began_say() -> None:
    service = ServiceTime()
    assert service.rows_per_call == 1
    for _ in range(10):
        service = service_time.learn(service, TWO, began=4)
    assert service.rows_per_call == pytest.approx(3)


def test_without_a_count_of_calls_the_rows_of_a_call_are_unchanged() -> None:
    service = service_time.learn(ServiceTime(), TWO, began=4)
    for _ in range(1000):
        service = service_time.learn(service, TWO)
    assert service.rows_per_call == pytest.approx(3)
    nobody = service_time.learn(ServiceTime(), TWO)
    assert (nobody.calls, nobody.rows_per_call) == (0, 1)


def test_calls_that_begin_before_a_batch_has_ended_are_counted_and_nothing_fades_meanwhile() -> None:
    service = service_time.learn(ServiceTime(), TWO, began=4)
    waiting = service_time.learn(service, Batches(), began=2)
    assert (waiting.calls, waiting.rows) == (service.calls + 2, service.rows)
    assert service_time.learn(service, Batches()) is service
