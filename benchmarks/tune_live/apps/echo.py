"""A service that costs next to nothing: what a call takes is the platform's."""

from __future__ import annotations

import kaon

MAX_BATCH = 32


@kaon.service(resources=kaon.Resources(cpus=0.1))
class Echo:
    """Answers rows with themselves."""

    def __init__(self, load_s: float = 0.0) -> None:
        self._load_s = load_s

    @kaon.endpoint(path="/", batch=kaon.Batch(max_size=MAX_BATCH))
    async def answer(self, rows: list[int]) -> list[int]:
        return rows
