"""How many replicas there may be, from the options of `scale` and `deploy`. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from kaon.cli.shared.spec_changes import field_errors
from kaon.cli.shared.text import plain, seconds
from kaon.errors import InvalidInput
from kaon.types.deployment import Floor, Scaling
from kaon.types.model import from_request

_FLOOR = re.compile(r"(\d{1,4})@(\d\d:\d\d)-(\d\d:\d\d)")
LEARNT = "learnt"
NONE = "none"


@dataclass(frozen=True)
class ReplicaBounds:
    """What the command line sets; None: unchanged."""

    replicas: int | None = None
    low: int | None = None
    high: int | None = None
    keep_alive: str | None = None
    floors: Sequence[str] | None = None

    @property
    def any(self) -> bool:
        """Whether anything is set."""
        return self != ReplicaBounds()


def with_bounds(current: Scaling, bounds: ReplicaBounds) -> Scaling:
    """`current` with the given bounds. Raises `InvalidInput`."""
    low, high = _range(current, bounds)
    changes: dict[str, Any] = {"min": low, "max": high}
    if bounds.keep_alive is not None:
        changes["keep_alive_s"] = None if bounds.keep_alive == LEARNT else seconds(bounds.keep_alive)
    if bounds.floors is not None:
        changes["floors"] = () if list(bounds.floors) == [NONE] else tuple(_floor(text) for text in bounds.floors)
    try:
        return from_request(Scaling, current.model_dump() | changes)
    except ValidationError as error:
        raise InvalidInput("The number of replicas is not valid.", errors=field_errors(error, "scaling")) from None


def _range(current: Scaling, bounds: ReplicaBounds) -> tuple[int, int]:
    low, high = bounds.low, bounds.high
    if bounds.replicas is not None:
        if low is not None or high is not None:
            raise InvalidInput(
                "A number of replicas and --min or --max exclude each other.", hint="Give one of them only."
            )
        return bounds.replicas, bounds.replicas
    if low is None and high is None:
        return current.min, current.max
    if low is None:
        assert high is not None
        return min(current.min, high), high
    return low, max(low, 1, current.max) if high is None else high


def _floor(text: str) -> Floor:
    """'3@09:00-18:00' as a floor."""
    match = _FLOOR.fullmatch(text.strip())
    try:
        if match is not None:
            return Floor(replicas=int(match.group(1)), start=match.group(2), end=match.group(3))
    except ValidationError:
        pass
    raise InvalidInput(
        f"--floor {plain(text)} is not a floor.",
        hint="Write it like --floor 3@09:00-18:00: minimum number of replicas, start and end in UTC; or --floor none.",
    )
