"""Random numbers that are functions of (seed, stream, number), and the heap of future events.

Part of the kernel: the rules described there apply here.
"""

from __future__ import annotations

from kaon.sim.memory import (
    GENERATION,
    HEAP,
    LANE_BITS,
    MASK_32,
    WIDTH,
    SimulatedState,
)


def scramble(x: int) -> int:
    """A bijection of 32 bits in which every bit changes half of the others; no product exceeds 63 bits."""
    x = ((x ^ (x >> 16)) * 0x21F0AAAD) & MASK_32
    x = ((x ^ (x >> 15)) * 0x735A2D97) & MASK_32
    return x ^ (x >> 15)


def mix(seed: int, stream: int, number: int) -> int:
    """A random number below 2^32 that is a function of its arguments."""
    return scramble((scramble((seed * 0x3C6EF372 + stream * 0x1B873593) & MASK_32) + number) & MASK_32)


def push(w: SimulatedState, time: int, kind: int, slot: int, lane: int) -> None:
    """Put an event of the replica in `slot`, or of one of its lanes, into the heap."""
    if 2 * w.counts[HEAP] >= len(w.heap):
        sweep(w)
    place = (slot << LANE_BITS) | lane
    insert(w, time, (kind << 58) | (place << 32) | w.replicas[slot * WIDTH + GENERATION])


def sweep(w: SimulatedState) -> None:
    """Drop the events of ended replicas; a living one has at most three, and one for each lane."""
    n = w.counts[HEAP]
    w.counts[HEAP] = 0
    for i in range(n):
        time, key = w.heap[2 * i], w.heap[2 * i + 1]
        if w.replicas[((key >> 32 & 0x3FFFFFF) >> LANE_BITS) * WIDTH + GENERATION] == key & MASK_32:
            insert(w, time, key)


def insert(w: SimulatedState, time: int, key: int) -> None:
    """Insert an event into the heap."""
    i = w.counts[HEAP]
    w.counts[HEAP] = i + 1
    while i > 0:
        up = (i - 1) >> 1
        if w.heap[2 * up] < time or (w.heap[2 * up] == time and w.heap[2 * up + 1] <= key):
            break
        w.heap[2 * i] = w.heap[2 * up]
        w.heap[2 * i + 1] = w.heap[2 * up + 1]
        i = up
    w.heap[2 * i] = time
    w.heap[2 * i + 1] = key


def pop(w: SimulatedState) -> None:
    """Remove the first event from the heap."""
    n = w.counts[HEAP] - 1
    w.counts[HEAP] = n
    time, key = w.heap[2 * n], w.heap[2 * n + 1]
    i = 0
    while True:
        down = 2 * i + 1
        if down >= n:
            break
        other = down + 1
        if other < n and (
            w.heap[2 * other] < w.heap[2 * down]
            or (w.heap[2 * other] == w.heap[2 * down] and w.heap[2 * other + 1] < w.heap[2 * down + 1])
        ):
            down = other
        if w.heap[2 * down] > time or (w.heap[2 * down] == time and w.heap[2 * down + 1] >= key):
            break
        w.heap[2 * i] = w.heap[2 * down]
        w.heap[2 * i + 1] = w.heap[2 * down + 1]
        i = down
    w.heap[2 * i] = time
    w.heap[2 * i + 1] = key
