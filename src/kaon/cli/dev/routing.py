"""Where a request goes under `kaon dev`, by its path. Pure.

Several services are below their names, as on the platform. One service is at the root as well, where it is while it is
written; a path with its name and more goes to the same place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kaon.errors import NotFound, did_you_mean


@dataclass(frozen=True)
class DevRoute:
    """A service, and the request's target there."""

    service: str
    target: bytes
    prefix: bytes = b""
    """What was removed from the path."""


def find_route(target: bytes, names: Sequence[str]) -> DevRoute:
    """The route of a request from outside. Raises `NotFound`."""
    route = below_name(target, names)
    if len(names) == 1 and (route is None or route.target.partition(b"?")[0] == b"/"):
        return DevRoute(names[0], target)
    if route is None:
        first = _first_part(target)
        raise NotFound(
            f"No service of this folder is at /{first}.",
            hint=f"{did_you_mean(first, names)}Services: {', '.join(f'/{name}' for name in names)}",
        )
    return route


def below_name(target: bytes, names: Sequence[str]) -> DevRoute | None:
    """The route of a path that begins with a service's name, as the platform has it; None for other paths."""
    path, query, rest = target.partition(b"?")
    name = _first_part(target)
    if name not in names:
        return None
    prefix = f"/{name}".encode()
    return DevRoute(name, (path[len(prefix) :] or b"/") + query + rest, prefix)


def _first_part(target: bytes) -> str:
    return target.partition(b"?")[0].removeprefix(b"/").partition(b"/")[0].decode("latin-1")
