"""Ray Serve itself, with the same service: at its vendor's defaults, and tuned by its guides.

Its seconds are quickened as the laws' are (see `quickened`), here by its own settings: delays, look-back and
the interval at which it gathers figures are divided by the same factor.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from benchmarks import peers
from benchmarks.live.connections import Target
from benchmarks.serving.load import free_port

APP = Path(__file__).parent / "apps" / "ray_sleeper.py"
BODY = '{"rows": [1]}'
NAME = "sleeper"
READY_WITHIN_S = 180.0
MAX_BATCH = 8


def defaults(most: int, times: float) -> dict[str, Any]:
    """Vendor's defaults but for how many there may be."""
    return {
        "autoscaling_config": {
            "max_replicas": most,
            "upscale_delay_s": 30.0 / times,
            "downscale_delay_s": 600.0 / times,
            "look_back_period_s": 30.0 / times,
        }
    }


def tuned(most: int, times: float) -> dict[str, Any]:
    """A batch at work and its successor waiting; up as soon as wanted, down after a minute."""
    return {
        "max_ongoing_requests": 3 * MAX_BATCH,
        "autoscaling_config": {
            "max_replicas": most,
            "target_ongoing_requests": MAX_BATCH * 0.7,
            "upscale_delay_s": 2.0 / times,
            "downscale_delay_s": 60.0 / times,
            "look_back_period_s": 10.0 / times,
        },
    }


ARMS = {"ray-serve-itself": defaults, "ray-serve-itself-tuned": tuned}


def fixed(replicas: int) -> dict[str, Any]:
    """A fixed number of replicas."""
    return {"num_replicas": replicas, "max_ongoing_requests": 3 * MAX_BATCH}


@contextlib.contextmanager
def serving(options: dict[str, Any], load_s: float, times: float) -> Iterator[Target]:
    """Ray Serve with the sleeper, ready, for as long as the block lasts. Raises SystemExit when it does not come up."""
    python = peers.python_of("ray")
    if python is None:
        raise SystemExit("Ray is not installed here: run `make bench-live` without QUICK.")
    with tempfile.TemporaryDirectory(prefix="kray-", dir="/tmp") as name:
        folder, port = Path(name), free_port()
        config = {"port": port, "options": options, "load_s": load_s, "ready": str(folder / "ready")}
        (folder / "config.json").write_text(json.dumps(config))
        with (folder / "log").open("wb") as log:
            driver = subprocess.Popen(
                [python, APP, folder / "config.json"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=_environment(python, folder, times),
                cwd=folder,
                start_new_session=True,
            )
        try:
            _await(driver, folder)
            yield Target(NAME, f"http://127.0.0.1:{port}/sleeper", BODY)
        finally:
            _end(driver)


def _environment(python: Path, folder: Path, times: float) -> dict[str, str]:
    return {
        "PATH": f"{python.parent}:/usr/bin:/bin",
        "HOME": os.environ.get("HOME", "/root"),
        "RAY_TMPDIR": str(folder),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_SERVE_ENABLE_DIRECT_INGRESS": "0",
        "RAY_AUTH_MODE": "disabled",
        "RAY_SERVE_HANDLE_AUTOSCALING_METRIC_PUSH_INTERVAL_S": f"{10 / times:g}",
        "RAY_SERVE_REPLICA_AUTOSCALING_METRIC_PUSH_INTERVAL_S": f"{10 / times:g}",
        "RAY_SERVE_MIN_HANDLE_METRICS_TIMEOUT_S": f"{10 / times:g}",
    }


def _await(driver: subprocess.Popen[bytes], folder: Path) -> None:
    give_up = time.monotonic() + READY_WITHIN_S
    while not (folder / "ready").exists():
        if driver.poll() is not None or time.monotonic() > give_up:
            output = (folder / "log").read_text(errors="replace")[-2000:]
            raise SystemExit(f"Ray Serve did not come up:\n{output}")
        time.sleep(0.1)


def _end(driver: subprocess.Popen[bytes]) -> None:
    """The driver, and by their pids all that it started, those that left its session too."""
    started: list[psutil.Process] = []
    with contextlib.suppress(psutil.Error):
        started = psutil.Process(driver.pid).children(recursive=True)
    driver.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        driver.wait(20)
    driver.kill()
    driver.wait()
    _, left = psutil.wait_procs(started, timeout=5)
    for process in left:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(left, timeout=5)
