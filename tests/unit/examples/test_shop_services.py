from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import kaon
from kaon.errors import Conflict, InvalidInput, NotFound, Unavailable

from .shop_world import BEER, DAYS, MILK, RARE, rows

Import = Callable[[str], ModuleType]


@pytest.fixture
def world(shop: Import, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[ExitStack]:
    """Catalog, events and trainer, each with the names that the others call it by; recommendation is the test's."""
    monkeypatch.setenv("KAON_DATA_DIR", str(tmp_path))
    with ExitStack() as stack:
        stack.enter_context(kaon.local(catalog=shop("catalog").Catalog(), events=shop("events").Events()))
        stack.enter_context(kaon.local(trainer=shop("trainer").Trainer(min_households=5)))
        yield stack


@pytest.fixture
def trained(world: ExitStack) -> ExitStack:
    trainer = kaon.use("trainer")
    for step in ("clean", "features", "train"):
        assert getattr(trainer, step)()["products"] == 5
    return world


@pytest.fixture
def recommendation(shop: Import, trained: ExitStack) -> Any:
    trained.enter_context(kaon.local(recommendation=shop("recommendation").Recommendation()))
    return kaon.use("recommendation")


def told(answer: dict[str, Any], product: int) -> dict[str, Any]:
    return next(item for item in answer["items"] if item["product_id"] == product)


def test_a_household_gets_what_it_buys_with_name_score_and_reason(recommendation: Any) -> None:
    answer = recommendation.recommendation(user_id=7, k=3)
    first = answer["items"][0]
    assert answer["known"]
    assert (first["product_id"], first["name"]) == (MILK, "Milk")
    assert first["why"][0].startswith("bought ")


def test_without_a_user_it_says_what_is_missing(recommendation: Any) -> None:
    with pytest.raises(InvalidInput, match="user_id"):
        recommendation.recommendation(k=3)


@pytest.mark.parametrize("k", [0, -1, 101])
def test_an_unreasonable_number_of_products_is_refused(recommendation: Any, k: int) -> None:
    with pytest.raises(InvalidInput):
        recommendation.recommendation(user_id=7, k=k)


def test_a_stranger_gets_popularity_of_the_segment_and_is_told_so(recommendation: Any) -> None:
    answer = recommendation.recommendation(user_id=5000, k=5, age="25-34")
    assert not answer["known"]
    assert "age 25-34" in answer["by"]
    assert told(answer, BEER)["score"] > told(recommendation.recommendation(user_id=5000, k=5), BEER)["score"]


def test_feedback_shows_in_the_next_answer_of_any_replica(shop: Import, recommendation: Any) -> None:
    other = shop("recommendation").Recommendation()

    async def answers() -> tuple[Any, Any]:
        await other.start()
        before = await other.recommendation(7, 5)
        await kaon.use("recommendation").aio.feedback(user_id=7, product_id=BEER, kind="share")
        after = await other.recommendation(7, 5)
        await other.stop()
        return before, after

    before, after = (answer.model_dump() for answer in asyncio.run(answers()))
    assert told(after, BEER)["score"] > told(before, BEER)["score"]
    assert "you shared it lately" in told(after, BEER)["why"]


def test_a_purchase_turns_a_stranger_into_somebody(recommendation: Any) -> None:
    recommendation.feedback(user_id=5000, product_id=MILK, kind="purchase")
    answer = recommendation.recommendation(user_id=5000, k=5)
    assert answer["known"]
    assert answer["by"] == "0 purchases and 1 newer events"
    assert told(answer, MILK)["parts"]["habit"] != told(answer, BEER)["parts"]["habit"]


def test_feedback_on_what_does_not_exist_is_refused_and_leaves_no_trace(recommendation: Any) -> None:
    with pytest.raises(NotFound):
        recommendation.feedback(user_id=7, product_id=123456, kind="view")
    with pytest.raises(InvalidInput):
        recommendation.feedback(user_id=7, product_id=MILK, kind="theft")
    assert recommendation.recommendation(user_id=7)["by"].endswith("0 newer events")


def test_what_goes_with_a_product(recommendation: Any) -> None:
    similar = recommendation.similar(product_id=MILK, k=3)
    assert similar
    assert [item["score"] for item in similar] == sorted((item["score"] for item in similar), reverse=True)
    with pytest.raises(NotFound):
        recommendation.similar(product_id=RARE)


def test_before_the_first_training_it_says_what_to_do_and_then_finds_the_model(shop: Import, world: ExitStack) -> None:
    world.enter_context(kaon.local(recommendation=shop("recommendation").Recommendation(refresh_s=3600)))
    recommendation, trainer = kaon.use("recommendation"), kaon.use("trainer")
    with pytest.raises(Unavailable) as refused:
        recommendation.recommendation(user_id=7)
    assert "/trainer/clean" in refused.value.hint
    for step in ("clean", "features", "train"):
        getattr(trainer, step)()
    assert recommendation.recommendation(user_id=7)["known"]


def test_when_events_is_away_the_answer_is_from_what_was_last_heard(shop: Import, recommendation: Any) -> None:
    replica = shop("recommendation").Recommendation()

    class Away:
        def since(self, **_: Any) -> Awaitable[Any]:
            raise Unavailable("away")

    async def answers() -> tuple[Any, Any]:
        await replica.start()
        await replica.feedback(7, BEER, "click")
        heard = await replica.recommendation(7, 5)
        replica._events = type("Handle", (), {"aio": Away()})()
        async with asyncio.timeout(5):
            while (unheard := await replica.recommendation(7, 5)).fresh:
                pass  # what was heard a moment ago is fresh enough for 50 ms
        await replica.stop()
        return heard, unheard

    heard, unheard = asyncio.run(answers())
    assert heard.fresh
    assert not unheard.fresh
    assert heard.items == unheard.items


def test_steps_out_of_order_say_which_comes_first(world: ExitStack) -> None:
    with pytest.raises(Conflict) as refused:
        kaon.use("trainer").train()
    assert refused.value.hint == "POST /trainer/clean"


def test_training_again_learns_from_newer_events(recommendation: Any) -> None:
    trainer = kaon.use("trainer")
    before = trainer.status()
    event = recommendation.feedback(user_id=7, product_id=BEER, kind="purchase")["event_id"]
    for step in ("clean", "features", "train"):
        getattr(trainer, step)()
    assert trainer.status()["events_until"] == event > before["events_until"]


def test_the_catalog_finds_products_by_words(world: ExitStack) -> None:
    catalog = kaon.use("catalog")
    assert [product["product_id"] for product in catalog.search(words="dairy milk")] == [MILK]
    assert [p["product_id"] for p in catalog.products(product_ids=[BEER, 1, MILK])] == [BEER, MILK]
    with pytest.raises(NotFound):
        catalog.product(product_id=1)


@pytest.fixture(params=["sqlite", "postgres"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "events.db") if request.param == "sqlite" else str(request.getfixturevalue("postgres_url"))


def test_the_ledger_keeps_what_it_acknowledged_and_is_filled_once(shop: Import, address: str) -> None:
    ledger, journey = shop("shop.ledger").Ledger, shop("shop.journey")
    first = ledger(address, now=lambda: 1000.0)
    assert first.open(journey.purchases, day=DAYS) == len(rows())
    number = first.record(7, BEER, "click")
    first.close()

    again = ledger(address, now=lambda: 1000.0 + 43200)
    assert again.open(journey.purchases, day=DAYS) == 0
    entry = again.of_user(7, limit=10)[-1]
    assert (entry.id, entry.product_id, entry.kind, entry.day) == (number, BEER, "click", DAYS)
    assert again.today() == DAYS + 0.5
    page = again.page(after=len(rows()) - 2, limit=10)
    assert page["id"].tolist() == [len(rows()) - 1, len(rows()), number]
    again.close()
