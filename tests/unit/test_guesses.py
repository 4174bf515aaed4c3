from __future__ import annotations

import pytest

from kaon.clock import FakeClock
from kaon.errors import TooManyRequests
from kaon.login_throttle import TRIES, WINDOW_S, LoginThrottle, network

PEER = "192.0.2.1"


def guesses_after(wrong: int) -> tuple[LoginThrottle, FakeClock]:
    clock = FakeClock()
    guesses = LoginThrottle(clock)
    for _ in range(wrong):
        guesses.wrong(PEER)
    return guesses, clock


def test_the_eleventh_wrong_key_of_a_minute_is_told_to_wait() -> None:
    guesses, _ = guesses_after(TRIES)
    with pytest.raises(TooManyRequests) as refused:
        guesses.wrong(PEER)
    assert refused.value.retry_after_s == pytest.approx(WINDOW_S)


async def test_a_minute_later_there_are_tries_again_however_many_were_refused() -> None:
    guesses, clock = guesses_after(TRIES)
    for _ in range(100):
        with pytest.raises(TooManyRequests):
            guesses.wrong(PEER)
    await clock.advance(WINDOW_S)
    guesses.wrong(PEER)


def test_another_address_is_not_held_to_it() -> None:
    guesses, _ = guesses_after(TRIES)
    guesses.wrong("192.0.2.2")


def test_ten_thousand_addresses_are_remembered_and_no_more() -> None:
    guesses = LoginThrottle(FakeClock())
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
