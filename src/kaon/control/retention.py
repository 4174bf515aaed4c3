"""Deletes unused data periodically: see `kaon.laws.retention`, and `kaon gc` for doing it by hand."""

from __future__ import annotations

from kaon import log
from kaon.clock import Clock
from kaon.errors import KaonError
from kaon.store.garbage import Collector

EVERY_S = 600.0
AGAIN_S = 5.0
"""Delay between batches, in which others can use the store."""


class RetentionController:
    """Deletes unused data in batches."""

    def __init__(self, collector: Collector, clock: Clock) -> None:
        self._collector = collector
        self._clock = clock
        self._log = log.get("retention")

    async def run(self) -> None:
        """Work until cancelled. It begins some time after the start, which has more urgent work."""
        wait_s = EVERY_S
        while True:
            await self._clock.sleep(wait_s)
            wait_s = await self.once()

    async def once(self) -> float:
        """Delete one batch; returns the seconds until the next one."""
        try:
            gone = await self._collector.collect()
        except KaonError as error:
            self._log.warning("cannot collect", cause=error.cause)
            return EVERY_S
        if gone:
            self._log.info(
                "collected", artifacts=len(gone.artifacts), blobs=gone.blobs, keys=len(gone.keys), **gone.rows
            )
        return AGAIN_S if gone.more else EVERY_S
