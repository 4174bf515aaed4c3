"""From method and path to a lane: a dictionary for plain paths, patterns for those with names in braces."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from kaon.errors import KaonError, MethodNotAllowed, NotFound
from kaon.runtime.lane import Lane
from kaon.types.service import EndpointKind

DOCUMENTS = ("/docs", "/openapi.json")
"""Paths at which every service describes itself."""


@dataclass(frozen=True)
class Routes:
    """Where a request goes."""

    plain: dict[tuple[str, str], Lane] = field(default_factory=dict)
    patterns: tuple[tuple[str, re.Pattern[str], Lane], ...] = ()

    def find(self, method: str, path: str) -> tuple[Lane, dict[str, str]]:
        """The lane and what the path's names say. Raises NotFound or MethodNotAllowed."""
        verbs = ("HEAD", "GET") if method == "HEAD" else (method,)
        for verb in verbs:
            lane = self.plain.get((verb, path))
            if lane is not None:
                return lane, {}
        for verb, pattern, lane in self.patterns:
            if verb in verbs and (match := pattern.fullmatch(path)):
                return lane, match.groupdict()
        raise self._missing(path)

    def verbs(self, path: str) -> tuple[str, ...]:
        """The verbs that the endpoints at `path` take, in order; none: there is no endpoint.

        A websocket takes no verb. Where there is nothing else, OPTIONS stands alone.
        """
        if path in DOCUMENTS:
            return ("GET",)
        plain = {lane.spec.method for lane in self._at(path) if lane.spec.kind is not EndpointKind.WEBSOCKET}
        return tuple(sorted(plain)) if plain or not self._at(path) else ("OPTIONS",)

    def _at(self, path: str) -> list[Lane]:
        lanes = [lane for (_, known), lane in self.plain.items() if known == path]
        return lanes + [lane for _, pattern, lane in self.patterns if pattern.fullmatch(path)]

    def _missing(self, path: str) -> KaonError:
        if verbs := self.verbs(path):
            error = MethodNotAllowed("This path does not take that method.", hint=f"Use {' or '.join(verbs)}.")
            error.allow = verbs
            return error
        return NotFound("There is no such endpoint.", hint="The deployment's /docs page lists what there is.")


def routes(lanes: Iterable[Lane]) -> Routes:
    """The routes of a service's lanes."""
    plain: dict[tuple[str, str], Lane] = {}
    patterns: list[tuple[str, re.Pattern[str], Lane]] = []
    for lane in lanes:
        spec = lane.spec
        if "{" in spec.path:
            patterns.append((spec.method, _pattern(spec.path), lane))
        else:
            plain[spec.method, spec.path] = lane
    return Routes(plain, tuple(patterns))


def _pattern(path: str) -> re.Pattern[str]:
    pieces = re.split(r"\{(\w+)\}", path)
    text = "".join(f"(?P<{p}>[^/]+)" if index % 2 else re.escape(p) for index, p in enumerate(pieces))
    return re.compile(text)
