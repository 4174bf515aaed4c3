"""Does the shop answer in time? The whole platform on this machine, open-loop load through the edge."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvloop

import kaon
from benchmarks.recommend.load import Outcome, open_loop
from benchmarks.report import QUICK, Report
from kaon.errors import Unavailable

SHOP = Path(__file__).resolve().parents[2] / "examples" / "shop"
RPS = 200.0
SECONDS = 10.0 if QUICK else 60.0
P99_MS = 10.0
USERS = range(1, 2501)


def main() -> None:
    """Load the shop named by SHOP_URL and SHOP_KEY, else one that is brought up for the purpose."""
    report = Report("recommend-serving", versions={"kaon": kaon.__version__})
    if "SHOP_URL" in os.environ:
        outcome = measure(os.environ["SHOP_URL"].rstrip("/"), os.environ["SHOP_KEY"])
    else:
        with platform() as (url, key):
            outcome = measure(url, key)
    figures = {f"p{p:g}_ms": round(outcome.percentile_ms(p), 2) for p in (50, 90, 99, 99.9)}
    report.figures = {"rps": RPS, "seconds": SECONDS, "requests": len(outcome.latency_s), **figures}
    print(report.figures)
    report.at_most("recommend-p99-ms-at-200-rps", figures["p99_ms"], P99_MS)
    report.at_most("recommend-failed", outcome.failed, 0)
    report.finish()


def measure(url: str, key: str) -> Outcome:
    """A short run to warm up, and the one that counts."""
    uvloop.run(open_loop(url, key, USERS, rps=RPS, seconds=3))
    return uvloop.run(open_loop(url, key, USERS, rps=RPS, seconds=SECONDS))


@contextmanager
def platform() -> Iterator[tuple[str, str]]:
    """URL and key of the shop on a platform of its own, trained."""
    with tempfile.TemporaryDirectory(prefix="kaon-bench-") as home:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        os.environ.update(KAON_HOME=home, KAON_PORT=str(port))
        command = [sys.executable, "-m", "kaon.cli"]
        try:
            subprocess.run([*command, "up"], check=True)
            subprocess.run([*command, "apply", "-f", SHOP / "kaon.yaml", "-y"], check=True)
            with kaon.Client("trainer", timeout_s=600) as trainer:
                for step in ("clean", "features", "train"):
                    print(trainer.call(step), flush=True)
            _await_model()
            yield f"http://127.0.0.1:{port}/recommendation", (Path(home) / "admin.key").read_text().strip()
        finally:
            subprocess.run([*command, "down"], check=False)


def _await_model() -> None:
    until = time.monotonic() + 60
    with kaon.Client("recommendation") as shop:
        while True:
            try:
                shop.recommendation(user_id=1)
                return
            except Unavailable:
                if time.monotonic() > until:
                    raise
                time.sleep(0.2)


if __name__ == "__main__":
    main()
