"""The bare model's best throughput: no server, the best of several batch sizes. Prints sentences a second."""

import sys
import time

from minilm import MiniLM

seconds, texts = float(sys.argv[1]), sys.argv[2:]
model = MiniLM()
model.embed(texts)
best = 0.0
for size in (1, 8, 16, 32, 64):
    batch = (texts * size)[:size]
    began_at, count = time.monotonic(), 0
    while time.monotonic() < began_at + seconds:
        model.embed(batch)
        count += size
    best = max(best, count / (time.monotonic() - began_at))
print(best)
