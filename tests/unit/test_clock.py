import asyncio

from tests.waiting import turns

from kaon.clock import FakeClock, SystemClock


async def test_sleepers_of_a_fake_clock_wake_in_order_of_their_time() -> None:
    clock, woken = FakeClock(now=100.0), []

    async def sleeper(delay_s: float) -> None:
        await clock.sleep(delay_s)
        woken.append((delay_s, clock.monotonic()))

    tasks = [asyncio.create_task(sleeper(d)) for d in (3.0, 1.0, 2.0)]
    await turns()
    await clock.advance(2.5)
    assert woken == [(1.0, 1.0), (2.0, 2.0)]
    assert (clock.now(), clock.monotonic()) == (102.5, 2.5)
    await clock.advance(1)
    await asyncio.gather(*tasks)
    assert woken[-1] == (3.0, 3.0)


async def test_a_sleeper_that_sleeps_again_is_woken_within_the_same_advance() -> None:
    clock, ticks = FakeClock(), []

    async def ticker() -> None:
        for _ in range(5):
            await clock.sleep(1)
            ticks.append(clock.monotonic())

    task = asyncio.create_task(ticker())
    await turns()
    await clock.advance(5)
    await task
    assert ticks == [1, 2, 3, 4, 5]


async def test_a_jump_moves_wall_time_only() -> None:
    clock = FakeClock(now=0)
    clock.jump(3600)
    assert (clock.now(), clock.monotonic()) == (3600, 0)


async def test_the_system_clock_never_goes_back() -> None:
    clock = SystemClock()
    before = clock.monotonic()
    await clock.sleep(0)
    assert clock.monotonic() >= before
