"""The two processes of `kaon up`: how each is started, and how each restarts the other.

A role reads its settings from standard input, so that neither its command line nor its environment contains a secret; a
role that starts the other one passes its own settings on.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from kaon import log, process_locks, processes
from kaon.clock import Clock
from kaon.edge import files
from kaon.errors import Conflict
from kaon.laws.backoff import Backoff, delay_s
from kaon.settings import Settings

ROLES = ("server", "agent")
LOG_MAX_BYTES = 10 * 2**20
_ROTATE_EVERY_S = 60.0
_AGAIN = Backoff(first_s=0.5, cap_s=15.0)
_WELL_AFTER_S = 10.0
_LOOK_S = 0.25

# Variables of the user's environment for the tools that a role runs (uv, git); no others are passed on.
_KEPT = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "TZ", "TMPDIR", "VIRTUAL_ENV", "SSL_CERT_FILE", "SSL_CERT_DIR")
_KEPT_PREFIXES = ("LC_", "UV_", "PIP_", "XDG_")
_KEPT_SUFFIXES = ("_PROXY", "_proxy")

_log = log.get("stack")


@dataclass(frozen=True, slots=True)
class ProcessRole:
    """One of the two processes, over one home."""

    name: str
    settings: Settings

    @property
    def lock(self) -> Path:
        """Held for as long as the process lives."""
        return self.settings.run_dir / f"{self.name}.lock"

    @property
    def log(self) -> Path:
        """The log of the process."""
        return self.settings.home.absolute() / self.name / f"{self.name}.log"

    @property
    def other(self) -> ProcessRole:
        """The other role; both watch each other."""
        return ProcessRole("agent" if self.name == "server" else "server", self.settings)

    def start(self) -> int | None:
        """Start the process when it does not run; its pid, None when it runs already."""
        self.log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            return processes.spawn(
                [sys.executable, "-m", "kaon.stack", self.name],
                lock=self.lock,
                env=_environment(),
                cwd=self.settings.home,
                log=self.log,
                stdin=_as_json(self.settings),
            )
        except Conflict:
            return None

    def last_lines(self, count: int = 5) -> list[str]:
        """The end of its log."""
        try:
            return self.log.read_text(errors="replace").splitlines()[-count:]
        except FileNotFoundError:
            return []


def down_file(settings: Settings) -> Path:
    """While this file exists, roles start nothing again."""
    return settings.run_dir / "down"


def read_settings() -> Settings:
    """The settings on standard input; without any, those of the environment."""
    text = "" if sys.stdin is None or sys.stdin.isatty() else sys.stdin.read()
    return Settings(**json.loads(text)) if text.strip() else Settings()


def _as_json(settings: Settings) -> bytes:
    fields = settings.model_dump(mode="json") | {"home": str(settings.home.absolute())}
    if isinstance(settings.secret_key, SecretStr):
        fields["secret_key"] = settings.secret_key.get_secret_value()
    return json.dumps(fields).encode()


def _environment() -> dict[str, str]:
    def kept(name: str) -> bool:
        return name in _KEPT or name.startswith(_KEPT_PREFIXES) or name.endswith(_KEPT_SUFFIXES)

    return {name: value for name, value in os.environ.items() if kept(name)}


async def live(role: ProcessRole, work: Coroutine[Any, Any, None], clock: Clock) -> None:
    """Do a role's work until SIGTERM, watching the other role and keeping the log short meanwhile."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    tasks = [asyncio.create_task(c) for c in (work, _watch(role.other, clock), _rotate(role.log, clock))]
    stop = asyncio.create_task(stopped.wait())
    try:
        done, _ = await asyncio.wait([*tasks, stop], return_when=asyncio.FIRST_COMPLETED)
        for task in done - {stop}:
            task.result()  # tasks of a role end by errors only
    finally:
        for task in (*tasks, stop):
            task.cancel()
        await asyncio.gather(*tasks, stop, return_exceptions=True)


async def _watch(other: ProcessRole, clock: Clock) -> None:
    """Start the other role again whenever it ends, unless the platform is going down."""
    failures = 0
    while True:
        since = clock.monotonic()
        pid = process_locks.leader(other.lock)
        if pid is not None:
            code = await processes.ended(pid)
            if down_file(other.settings).exists():
                return
            well = processes.ended_from_outside(code) or clock.monotonic() - since > _WELL_AFTER_S
            failures = 0 if well else failures + 1
            _log.warning("ended", role=other.name, pid=pid, exit_code=code)
            # Restarted at once when it was killed, with growing pauses when it fails to start.
            await clock.sleep(delay_s(_AGAIN, failures - 1, random.random()))  # noqa: S311
        elif process_locks.is_held(other.lock):
            await clock.sleep(0.02)  # another process is starting it
            continue
        if down_file(other.settings).exists():
            return
        if pid := other.start():
            _log.info("started", role=other.name, pid=pid)
        await clock.sleep(_LOOK_S)


async def _rotate(path: Path, clock: Clock) -> None:
    while True:
        files.rotate(path, LOG_MAX_BYTES)
        await clock.sleep(_ROTATE_EVERY_S)
