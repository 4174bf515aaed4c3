"""Keeps every loop of the controllers running after any error.

A loop is a piece of work that is done again and again. One that raises is logged and counted, and done again after a
wait that grows with each failure in a row. So no error of one controller, of one key or of one row ends the server, nor
any other controller.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable

from kaon import log
from kaon.clock import Clock
from kaon.errors import KaonError
from kaon.laws.backoff import Backoff, delay_s
from kaon.store.failures import Failures
from kaon.types.names import DeploymentKey

RETRY = Backoff(first_s=0.2, cap_s=30.0)

Work = Callable[[], Awaitable[None]]


class Supervisor:
    """Runs loops, and records their failures."""

    def __init__(
        self, clock: Clock, failures: Failures | None = None, jitter: Callable[[], float] = random.random
    ) -> None:
        self.failures = failures or Failures()
        self._clock = clock
        self._jitter = jitter

    async def keep(self, name: str, work: Work) -> None:
        """Repeat `work` of the controller `name` until cancelled."""
        while True:
            await self.once(name, work)

    async def once(self, name: str, work: Work) -> None:
        """Repeat `work` of the controller `name` until it succeeds."""
        failed = 0
        while True:
            began_at = self._clock.monotonic()
            try:
                await work()
                return
            except Exception as error:
                failed = 1 if self._clock.monotonic() - began_at > RETRY.cap_s else failed + 1
                wait_s = self.wait_s(failed)
                self.note(name, None, error, wait_s)
                await self._clock.sleep(wait_s)

    def wait_s(self, failed: int) -> float:
        """The delay after so many failures in a row."""
        return delay_s(RETRY, failed, self._jitter())

    def note(self, name: str, key: DeploymentKey | None, error: Exception, wait_s: float | None = None) -> None:
        """Log and count a failure of the controller `name` at `key`, or without a key at all its work."""
        self.failures.note(name, key, error)
        logger, facts = log.get(f"control.{name}"), {"key": key, "wait_s": wait_s}
        if isinstance(error, KaonError):
            logger.warning("failed, will retry", cause=error.cause, **facts)
        else:
            logger.error("failed, will retry", exc_info=error, **facts)

    def settle(self, name: str, key: DeploymentKey) -> None:
        """Record that the controller `name` succeeded at `key`."""
        self.failures.settle(name, key)
