"""Deletes unused data periodically: see `kaon.laws.retention`, and `kaon gc` for doing it by hand."""

from __future__ import annotations

import math

from kaon import log
from kaon.clock import Clock
from kaon.datasets.retention import DatasetCollector
from kaon.errors import KaonError
from kaon.store.garbage import Collector

EVERY_S = 600.0
DATASETS_EVERY_S = 3600.0
AGAIN_S = 5.0
"""Delay between batches, in which others can use the store."""


class RetentionController:
    """Deletes unused data in batches."""

    def __init__(self, collector: Collector, clock: Clock, datasets: DatasetCollector | None = None) -> None:
        self._collector = collector
        self._datasets = datasets
        self._datasets_at = -math.inf
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
        await self._collect_data()
        return AGAIN_S if gone.more else EVERY_S

    async def _collect_data(self) -> None:
        """Delete unused versions of datasets and their bytes, seldom: it reads every manifest."""
        now = self._clock.monotonic()
        if self._datasets is None or now - self._datasets_at < DATASETS_EVERY_S:
            return
        self._datasets_at = now
        try:
            gone = await self._datasets.collect()
        except KaonError as error:
            self._log.warning("cannot collect datasets", cause=error.cause)
            return
        if gone:
            self._log.info("collected datasets", versions=len(gone.versions), blobs=gone.blobs, bytes=gone.blob_bytes)
