"""A service that is well as long as its batches have one row, and else does the harm that its setting names."""

import asyncio
import os

import kaon


@kaon.service
class Batcher:
    """Takes rows. `pace_s` is what a batch takes."""

    def __init__(self, harm: str = "", pace_s: float = 0.001) -> None:
        self.harm, self.pace_s = harm, pace_s
        self.taken: list[bytes] = []

    @kaon.endpoint(batch=kaon.Batch(max_size=8))
    async def work(self, rows: list[int]) -> list[int]:
        if len(rows) > 1:
            await self._harm()
        await asyncio.sleep(self.pace_s)
        return rows

    async def _harm(self) -> None:
        match self.harm:
            case "fails":
                raise RuntimeError("this model takes one row at a time")
            case "is slow":
                await asyncio.sleep(0.9)
            case "ends":
                os._exit(3)
            case "takes memory":
                self.taken.append(os.urandom(1 << 20) * 400)
