"""A shadow's answers beside those that callers got."""

from __future__ import annotations

import asyncio
import hashlib
import json
from typing import Any

import pytest
from tests.replicas import route_to
from tests.waiting import turns

from kaon.agent.observe.comparison import PATIENCE_S, Comparison, differences
from kaon.agent.observe.shadows import Shadows
from kaon.clock import FakeClock
from kaon.errors import Unavailable
from kaon.types.route import Mirror, ReplicaEndpoint, Route
from kaon.types.shadow import Kept, KeptAnswers, Sampling


def kept(value: Any, request_id: str = "r", status: int = 200, endpoint: str = "score", *, whole: bool = True) -> Kept:
    body = json.dumps(value)
    digest = hashlib.sha256(body.encode()).hexdigest()
    return Kept(request_id=request_id, endpoint=endpoint, status=status, digest=digest, head=body[:4096], whole=whole)


@pytest.mark.parametrize(
    ("serving", "shadow", "found"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": 1, "b": [1, 2]}, {"b": [1, 2.0000000001], "a": 1.0}, []),
        ({"a": 1}, {"a": 2}, [("a", 1, 2)]),
        ({"a": [{"s": 0.5}]}, {"a": [{"s": 0.6}]}, [("a[0].s", 0.5, 0.6)]),
        ({"a": [1, 2]}, {"a": [1]}, [("a.length", 2, 1)]),
        ({"a": 1}, {}, [("a", 1, None)]),
        ({}, {"b": {"c": 1}}, [("b", None, '{"c": 1}')]),
        ({"a": True}, {"a": 1}, [("a", True, 1)]),
        ({"a": "1"}, {"a": 1}, [("a", "1", 1)]),
        ([1, 2], [1, 3], [("[1]", 2, 3)]),
        (1, 2, [("body", 1, 2)]),
        (None, {}, [("body", None, "{}")]),
    ],
)
def test_differences_are_told_by_place(serving: Any, shadow: Any, found: list[tuple[str, Any, Any]]) -> None:
    assert [(d.path, d.serving, d.shadow) for d in differences(kept(serving), kept(shadow))] == found


def test_another_status_is_told_and_the_bodies_are_not() -> None:
    (found,) = differences(kept({"a": 1}), kept({"code": "internal"}, status=500))
    assert (found.path, found.serving, found.shadow) == ("status", 200, 500)


def test_of_long_answers_the_beginnings_are_told() -> None:
    (found,) = differences(kept("x" * 9000, whole=False), kept("y" * 9000, whole=False))
    assert found.path == "body"
    assert len(found.serving) < 100


def test_answers_meet_in_any_order_and_by_endpoint() -> None:
    comparison = Comparison(2, 0.0)
    comparison.add(kept(1, "a"), 0.0, shadow=False)
    comparison.add(kept(1, "a"), 1.0, shadow=True)
    comparison.add(kept([1, 2], "b"), 1.0, shadow=True)
    comparison.add(kept([1, 3], "b"), 2.0, shadow=False)
    comparison.add(kept(1, "c"), 2.0, shadow=False)
    comparison.add(kept(1, "c", endpoint="other"), 2.0, shadow=True)
    report = comparison.report()
    assert (report.matched, report.differing, report.missing) == (1, 1, 0)
    assert report.paths == {"score []": 1}
    assert [(e.request_id, e.at) for e in report.examples] == [("b", 2.0)]
    comparison.expire(2.0 + PATIENCE_S)
    assert comparison.report().missing == 1


def test_memory_stays_bounded_and_a_report_fits_into_a_line() -> None:
    comparison = Comparison(2, 0.0)
    for number in range(30_000):
        comparison.add(kept(number, f"r{number}"), 0.0, shadow=True)
        comparison.expire(0.0)
    assert comparison.report().missing == 10_000
    for number in range(500):
        wide = {f"{'k' * 300}{number}-{n}": "v" * 3000 for n in range(30)}
        comparison.add(kept(wide, f"w{number}"), 0.0, shadow=False)
        comparison.add(kept({}, f"w{number}"), 0.0, shadow=True)
    report = comparison.report()
    assert report.differing == 500
    assert len(report.examples) == 10
    assert len(report.model_dump_json()) < 2**16


