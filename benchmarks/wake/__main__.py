"""`make bench-wake`: a service at zero is called by 200 at once, again and again; then callers never stop while it
goes to zero and back.

Of each call counted is what it waited beyond the replica's own start: from the moment at which the driver had
written the replica's launch file (the next thing that it does is to start the process) to the line in which the replica
itself says that it is ready. The clients are one thread with open connections; their cost is measured and told.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx2

import kaon
from benchmarks.report import QUICK, Report
from benchmarks.wake.callers import burst
from kaon.clock import SystemClock
from kaon.errors import Conflict
from kaon.settings import Settings
from kaon.store import open_store
from kaon.store.port import Store
from kaon.types.deployment import ScalingStatus

KAON = Path(sys.executable).with_name("kaon")
SERVICE = Path(__file__).with_name("tiny.py")
CALLERS = 200
ROUNDS = 3 if QUICK else 12
FLAPPERS = 20
FLAPPING_S = 15.0 if QUICK else 120.0
ZERO_WITHIN_S = 60.0


class Platform:
    """One platform with the service on it."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.settings = Settings(home=folder / "home", port=probe.getsockname()[1])
        self.address = ("127.0.0.1", self.settings.port)

    def kaon(self, *arguments: str) -> None:
        """Run a command."""
        env = os.environ | {"KAON_HOME": str(self.settings.home), "KAON_PORT": str(self.settings.port)}
        done = subprocess.run([KAON, *arguments], env=env, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"kaon {' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")

    @property
    def key(self) -> str:
        """The admin's."""
        return self.settings.admin_key_file.read_text().strip()

    def get(self, path: str) -> Any:
        """Ask the API."""
        transport = httpx2.HTTPTransport(uds=str(self.settings.api_socket))
        with httpx2.Client(transport=transport, base_url="http://kaon.local/api/v1") as api:
            return api.get(path, headers={"authorization": f"Bearer {self.key}"}).raise_for_status().json()

    def until_zero(self) -> None:
        """Wait until no call has come for long enough, and no replica is left."""
        give_up = time.monotonic() + ZERO_WITHIN_S
        while self.get("/workspaces/default/deployments/tiny/replicas")["items"]:
            if time.monotonic() > give_up:
                raise SystemExit(f"the service was not at zero within {ZERO_WITHIN_S:g} s")
            time.sleep(0.1)
        time.sleep(0.5)  # what a retreat leaves to do is not a part of the next start

    async def send_to_zero(self) -> bool:
        """Let no replica be wanted; whether one was ready until now.

        The scaling law would not do that while clients call; so it is overruled where its word is kept.
        """
        store: Store = open_store(self.settings.database, SystemClock())
        await store.open()
        try:
            found = await store.get("deployment", "default", "tiny")
            await store.update_status(found, found.status.model_copy(update={"scaling": ScalingStatus(wanted=0)}))
            return any(assignment.ready for assignment in found.status.rollout.assignments)
        except Conflict:
            return False
        finally:
            await store.close()

    def own_start(self, since: float) -> tuple[float, float]:
        """When the first replica after `since` was ordered and was ready by its own word, epoch seconds."""
        files = self.settings.home.glob("agent/replicas/*/launch.json")
        folder = min((f for f in files if f.stat().st_mtime > since), key=lambda f: f.stat().st_mtime)
        said = [json.loads(line) for line in (folder.parent / "replica.log").read_text().splitlines() if "{" in line]
        ready = [line["timestamp"] for line in said if str(line["event"]).startswith("ready after")]
        return folder.stat().st_mtime, datetime.fromisoformat(ready[-1]).timestamp()

    def request(self, *, mark: str = "") -> bytes:
        """A GET, or the POST that leaves a mark."""
        body = json.dumps({"text": mark}).encode() if mark else b""
        what = "POST /tiny/mark" if mark else "GET /tiny"
        head = f"{what} HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {self.key}\r\n"
        head += f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        return head.encode() + body

    def marks(self) -> Counter[str]:
        """The marks that were left, and how often each."""
        (marks,) = (self.settings.home / "agent/volumes/default").glob("tiny.*/marks")
        return Counter(marks.read_text().split())


@contextmanager
def platform() -> Iterator[Platform]:
    """A platform that scales the service to zero a second after its last call."""
    with tempfile.TemporaryDirectory(prefix="kaon-wake-") as folder:
        it = Platform(Path(folder))
        it.kaon("up")
        try:
            service = shutil.copy(SERVICE, folder)
            it.kaon("deploy", f"{service}:Tiny", "--min", "0", "--max", "3", "--set", "scaling.keep_alive_s=1")
            yield it
        finally:
            it.kaon("down")


