"""`make bench-wake`: a service at zero is called by 200 at once, again and again; then callers never stop while it
goes to zero and back.

Of each call counted is what it waited beyond the replica's own start: from the moment at which the driver had
written the replica's launch file (the next thing that it does is to start the process) to the line in which the replica
itself says that it is ready. The clients are one thread with open connections; their cost is measured and told.
"""

from __future__ import annotations

import json
import os
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
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx2

import kaon
from benchmarks.report import QUICK, Report
from benchmarks.wake.callers import burst
from kaon.settings import Settings

KAON = Path(sys.executable).with_name("kaon")
SERVICE = Path(__file__).with_name("tiny.py")
CALLERS = 200
ROUNDS = 3 if QUICK else 12
FLAPPING_S = 15.0 if QUICK else 120.0
ZERO_WITHIN_S = 30.0


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
        """Wait until no replica is left."""
        give_up = time.monotonic() + ZERO_WITHIN_S
        while self.get("/workspaces/default/deployments/tiny/replicas")["items"]:
            if time.monotonic() > give_up:
                raise SystemExit(f"the service was not at zero within {ZERO_WITHIN_S:g} s")
            time.sleep(0.1)
        time.sleep(0.5)  # what a retreat leaves to do is not a part of the next start

    def own_start(self) -> tuple[float, float]:
        """When the replica that runs was ordered and was ready by its own word, epoch seconds."""
        folder = max(self.settings.home.glob("agent/replicas/*/launch.json"), key=lambda p: p.stat().st_mtime)
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
        return Counter((self.settings.home / "agent/volumes/default/tiny/marks").read_text().split())


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
        ordered, ready = it.own_start()
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
    """Callers that pause now and then for long enough to let the service go to zero under them."""


if __name__ == "__main__":
    main()
