"""A process driver's place in a folder of its own, with a small artifact whose replicas are stand-ins."""

from __future__ import annotations

import asyncio
import hashlib
import io
import shutil
from pathlib import Path

from kaon import processes
from kaon.build import archive
from kaon.clock import SystemClock
from kaon.drivers.port import DatasetFolders
from kaon.drivers.process import ProcessDriver
from kaon.testing import stand_in
from kaon.types.artifact import FileEntry, Manifest
from kaon.types.service import ServiceSpec


def pack_files(folder: Path, entry: str, files: dict[str, bytes]) -> tuple[str, Path]:
    """Write an artifact of the class `entry` with these sources to `folder`; its digest and its file."""
    sources: dict[str, Path | bytes] = {f"src/{path}": content for path, content in sorted(files.items())}
    entries = tuple(
        FileEntry(path=f"src/{path}", size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
        for path, content in sorted(files.items())
    )
    service = ServiceSpec(name=entry.partition(":")[2].lower(), entry=entry)
    out = io.BytesIO()
    digest = archive.pack(Manifest(kaon="0", python="3.11", service=service, files=entries), sources, out)
    file = folder / f"{digest.removeprefix('sha256:')}.tar.gz"
    file.write_bytes(out.getvalue())
    return digest, file


class ProcessPlace:
    """A home and a run folder (give it a short path: it holds sockets); `fetched` lists requested digests."""

    def __init__(self, home: Path, run_dir: Path) -> None:
        self.home, self.run_dir = home, run_dir
        self.artifact, self.file = pack_files(home, "echo:Echo", {"echo.py": b"class Echo:\n    pass\n"})
        self.fetched: list[str] = []
        self._drivers: list[ProcessDriver] = []

    async def fetch(self, digest: str) -> Path:
        """A copy of the artifact's file."""
        self.fetched.append(digest)
        await asyncio.sleep(0)
        copy = self.home / f"fetched-{len(self.fetched)}.tar.gz"
        shutil.copyfile(self.file, copy)
        return copy

    def driver(
        self,
        runtime: tuple[str, ...] = (stand_in.__file__,),
        *,
        devices: Path = Path("/dev"),
        datasets: DatasetFolders | None = None,
    ) -> ProcessDriver:
        """A new driver over this place."""
        driver = ProcessDriver(
            self.home / "agent",
            self.run_dir,
            self.fetch,
            SystemClock(),
            runtime=runtime,
            devices=devices,
            datasets=datasets,
        )
        self._drivers.append(driver)
        return driver

    async def close(self) -> None:
        """End everything that runs here."""
        for driver in self._drivers:
            await driver.close()
        for lock in self.run_dir.glob("replicas/*/lock"):
            await processes.stop(lock, 0)
