"""A service whose next version may be bad, in the way that its setting names."""

import asyncio
import os
import random

import kaon


@kaon.service
class Scorer:
    """Scores a number."""

    def __init__(self, version: str = "1", harm: str = "") -> None:
        if harm == "crashes":
            os._exit(3)
        self.version, self.harm, self.made_ready = version, harm, False

    @kaon.on_start
    async def prepare(self) -> None:
        if self.harm == "is never ready":
            await asyncio.sleep(3600)

    @kaon.endpoint(method="GET")
    async def score(self, number: int = 1) -> dict[str, object]:
        if self.harm == "fails":
            raise RuntimeError("the model is broken")
        if self.harm == "is slow":
            await asyncio.sleep(0.5)
        if self.harm == "hangs":
            await asyncio.sleep(30)
        scale = 1.5 if self.harm == "differs" else 1.0
        return {"version": self.version, "scores": [number * scale + 1e-13 * random.random()]}
