"""From method and path to a lane: a dictionary for plain paths, patterns for those with names in braces.

Raw paths are split into segments before they are decoded: an escaped slash (`%2F`) is part of a segment. A trailing
slash is ignored, for any verb and without a redirect.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from urllib.parse import unquote

from kaon.errors import InvalidInput, KaonError, MethodNotAllowed, NotFound, did_you_mean
from kaon.runtime.asgi import AsgiScope
from kaon.runtime.lane import Lane
from kaon.types.service import EndpointKind

DOCUMENTS = ("/docs", "/openapi.json")
"""Paths of every service's own description."""

_MOST_LISTED = 20
Segments = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Pattern:
    """A path with names in braces."""

    verb: str
    segments: Segments
    names: Segments
    """Per segment its parameter's name; empty for a literal segment."""
    lane: Lane

    def match(self, segments: Segments) -> dict[str, str] | None:
        """The path's parameters, or None when it does not match."""
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
    """The routes of a service."""

    plain: dict[tuple[str, Segments], Lane] = field(default_factory=dict)
    patterns: tuple[Pattern, ...] = ()
    mounts: tuple[str, ...] = ()
    """Paths of mounted apps, for suggestions."""

    def find(self, method: str, path: str) -> tuple[Lane, dict[str, str]]:
        """The lane, and the parameters of `path`, a raw path.

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
        """The verbs of the endpoints at `path`, sorted; none without an endpoint.

        A websocket has no verb: alone, it gives OPTIONS.
        """
        if path in DOCUMENTS:
            return ("GET",)
        lanes = self.at(path)
        verbs = {lane.spec.method for lane in lanes if lane.spec.kind is not EndpointKind.WEBSOCKET}
        return tuple(sorted(verbs)) if verbs or not lanes else ("OPTIONS",)

    def at(self, path: str) -> list[Lane]:
        """The lanes of all endpoints at `path`, a raw path."""
        segments = _segments(path)
        lanes = [lane for (_, path_segments), lane in self.plain.items() if path_segments == segments]
        return lanes + [pattern.lane for pattern in self.patterns if pattern.match(segments) is not None]

    def _missing(self, path: str) -> KaonError:
        if verbs := self.verbs(path):
            error = MethodNotAllowed("This path does not support the method.", hint=f"Use {' or '.join(verbs)}.")
            error.allow = verbs
            return error
        listed = sorted({lane.spec.path for lane in self._lanes()} | set(self.mounts))
        near = did_you_mean(path.lower(), [*self._spelled_like(path), *self.mounts])
        shown = ", ".join(listed[:_MOST_LISTED]) + (" ..." if len(listed) > _MOST_LISTED else "")
        return NotFound("There is no such endpoint.", hint=f"{near}It has {shown}. See the deployment's /docs page.")

    def _lanes(self) -> list[Lane]:
        return [*self.plain.values(), *(pattern.lane for pattern in self.patterns)]

    def _spelled_like(self, path: str) -> Iterator[str]:
        """The endpoints' paths; names in braces have the values that they would have in `path`."""
        given = path.split("/")
        for lane in self._lanes():
            own = lane.spec.path.split("/")
            parts = zip(own, given if len(own) == len(given) else own, strict=True)
            yield "/".join(value if part.startswith("{") else part for part, value in parts)


def routes(lanes: Iterable[Lane], mounts: Iterable[str] = ()) -> Routes:
    """The routes of a service's lanes; `mounts` are the paths of its mounted apps."""
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
    return Routes(plain, tuple(patterns), tuple(mounts))


def path_of(scope: AsgiScope) -> str:
    """The raw path of a request."""
    raw: bytes | None = scope.get("raw_path")
    return scope["path"] if raw is None else raw.decode("latin-1")


def _segments(path: str) -> Segments:
    try:
        parts = tuple(unquote(part, errors="strict") for part in path.split("/"))
    except UnicodeDecodeError:
        raise InvalidInput("The path is not UTF-8.", hint="Percent-encode it as UTF-8.") from None
    return parts[:-1] if len(parts) > 2 and not parts[-1] else parts
