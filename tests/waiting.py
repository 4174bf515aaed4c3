"""How tests wait: for a condition, and never for a time. A test forbids `sleep` everywhere else in this folder."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable
from typing import Any

WITHIN_S = 180.0
"""Ends a test that would wait forever. Far beyond what anything takes on a busy machine: it says nothing of speed."""
FIRST_S, EVERY_S, LONGEST_S = 0.0005, 0.02, 1.0
"""Pause between the first two looks, between two later ones, and the longest one."""
_PAUSE_PER_LOOK = 4.0
"""A look that costs much is repeated less often: waiting must not take the processor from what is waited for."""


def _pause(before_s: float, look_s: float) -> float:
    """The pause after a look that took `look_s`; the one before it was `before_s`."""
    return min(LONGEST_S, max(_PAUSE_PER_LOOK * look_s, min(2 * before_s, EVERY_S)))


def eventually(look: Callable[[], Any], what: str = "", within_s: float = WITHIN_S) -> Any:
    """The first true value of `look`; an exception counts as false."""
    deadline, last, pause_s = time.monotonic() + within_s, None, FIRST_S
    while True:
        begin = time.monotonic()
        try:
            if value := look():
                return value
            last = None
        except Exception as error:
            last = error
        if time.monotonic() > deadline:
            raise AssertionError(_late(within_s, what)) from last
        pause_s = _pause(pause_s, time.monotonic() - begin)
        time.sleep(pause_s)


async def until(look: Callable[[], Any], what: str = "", within_s: float = WITHIN_S) -> Any:
    """The first true value of `look`, which may be a coroutine function. What it raises ends the wait."""
    deadline, pause_s = time.monotonic() + within_s, FIRST_S
    while True:
        begin = time.monotonic()
        value = look()
        if inspect.isawaitable(value):
            value = await value
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(_late(within_s, what))
        pause_s = _pause(pause_s, time.monotonic() - begin)
        await asyncio.sleep(pause_s)


def _late(within_s: float, what: str) -> str:
    return f"not within {within_s:.0f} s: {what or 'the condition'}"


async def turns(count: int = 50) -> None:
    """Let tasks that need no I/O and no thread go on until each of them waits."""
    for _ in range(count):
        await asyncio.sleep(0)


async def lasts(seconds: float) -> None:
    """What a stand-in's work takes, where the test is about work that takes its time."""
    await asyncio.sleep(seconds)


async def forever() -> None:
    """Work that ends only when it is cancelled."""
    await asyncio.Event().wait()
