"""Two revisions' answers to the same calls, put side by side by request id. Pure but for its own memory."""

from __future__ import annotations

import json
import math
import re
from collections import Counter, OrderedDict, deque
from collections.abc import Iterator
from typing import Any

from kaon.types.shadow import EXAMPLES, Difference, Example, Kept, ShadowReport

PATIENCE_S = 90.0
"""How long the answer of one side waits for that of the other: longer than most calls may take."""

_PENDING = 20_000
_PATHS = 200
_REPORTED_PATHS = 20
_PATH_LENGTH = 120
_SHOWN = 8
_TEXT = 80
_RELATIVE, _ABSOLUTE = 1e-6, 1e-9
_MISSING = object()
_NUMBER = re.compile(r"\[\d+\]")


class Comparison:
    """The comparison of one shadow so far."""

    def __init__(self, revision: int, now: float) -> None:
        self.revision = revision
        self._since = now
        self._matched = self._differing = self._missing = 0
        self._paths: Counter[str] = Counter()
        self._examples: deque[Example] = deque(maxlen=EXAMPLES)
        self._serving: OrderedDict[tuple[str, str], tuple[float, Kept]] = OrderedDict()
        self._shadow: OrderedDict[tuple[str, str], tuple[float, Kept]] = OrderedDict()

    def add(self, answer: Kept, now: float, *, shadow: bool) -> None:
        """Add an answer of one side. It is compared once the other side's is added."""
        own, others = (self._shadow, self._serving) if shadow else (self._serving, self._shadow)
        key = (answer.request_id, answer.endpoint)
        other = others.pop(key, None)
        if other is None:
            own[key] = (now, answer)
            return
        self._compare(*((other[1], answer) if shadow else (answer, other[1])), now)

    def expire(self, now: float) -> None:
        """Let go of answers whose counterpart did not come. Callers' need none: not every call is copied."""
        for pending in (self._serving, self._shadow):
            while pending:
                at, _ = next(iter(pending.values()))
                if now - at < PATIENCE_S and len(pending) <= _PENDING:
                    break
                pending.popitem(last=False)
                self._missing += pending is self._shadow

    def report(self) -> ShadowReport:
        """What was found."""
        return ShadowReport(
            revision=self.revision,
            since=self._since,
            matched=self._matched,
            differing=self._differing,
            missing=self._missing,
            paths=dict(self._paths.most_common(_REPORTED_PATHS)),
            examples=tuple(reversed(self._examples)),
        )

    def _compare(self, serving: Kept, shadow: Kept, now: float) -> None:
        found = tuple(differences(serving, shadow))
        if not found:
            self._matched += 1
            return
        self._differing += 1
        for place in {f"{serving.endpoint} {_NUMBER.sub('[]', d.path)}" for d in found}:
            if place in self._paths or len(self._paths) < _PATHS:
                self._paths[place] += 1
        shown = found[:_SHOWN]
        self._examples.append(
            Example(request_id=serving.request_id, endpoint=serving.endpoint, at=now, differences=shown)
        )


def differences(serving: Kept, shadow: Kept) -> Iterator[Difference]:
    """Where two answers differ; numbers that differ by rounding only are the same."""
    if serving.status != shadow.status:
        yield Difference(path="status", serving=serving.status, shadow=shadow.status)
    elif serving.digest != shadow.digest:
        if serving.whole and shadow.whole:
            try:
                ours, theirs = json.loads(serving.head), json.loads(shadow.head)
            except ValueError:
                pass
            else:
                yield from _within("", ours, theirs)
                return
        yield Difference(path="body", serving=serving.head[:_TEXT], shadow=shadow.head[:_TEXT])


def _within(path: str, serving: Any, shadow: Any) -> Iterator[Difference]:
    match serving, shadow:
        case dict(), dict():
            for name in sorted(serving.keys() | shadow.keys()):
                below = (f"{path}.{name}" if path else name)[:_PATH_LENGTH]
                yield from _within(below, serving.get(name, _MISSING), shadow.get(name, _MISSING))
        case list(), list() if len(serving) == len(shadow):
            for number, (ours, theirs) in enumerate(zip(serving, shadow, strict=True)):
                yield from _within(f"{path}[{number}]", ours, theirs)
        case list(), list():
            yield Difference(path=f"{path}.length".lstrip("."), serving=len(serving), shadow=len(shadow))
        case _ if not _same(serving, shadow):
            yield Difference(path=path or "body", serving=_shown(serving), shadow=_shown(shadow))


def _same(serving: Any, shadow: Any) -> bool:
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (serving, shadow))
    if numbers:
        return math.isclose(serving, shadow, rel_tol=_RELATIVE, abs_tol=_ABSOLUTE)
    return type(serving) is type(shadow) and bool(serving == shadow)


def _shown(value: Any) -> Any:
    """The value as an example shows it: short."""
    if value is _MISSING:
        return None
    if isinstance(value, dict | list):
        value = json.dumps(value)
    return value[:_TEXT] if isinstance(value, str) else value
