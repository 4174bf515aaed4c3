from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from tests.waiting import turns, until

Import = Callable[[str], ModuleType]


class Book:
    """Events in memory, told when `gate` is open."""

    def __init__(self) -> None:
        self.acts: list[dict[str, Any]] = []
        self.looks = 0
        self.gate = asyncio.Event()
        self.gate.set()

    def write(self, user_id: int) -> int:
        number = len(self.acts) + 1
        self.acts.append({"id": number, "user_id": user_id, "product_id": 1, "kind": "view", "day": 1.0})
        return number

    async def look(self, after: int) -> dict[str, Any]:
        self.looks += 1
        seen = [act for act in self.acts if act["id"] > after][:3]
        await self.gate.wait()
        return {"now": 2.0, "acts": seen, "more": len(seen) == 3}


async def test_what_was_stored_before_is_known_even_when_a_look_was_under_way(shop: Import) -> None:
    book = Book()
    feed = shop("shop.feed").Feed(book.look, after=0, now=0.0)
    book.gate.clear()
    early = asyncio.create_task(feed.fresh())
    await until(lambda: book.looks)
    number = book.write(7)
    late = asyncio.create_task(feed.fresh())
    await turns()
    book.gate.set()
    await early
    await late
    assert feed.of(7)[0] == number
    assert feed.now == 2.0


async def test_a_burst_of_readers_shares_looks(shop: Import) -> None:
    book = Book()
    feed = shop("shop.feed").Feed(book.look, after=0, now=0.0)
    await asyncio.gather(*(feed.fresh() for _ in range(100)))
    assert book.looks <= 2


async def test_a_look_serves_readers_until_the_lag_has_passed_since_it_began(shop: Import) -> None:
    book, now = Book(), [10.0]
    feed = shop("shop.feed").Feed(book.look, after=0, now=0.0, lag_s=0.02, clock=lambda: now[0])
    await feed.fresh()
    number = book.write(7)
    now[0] += 0.019
    await feed.fresh()
    assert book.looks == 1
    now[0] += 0.001
    await feed.fresh()
    assert book.looks == 2
    assert feed.of(7)[0] == number


async def test_under_steady_load_the_next_look_is_made_before_anybody_waits_for_it(shop: Import) -> None:
    book, now = Book(), [10.0]
    feed = shop("shop.feed").Feed(book.look, after=0, now=0.0, lag_s=0.02, clock=lambda: now[0])
    await feed.fresh()
    number = book.write(7)
    now[0] += 0.012
    book.gate.clear()
    await feed.fresh()  # at once, though the look that it began is held up
    assert feed.of(7)[0] == 0
    book.gate.set()
    now[0] += 0.01
    await feed.fresh()
    assert book.looks == 2
    assert feed.of(7)[0] == number


async def test_pages_are_read_to_the_end_and_in_order(shop: Import) -> None:
    book = Book()
    numbers = [book.write(7) for _ in range(8)]
    feed = shop("shop.feed").Feed(book.look, after=2, now=0.0)
    await feed.fresh()
    assert feed.of(7)[0] == numbers[-1]
    assert len(feed.of(7)[1]) == 6


async def test_a_look_that_fails_is_told_to_its_readers_and_the_next_one_heals(shop: Import) -> None:
    book = Book()
    failures = [OSError("away")]

    async def look(after: int) -> dict[str, Any]:
        if failures:
            raise failures.pop()
        return await book.look(after)

    feed = shop("shop.feed").Feed(look, after=0, now=0.0)
    with pytest.raises(OSError, match="away"):
        await feed.fresh()
    book.write(7)
    await feed.fresh()
    assert len(feed.of(7)[1]) == 1


async def test_a_reader_that_gives_up_leaves_the_others_unharmed(shop: Import) -> None:
    book = Book()
    feed = shop("shop.feed").Feed(book.look, after=0, now=0.0)
    book.gate.clear()
    patient = asyncio.create_task(feed.fresh())
    hasty = asyncio.create_task(feed.fresh())
    await until(lambda: book.looks)
    hasty.cancel()
    book.gate.set()
    await patient
    assert hasty.cancelled() or hasty.cancelling()
