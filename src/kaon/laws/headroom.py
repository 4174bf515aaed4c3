"""The factor on all demand for what the model does not contain: stragglers, uneven balancing, slow machines.

They cause misses although there is enough capacity by the model: such misses raise the headroom. Misses while capacity
was short, because the load rose faster than replicas start, do not concern the model; they count in the contest. The
absence of misses counts only where replicas are well used: idle replicas would hide a wrong model. So the headroom
falls only while demand is above the share `TIGHT` of the ready replicas. In between it is conformal: in balance when
the allowed share of calls is missed, whatever the cause.
"""

from __future__ import annotations

import math
from typing import NamedTuple

LEAST, FIRST, MOST = 0.8, 1.15, 3.0
TIGHT = 0.5
_GAIN = 4.0
_MOST_CHANGE = 0.02
_EXCUSED_S = 10.0
"""For so many seconds after capacity was short, misses are attributed to that: they are counted when calls end."""


class Headroom(NamedTuple):
    """The factor; the backlog by the model, replica-seconds; and until when misses are attributed to short capacity."""

    factor: float = FIRST
    backlog: float = 0.0
    excused_until_s: float = -math.inf


def watch(
    headroom: Headroom, at_s: float, span_s: float, work: float, ready: int, slack_s: float, patience_s: float
) -> Headroom:
    """The headroom after `work` replica-seconds arrived for `ready` replicas; waits as in `contest.step`."""
    backlog = headroom.backlog + work - ready * span_s
    short = backlog > ready * slack_s
    return Headroom(
        headroom.factor,
        min(max(backlog, 0.0), ready * patience_s),
        at_s + _EXCUSED_S if short else headroom.excused_until_s,
    )


def learn(
    headroom: Headroom, at_s: float, answered: int, missed: int, allowed: float, minute: float, used: float
) -> Headroom:
    """The headroom after `missed` of `answered` calls, where the share `allowed` may be missed; `minute` is the number
    of calls per minute, `used` the share of ready replicas that the demand needs."""
    unexplained = missed if at_s > headroom.excused_until_s else 0
    expected = allowed * answered if used >= TIGHT else 0.0
    change = _GAIN * (unexplained - expected) / max(minute, answered)
    factor = min(max(headroom.factor * math.exp(min(change, _MOST_CHANGE)), LEAST), MOST)
    return Headroom(factor, headroom.backlog, headroom.excused_until_s)
