"""A service whose calls name the duration of their work, a few calls at a time: it scales by load."""

import asyncio

import kaon


@kaon.service(objective=kaon.Objective(latency_s=0.4, completion=0.999))
class Worker:
    """Takes two calls at a time."""

    def __init__(self, start_s: float = 0.3) -> None:
        self.start_s = start_s

    @kaon.on_start
    async def load(self) -> None:
        """As a model that is read takes its time."""
        await asyncio.sleep(self.start_s)

    @kaon.endpoint(method="GET", path="/", concurrency=2)
    async def work(self, seconds: float = 0.1) -> float:
        """Takes so long, whatever the load is."""
        await asyncio.sleep(seconds)
        return seconds
