"""Deployments beside each other on one platform, those of a load under the same calls at the same moments."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import psutil

from benchmarks.live import load as generator
from benchmarks.live.census import Census
from benchmarks.live.loads import Load
from benchmarks.live.platform import Platform
from benchmarks.tune_live.roles import NOTES, ROOT
from benchmarks.tune_live.score import MINUTE_S, Counted, Heard
from kaon.types.knobs import KnobValues
from kaon.types.objective import Objective
from kaon.types.tuning import TuningMode

LEAD_S = 3.0
"""From the order to the load generators until the first call."""
LET_GO_S = 2.0
"""So long after the first call there are as many replicas as the first calls need; then laws and tuners have them."""
LOOKS_S = 2.0
KNOWN_WITHIN_S = 60.0


@dataclass(frozen=True)
class Service:
    """What is deployed: `FILE:CLASS`, its objective, what its replicas load, how many there may be."""

    where: str
    objective: Objective
    load_s: float
    most: int
    body: str
    env: tuple[str, ...] = ()


@dataclass(frozen=True)
class Entrant:
    """A deployment: its name, its load, what the tuner may do, and what was set by hand before the first call."""

    name: str
    load: Load
    mode: TuningMode
    values: KnobValues
    replicas: int


@dataclass(frozen=True)
class Outcome:
    """What became of an entrant."""

    heard: Heard
    counted: tuple[Counted, ...]
    generator: dict[str, Any]
    tuning: dict[str, Any]
    """The tuning state at the end, from the API."""
    journal: list[dict[str, Any]]
    story: list[tuple[float, str, str]]
    """When the tuner was in which state, why; seconds of the run."""
    replicas: list[int]
    replay: str
    """The output of `kaon tune NAME --replay`."""


@dataclass
class Match:
    """One run on a platform of whose tuner's seconds `times` pass in one of the clock."""

    platform: Platform
    service: Service
    entrants: Sequence[Entrant]
    times: float
    stories: dict[str, list[tuple[float, str, str]]] = field(default_factory=lambda: defaultdict(list))

    def play(self) -> tuple[dict[str, Outcome], dict[str, float]]:
        """All of it, and what the machine did meanwhile."""
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(self._deploy, self.entrants))
        with tempfile.TemporaryDirectory(prefix="kaon-tune-") as name, Census(self.platform.census()) as census:
            folder, start_at = Path(name), time.time() + LEAD_S
            with self._generators(folder, start_at) as running, self._watched(start_at):
                psutil.cpu_percent()
                time.sleep(max(0.0, start_at + LET_GO_S - time.time()))
                self._let_go()
                for process in running:
                    if process.wait() != 0:
                        raise SystemExit(f"a load generator ended with {process.returncode}")
                machine = {"busy": psutil.cpu_percent() / 100, "start_at": start_at}
            outcomes = {x.name: self._outcome(x, folder, census, start_at) for x in self.entrants}
        for entrant in self.entrants:
            self.platform.remove(entrant.name)
        return outcomes, machine

    def _deploy(self, entrant: Entrant) -> None:
        self.platform.deploy(entrant.name, entrant.replicas, self.service.load_s, self.service.where, self.service.env)

    def _let_go(self) -> None:
        """Let law and tuner have them, each with its values."""
        for entrant in self.entrants:
            self.platform.bound(entrant.name, {"min": 1, "max": self.service.most})
        for entrant in self.entrants:
            with self.platform.api() as api:
                steer(api, entrant.name, {"mode": entrant.mode.value})
                if entrant.values:
                    steer(api, entrant.name, {"set": entrant.values})

    @contextlib.contextmanager
    def _generators(self, folder: Path, start_at: float) -> Iterator[list[subprocess.Popen[bytes]]]:
        """A process for each load, which calls all that have it."""
        by_load: dict[str, list[Entrant]] = defaultdict(list)
        for entrant in self.entrants:
            by_load[entrant.load.name].append(entrant)
        running = []
        try:
            for number, group in enumerate(by_load.values()):
                arrivals, order = folder / f"{number}.arrivals", folder / f"{number}.json"
                generator.write(arrivals, group[0].load.arrivals_ns())
                targets = tuple(self.platform.target(x.name, self.service.body) for x in group)
                told = generator.Order(
                    targets=targets,
                    arrivals=str(arrivals),
                    deadline_s=self.service.objective.patience_s,
                    start_at=start_at,
                    scored_from_s=0.0,
                    result=str(folder / f"{number}.result"),
                    each=str(folder),
                )
                order.write_text(json.dumps(asdict(told)))
                command = [sys.executable, "-m", "benchmarks.live.load", str(order)]
                running.append(subprocess.Popen(command, cwd=ROOT))
            yield running
        finally:
            for process in running:
                process.kill()
                process.wait()

    @contextlib.contextmanager
    def _watched(self, start_at: float) -> Iterator[None]:
        """Record the states of the tuners, whenever they change."""
        over = threading.Event()

        def watch() -> None:
            with self.platform.api() as api:
                while not over.wait(LOOKS_S):
                    for entrant in self.entrants:
                        if entrant.mode is not TuningMode.OFF:
                            with contextlib.suppress(httpx2.HTTPError):
                                self._note(entrant.name, tuning(api, entrant.name), time.time() - start_at)

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _note(self, name: str, told: dict[str, Any], at_s: float) -> None:
        story, now = self.stories[name], (told["state"], told["reason"])
        if not story or story[-1][1:] != now:
            story.append((round(at_s, 1), *now))

    def _outcome(self, entrant: Entrant, folder: Path, census: Census, start_at: float) -> Outcome:
        number = list(dict.fromkeys(x.load.name for x in self.entrants)).index(entrant.load.name)
        played = json.loads((folder / f"{number}.result").read_text())[entrant.name]
        heard = Heard(
            arrivals_ns=np.frombuffer(generator.read(folder / f"{number}.arrivals"), dtype=np.int64),
            latency_ns=np.frombuffer((folder / f"{entrant.name}.latency").read_bytes(), dtype=np.int64),
            outcome=np.frombuffer((folder / f"{entrant.name}.outcome").read_bytes(), dtype=np.uint8),
        )
        with self.platform.api() as api:
            told = tuning(api, entrant.name)
            path = f"/deployments/{entrant.name}/decisions"
            found = api.get(path, params={"concern": "tuning", "limit": 1000}).raise_for_status().json()
        return Outcome(
            heard=heard,
            counted=self._counted(entrant, census, start_at),
            generator={key: value for key, value in played.items() if key not in ("per_second", "scored")},
            tuning=told,
            journal=found["items"],
            story=self.stories[entrant.name],
            replicas=census.series(entrant.name, start_at, entrant.load.seconds),
            replay=self._replayed(entrant),
        )

    def _replayed(self, entrant: Entrant) -> str:
        if entrant.mode is TuningMode.OFF:
            return ""
        try:
            return self.platform.kaon("tune", entrant.name, "--replay").strip()
        except SystemExit as error:  # what does not replay is a figure like any other
            return str(error)

    def _counted(self, entrant: Entrant, census: Census, start_at: float) -> tuple[Counted, ...]:
        """Replica-seconds by window: paid by the system's count, busy and ready by the platform's."""
        window_s = MINUTE_S / self.times
        count = int(entrant.load.seconds / window_s)
        busy, ready = [0.0] * count, [0.0] * count
        for line in (self.platform.settings.home / NOTES).read_text().splitlines():
            row = json.loads(line)
            place = int((row["at_s"] - row["span_s"] / 2 - start_at) // window_s)
            if row["deployment"] == entrant.name and 0 <= place < count:
                busy[place] += row["busy_s"] or 0.0
                ready[place] += row["ready"] * row["span_s"]
        edges = [start_at + i * window_s for i in range(count + 1)]
        paid = [census.replica_seconds(entrant.name, a, b) for a, b in pairwise(edges)]
        return tuple(Counted(*x) for x in zip(busy, ready, paid, strict=True))


def tuning(api: httpx2.Client, name: str) -> dict[str, Any]:
    """How a deployment's tuner stands."""
    return dict(api.get(f"/deployments/{name}/tuning").raise_for_status().json())


def steer(api: httpx2.Client, name: str, request: dict[str, Any]) -> None:
    """Send a request to a tuner, as soon as it has the deployment's knobs."""
    give_up = time.monotonic() + KNOWN_WITHIN_S
    while True:
        answer = api.post(f"/deployments/{name}/tuning", json=request)
        if answer.status_code != 503 or time.monotonic() > give_up:
            answer.raise_for_status()
            return
        time.sleep(0.2)
