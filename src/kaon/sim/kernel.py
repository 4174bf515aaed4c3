"""The data plane of the simulator: calls, batches, replicas, in integer nanoseconds.

These functions are plain Python over flat sequences of integers. `kaon.sim.engine` runs them as they are, on lists, or
compiled by numba, on arrays; both give exactly the same results, because nothing here is a float and every random
number is a function of (seed, stream, number) in arithmetic within 63 bits (numba does not check for overflow).

Events: arrivals are a sorted sequence and never enter the heap; the heap holds ends of batches, replicas that
become ready, replicas that fail, and ends of waits. Ties are ordered by (time, kind, id), and events precede arrivals.
A replica runs a batch in each of its lanes; a call is a batch of one. A call waits in the queue of its replica, chosen
as the edge does it (the less loaded of two), or in the one queue for all when no replica is ready, or when `SHARED` is
set. With a `MAX_WAIT`, an idle lane waits for a full batch until its oldest call has waited so long, as
`kaon.laws.batch` does; not where the queue is shared, nor in a replica that drains.
"""

from __future__ import annotations

from kaon.sim.events import mix, pop, push
from kaon.sim.memory import (
    ALIVE,
    ALIVE_NS,
    ANSWERED,
    ARRIVED,
    BATCH,
    BATCH_ENDS,
    BATCH_NS,
    BATCH_ROWS,
    BATCHES,
    BECOMES_READY,
    BUCKET,
    BUCKETS,
    BUSY,
    BUSY_SQUARED,
    COMING,
    DEADLINE,
    DRAINING,
    EVENTS,
    FAILS,
    FIRST,
    FIRST_WINDOW,
    FREE,
    GENERATION,
    GONE,
    HEAP,
    HELD_FIRST,
    HELD_LAST,
    IN_FLIGHT,
    LANE_BITS,
    LANE_WIDTH,
    LANES,
    LAST,
    LATENCY_SUM,
    LISTED,
    LIVES,
    LOSSES,
    LOST,
    MASK_32,
    MAX_BATCH,
    MAX_WAIT,
    MISSED,
    MOST_LANES,
    NEVER,
    NEXT,
    NOW,
    PHASE,
    PLACE,
    PPM,
    QUEUED,
    READY,
    READY_EVENTS,
    READY_NS,
    RETRY,
    ROWS,
    ROWS_BUSY,
    ROWS_SQUARED,
    RUNNING,
    SEED,
    SERVICE,
    SERVING,
    SHARED,
    SINCE,
    SLOTS,
    SPEED,
    SPEEDS,
    SPREAD,
    START_SUM,
    START_TIMES,
    STARTING,
    STARTS,
    STREAM_FAILURE,
    STREAM_OTHER,
    STREAM_ROUTE,
    STREAM_SERVICE,
    STREAM_SPEED,
    STREAM_START,
    TABLE,
    TICK,
    TIMED,
    TIMED_OUT,
    UNUSED,
    WAIT_ENDS,
    WAITING,
    WIDTH,
    WINDOW,
    WORKING,
    SimulatedState,
)


def account(w: SimulatedState, now: int) -> None:
    """Add the replica-time since the number of replicas last changed."""
    passed = now - w.counts[SINCE]
    w.counts[ALIVE_NS] += passed * w.counts[ALIVE]
    w.counts[READY_NS] += passed * w.counts[READY]
    w.counts[SINCE] = now


