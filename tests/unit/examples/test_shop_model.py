from __future__ import annotations

import io
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from .shop_world import BEER, BREAD, CATALOG, CEREAL, DAYS, MILK, PEOPLE, RARE, SOAP

Import = Callable[[str], ModuleType]
NAMES = {product["product_id"]: product["type"] for product in CATALOG}
BY_ID = {product["product_id"]: product for product in CATALOG}


@pytest.fixture
def raw(shop: Import) -> Any:
    return shop("shop.journey").purchases()


@pytest.fixture
def model(shop: Import, raw: Any) -> Any:
    return shop("shop.model").learn(raw, BY_ID, PEOPLE, today=DAYS, households=None, min_households=5)


def ids(model: Any, judgement: Any) -> list[int]:
    return [int(model.shelf.products[pick.product]) for pick in judgement.picks]


def test_cleaning_drops_products_of_few_households_and_second_rows_of_a_basket(shop: Import, raw: Any) -> None:
    history = shop("shop.history")
    twice = history.Purchases(*(np.concatenate([column, column]) for column in vars(raw).values()))
    once, again = history.clean(raw, min_households=5), history.clean(twice, min_households=5)
    assert RARE not in once.products
    assert len(once.day) == len(again.day) == np.sum(raw.product != RARE)


def test_a_household_has_its_own_purchases_in_order_of_time(shop: Import, raw: Any) -> None:
    history = shop("shop.history").clean(raw, min_households=5)
    product, day = history.of(6)
    mine = raw.household == 7
    assert sorted(history.products[product]) == sorted(raw.product[mine])
    assert (np.diff(day) >= 0).all()


def test_features_do_not_see_what_is_bought_later(shop: Import, raw: Any) -> None:
    training, history = shop("shop.training"), shop("shop.history")
    past = raw.between(0, 90)
    both = training.examples(raw, BY_ID, today=90, min_households=5)
    blind = training.examples(history.Purchases(*vars(past).values()), BY_ID, today=90, min_households=5)
    for question in ("all", "new"):
        assert np.array_equal(both[question].features, blind[question].features)
        assert not blind[question].label.any()
    assert both["all"].label.any()


def test_what_is_bought_together_speaks_for_each_other_and_nothing_for_itself(model: Any) -> None:
    together, at = model.shelf.together, model.product
    assert together[at(CEREAL), at(MILK)] > together[at(SOAP), at(MILK)]
    assert not np.diag(together).any()


def test_newtons_weights_separate_what_can_be_separated(shop: Import) -> None:
    ranker, features = shop("shop.ranker"), shop("shop.features")
    random = np.random.default_rng(0)
    x = random.normal(size=(4000, len(features.NAMES))).astype(np.float32)
    seen, label = x[:, 0] > 0, x[:, 5] + 0.1 * random.normal(size=4000) > 0
    fitted = ranker.fit(x, seen, label)
    assert np.mean((fitted.score(x, seen) > 0) == label) > 0.93


def test_the_parts_of_a_score_sum_to_it_but_for_one_constant(shop: Import, model: Any) -> None:
    features = shop("shop.features")
    own = shop("shop.profile").profile(model.shelf, *model.history.of(3), DAYS)
    values = features.features(model.shelf, own)
    ranker = model.rankers["all"]
    rest = ranker.score(values, own.seen) - sum(ranker.parts(values, own.seen).values())
    assert np.ptp(rest) < 1e-3


def test_weekly_milk_comes_first_and_the_reason_is_true(shop: Import, model: Any) -> None:
    judgement = model.judge(4, [], now=DAYS, k=3)
    assert ids(model, judgement)[0] == MILK
    pick = judgement.picks[0]
    product, day = model.history.of(model.household(4))
    days = day[product == pick.product]
    told = " ".join(shop("shop.why").why(model, judgement, pick, NAMES))
    assert f"bought {len(days)} times, about every 7 days, last {DAYS - days[-1]} days ago" in told


def test_the_first_reason_is_of_the_largest_part_that_can_be_told(shop: Import, model: Any) -> None:
    why = shop("shop.why").why
    judgement = model.judge(3, [], now=DAYS, k=4, new_only=True)
    assert set(ids(model, judgement)).isdisjoint({MILK})
    for pick in judgement.picks:
        told = why(model, judgement, pick, NAMES)
        assert told
        assert not any("times" in reason for reason in told)


def test_a_click_lifts_a_product_what_goes_with_it_and_fades(shop: Import, model: Any) -> None:
    act = shop("shop.session").Act
    at = model.product(SOAP)

    def interest(*acts: Any, now: float) -> Any:
        return shop("shop.session").session(model.shelf, acts, now).interest

    fresh = interest(act(SOAP, "click", DAYS), now=DAYS)
    assert fresh[at] == fresh.max() > 0
    assert interest(act(SOAP, "click", DAYS), now=DAYS + 2)[at] == pytest.approx(fresh[at] / 2, rel=1e-3)
    assert interest(act(RARE, "click", DAYS), now=DAYS).max() == 0


def test_a_click_shows_in_score_and_reasons(shop: Import, model: Any) -> None:
    act = shop("shop.session").Act
    before = {p.product: p.score for p in model.judge(7, [], now=DAYS, k=5).picks}
    judgement = model.judge(7, [act(BEER, "share", DAYS)], now=DAYS, k=5)
    pick = next(p for p in judgement.picks if p.product == model.product(BEER))
    assert pick.score > before[pick.product]
    assert "you shared it lately" in shop("shop.why").why(model, judgement, pick, NAMES)


def test_a_purchase_counts_as_history_at_once(shop: Import, model: Any) -> None:
    act = shop("shop.session").Act
    beer = model.product(BEER)
    assert not model.judge(7, [], now=DAYS, k=5).own.seen[beer]
    own = model.judge(7, [act(BEER, "purchase", DAYS + 0.5)], now=DAYS + 0.6, k=5).own
    assert own.baskets[beer] == 1
    assert own.days_since[beer] == 0


def test_a_stranger_gets_what_the_segment_buys(model: Any) -> None:
    at = model.product(BEER)
    young, whom = model.segments.scores("25-34", "")
    old, _ = model.segments.scores("65+", "")
    everybody, nobody = model.segments.scores("no such age", "")
    assert young[at] > everybody[at] > old[at]
    assert whom == ("age 25-34",)
    assert nobody == ()


def test_someone_with_acts_only_is_judged_by_them(shop: Import, model: Any) -> None:
    acts = [shop("shop.session").Act(CEREAL, "purchase", DAYS)]
    judgement = model.judge(987654, acts, now=DAYS, k=5, new_only=True)
    assert CEREAL not in ids(model, judgement)
    assert set(ids(model, judgement)) == {MILK, BREAD, BEER, SOAP}


def test_a_model_survives_the_wire(shop: Import, model: Any) -> None:
    models = shop("shop.model")
    again = models.from_bytes(models.to_bytes(model))
    for household in range(1, 20):
        before, after = (m.judge(household, [], now=DAYS, k=5) for m in (model, again))
        assert ids(model, before) == ids(again, after)
        assert [p.score for p in before.picks] == pytest.approx([p.score for p in after.picks], abs=1e-2)


def test_a_model_that_holds_objects_is_refused(shop: Import) -> None:
    file = io.BytesIO()
    np.savez(file, events_until=np.array([{"code": 1}], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle"):
        shop("shop.model").from_bytes(file.getvalue())
