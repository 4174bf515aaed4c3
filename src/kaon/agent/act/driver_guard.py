"""A driver whose calls neither hang nor fail.

Each call is bounded in time. While a place cannot be observed, the last observation counts: its replicas are likely to
go on running, and it would be wrong to stop or start any because they cannot be observed.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

from kaon import log
from kaon.clock import Clock
from kaon.drivers.port import Driver, PlaceObservation
from kaon.errors import KaonError, PlaceUnavailable
from kaon.laws.backoff import Backoff, delay_s
from kaon.types.flight import Flight
from kaon.types.place import PlaceHealth, PlaceState

LOOK_S = 1.0
"""How long an observation may take before the last one counts."""

GIVE_UP_S = 30.0
"""How long a late observation is awaited before it is repeated."""

HEALTH_EVERY_S = 5.0
_SETTLE_S = 0.02
"""Between two observations: changes that come in a burst are taken together."""

_HEALTH_LIMIT_S = 5.0
_AGAIN = Backoff(first_s=0.1, cap_s=5.0)
_T = TypeVar("_T")

_log = log.get("agent.place")


class GuardedDriver:
    """One driver. `run` must run while it is used."""

    def __init__(self, driver: Driver, clock: Clock, changed: asyncio.Event) -> None:
        """`changed` is set whenever there may be another observation."""
        self._driver = driver
        self._clock = clock
        self._changed = changed
        self._last: PlaceObservation | None = None
        self._looking: asyncio.Future[PlaceObservation] | None = None
        self._observing_since = 0.0
        self._failure = ""
        self._health = PlaceHealth()

    @property
    def health(self) -> PlaceHealth:
        """The last health of the place."""
        if self._failure:
            return PlaceHealth(state=PlaceState.UNAVAILABLE, reason=self._failure)
        return self._health

    async def run(self) -> None:
        """Follow the driver until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow())
            group.create_task(self._follow_health())

    async def found(self) -> PlaceObservation:
        """The first observation: an agent that starts decides nothing before it has one."""
        failures = 0
        while True:
            await self.observe()
            if self._last is not None:
                return self._last
            failures += 1
            await self._clock.sleep(delay_s(_AGAIN, failures))

    async def observe(self) -> PlaceObservation:
        """The current observation, or the last one. Takes at most `LOOK_S`, and no time while a late one is pending."""
        if self._looking is None:
            self._observing_since = self._clock.monotonic()
            self._looking = asyncio.ensure_future(self._driver.observe())
            await self._wait(self._looking, LOOK_S)
            if not self._looking.done():
                self._looking.add_done_callback(self._late)
        if not self._looking.done():
            self._note("It does not answer.")
            if self._clock.monotonic() - self._observing_since > GIVE_UP_S:
                self._looking.cancel()
                self._looking = None
        else:
            looked, self._looking = self._looking, None
            error = asyncio.CancelledError() if looked.cancelled() else looked.exception()
            if error is None:
                self._last = looked.result()
                self._failure = ""
            else:
                self._note(cause_of(error))
        return self._last or PlaceObservation()

    async def flights(self, replicas: Iterable[str]) -> dict[str, tuple[Flight, ...] | None]:
        """The calls in flight of these replicas; None: they cannot be read now."""
        ids = list(replicas)
        answers = (within(self._clock, LOOK_S, self._driver.flights(id_)) for id_ in ids)
        found = await asyncio.gather(*answers, return_exceptions=True)
        return {id_: None if isinstance(one, BaseException) else one for id_, one in zip(ids, found, strict=True)}

    async def close(self) -> None:
        """Cancel the observation in progress; replicas go on running."""
        if self._looking:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)

    def _late(self, looked: asyncio.Future[PlaceObservation]) -> None:
        if not looked.cancelled():
            looked.exception()  # retrieved, also when nothing waits for it
        self._changed.set()

    async def _follow(self) -> None:
        failures = 0
        while True:
            after = self._last.version if self._last else -1
            try:
                await within(self._clock, GIVE_UP_S, self._driver.changed(after))
            except Exception:  # the agent looks every second all the same
                failures += 1
            else:
                failures = failures + 1 if self._failure else 0
                self._changed.set()
            await self._clock.sleep(delay_s(_AGAIN, failures, random.random()) if failures else _SETTLE_S)  # noqa: S311

    async def _follow_health(self) -> None:
        while True:
            try:
                self._health = await within(self._clock, _HEALTH_LIMIT_S, self._driver.health())
            except Exception as error:
                self._health = PlaceHealth(state=PlaceState.UNAVAILABLE, reason=cause_of(error))
            await self._clock.sleep(HEALTH_EVERY_S)

    async def _wait(self, task: asyncio.Future[Any], within_s: float) -> None:
        sleeping = asyncio.ensure_future(self._clock.sleep(within_s))
        try:
            await asyncio.wait([task, sleeping], return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeping.cancel()

    def _note(self, failure: str) -> None:
        if failure != self._failure:
            _log.warning("the place cannot be observed", reason=failure)
        self._failure = failure


async def within(clock: Clock, limit_s: float, work: Coroutine[Any, Any, _T]) -> _T:
    """The result of `work`. Raises `PlaceUnavailable` when it takes over `limit_s`, even if it cannot be cancelled."""
    task = asyncio.ensure_future(work)
    sleeping = asyncio.ensure_future(clock.sleep(limit_s))
    try:
        await asyncio.wait([task, sleeping], return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
            raise PlaceUnavailable(f"No answer within {limit_s:g} s.")
        return task.result()
    finally:
        sleeping.cancel()
        task.cancel()


def cause_of(error: BaseException) -> str:
    """The cause of an error as text."""
    return error.cause if isinstance(error, KaonError) else repr(error)