def score(w: SimulatedState, call: int, latency: int, well: int) -> None:
    """Record the result of a call, in its window by arrival and in the histogram."""
    c = w.counts
    c[ANSWERED] += 1
    c[IN_FLIGHT] -= 1
    c[LATENCY_SUM] += latency
    c[MISSED] += 1 - well
    window = w.arrivals[call] // c[WINDOW] - c[FIRST_WINDOW]
    if window >= 0:
        bucket = min(latency // c[BUCKET], BUCKETS - 1)
        w.scores[bucket] += 1
        w.scores[BUCKETS + 2 * window] += well
        w.scores[BUCKETS + 2 * window + 1] += w.tables[LOSSES + bucket]


def hold(w: SimulatedState, call: int) -> None:
    """Put a call into the shared queue."""
    w.following[call] = -1
    if w.counts[HELD_FIRST] < 0:
        w.counts[HELD_FIRST] = call
    else:
        w.following[w.counts[HELD_LAST]] = call
    w.counts[HELD_LAST] = call


def enqueue(w: SimulatedState, slot: int, call: int) -> None:
    """Put a call into the queue of a replica."""
    w.following[call] = -1
    if w.replicas[slot * WIDTH + FIRST] < 0:
        w.replicas[slot * WIDTH + FIRST] = call
    else:
        w.following[w.replicas[slot * WIDTH + LAST]] = call
    w.replicas[slot * WIDTH + LAST] = call
    w.replicas[slot * WIDTH + WAITING] += 1


def lingers(w: SimulatedState, slot: int, now: int) -> bool:
    """Whether an incomplete batch waits for more calls; if so, until its oldest call has waited long enough."""
    c = w.counts
    call = w.replicas[slot * WIDTH + FIRST]
    if call < 0 or w.replicas[slot * WIDTH + WAITING] >= c[MAX_BATCH] or w.replicas[slot * WIDTH + PHASE] != SERVING:
        return False
    until = w.arrivals[call] + c[MAX_WAIT]
    if until <= now:
        return False
    if w.replicas[slot * WIDTH + TIMED] == 0:  # else there is one already, for a call before this one
        w.replicas[slot * WIDTH + TIMED] = 1
        push(w, until, WAIT_ENDS, slot, 0)
    return True


def begin(w: SimulatedState, slot: int, lane: int, now: int) -> None:
    """Start the next batch in an idle lane, if calls wait; calls past their deadline are dropped."""
    c = w.counts
    shared = w.counts[SHARED]
    if c[MAX_WAIT] > 0 and not shared and lingers(w, slot, now):
        return
    first, last, rows = -1, -1, 0
    while rows < w.counts[MAX_BATCH]:
        call = c[HELD_FIRST] if shared else w.replicas[slot * WIDTH + FIRST]
        if call < 0:
            break
        if shared:
            c[HELD_FIRST] = w.following[call]
        else:
            w.replicas[slot * WIDTH + FIRST] = w.following[call]
            w.replicas[slot * WIDTH + WAITING] -= 1
        c[QUEUED] -= 1
        if now - w.arrivals[call] > w.counts[DEADLINE]:
            c[TIMED_OUT] += 1
            score(w, call, w.counts[DEADLINE], 0)
            continue
        w.following[call] = -1
        if first < 0:
            first = call
        else:
            w.following[last] = call
        last = call
        rows += 1
    if rows == 0:
        return
    factor = w.tables[SPREAD + mix(w.counts[SEED], STREAM_SERVICE, first) % TABLE]
    took = w.tables[SERVICE + rows] * factor // PPM * w.replicas[slot * WIDTH + SPEED] // PPM
    at = (slot * w.counts[LANES] + lane) * LANE_WIDTH
    w.lanes[at + BATCH] = first
    w.lanes[at + BATCH_ROWS] = rows
    w.lanes[at + BATCH_NS] = took
    w.replicas[slot * WIDTH + WORKING] += 1
    w.replicas[slot * WIDTH + RUNNING] += rows
    push(w, now + took, BATCH_ENDS, slot, lane)


def begin_any(w: SimulatedState, slot: int, now: int) -> None:
    """Start batches in all idle lanes while calls wait."""
    for lane in range(w.counts[SLOTS]):
        if w.lanes[(slot * w.counts[LANES] + lane) * LANE_WIDTH + BATCH] < 0:
            begin(w, slot, lane, now)


def end(w: SimulatedState, slot: int, lane: int, now: int) -> None:
    """End a batch: answer its calls and begin the next; a draining replica without calls ends."""
    c = w.counts
    at = (slot * c[LANES] + lane) * LANE_WIDTH
    rows, took = w.lanes[at + BATCH_ROWS], w.lanes[at + BATCH_NS]
    work = took // c[SLOTS]
    c[BATCHES] += 1
    c[ROWS] += rows
    c[BUSY] += work
    c[ROWS_SQUARED] += rows * rows
    c[ROWS_BUSY] += rows * work
    c[BUSY_SQUARED] += (work // TICK) * (work // TICK)
    call = w.lanes[at + BATCH]
    w.lanes[at + BATCH] = -1
    w.replicas[slot * WIDTH + WORKING] -= 1
    w.replicas[slot * WIDTH + RUNNING] -= rows
    while call >= 0:
        after = w.following[call]
        latency = now - w.arrivals[call]
        score(w, call, latency, 1 if latency <= w.counts[DEADLINE] else 0)
        call = after
    if lane < c[SLOTS] and (w.replicas[slot * WIDTH + PHASE] == SERVING or not w.counts[SHARED]):
        begin(w, slot, lane, now)
    if w.replicas[slot * WIDTH + PHASE] == DRAINING and w.replicas[slot * WIDTH + WORKING] == 0:
        leave(w, slot, now)


def leave(w: SimulatedState, slot: int, now: int) -> None:
    """End the replica in `slot`."""
    account(w, now)
    if w.replicas[slot * WIDTH + PHASE] == SERVING:
        withdraw(w, slot)
    elif w.replicas[slot * WIDTH + PHASE] == STARTING:
        w.counts[COMING] -= 1
    w.replicas[slot * WIDTH + PHASE] = GONE
    w.replicas[slot * WIDTH + GENERATION] += 1
    w.counts[ALIVE] -= 1
    w.replicas[w.counts[FREE] * WIDTH + UNUSED] = slot
    w.counts[FREE] += 1


def withdraw(w: SimulatedState, slot: int) -> None:
    """Remove a replica from those that get calls."""
    n = w.counts[READY] - 1
    w.counts[READY] = n
    moved, place = w.replicas[n * WIDTH + LISTED], w.replicas[slot * WIDTH + PLACE]
    w.replicas[place * WIDTH + LISTED] = moved
    w.replicas[moved * WIDTH + PLACE] = place


def route(w: SimulatedState, call: int, number: int, now: int) -> None:
    """Assign a call to the less loaded of two replicas; it begins at once if that one is idle."""
    c = w.counts
    n = c[READY]
    c[QUEUED] += 1
    if w.counts[SHARED]:
        hold(w, call)
        for i in range(n):
            if w.replicas[(w.replicas[i * WIDTH + LISTED]) * WIDTH + WORKING] < c[SLOTS]:
                begin_any(w, w.replicas[i * WIDTH + LISTED], now)
                break
        return
    if n == 0:
        hold(w, call)
        return
    x = mix(w.counts[SEED], STREAM_ROUTE, number)
    slot, other = (
        w.replicas[(x % n) * WIDTH + LISTED],
        w.replicas[(mix(w.counts[SEED], STREAM_OTHER, number) % n) * WIDTH + LISTED],
    )
    if (
        w.replicas[other * WIDTH + WAITING] + w.replicas[other * WIDTH + RUNNING]
        < w.replicas[slot * WIDTH + WAITING] + w.replicas[slot * WIDTH + RUNNING]
    ):
        slot = other
    enqueue(w, slot, call)
    if w.replicas[slot * WIDTH + WORKING] < c[SLOTS]:
        begin_any(w, slot, now)


def become_ready(w: SimulatedState, slot: int, now: int) -> None:
    """Make a replica ready: it takes calls, first those that were held."""
    c = w.counts
    account(w, now)
    w.replicas[slot * WIDTH + PHASE] = SERVING
    w.replicas[slot * WIDTH + PLACE] = c[READY]
    w.replicas[c[READY] * WIDTH + LISTED] = slot
    c[READY] += 1
    c[COMING] -= 1
    c[READY_EVENTS] += 1
    if w.tables[LIVES] > 0:
        life = w.tables[LIVES + mix(w.counts[SEED], STREAM_FAILURE, c[READY_EVENTS]) % TABLE]
        push(w, now + life, FAILS, slot, 0)
    if w.counts[SHARED]:
        begin_any(w, slot, now)
        return
    call = c[HELD_FIRST]
    c[HELD_FIRST] = -1
    while call >= 0:
        after = w.following[call]
        enqueue(w, slot, call)
        call = after
    begin_any(w, slot, now)


def fail(w: SimulatedState, slot: int, now: int) -> None:
    """End a replica by a failure: its calls are repeated at another replica, or lost."""
    c = w.counts
    queued = w.replicas[slot * WIDTH + FIRST]
    c[QUEUED] -= w.replicas[slot * WIDTH + WAITING]
    w.replicas[slot * WIDTH + FIRST] = -1
    w.replicas[slot * WIDTH + WAITING] = 0
    w.replicas[slot * WIDTH + WORKING] = 0
    w.replicas[slot * WIDTH + RUNNING] = 0
    leave(w, slot, now)
    for chain in range(c[LANES] + 1):
        call = queued
        if chain < c[LANES]:
            at = (slot * c[LANES] + chain) * LANE_WIDTH
            call = w.lanes[at + BATCH]
            w.lanes[at + BATCH] = -1
        while call >= 0:
            after = w.following[call]
            if w.counts[RETRY]:
                route(w, call, call + (1 << 31), now)
            else:
                c[LOST] += 1
                score(w, call, now - w.arrivals[call], 0)
            call = after


def start(w: SimulatedState, replicas: int) -> None:
    """Start replicas."""
    c = w.counts
    account(w, c[NOW])
    for _ in range(replicas):
        if c[FREE] == 0:
            return
        c[FREE] -= 1
        slot = w.replicas[c[FREE] * WIDTH + UNUSED]
        number = c[STARTS]
        c[STARTS] = number + 1
        took = w.tables[START_TIMES + mix(w.counts[SEED], STREAM_START, number) % TABLE]
        c[START_SUM] += took
        w.replicas[slot * WIDTH + PHASE] = STARTING
        w.replicas[slot * WIDTH + FIRST] = -1
        w.replicas[slot * WIDTH + WAITING] = 0
        w.replicas[slot * WIDTH + WORKING] = 0
        w.replicas[slot * WIDTH + RUNNING] = 0
        w.replicas[slot * WIDTH + TIMED] = 0
        w.replicas[slot * WIDTH + SPEED] = w.tables[SPEEDS + mix(w.counts[SEED], STREAM_SPEED, number) % TABLE]
        c[ALIVE] += 1
        c[COMING] += 1
        push(w, c[NOW] + took, BECOMES_READY, slot, 0)


def stop(w: SimulatedState, replicas: int) -> None:
    """Stop replicas: starting ones first, then the last in the list, which drain."""
    c = w.counts
    now = c[NOW]
    for slot in range(len(w.replicas) // WIDTH - 1, -1, -1):
        if replicas == 0:
            return
        if w.replicas[slot * WIDTH + PHASE] == STARTING:
            leave(w, slot, now)
            replicas -= 1
    while replicas > 0 and c[READY] > 0:
        slot = w.replicas[(c[READY] - 1) * WIDTH + LISTED]
        account(w, now)
        withdraw(w, slot)
        w.replicas[slot * WIDTH + PHASE] = DRAINING
        if c[MAX_WAIT] > 0:
            begin_any(w, slot, now)
        if w.replicas[slot * WIDTH + WORKING] == 0:
            leave(w, slot, now)
        replicas -= 1


def advance(w: SimulatedState, until: int) -> None:
    """Simulate until just before `until`."""
    c = w.counts
    n = len(w.arrivals)
    events = 0
    while True:
        arrival = w.arrivals[c[NEXT]] if c[NEXT] < n else NEVER
        time = w.heap[2 * 0] if c[HEAP] > 0 else NEVER
        if time >= until and arrival >= until:
            break
        events += 1
        if arrival < time:
            call = c[NEXT]
            c[NEXT] = call + 1
            c[ARRIVED] += 1
            c[IN_FLIGHT] += 1
            route(w, call, call, arrival)
            continue
        key = w.heap[2 * 0 + 1]
        pop(w)
        slot, lane = (key >> 32 & 0x3FFFFFF) >> LANE_BITS, key >> 32 & (MOST_LANES - 1)
        if w.replicas[slot * WIDTH + GENERATION] != key & MASK_32:
            continue
        kind = key >> 58
        if kind == BATCH_ENDS:
            end(w, slot, lane, time)
        elif kind == BECOMES_READY:
            become_ready(w, slot, time)
        elif kind == WAIT_ENDS:
            w.replicas[slot * WIDTH + TIMED] = 0
            begin_any(w, slot, time)
        else:
            fail(w, slot, time)
    c[EVENTS] += events
    c[NOW] = until
    account(w, until)
