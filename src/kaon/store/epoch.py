"""A store for controllers: every write names the epoch under which the controller was started.

A server that starts advances the store's epoch. From then on writes of an older server's controllers are refused,
whatever they had read, so that two control planes never write alternately.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from kaon.laws.retention import Keep
from kaon.store.port import AnyResource, Store
from kaon.store.single import SingleWrites
from kaon.store.writes import Write


class _EpochStore(SingleWrites):
    """Passes everything on to `store`, writes with `epoch`."""

    def __init__(self, store: Store, epoch: int) -> None:
        self._store = store
        self._epoch = epoch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def write(self, writes: Sequence[Write], *, epoch: int | None = None) -> list[AnyResource]:
        return await self._store.write(writes, epoch=self._epoch)

    async def sweep(self, keep: Keep, *, epoch: int | None = None) -> dict[str, int]:
        return await self._store.sweep(keep, epoch=self._epoch)


def under_epoch(store: Store, epoch: int) -> Store:
    """`store` with all writes made under one epoch: each raises `StaleEpoch` once there is a newer one."""
    return cast(Store, _EpochStore(store, epoch))
