"""Keeps every loop of the controllers going, whatever goes wrong in it.

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
    """Runs loops, and keeps the account of what fails in them."""

    def __init__(
        self, clock: Clock, failures: Failures | None = None, jitter: Callable[[], float] = random.random
    ) -> None:
        self.failures = failures or Failures()
        self._clock = clock
        self._jitter = jitter

    async def keep(self, name: str, work: Work) -> None:
        """Do `work` of the controller `name` again and again, until cancelled."""
        while True:
            await self.once(name, work)

    async def once(self, name: str, work: Work) -> None:
        """Do `work` of the controller `name` until it succeeds."""
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
        """How long to wait after so many failures in a row."""
        return delay_s(RETRY, failed, self._jitter())

    def note(self, name: str, key: DeploymentKey | None, error: Exception, wait_s: float | None = None) -> None:
        """Log and count that the controller `name` failed at `key`, or at its work on all."""
        self.failures.note(name, key, error)
        logger, facts = log.get(f"control.{name}"), {"key": key, "wait_s": wait_s}
        if isinstance(error, KaonError):
            logger.warning("failed, will retry", cause=error.cause, **facts)
        else:
            logger.error("failed, will retry", exc_info=error, **facts)

    def settle(self, name: str, key: DeploymentKey) -> None:
        """The controller `name` did its work on `key`."""
        self.failures.settle(name, key)
