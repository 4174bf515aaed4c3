"""Follows what running attempts report of their progress, and passes it on: at most twice a second, when it is new."""

from __future__ import annotations

import asyncio
import json
import math
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kaon.agent.act.attempt_end import output_bytes
from kaon.agent.ports import AttemptReceiver
from kaon.clock import Clock
from kaon.drivers.port import Driver
from kaon.errors import Conflict, Forbidden, KaonError, NotFound
from kaon.types.job import PROGRESS_FILE, AttemptNews, MetricPoint, Progress

EVERY_S = 0.5
_SIZES_EVERY_S = 5.0
POINTS_MAX = 200
"""Points in one message; of more, some between the first and the last are left out."""
_READ_BYTES = 2**20
_VALUES_MAX = 64
_REPORTED_FILE = "reported.json"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")


class ProgressTail:
    """Reads the reports in the progress files of one attempt, each once; also with agents before this one."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / PROGRESS_FILE
        self._reported = folder / _REPORTED_FILE
        self._inode = 0
        self._offset = 0
        self._rest = b""
        self._count = 0
        self._after = _step_in(self._reported)
        self.progress = Progress()
        """The newest."""

    def read(self) -> list[MetricPoint]:
        """The new points; `progress` is up to date afterwards. Reads at most 1 MiB."""
        points: list[MetricPoint] = []
        for line in self._lines():
            self._count += 1
            point = _point(line, self._count)
            if point is None:
                continue
            text = str(line.get("text", ""))[:500]
            fraction = self.progress.fraction if point.fraction is None else point.fraction
            self.progress = Progress(fraction=fraction, text=text, at=point.at)
            if point.values and point.step > self._after:
                points.append(point)
        return points

    def reported(self, step: int) -> None:
        """Record that all points up to `step` are sent."""
        self._after = max(self._after, step)
        beside = self._reported.with_suffix(".new")
        try:
            beside.write_text(json.dumps({"step": self._after}))
            beside.replace(self._reported)
        except OSError:  # then some are sent again by the next agent
            return

    def _lines(self) -> list[dict[str, Any]]:
        content = self._new_bytes()
        if not content:
            return []
        *lines, self._rest = (self._rest + content).split(b"\n")
        self._rest = self._rest[-65_536:]
        return [found for line in lines if (found := _object(line)) is not None]

    def _new_bytes(self) -> bytes:
        """What was written since the last call; of a file that was rotated its end first."""
        for path in (self._file.with_name(f"{PROGRESS_FILE}.1"), self._file):
            try:
                descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            except OSError:
                continue
            with open(descriptor, "rb") as file:
                inode = os.fstat(descriptor).st_ino
                if path != self._file and inode != self._inode:
                    continue
                if inode != self._inode:
                    self._inode, self._offset, self._rest = inode, 0, b""
                file.seek(self._offset)
                content = file.read(_READ_BYTES)
            if content:
                self._offset += len(content)
                return content
        return b""


@dataclass
class _Followed:
    tail: ProgressTail
    sent: Progress = field(default_factory=Progress)
    points: list[MetricPoint] = field(default_factory=list)
    gone: bool = False
    """The control plane does not want its news."""


class AttemptReports:
    """The progress of all running attempts of a cloud."""

    def __init__(self, driver: Driver, receiver: AttemptReceiver, clock: Clock) -> None:
        self._driver = driver
        self._receiver = receiver
        self._clock = clock
        self._running: frozenset[str] = frozenset()
        self._followed: dict[str, _Followed] = {}
        self.output_bytes: Mapping[str, int] = {}
        """Attempt -> how much its outputs have, looked up every few seconds."""

    def follow(self, running: Iterable[str], planned: Iterable[str]) -> None:
        """Set the attempts whose process exists, and all that the plan has."""
        self._running = frozenset(running)
        planned = set(planned)
        self._followed = {id_: followed for id_, followed in self._followed.items() if id_ in planned}

    async def run(self) -> None:
        """Work until cancelled."""
        sizes_at = self._clock.monotonic()
        while True:
            await self._clock.sleep(EVERY_S)
            await asyncio.gather(*(self._send(id_) for id_ in self._running))
            if self._running and self._clock.monotonic() - sizes_at >= _SIZES_EVERY_S:
                sizes_at = self._clock.monotonic()
                folders = {id_: self._driver.job_dir(id_) for id_ in self._running}
                self.output_bytes = await asyncio.to_thread(_sizes, folders)

    async def send_last(self, attempt: str) -> None:
        """Send what an attempt reported before its end, as far as that is possible now."""
        while await self._send(attempt):
            continue

    async def _send(self, attempt: str) -> bool:
        """Send the news of an attempt; whether there were any and they were taken."""
        if attempt not in self._followed:
            self._followed[attempt] = _Followed(ProgressTail(self._driver.job_dir(attempt)))
        followed = self._followed[attempt]
        followed.points = thinned([*followed.points, *followed.tail.read()])
        if followed.gone or not (followed.points or followed.tail.progress != followed.sent):
            return False
        news = AttemptNews(progress=followed.tail.progress, points=tuple(followed.points))
        try:
            await self._receiver.attempt_news(attempt, news)
        except (Conflict, Forbidden, NotFound):
            followed.gone = True
            return False
        except KaonError:  # sent again with the next
            return False
        followed.sent = news.progress
        if followed.points:
            followed.tail.reported(followed.points[-1].step)
            followed.points = []
        return True


def _sizes(folders: Mapping[str, Path]) -> dict[str, int]:
    return {id_: output_bytes(folder) for id_, folder in folders.items()}


def thinned(points: list[MetricPoint]) -> list[MetricPoint]:
    """At most `POINTS_MAX` of them, evenly, with the last. Pure."""
    if len(points) <= POINTS_MAX:
        return points
    every = math.ceil(len(points) / (POINTS_MAX - 1))
    kept = points[::every]
    return kept if kept[-1] is points[-1] else [*kept, points[-1]]


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _point(line: Mapping[str, Any], count: int) -> MetricPoint | None:
    """One report; None: it is none. A command may leave out all but what it reports."""
    step, values = line.get("step", count), line.get("values", {})
    if not isinstance(step, int) or not 0 <= step < 2**53 or not isinstance(values, dict):
        return None
    numbers = {name: number for name, value in values.items() if (number := _number(value)) is not None}
    named = {name: number for name, number in numbers.items() if _NAME.fullmatch(name)}
    fraction = _number(line.get("fraction"))
    return MetricPoint(
        step=step,
        at=_number(line.get("at")) or 0.0,
        fraction=None if fraction is None else min(1.0, max(0.0, fraction)),
        values=dict(list(named.items())[:_VALUES_MAX]),
    )


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _step_in(file: Path) -> int:
    try:
        step = json.loads(file.read_bytes())["step"]
    except (OSError, ValueError, KeyError, TypeError):
        return 0
    return step if isinstance(step, int) else 0
