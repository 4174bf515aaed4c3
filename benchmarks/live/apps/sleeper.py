"""A service of a defined capacity that needs no processor: a batch of n rows takes a n + b seconds."""

from __future__ import annotations

import asyncio

import kaon

A_S, B_S, MAX_BATCH = 0.04, 0.16, 8
OBJECTIVE = kaon.Objective(latency_s=0.8, deadline_s=1.0, completion=0.99)


@kaon.service(resources=kaon.Resources(cpus=0.1), objective=OBJECTIVE)
class Sleeper:
    """Answers rows with themselves, when their batch has slept. `load_s`: seconds until a replica is ready."""

    def __init__(self, load_s: float = 0.0) -> None:
        self._load_s = load_s

    @kaon.on_start
    async def load(self) -> None:
        await asyncio.sleep(self._load_s)

    @kaon.endpoint(path="/", batch=kaon.Batch(max_size=MAX_BATCH))
    async def answer(self, rows: list[int]) -> list[int]:
        await asyncio.sleep(A_S * len(rows) + B_S)
        return rows
