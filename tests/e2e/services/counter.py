"""Tells how many rows each batch has, and which process answered."""

import os

import kaon


@kaon.service
class Counter:
    @kaon.endpoint(batch=kaon.Batch(max_size=8))
    def rows(self, numbers: list[int]) -> list[tuple[int, int]]:
        return [(os.getpid(), len(numbers))] * len(numbers)
