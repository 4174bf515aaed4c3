"""`make bench-data`: push and mount of 10,000 small files and of one of 2 GB, beside `rclone copy --checksum`.

The platform is a server of its own process, over its socket, with a store and blobs on the disk of the copies.
A push ends when the version exists and its bytes are on the disk; a mount when its read-only folder is verified and on
the disk. rclone copies from folder to folder and writes nothing through. Each figure is the best of the rounds, since
another process may run beside.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import peers
from benchmarks.report import QUICK, Report
from kaon.client.platform import PlatformClient
from kaon.datasets.cache import DatasetCache
from kaon.datasets.push import NoSteps, manifest_of_folder, send_missing
from kaon.datasets.remote import DatasetPush, VersionFiles
from kaon.settings import Settings
from kaon.types.dataset import DatasetVersionRef

GOAL = 0.8
ROUNDS = 1 if QUICK else 3
SMALL = 1_000 if QUICK else 10_000
LARGE_BYTES = 2**28 if QUICK else 2 * 2**30
_START_S = 60.0


class Source:
    """A `VersionSource`: one version, over the routes of a workspace."""

    def __init__(self, platform: PlatformClient, version: str) -> None:
        self._platform = platform
        self._path = f"/workspaces/default/dataset-versions/{version}"

    def manifest(self, digest: str) -> bytes:
        """Its manifest."""
        return b"".join(self._platform.chunks(f"{self._path}/manifest"))

    def files_of(self, digest: str) -> VersionFiles:
        """Its files."""
        return VersionFiles(self._platform, f"{self._path}/files")


def main() -> None:
    """Measure both, print the bars, and keep the figures."""
    python = peers.python_of("rclone")
    report = Report("data", versions=peers.versions("rclone") if python else {})
    with tempfile.TemporaryDirectory(prefix="kaon-bench-data-") as made:
        folder = Path(made)
        sources = {"small": _small_files(folder / "small"), "large": _large_file(folder / "large")}
        for name, source in sources.items():
            for number in range(ROUNDS):
                own = folder / f"{name}-{number}"
                for what, seconds in _kaon(own, source).items():
                    report.figures.setdefault(f"{name}_{what}_s", []).append(seconds)
                if python:
                    for what, seconds in _rclone(own, source, python).items():
                        report.figures.setdefault(f"{name}_{what}_s", []).append(seconds)
                shutil.rmtree(own)
            for what in ("push", "mount"):
                best = min(report.figures[f"{name}_{what}_s"])
                report.figures[f"{name}_{what}_mb_s"] = sum(f.stat().st_size for f in source.rglob("*")) / best / 1e6
                if python:
                    report.at_least(f"{name}_{what}_by_rclone", min(report.figures[f"{name}_rclone_s"]) / best, GOAL)
    if not python:
        report.note("rclone is not installed: nothing to compare with.")
    report.finish()


def _small_files(folder: Path) -> Path:
    chance = random.Random(1)
    for number in range(SMALL):
        path = folder / f"{number % 100:02}" / f"{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(chance.randbytes(chance.randrange(500, 8000)))
    return folder


def _large_file(folder: Path) -> Path:
    folder.mkdir()
    with (folder / "model.bin").open("wb") as file:
        for _ in range(LARGE_BYTES // 2**24):
            file.write(os.urandom(2**24))
    return folder


def _kaon(folder: Path, source: Path) -> dict[str, float]:
    """Seconds of a push into an empty platform, and of a mount on an empty machine."""
    folder.mkdir()
    settings = Settings(home=folder / "home")
    environment = {**os.environ, "KAON_HOME": str(folder / "home")}
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen([sys.executable, "-m", "benchmarks.data.server"], env=environment, stderr=log)
    try:
        _wait(lambda: settings.api_socket.exists() and settings.admin_key_file.exists())
        platform = PlatformClient(settings.admin_key_file.read_text().strip(), socket=settings.api_socket)
        _settle()
        began = time.monotonic()
        manifest = manifest_of_folder(source, NoSteps())
        push = DatasetPush(platform, "/workspaces/default/datasets/bench", "/workspaces/default/uploads")
        send_missing(push, source, manifest, NoSteps())
        version = push.create()
        pushed = time.monotonic() - began
        _settle()
        began = time.monotonic()
        cache = DatasetCache(folder / "machine", Source(platform, version.name))
        ref = DatasetVersionRef(dataset="bench", number=1, manifest=version.spec.manifest)
        asyncio.run(cache.materialize(ref))
        return {"push": pushed, "mount": time.monotonic() - began}
    finally:
        server.terminate()
        server.wait()
        subprocess.run(["chmod", "-R", "u+w", folder], check=False)


def _rclone(folder: Path, source: Path, python: Path) -> dict[str, float]:
    """Seconds of a copy from folder to folder."""
    _settle()
    began = time.monotonic()
    argv = [python.with_name("rclone"), "copy", "--checksum", "--config", os.devnull, source, folder / "rclone"]
    subprocess.run(argv, check=True)
    return {"rclone": time.monotonic() - began}


def _settle() -> None:
    """Let the disk write what was there before."""
    os.sync()


def _wait(done: Callable[[], bool]) -> None:
    ends = time.monotonic() + _START_S
    while not done():
        if time.monotonic() > ends:
            raise TimeoutError("the server did not start")
        time.sleep(0.05)


if __name__ == "__main__":
    main()
