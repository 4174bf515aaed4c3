"""Calls in flight as a replica notes them for its agent, in a file of fixed slots.

The replica writes a call's slot when its handler begins and clears it at the call's end. The file is memory-mapped, so
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
"""Calls that are noted at once; more of them are served all the same."""
FILE_BYTES = SLOTS * SLOT.size
ID_LENGTH = 64
"""Of a request id so much is noted. The edge passes no longer ones on."""
UNLIMITED_S = 600.0
"""A call without a time limit is taken to have this one."""

_LONGEST_S = 86_400.0
_UNFIT = re.compile(r"[^\x21-\x7e]")


class Flight(Model):
    """One call in flight."""

    request_id: str
    left_s: float
    """Seconds until its deadline; below zero: since then."""


def flights(content: bytes, now: float) -> tuple[Flight, ...]:
    """The calls that a file tells of at `now`, `time.monotonic()` of its machine.

    The file is the replica's: what is odd in it is left out, or made readable.
    """
    whole = content[: min(len(content), FILE_BYTES) // SLOT.size * SLOT.size]
    return tuple(
        Flight(request_id=_readable(request_id), left_s=min(deadline - now, _LONGEST_S))
        for deadline, request_id in SLOT.iter_unpack(whole)
        if deadline > 0 and not math.isinf(deadline)
    )


def _readable(request_id: bytes) -> str:
    return _UNFIT.sub("?", request_id.rstrip(b"\0").decode("latin-1"))
