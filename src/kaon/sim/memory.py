"""The memory layout of a simulation: flat sequences of integers, and names for the indices in them."""

from __future__ import annotations

from typing import Any, NamedTuple

# Indices of `SimulatedState.counts`: the current state and totals,
NOW, NEXT, HEAP, READY, ALIVE, IN_FLIGHT, QUEUED, ARRIVED, ANSWERED, MISSED = range(10)
BATCHES, ROWS, BUSY, ROWS_SQUARED, ROWS_BUSY, ALIVE_NS, READY_NS, SINCE, STARTS, EVENTS = range(10, 20)
HELD_FIRST, HELD_LAST, LATENCY_SUM, READY_EVENTS, START_SUM, TIMED_OUT, LOST, FREE, COMING = range(20, 29)
# and the settings of the run.
SEED, MAX_BATCH, DEADLINE, SHARED, RETRY, BUCKET, WINDOW, FIRST_WINDOW, SLOTS, LANES = range(29, 39)
BUSY_SQUARED = 39
"""In squares of `TICK`."""
MAX_WAIT = 40
"""How long an idle lane waits for a fuller batch."""
COUNTS = 41

# Offsets of the tables in `SimulatedState.tables`, and their lengths.
TABLE = 1024
"""Entries of a table of quantiles, which maps random numbers to values."""
BUCKETS = 4096
"""Of the latency histogram, and of the table of latency losses by bucket."""
SPREAD, START_TIMES, SPEEDS, LIVES, LOSSES = (TABLE * i for i in range(5))
SERVICE = LOSSES + BUCKETS

# The fields of a replica in `SimulatedState.replicas`, at slot * WIDTH. TIMED: whether the end of a wait is among the
# events.
# The last three are lists over all slots: LISTED, the slots that take calls; PLACE, the index of a slot in it; UNUSED,
# slots to use next.
PHASE, GENERATION, FIRST, LAST, WAITING, WORKING, RUNNING, SPEED, TIMED, LISTED, PLACE, UNUSED = range(12)
WIDTH = 12
# A replica has LANES lanes, of which the first SLOTS are in use: batches, or calls, that it runs concurrently.
# WORKING of them are busy, with RUNNING rows. A lane's fields in `SimulatedState.lanes`, at
# (slot * LANES + lane) * LANE_WIDTH.
BATCH, BATCH_ROWS, BATCH_NS = range(3)
LANE_WIDTH = 3
LANE_BITS = 6
MOST_LANES = 1 << LANE_BITS
TICK = 10_000
"""ns; batches' squared times are counted in squares of this, so that their sum stays below 63 bits."""

MASK_32 = 0xFFFFFFFF
NEVER = 0x7FFFFFFFFFFFFFFF
PPM = 1_000_000
BATCH_ENDS, BECOMES_READY, FAILS, WAIT_ENDS = range(4)
GONE, STARTING, SERVING, DRAINING = range(4)
STREAM_ROUTE, STREAM_OTHER, STREAM_SERVICE, STREAM_START, STREAM_SPEED, STREAM_FAILURE = range(6)


class SimulatedState(NamedTuple):
    """All state; every field is a flat sequence of integers (ns, ppm, counts, or indices into another one)."""

    counts: Any
    tables: Any
    arrivals: Any
    following: Any
    """Per call: the next in its queue or batch, or -1."""
    replicas: Any
    lanes: Any
    heap: Any
    """Pairs of time and key."""
    scores: Any
    """The histogram of latency, then, per window, answers in time and the sum of latency losses."""
