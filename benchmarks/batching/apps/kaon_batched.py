"""A device call of 4 ms, batched and not, and MiniLM, as Kaon services."""

from __future__ import annotations

import time

from minilm import MiniLM

import kaon

DEVICE_S = 0.004


@kaon.service
class Device:
    @kaon.endpoint(batch=kaon.Batch(max_size=32))
    def batched(self, texts: list[str]) -> list[int]:
        time.sleep(DEVICE_S)
        return [len(text) for text in texts]

    @kaon.endpoint
    def plain(self, texts: list[str]) -> list[int]:
        time.sleep(DEVICE_S)
        return [len(text) for text in texts]


@kaon.service
class Embedder:
    def __init__(self) -> None:
        self.model = MiniLM()

    @kaon.endpoint(batch=kaon.Batch(max_size=32))
    def embed(self, texts: list[str]) -> list[list[float]]:
        return self.model.embed(texts)
