"""Deletes what nothing refers to any more, by itself: see `kaon.laws.retention` for what, `kaon gc` for by hand."""

from __future__ import annotations

from kaon import log
from kaon.clock import Clock
from kaon.errors import KaonError
from kaon.store.garbage import Collector

EVERY_S = 600.0
AGAIN_S = 5.0
"""How soon the next part follows when there was more than goes at once: others use the store in between."""


class RetentionController:
    """Collects now and then, a part at a time."""

    def __init__(self, collector: Collector, clock: Clock) -> None:
        self._collector = collector
        self._clock = clock
        self._log = log.get("retention")

    async def run(self) -> None:
        """Collect until cancelled. The first time after a while: a start has more urgent things to do."""
        wait_s = EVERY_S
        while True:
            await self._clock.sleep(wait_s)
            wait_s = await self.once()

    async def once(self) -> float:
        """Collect once; after how many seconds to do so again."""
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
