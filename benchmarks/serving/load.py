"""Servers and their load: each server on one core, `wrk` on the other, one after the other in rounds."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.request import Request, urlopen

from kaon.types.key import Access, Grant, key_hash
from kaon.types.launch import Launch

KEY = "kaon_benchmark"
BODY = b'{"text":"hello","n":2}'
HEADERS = {"content-type": "application/json", "authorization": f"Bearer {KEY}"}
SERVER_CORE, LOAD_CORE = "0", "1"
CONNECTIONS = 64
LEAST_SHARE = 0.9


def require_wrk() -> str:
    """The path of wrk. Raises SystemExit with how to get it."""
    path = shutil.which("wrk")
    if path is None:
        raise SystemExit("This benchmark needs `wrk`: apt-get install wrk (or your system's package of that name).")
    return path


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Run:
    """The results of one run of wrk, and the resources that the servers used."""

    per_s: float
    p50_ms: float
    p99_ms: float
    failed: int
    answered: int
    cpu_us: float = 0.0
    """Of the servers' processes, user and system, for each request; 0: not looked at."""
    share: float = 1.0
    """Of their cores, what the servers got. A saturated server that got less was disturbed by something else."""


@dataclass(frozen=True)
class Arm:
    """One of the things that are compared: where it answers, and whose processes work for it."""

    url: str
    servers: tuple[Server, ...]
    cores: int = 1
    saturates: bool = True
    """Whether it uses all of its core under load, so that a smaller share means a disturbed run."""

    def load(self, seconds: int, *, post: bytes | None) -> Run:
        """One run of wrk, with the servers' processor time beside it."""
        before, began_at = self._cpu_s(), time.monotonic()
        run = wrk(self.url, seconds, post=post)
        used_s, took_s = self._cpu_s() - before, time.monotonic() - began_at
        share = used_s / (took_s * self.cores)
        return replace(run, cpu_us=round(used_s / max(1, run.answered) * 1e6, 2), share=round(share, 3))

    def disturbed(self, run: Run) -> bool:
        """Whether other work on the machine took the server's core away."""
        return self.saturates and run.share < LEAST_SHARE

    def _cpu_s(self) -> float:
        return sum(server.cpu_s() for server in self.servers)


class Server:
    """A started server and all of its children, pinned to cores."""

    def __init__(
        self,
        command: Sequence[str | Path],
        url: str,
        *,
        cores: str = SERVER_CORE,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.url = url
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed by __exit__
        self._popen = subprocess.Popen(
            ["taskset", "-c", cores, *map(str, command)],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            env={**os.environ, **(env or {})},
            cwd=cwd,
            start_new_session=True,
        )

    def wait(self, limit_s: float = 90.0, body: bytes = BODY) -> bool:
        """Whether it answered a POST of `body` within `limit_s`."""
        end_at = time.monotonic() + limit_s
        while time.monotonic() < end_at and self._popen.poll() is None:
            if answers(self.url, body):
                return True
            time.sleep(0.1)
        return False

    def cpu_s(self) -> float:
        """Processor time of its process and all that descend from it, user and system, so far."""
        ticks: dict[int, int] = {}
        parents: dict[int, int] = {}
        for file in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):  # it has just ended
                fields = file.read_text().rpartition(")")[2].split()
                pid = int(file.parent.name)
                parents[pid], ticks[pid] = int(fields[1]), int(fields[11]) + int(fields[12])
        tree = {self._popen.pid}
        for pid in sorted(parents):  # children come after their parents but where numbers start again
            if parents[pid] in tree:
                tree.add(pid)
        return sum(ticks.get(pid, 0) for pid in tree) / os.sysconf("SC_CLK_TCK")

    def said(self) -> str:
        """The end of its log."""
        self._log.seek(0)
        return self._log.read().decode(errors="replace")[-1500:]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self._popen.pid, number)
                self._popen.wait(8)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue
        self._log.close()


def answers(url: str, body: bytes) -> bool:
    """Whether `url` answers as it should."""
    try:
        with urlopen(Request(url, data=body, headers=HEADERS), timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def kaon_replica(stack: ExitStack, folder: Path, address: str, *, entry: str, code_dir: Path, url: str) -> Server:
    """The real replica, with a key to check."""
    launch = Launch(
        id="0123456789ab",
        name="bench-1-0",
        workspace="default",
        deployment="bench",
        revision=1,
        entry=entry,
        code_dir=str(code_dir),
        service_address=address,
        control_address=f"unix:{folder / 'control.sock'}",
        access=Access(grants=(Grant(hash=key_hash(KEY), key="bench"),)),
    )
    file = folder / "launch.json"
    file.write_text(json.dumps(launch.model_dump(mode="json")))
    return stack.enter_context(Server([sys.executable, "-m", "kaon.runtime", "--launch", file], url))


def wrk(url: str, seconds: float, *, connections: int = CONNECTIONS, post: bytes | None = BODY) -> Run:
    """Load `url` for `seconds`."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        if post is not None:
            script.write(f"wrk.method = 'POST'\nwrk.body = '{post.decode()}'\n")
        for name, value in HEADERS.items():
            script.write(f"wrk.headers['{name}'] = '{value}'\n")
        script.flush()
        command = ["taskset", "-c", LOAD_CORE, require_wrk(), "-t1", f"-c{connections}", f"-d{seconds}s", "--latency"]
        said = subprocess.run([*command, "-s", script.name, url], capture_output=True, text=True, check=True).stdout
    failed = re.search(r"Non-2xx or 3xx responses: (\d+)", said)
    answered = re.search(r"(\d+) requests in", said)
    return Run(
        per_s=float(re.search(r"Requests/sec:\s+([\d.]+)", said)[1]),  # type: ignore[index]
        p50_ms=_latency(said, "50%"),
        p99_ms=_latency(said, "99%"),
        failed=int(failed[1]) if failed else 0,
        answered=int(answered[1]) if answered else 0,
    )


def _latency(said: str, quantile: str) -> float:
    match = re.search(rf"{quantile}\s+([\d.]+)(us|ms|s)", said)
    return round(float(match[1]) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[match[2]], 3) if match else 0.0
