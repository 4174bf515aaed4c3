"""A service that makes faults visible: it returns which replica answered, and counts its calls."""

import asyncio
import os
from collections.abc import AsyncIterator

import kaon


@kaon.service
class Probe:
    """Says which process answers."""

    def __init__(self, version: str = "1", fail: str = "") -> None:
        if fail == "crash":
            os._exit(3)
        if fail == "raise":
            raise RuntimeError("the model file is broken")
        self.version = version
        self.marks = kaon.data_dir() / "marks"

    @kaon.endpoint(method="GET", path="/", retry=True)
    async def who(self) -> dict[str, str]:
        """May be sent to another replica after the first broke off."""
        return {"pid": str(os.getpid()), "version": self.version}

    @kaon.endpoint(method="GET", retry=True)
    async def slow(self, seconds: float = 0.2) -> str:
        """May be sent again, and is long enough to be cut."""
        await asyncio.sleep(seconds)
        return self.version

    @kaon.endpoint
    def mark(self, text: str) -> str:
        """Not idempotent: each run leaves a line."""
        with self.marks.open("a", encoding="utf-8") as file:
            file.write(f"{text}\n")
        return text

    @kaon.endpoint(method="GET")
    async def ticks(self, count: int = 20, every_s: float = 0.1) -> AsyncIterator[int]:
        """A stream that lasts."""
        for number in range(count):
            yield number
            await asyncio.sleep(every_s)
