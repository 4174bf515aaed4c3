"""How many replicas there may be, as the command line says it. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from kaon.cli.text import plain, seconds
from kaon.errors import InvalidInput
from kaon.types.deployment import Floor, Scaling
from kaon.types.model import from_request

_FLOOR = re.compile(r"(\d{1,4})@(\d\d:\d\d)-(\d\d:\d\d)")
LEARNT = "learnt"
NONE = "none"


@dataclass(frozen=True)
class ReplicaBounds:
    """What the command line names; None: as it is."""

    replicas: int | None = None
    low: int | None = None
    high: int | None = None
    keep_alive: str | None = None
    floors: Sequence[str] | None = None

    @property
    def any(self) -> bool:
        """Whether anything is named."""
        return self != ReplicaBounds()


def wished(current: Scaling, wishes: ReplicaBounds) -> Scaling:
    """`current` with what is named in its place. Raises `InvalidInput`."""
    low, high = _range(current, wishes)
    changes: dict[str, Any] = {"min": low, "max": high}
    if wishes.keep_alive is not None:
        changes["keep_alive_s"] = None if wishes.keep_alive == LEARNT else seconds(wishes.keep_alive)
    if wishes.floors is not None:
        changes["floors"] = () if list(wishes.floors) == [NONE] else tuple(_floor(text) for text in wishes.floors)
    try:
        return from_request(Scaling, current.model_dump() | changes)
    except ValidationError as error:
        raise InvalidInput(
            "That is no number of replicas to scale to.",
            errors=[
                {"where": ".".join(map(str, ("scaling", *e["loc"]))), "message": e["msg"].removeprefix("Value error, ")}
                for e in error.errors()
            ],
        ) from None


def _range(current: Scaling, wishes: ReplicaBounds) -> tuple[int, int]:
    low, high = wishes.low, wishes.high
    if wishes.replicas is not None:
        if low is not None or high is not None:
            raise InvalidInput("A number of replicas and --min or --max exclude each other.", hint="Give one of them.")
        return wishes.replicas, wishes.replicas
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
        f"--floor {plain(text)} is no floor.",
        hint="Write it like --floor 3@09:00-18:00: replicas at least, from when to when, UTC. --floor none: no floors.",
    )
