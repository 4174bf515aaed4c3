"""Hedges and retries through a real Envoy: what may happen twice does so within bounds, and nothing else ever does."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tests.waiting import lasts, until

from kaon.types.route import ATTEMPT_HEADER, COPY_REFUSED

from .world import App, World

Answer = Callable[[int], Awaitable[None]]


class Scripted:
    """An app for several replicas: `plays[n]` answers the n-th call of all, the last one all that follow."""

    def __init__(self, *plays: Callable[[Any, Answer], Awaitable[None]]) -> None:
        self.plays = plays
        self.attempts: list[str] = []
        self.gone = 0

    @property
    def app(self) -> App:
        async def play(scope: Any, receive: Any, send: Any) -> None:
            attempt = dict(scope["headers"]).get(ATTEMPT_HEADER.encode(), b"").decode()
            number = len(self.attempts)
            self.attempts.append(attempt)

            async def answer(status: int) -> None:
                headers = [(COPY_REFUSED.encode(), b"1")] if status == 429 and attempt != "1" else []
                await send({"type": "http.response.start", "status": status, "headers": headers})
                await send({"type": "http.response.body", "body": str(number).encode()})

            await receive()
            work = asyncio.ensure_future(self.plays[min(number, len(self.plays) - 1)](scope, answer))
            gone = asyncio.ensure_future(receive())
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
            self.gone += not work.done()
            if work.done():
                work.result()
            work.cancel()
            gone.cancel()

        return play


async def hangs(_: Any, __: Answer) -> None:
    await asyncio.Event().wait()


def answers(status: int, after_s: float = 0.0) -> Callable[[Any, Answer], Awaitable[None]]:
    async def play(_: Any, answer: Answer) -> None:
        await lasts(after_s)
        await answer(status)

    return play


async def slow_to_find_similar(scope: Any, answer: Answer) -> None:
    await lasts(0.3 if scope["path"] == "/similar" else 0)
    await answer(200)


async def hedging(world: World, script: Scripted, hedge_s: float = 0.1) -> tuple[Any, Any]:
    one, two = await world.replica("one", script.app), await world.replica("two", script.app)
    await world.serve(one, two, hedges={"/similar": hedge_s})
    return one, two


async def breaks_off(_: Any, __: Answer) -> None:
    raise ConnectionAbortedError


@pytest.mark.parametrize("retry_paths", [(), ("/similar",)])
async def test_a_hedged_call_that_breaks_off_everywhere_is_seen_by_two_replicas_at_most(
    world: World, retry_paths: tuple[str, ...]
) -> None:
    async def late(_: Any, __: Answer) -> None:
        await lasts(0.3)
        raise ConnectionAbortedError

    script = Scripted(late)
    replicas = [await world.replica(f"r{number}", script.app) for number in range(4)]
    await world.serve(*replicas, retry_paths=retry_paths, hedges={"/similar": 0.1})
    assert (await world.client.get("/shop/similar")).status_code == 502
    assert script.attempts == ["1", "2"]


async def test_a_hedged_call_that_breaks_off_before_its_time_is_not_sent_again(world: World) -> None:
    script = Scripted(breaks_off)
    await hedging(world, script, hedge_s=5.0)
    assert (await world.client.get("/shop/similar")).status_code == 502
    assert script.attempts == ["1"]


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_slow_replicas_call_is_answered_by_another_and_the_loser_is_cancelled(
    world: World, method: str
) -> None:
    script = Scripted(hangs, answers(200))
    one, two = await hedging(world, script)
    answer = await world.client.request(method, "/shop/similar")
    assert (answer.status_code, answer.text) == (200, "1")
    assert (len(one.calls), len(two.calls)) == (1, 1)
    assert script.attempts == ["1", "2"]
    await until(lambda: _true(script.gone == 1))


async def test_a_call_that_is_quick_enough_is_sent_once(world: World) -> None:
    script = Scripted(answers(200))
    await hedging(world, script, hedge_s=5.0)
    assert (await world.client.post("/shop/similar")).status_code == 200
    assert script.attempts == ["1"]


@pytest.mark.parametrize(("method", "path"), [("POST", "/shop/buy"), ("POST", "/shop"), ("PATCH", "/shop/x")])
async def test_a_call_that_must_not_happen_twice_is_never_doubled(world: World, method: str, path: str) -> None:
    script = Scripted(answers(200, after_s=0.4))
    await hedging(world, script, hedge_s=0.05)
    assert (await world.client.request(method, path)).status_code == 200
    assert script.attempts == ["1"]


async def test_a_second_replica_that_is_too_busy_does_not_take_the_first_ones_answer_away(world: World) -> None:
    script = Scripted(answers(200, after_s=0.5), answers(429))
    await hedging(world, script)
    answer = await world.client.post("/shop/similar")
    assert (answer.status_code, answer.text) == (200, "0")
    assert script.attempts == ["1", "2"]
    assert COPY_REFUSED not in answer.headers


@pytest.mark.parametrize("path", ["/shop", "/shop/similar"])
async def test_a_refusal_is_the_callers_and_is_never_sent_again_by_the_edge(world: World, path: str) -> None:
    script = Scripted(answers(429))
    await hedging(world, script)
    assert (await world.client.get(path)).status_code == 429
    assert script.attempts == ["1"]


async def test_a_replica_that_is_slow_for_one_endpoint_stays_in_the_rotation_for_the_others(world: World) -> None:
    one = await world.replica("one", Scripted(slow_to_find_similar).app)
    two = await world.replica("two", Scripted(answers(200)).app)
    await world.serve(one, two, retry_paths=("/similar",), hedges={"/similar": 0.05})
    await asyncio.gather(*(world.client.post("/shop/similar") for _ in range(30)))
    assert len(one.calls) > 4, "it was asked, and too slow"
    one.calls.clear()
    assert {(await world.client.get("/shop")).status_code for _ in range(20)} == {200}
    assert one.calls


async def test_a_storm_of_failures_is_retried_for_a_fifth_of_the_calls_at_most(world: World) -> None:
    script = Scripted(answers(503, after_s=0.05))
    one, two = await world.replica("one", script.app), await world.replica("two", script.app)
    await world.serve(one, two, retry_paths=("/",))
    calls, clients = 10, 60

    async def client() -> list[int]:
        return [(await world.client.get("/shop")).status_code for _ in range(calls)]

    counted = Counter(status for one in await asyncio.gather(*(client() for _ in range(clients))) for status in one)
    assert counted == {503: calls * clients}
    # 20 % of those in flight, and never fewer than 10 at once: 60 clients may have 12 retries at a time.
    assert len(script.attempts) <= 1.5 * calls * clients
    assert "2" in script.attempts


async def _true(value: bool) -> bool:
    return value


async def test_hedging_comes_and_goes_under_load_without_a_lost_call(world: World) -> None:
    one, two = await world.replica("one", Scripted(answers(200)).app), await world.replica("two")
    await world.serve(one, two)
    statuses: list[int] = []
    done = asyncio.Event()

    async def client() -> None:
        while not done.is_set():
            statuses.append((await world.client.get("/shop/similar")).status_code)

    clients = [asyncio.create_task(client()) for _ in range(4)]
    for number in range(4):
        await world.serve(one, two, retry_paths=("/similar",), hedges={"/similar": 5.0} if number % 2 else {})
        counted = len(statuses)
        await until(lambda before=counted: _true(len(statuses) > before + 50))
    done.set()
    await asyncio.gather(*clients)
    assert set(statuses) == {200}


WITH_AND_WITHOUT_A_SLASH = pytest.mark.parametrize("path", ["/similar", "/similar/", "/items/7", "/items/7/"])
PATHS = ("/similar", "/items/{item}")


@WITH_AND_WITHOUT_A_SLASH
async def test_with_a_slash_at_its_end_a_path_is_sent_again_as_without(world: World, path: str) -> None:
    script = Scripted(breaks_off, answers(200))
    one, two = await world.replica("one", script.app), await world.replica("two", script.app)
    await world.serve(one, two, retry_paths=PATHS)
    assert (await world.client.get(f"/shop{path}")).status_code == 200
    assert script.attempts == ["1", "2"]


@WITH_AND_WITHOUT_A_SLASH
async def test_with_a_slash_at_its_end_a_path_lasts_as_without(world: World, path: str) -> None:
    await world.serve(
        await world.replica(app=Scripted(answers(200, after_s=0.6)).app), stream_paths=PATHS, timeout_s=0.1
    )
    assert (await world.client.get(f"/shop{path}")).status_code == 200
    assert (await world.client.get("/shop/other")).status_code == 504
