"""From method and path to a lane: a dictionary for plain paths, patterns for those with names in braces.

Paths are matched as they were sent, segment by segment, and decoded after that: a slash that was escaped (`%2F`) is
part of a name and no border. A slash at the end is no segment, for any verb and without a redirect.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import unquote

from kaon.errors import InvalidInput, KaonError, MethodNotAllowed, NotFound
from kaon.runtime.asgi import AsgiScope
from kaon.runtime.lane import Lane
from kaon.types.service import EndpointKind

DOCUMENTS = ("/docs", "/openapi.json")
"""Paths at which every service describes itself."""

Segments = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Pattern:
    """A path with names in braces."""

    verb: str
    segments: Segments
    names: Segments
    """The name that stands in each segment; empty: the segment itself does."""
    lane: Lane

    def match(self, segments: Segments) -> dict[str, str] | None:
        """What the names say in a path, or None when it is another one."""
        if len(segments) != len(self.segments):
            return None
        found: dict[str, str] = {}
        for own, name, given in zip(self.segments, self.names, segments, strict=True):
            if name and given:
                found[name] = given
            elif name or own != given:
                return None
        return found


@dataclass(frozen=True)
class Routes:
    """Where a request goes."""

    plain: dict[tuple[str, Segments], Lane] = field(default_factory=dict)
    patterns: tuple[Pattern, ...] = ()

    def find(self, method: str, path: str) -> tuple[Lane, dict[str, str]]:
        """The lane and what the path's names say; `path` is as it was sent.

        Raises NotFound, MethodNotAllowed, or InvalidInput for a path that is not UTF-8.
        """
        segments = _segments(path)
        verbs = ("HEAD", "GET") if method == "HEAD" else (method,)
        for verb in verbs:
            lane = self.plain.get((verb, segments))
            if lane is not None:
                return lane, {}
        for pattern in self.patterns:
            if pattern.verb in verbs and (names := pattern.match(segments)) is not None:
                return pattern.lane, names
        raise self._missing(path)

    def verbs(self, path: str) -> tuple[str, ...]:
        """The verbs that the endpoints at `path` take, in order; none: there is no endpoint.

        A websocket takes no verb. Where there is nothing else, OPTIONS stands alone.
        """
        if path in DOCUMENTS:
            return ("GET",)
        lanes = self._at(path)
        verbs = {lane.spec.method for lane in lanes if lane.spec.kind is not EndpointKind.WEBSOCKET}
        return tuple(sorted(verbs)) if verbs or not lanes else ("OPTIONS",)

    def _at(self, path: str) -> list[Lane]:
        segments = _segments(path)
        lanes = [lane for (_, known), lane in self.plain.items() if known == segments]
        return lanes + [pattern.lane for pattern in self.patterns if pattern.match(segments) is not None]

    def _missing(self, path: str) -> KaonError:
        if verbs := self.verbs(path):
            error = MethodNotAllowed("This path does not take that method.", hint=f"Use {' or '.join(verbs)}.")
            error.allow = verbs
            return error
        return NotFound("There is no such endpoint.", hint="The deployment's /docs page lists what there is.")


def routes(lanes: Iterable[Lane]) -> Routes:
    """The routes of a service's lanes."""
    plain: dict[tuple[str, Segments], Lane] = {}
    patterns: list[Pattern] = []
    for lane in lanes:
        spec = lane.spec
        segments = _segments(spec.path)
        names = tuple(part[1:-1] if part.startswith("{") else "" for part in segments)
        if any(names):
            patterns.append(Pattern(spec.method, segments, names, lane))
        else:
            plain[spec.method, segments] = lane
    return Routes(plain, tuple(patterns))


def path_of(scope: AsgiScope) -> str:
    """The path of a request as it was sent."""
    raw: bytes | None = scope.get("raw_path")
    return scope["path"] if raw is None else raw.decode("latin-1")


def _segments(path: str) -> Segments:
    try:
        parts = tuple(unquote(part, errors="strict") for part in path.split("/"))
    except UnicodeDecodeError:
        raise InvalidInput("The path is not UTF-8.", hint="Percent-encode it as UTF-8.") from None
    return parts[:-1] if len(parts) > 2 and not parts[-1] else parts