class Replicas:
    """Replicas that keep their answers from the first request to do so."""

    def __init__(self) -> None:
        self.sampling: dict[str, list[Sampling]] = {}
        self.log: dict[str, list[Kept]] = {}
        self.rate = 0
        self.open: set[str] = set()

    def let_go(self, address: str) -> None:
        self.open.discard(address)

    async def sample(self, address: str, sampling: Sampling) -> None:
        self.open.add(address)
        if address == "unix:/gone":
            raise Unavailable("gone")
        self.sampling.setdefault(address, []).append(sampling)

    async def answers(self, address: str, after: int) -> KeptAnswers:
        answers = tuple(self.log.get(address, [])[after:])
        return KeptAnswers(until=after + len(answers), sampled=after + len(answers) + self.rate, answers=answers)


def endpoint(name: str, revision: int) -> ReplicaEndpoint:
    return ReplicaEndpoint(replica=name, revision=revision, address=f"unix:/s/{name}", control_address=f"unix:/{name}")


def route(revision: int | None = 2) -> Route:
    mirror = Mirror(revision=revision, percent=10) if revision else None
    return route_to(mirror=mirror)


async def seconds(shadows: Shadows, clock: FakeClock, number: int) -> None:
    running = asyncio.create_task(shadows.run())
    for _ in range(number):
        await turns(20)
        await clock.advance(1)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_both_sides_are_told_to_keep_answers_and_told_again_and_read_once() -> None:
    replicas, clock = Replicas(), FakeClock()
    shadows = Shadows(replicas, clock)
    there = [endpoint("one", 1), endpoint("two", 2), endpoint("gone", 1)]
    shadows.follow([route()], {("default", "shop"): there})
    replicas.log = {"unix:/one": [kept(1, "a"), kept(2, "b")], "unix:/two": [kept(1, "a"), kept(3, "b")]}
    await seconds(shadows, clock, 25)
    assert {address: len(said) for address, said in replicas.sampling.items()} == {"unix:/one": 3, "unix:/two": 3}
    report = shadows.report("default", "shop")
    assert (report.revision, report.matched, report.differing) == (2, 1, 1)


async def test_without_a_shadow_no_replica_is_asked_for_anything() -> None:
    replicas, clock = Replicas(), FakeClock()
    shadows = Shadows(replicas, clock)
    shadows.follow([route(None)], {("default", "shop"): [endpoint("one", 1)]})
    await seconds(shadows, clock, 3)
    assert not replicas.sampling
    assert shadows.report("default", "shop").revision == 0
    assert shadows.report("other", "shop").revision == 0


async def test_of_a_busy_service_a_smaller_share_is_kept() -> None:
    replicas, clock = Replicas(), FakeClock()
    replicas.rate = 3000
    shadows = Shadows(replicas, clock)
    shadows.follow([route()], {("default", "shop"): [endpoint("one", 1), endpoint("two", 2)]})
    await seconds(shadows, clock, 3)
    shares = {address: said[-1].share for address, said in replicas.sampling.items()}
    assert shares["unix:/one"] == shares["unix:/two"] <= 0.11


async def test_another_shadow_begins_a_new_account() -> None:
    replicas, clock = Replicas(), FakeClock()
    shadows = Shadows(replicas, clock)
    there = {("default", "shop"): [endpoint("one", 1), endpoint("two", 2), endpoint("three", 3)]}
    shadows.follow([route()], there)
    replicas.log = {"unix:/one": [kept(1, "a")], "unix:/two": [kept(1, "a")]}
    await seconds(shadows, clock, 2)
    assert shadows.report("default", "shop").matched == 1
    shadows.follow([route(3)], there)
    assert shadows.report("default", "shop").matched == 0


async def test_connections_to_replicas_that_are_compared_no_longer_are_closed() -> None:
    replicas, clock = Replicas(), FakeClock()
    shadows = Shadows(replicas, clock)
    for number in range(5):
        there = {("default", "shop"): [endpoint(f"serving-{number}", 1), endpoint(f"shadow-{number}", 2)]}
        shadows.follow([route()], there)
        await seconds(shadows, clock, 3)
        assert replicas.open == {f"unix:/serving-{number}", f"unix:/shadow-{number}"}
    shadows.follow([], {})
    await seconds(shadows, clock, 3)
    assert replicas.open == set()
