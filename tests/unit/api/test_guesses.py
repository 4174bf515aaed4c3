from __future__ import annotations

import pytest

from kaon.api.guesses import TRIES, WINDOW_S, Guesses, network
from kaon.clock import FakeClock
from kaon.errors import TooManyRequests

PEER = "192.0.2.1"


def guesses_after(wrong: int) -> tuple[Guesses, FakeClock]:
    clock = FakeClock()
    guesses = Guesses(clock)
    for _ in range(wrong):
        guesses.check(PEER, "a guess")
        guesses.wrong(PEER)
    return guesses, clock


def test_the_eleventh_try_of_a_minute_is_not_looked_at() -> None:
    guesses, _ = guesses_after(TRIES)
    with pytest.raises(TooManyRequests) as refused:
        guesses.check(PEER, "the right key, by luck")
    assert refused.value.retry_after_s == pytest.approx(WINDOW_S)


async def test_a_minute_later_there_are_tries_again() -> None:
    guesses, clock = guesses_after(TRIES)
    await clock.advance(WINDOW_S)
    guesses.check(PEER, "a guess")


def test_another_address_is_not_held_to_it() -> None:
    guesses, _ = guesses_after(TRIES)
    guesses.check("192.0.2.2", "a guess")


def test_a_key_that_worked_from_there_goes_on_working() -> None:
    guesses, _ = guesses_after(TRIES)
    guesses.good(PEER, "known")
    guesses.check(PEER, "known")
    with pytest.raises(TooManyRequests):
        guesses.check(PEER, "unknown")


def test_ten_thousand_addresses_are_remembered_and_no_more() -> None:
    guesses = Guesses(FakeClock())
    for number in range(10_050):
        guesses.wrong(str(number))
    assert len(guesses._peers) == 10_000


@pytest.mark.parametrize(
    ("address", "counted_as"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:db8:1:2::1", "2001:db8:1:2::"),
        ("", "local"),
        ("not an address", "local"),
    ],
)
def test_what_counts_as_one_address(address: str, counted_as: str) -> None:
    assert network(address) == counted_as
