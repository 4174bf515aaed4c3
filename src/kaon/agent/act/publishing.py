"""Publishes what attempts have made: files first, then the end, which the control plane writes in one transaction.

Nothing is remembered on disk but what the attempt itself wrote: an agent that is killed at any point leaves the
workload as it is, and the next one publishes it from the start. An end that is sent twice is one end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path

from kaon import log
from kaon.agent.act.attempt_end import collect_end
from kaon.agent.act.attempt_news import AttemptReports
from kaon.agent.decide.inputs import PublishIt
from kaon.agent.ports import AttemptReceiver
from kaon.drivers.port import Driver
from kaon.errors import Conflict, Forbidden, KaonError, NotFound

_DIGESTS_AT_ONCE = 10_000
_UPLOADS_AT_ONCE = 4

_log = log.get("agent.jobs")


class Publisher:
    """The ends of a cloud's attempts."""

    def __init__(self, driver: Driver, receiver: AttemptReceiver, reports: AttemptReports) -> None:
        self._driver = driver
        self._receiver = receiver
        self._reports = reports
        self._acknowledged: set[str] = set()

    @property
    def acknowledged(self) -> frozenset[str]:
        """Attempts whose end is written, or not wanted any more."""
        return frozenset(self._acknowledged)

    def keep(self, attempts: Iterable[str]) -> None:
        """Forget all others."""
        self._acknowledged.intersection_update(attempts)

    async def publish(self, action: PublishIt) -> None:
        """Publish one end. Raises KaonError when that is not possible now."""
        folder = self._driver.job_dir(action.replica)
        collected = await asyncio.to_thread(collect_end, action, folder)
        try:
            await self._reports.send_last(action.replica)
            digests = sorted(collected.files)
            for at in range(0, len(digests), _DIGESTS_AT_ONCE):
                missing = await self._receiver.missing_files(action.replica, digests[at : at + _DIGESTS_AT_ONCE])
                await self._upload(action.replica, {d: collected.files[d] for d in missing if d in collected.files})
            await self._receiver.attempt_end(action.replica, collected.end)
        except (Conflict, Forbidden, NotFound) as error:
            _log.info("what an attempt has made is discarded", attempt=action.replica, reason=error.cause)
        else:
            _log.info("an attempt has ended", attempt=action.replica, reason=collected.end.reason)
        self._acknowledged.add(action.replica)

    async def _upload(self, attempt: str, files: dict[str, Path]) -> None:
        slots = asyncio.Semaphore(_UPLOADS_AT_ONCE)

        async def one(digest: str, file: Path) -> None:
            async with slots:
                await self._receiver.upload_file(attempt, digest, file)

        try:
            async with asyncio.TaskGroup() as group:
                for digest, file in files.items():
                    group.create_task(one(digest, file))
        except* KaonError as errors:
            raise errors.exceptions[0] from None
