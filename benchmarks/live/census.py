"""Counts replicas on the machine itself: processes, whichever system started them and whatever they do.

Counted alike for all: from the moment at which a replica's process has its name until it has ended, so starting and
draining ones too. That is what somebody pays for.
"""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

Named = Callable[[str], str | None]
"""The name under which a process counts as a replica, from its command line; None: it is none."""

RAY_REPLICA = re.compile(r"^ray::ServeReplica:[^:]*:([A-Za-z]+)")


def of_ray(command: str) -> str | None:
    """Ray Serve's replicas carry their deployment in their title."""
    found = RAY_REPLICA.match(command)
    return found[1].lower() if found else None


def of_kaon(home: Path, deployment_of: Callable[[Path], str | None]) -> Named:
    """Kaon's replicas have a launch file in their command line; `deployment_of` reads it."""
    pattern = re.compile(re.escape(str(home)) + r"/agent/replicas/[0-9a-f]+/launch\.json")
    known: dict[str, str | None] = {}

    def named(command: str) -> str | None:
        found = pattern.search(command)
        if found is None:
            return None
        if known.get(found[0]) is None:
            known[found[0]] = deployment_of(Path(found[0]))
        return known[found[0]]

    return named


def count(named: Named) -> Counter[str]:
    """The replicas that exist now, by name."""
    found: Counter[str] = Counter()
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if name := named(command):
                found[name] += 1
    return found


@dataclass
class Census:
    """Counts every `every_s` seconds, in a thread, while it is entered."""

    named: Named
    every_s: float = 0.5
    seen: list[tuple[float, Counter[str]]] = field(default_factory=list)
    """Epoch seconds and counts."""

    def __enter__(self) -> Census:
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(self.every_s):
            self.seen.append((time.time(), count(self.named)))

    def replica_seconds(self, name: str, from_s: float, until_s: float) -> float:
        """Replica-seconds between two times, epoch seconds; between two looks it is as at the earlier one."""
        total, seen = 0.0, list(self.seen)  # it may still be looking
        later = [at for at, _ in seen[1:]] + [until_s]
        for (at_s, counts), next_s in zip(seen, later, strict=True):
            total += counts[name] * max(0.0, min(next_s, until_s) - max(at_s, from_s))
        return total

    def series(self, name: str, from_s: float, seconds: int) -> list[int]:
        """The number at the end of each second from `from_s`."""
        out, place, last = [], 0, 0
        for second in range(1, seconds + 1):
            while place < len(self.seen) and self.seen[place][0] <= from_s + second:
                last = self.seen[place][1][name]
                place += 1
            out.append(last)
        return out
