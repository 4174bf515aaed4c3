"""A service whose capacity is in its code: it sleeps, so that the processor is free for the measurement."""

import asyncio

import kaon


@kaon.service
class Scarce:
    """One replica answers 80 plain calls a second, or 64 batched ones in eights."""

    @kaon.endpoint(concurrency=4)
    async def plain(self, text: str) -> str:
        """Not idempotent, so that the edge sends nothing again."""
        await asyncio.sleep(0.05)
        return text

    @kaon.endpoint(batch=kaon.Batch(max_size=8))
    async def batched(self, texts: list[str]) -> list[str]:
        """Eight at once in an eighth of a second."""
        await asyncio.sleep(0.045 + 0.01 * len(texts))
        return texts
