"""The factor on all demand for what the model does not contain: stragglers, uneven balancing, slow machines.

They show as misses although, by the model, capacity was there: those raise the headroom. Where capacity was not
there, because load rose more quickly than replicas start, misses say nothing about the model, and are left to the
contest. And only where replicas are well used does the absence of misses say anything: where half of
them idle, a model that is wrong would not be found out, so the headroom falls only while demand is above
`TIGHT` of what is ready. In between it is conformal: in balance when the allowed share of calls is missed,
whatever the cause.
"""

from __future__ import annotations

import math
from typing import NamedTuple

LEAST, FIRST, MOST = 0.8, 1.15, 3.0
TIGHT = 0.5
_GAIN = 4.0
_MOST_CHANGE = 0.02
_EXCUSED_S = 10.0
"""So long after capacity was short, misses are put down to that: they are told of when their calls end."""


class Headroom(NamedTuple):
    """The factor; replica-seconds of work that waits, by the model; and until when misses are put down to that."""

    factor: float = FIRST
    backlog: float = 0.0
    excused_until_s: float = -math.inf


def watch(
    known: Headroom, at_s: float, span_s: float, work: float, ready: int, slack_s: float, patience_s: float
) -> Headroom:
    """`known` after `work` replica-seconds arrived for `ready` replicas; waits as in `contest.step`."""
    backlog = known.backlog + work - ready * span_s
    short = backlog > ready * slack_s
    return Headroom(
        known.factor,
        min(max(backlog, 0.0), ready * patience_s),
        at_s + _EXCUSED_S if short else known.excused_until_s,
    )


def learn(
    known: Headroom, at_s: float, answered: int, missed: int, allowed: float, minute: float, used: float
) -> Headroom:
    """`known` after `missed` of `answered` calls, of which the share `allowed` may; `minute` is how many calls
    there are in one, `used` the share of ready replicas that demand takes."""
    unexplained = missed if at_s > known.excused_until_s else 0
    told = allowed * answered if used >= TIGHT else 0.0
    change = _GAIN * (unexplained - told) / max(minute, answered)
    factor = min(max(known.factor * math.exp(min(change, _MOST_CHANGE)), LEAST), MOST)
    return Headroom(factor, known.backlog, known.excused_until_s)
