"""The same on BentoML, whose latency limit must be far off for it to serve at all under load."""

import time

import bentoml
from minilm import MiniLM

BATCHED = {"batchable": True, "max_batch_size": 32, "max_latency_ms": 60_000}


@bentoml.service(traffic={"timeout": 60}, metrics={"enabled": False}, logging={"access": {"enabled": False}})
class Batched:
    def __init__(self) -> None:
        self.model = MiniLM()

    @bentoml.api(route="/embed", **BATCHED)
    def embed(self, texts: list[str]) -> list[list[float]]:
        return self.model.embed(texts)

    @bentoml.api(route="/batched", **BATCHED)
    def batched(self, texts: list[str]) -> list[int]:
        time.sleep(0.004)
        return [len(text) for text in texts]
