"""`make bench-start`: a platform from nothing, as a user starts it, in a folder and on a port of its own.

Memory is the proportional set size (PSS) of every process, so that a page shared by two counts half for each.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import httpx2

import kaon
from benchmarks.report import QUICK, Report, median
from kaon import process_locks
from kaon.settings import Settings

KAON = Path(sys.executable).with_name("kaon")
SERVICE = Path(__file__).with_name("noop.py")
ROUNDS = 2 if QUICK else 5
REPLICAS = 3
SETTLE_S = 3.0


def main() -> None:
    """Measure, and end with the bars."""
    report = Report("start", versions={"kaon": kaon.__version__})
    figures: dict[str, list[float]] = defaultdict(list)
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory(prefix="kaon-bench-") as folder:
            Platform(Path(folder) / "home").measure(figures)
    report.figures = dict(figures)
    report.at_most("up_s", median(figures["up_s"]), 3.0)
    report.at_most("up_again_s", median(figures["up_again_s"]), 3.0)
    report.at_most("deploy_s", median(figures["deploy_s"]), 2.0)
    report.at_most("idle_platform_mb", max(figures["idle_platform_mb"]), 300)
    report.at_most("edge_mb", max(figures["edge_mb"]), 75)
    report.at_most("replica_mb", max(figures["replica_mb"]), 60)
    report.at_most("replica_ready_s", median(figures["replica_ready_s"]), 0.5)
    for name in ("server", "agent", "edge"):
        report.note(f"{name}: {max(figures[f'{name}_mb']):.0f} MB")
    report.note(f"kaon down: {median(figures['down_s']):.2f} s")
    report.finish()


class Platform:
    """One platform, from its first start to its end."""

    def __init__(self, home: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.settings = Settings(home=home, port=probe.getsockname()[1])

    def kaon(self, *arguments: str) -> float:
        """Run a command; the seconds that it took."""
        env = os.environ | {"KAON_HOME": str(self.settings.home), "KAON_PORT": str(self.settings.port)}
        begun = time.perf_counter()
        done = subprocess.run([KAON, *arguments], env=env, capture_output=True, text=True, check=False)
        took = time.perf_counter() - begun
        if done.returncode:
            raise SystemExit(f"kaon {' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")
        return took

    def measure(self, figures: dict[str, list[float]]) -> None:
        """One round."""
        figures["up_s"].append(self.kaon("up"))
        try:
            self._measure_running(figures)
        finally:
            figures["down_s"].append(self.kaon("down"))
        figures["up_again_s"].append(self.kaon("up"))
        self.kaon("down")

    def _measure_running(self, figures: dict[str, list[float]]) -> None:
        time.sleep(SETTLE_S)  # idle: without calls for a while
        parts = {name: self._pss_mb(self.settings.run_dir / f"{name}.lock") for name in ("server", "agent", "edge")}
        for name, used in parts.items():
            figures[f"{name}_mb"].append(used)
        figures["idle_platform_mb"].append(sum(parts.values()))
        # In a folder of its own: here it would be a part of Kaon's own project, with all that this requires.
        service = shutil.copy(SERVICE, self.settings.home.parent)
        figures["deploy_s"].append(self.kaon("deploy", f"{service}:Noop"))
        self.kaon("scale", "noop", str(REPLICAS))
        for replica in self._replicas():
            figures["replica_ready_s"].append(replica["since"] - replica["started_at"])
            lock = self.settings.run_dir / "replicas" / replica["id"] / "lock"
            figures["replica_mb"].append(self._pss_mb(lock))

    def _replicas(self) -> list[dict[str, Any]]:
        """All replicas, once they are ready."""
        key = self.settings.admin_key_file.read_text().strip()
        transport = httpx2.HTTPTransport(uds=str(self.settings.api_socket))
        with httpx2.Client(
            transport=transport, base_url="http://kaon.local", headers={"authorization": f"Bearer {key}"}
        ) as api:
            give_up = time.monotonic() + 30
            while time.monotonic() < give_up:
                found = api.get("/api/v1/workspaces/default/replicas").raise_for_status().json()["items"]
                if [replica["phase"] for replica in found] == ["Ready"] * REPLICAS:
                    return list(found)
                time.sleep(0.05)
        raise SystemExit("the replicas did not become ready within 30 s")

    def _pss_mb(self, lock: Path) -> float:
        """MB of the processes that hold a lock."""
        texts = [Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in process_locks.holders(lock)]
        lines = [line for text in texts for line in text.splitlines() if line.startswith("Pss:")]
        return sum(int(line.split()[1]) for line in lines) * 1024 / 1e6


if __name__ == "__main__":
    main()
