"""MiniLM int8 as a service: real work on a real processor. `apps`: the folder of its loader, `minilm.py`."""

from __future__ import annotations

import sys

import kaon

MAX_BATCH = 32
OBJECTIVE = kaon.Objective(latency_s=0.15, deadline_s=0.3, completion=0.99)


@kaon.service(resources=kaon.Resources(cpus=1), objective=OBJECTIVE)
class Embedder:
    """Texts to vectors."""

    def __init__(self, apps: str, load_s: float = 0.0) -> None:
        sys.path.append(apps)
        from minilm import MiniLM  # in `apps`, which only a replica is told

        self._model = MiniLM()

    @kaon.endpoint(path="/", batch=kaon.Batch(max_size=MAX_BATCH))
    def embed(self, texts: list[str]) -> list[list[float]]:
        return [vector[:16] for vector in self._model.embed(texts)]