def main() -> None:
    """Measure, and end with the bars."""
    report = Report("wake", versions={"kaon": kaon.__version__})
    with platform() as it:
        bursts(it, report)
        flapping(it, report)
    report.finish()


def bursts(it: Platform, report: Report) -> None:
    """200 first calls at once, at zero, some rounds."""
    rounds: list[dict[str, Any]] = []
    beyond: list[float] = []
    lost = 0
    for number in range(ROUNDS):
        it.until_zero()
        requests = [it.request(mark=f"b{number}-{n}" if n % 2 else "") for n in range(CALLERS)]
        cpu, sent_at = time.process_time(), time.time()
        outcomes = burst(it.address, requests)
        cpu = time.process_time() - cpu
        ordered, ready = it.own_start(sent_at)
        own = ready - ordered
        waited = [o.waited_s - own for o in outcomes]
        lost += sum(o.status != 200 for o in outcomes)
        beyond += waited
        rounds.append(
            {
                "statuses": Counter(str(o.status) for o in outcomes),
                "own_start_s": round(own, 4),
                "to_order_s": round(ordered - sent_at, 4),
                "from_ready_s": _quantiles([o.answered_at - ready for o in outcomes]),
                "beyond_s": _quantiles(waited),
                "clients_cpu_s": round(cpu, 4),
            }
        )
        print(json.dumps(rounds[-1]), flush=True)
    doubled = sum(times > 1 for times in it.marks().values())
    report.figures["bursts"] = rounds
    report.at_most("burst_lost", lost, 0)
    report.at_most("burst_doubled", doubled, 0)
    report.at_most("beyond_own_start_p50_ms", statistics.median(beyond) * 1e3, 50)
    report.at_most("beyond_own_start_p95_ms", statistics.quantiles(beyond, n=20)[18] * 1e3, 100)


def _quantiles(values: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(values, n=20)
    return {"p50": round(cuts[9], 4), "p95": round(cuts[18], 4), "max": round(max(values), 4)}


def flapping(it: Platform, report: Report) -> None:
    """Callers that never stop, while the service is sent to zero under them every second or two."""
    account = asyncio.run(_flap(it))
    marks = it.marks()
    unmarked = [mark for mark, status in account.marked.items() if status == 200 and not marks[mark]]
    report.figures["flapping"] = {
        "seconds": FLAPPING_S,
        "times_at_zero": account.times_at_zero,
        "statuses": Counter(map(str, account.statuses)),
        "posts": len(account.marked),
    }
    report.note(f"flapping: {len(account.statuses)} calls, {account.times_at_zero} times at zero in {FLAPPING_S:g} s")
    report.at_least("flapping_times_at_zero", account.times_at_zero, FLAPPING_S / 10)
    report.at_most("flapping_lost", sum(status != 200 for status in account.statuses) + len(unmarked), 0)
    report.at_most("flapping_doubled", sum(times > 1 for times in marks.values()), 0)


@dataclass
class _Account:
    statuses: list[int] = field(default_factory=list)
    marked: dict[str, int] = field(default_factory=dict)
    times_at_zero: int = 0


async def _flap(it: Platform) -> _Account:
    account, ends_at = _Account(), time.monotonic() + FLAPPING_S

    async def caller(number: int) -> None:
        for call in itertools.count():
            if time.monotonic() > ends_at:
                return
            mark = f"f{number}-{call}" if call % 2 else ""
            status = await _call(it, it.request(mark=mark))
            account.statuses.append(status)
            if mark:
                account.marked[mark] = status
            await asyncio.sleep(0.01)

    async def to_zero() -> None:
        chance = random.Random(0)
        while time.monotonic() < ends_at - 3:
            await asyncio.sleep(chance.uniform(0.5, 2.0))
            account.times_at_zero += await it.send_to_zero()

    await asyncio.gather(to_zero(), *(caller(number) for number in range(FLAPPERS)))
    return account


async def _call(it: Platform, request: bytes) -> int:
    """One call on a connection of its own; its status, 0 without an answer."""
    try:
        async with asyncio.timeout(60):
            reader, writer = await asyncio.open_connection(*it.address)
            try:
                writer.write(request)
                return int((await reader.readline())[9:12] or b"0")
            finally:
                writer.close()
    except (OSError, ValueError, TimeoutError):
        return 0


if __name__ == "__main__":
    main()
