"""The typed no-op and a stream of tokens, as a Kaon service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from pydantic import BaseModel

import kaon


class Item(BaseModel):
    text: str
    n: int = 1


@kaon.service
class Noop:
    @kaon.endpoint
    async def noop(self, item: Item) -> Item:
        return item

    @kaon.endpoint(method="GET")
    async def burst(self) -> AsyncIterator[str]:
        for _ in range(200):
            yield "token"

    @kaon.endpoint(method="GET")
    async def paced(self) -> AsyncIterator[str]:
        for _ in range(200):
            await asyncio.sleep(0)
            yield "token"
