"""For whom an agent starts a replica ahead of its plan."""

from __future__ import annotations

from tests.replicas import replica_spec

from kaon.agent.decide.standby import STAY_S, Standby
from kaon.types.plan import Plan

SHOP, CART = replica_spec(), replica_spec(deployment="cart")
AT_ZERO = Plan(cloud="local", replicas=(CART,), standby=(SHOP,))


def test_nobody_waits_and_nothing_is_started() -> None:
    assert Standby().ahead(AT_ZERO, {}, 0.0) == AT_ZERO
    assert Standby().ahead(AT_ZERO, {"default/cart": 3}, 0.0) == AT_ZERO


def test_callers_get_the_replica_that_the_plan_names_until_a_plan_takes_it_over() -> None:
    standby = Standby()
    assert standby.ahead(AT_ZERO, {"default/shop": 1}, 0.0).replicas == (CART, SHOP)
    taken_over = Plan(cloud="local", replicas=(CART, SHOP))
    assert standby.ahead(taken_over, {"default/shop": 1}, 1.0) is taken_over


def test_it_stays_a_while_after_the_last_caller_was_handed_over() -> None:
    standby = Standby()
    standby.ahead(AT_ZERO, {"default/shop": 1}, 0.0)
    assert SHOP in standby.ahead(AT_ZERO, {}, STAY_S / 2).replicas
    assert SHOP not in standby.ahead(AT_ZERO, {}, STAY_S * 2).replicas
