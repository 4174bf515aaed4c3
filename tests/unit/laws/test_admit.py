"""The admission law, example by example."""

from __future__ import annotations

import pytest

from kaon.laws.admit import Admitted, Load, Refused, Service, decide, learn


def load(queued: int, *, bound: int = 100, slots: int = 2, seconds: float = 0.1, samples: int = 50) -> Load:
    return Load(queued, bound, slots, Service(seconds, samples))


def test_below_the_bound_everybody_comes_in() -> None:
    assert decide(load(99), patience_s=60) == Admitted()


def test_a_full_queue_says_when_it_will_have_been_served() -> None:
    refused = decide(load(100), patience_s=None)
    assert isinstance(refused, Refused)
    assert refused.retry_after_s == pytest.approx(101 * 0.1 / 2)


def test_a_call_that_would_wait_longer_than_its_caller_is_refused_at_once() -> None:
    refused = decide(load(50), patience_s=2.0)  # 50 x 0.1 / 2 = 2.5 s
    assert isinstance(refused, Refused)
    assert "2.5 s" in refused.reason
    assert decide(load(50), patience_s=3.0) == Admitted()


def test_nobody_is_refused_on_too_little_evidence() -> None:
    assert decide(load(50, samples=3), patience_s=0.01) == Admitted()


def test_the_time_to_come_back_is_never_nothing_and_never_for_ever() -> None:
    soon, late = decide(load(1, bound=1, seconds=0.0), None), decide(load(1000, bound=1000, seconds=100.0), None)
    assert isinstance(soon, Refused)
    assert isinstance(late, Refused)
    assert soon.retry_after_s == pytest.approx(0.1)
    assert late.retry_after_s == pytest.approx(60.0)


def test_the_service_time_follows_what_is_seen() -> None:
    service = Service()
    for _ in range(100):
        service = learn(service, 0.5)
    assert service.seconds == pytest.approx(0.5)
    assert learn(service, 0.0, calls=1000).seconds == pytest.approx(0.0, abs=1e-9)
