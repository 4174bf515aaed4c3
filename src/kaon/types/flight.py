"""Calls in flight, which a replica records for its agent in a file of fixed slots.

The replica fills a slot when a handler starts and clears it at the end of the call. The file is memory-mapped, so
it can be read while the replica's interpreter is busy, and it outlives a crash. A slot is a deadline (a double, seconds
of CLOCK_MONOTONIC, 0: free) and the first 64 bytes of the call's request id.
"""

from __future__ import annotations

import math
import re
import struct

from kaon.types.model import Model

SLOT = struct.Struct("=d64s")
SLOTS = 4096
"""Calls that are recorded at once; further ones are served without a slot."""
FILE_BYTES = SLOTS * SLOT.size
ID_LENGTH = 64
"""Recorded characters of a request id. The edge passes no longer ones on."""
UNLIMITED_S = 600.0
"""The assumed limit of a call without a time limit."""

_LONGEST_S = 86_400.0
_UNFIT = re.compile(r"[^\x21-\x7e]")


class Flight(Model):
    """One call in flight."""

    request_id: str
    left_s: float
    """Seconds until its deadline; negative after it."""


def flights(content: bytes, now: float) -> tuple[Flight, ...]:
    """The calls in a file at `now`, `time.monotonic()` of its machine.

    The replica can write anything into it: invalid slots are left out, and request ids are made printable.
    """
    whole = content[: min(len(content), FILE_BYTES) // SLOT.size * SLOT.size]
    return tuple(
        Flight(request_id=_readable(request_id), left_s=min(deadline - now, _LONGEST_S))
        for deadline, request_id in SLOT.iter_unpack(whole)
        if deadline > 0 and not math.isinf(deadline)
    )


def _readable(request_id: bytes) -> str:
    return _UNFIT.sub("?", request_id.rstrip(b"\0").decode("latin-1"))
