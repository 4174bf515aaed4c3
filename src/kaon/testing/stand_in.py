"""A replica without a service: a program that a driver under test starts in place of the runtime.

It implements the contract of a replica (launch file, secrets on standard input, control socket, SIGTERM, exit codes)
and behaves as the `Behaviour` in its environment. It uses only the standard library, so that it starts at once:

    ProcessDriver(home, run_dir, fetch, clock, runtime=(kaon.testing.stand_in.__file__,))

Its service socket answers with its settings as JSON; `?hold_s=1` delays the answer by a second, `?use_bytes=1000000`
uses that much more memory, `?fork=1` starts a child that does not end by itself.
"""

from __future__ import annotations

import asyncio
import faulthandler
import json
import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

StandInAnswer = tuple[int, bytes]

SETTINGS = ("access", "knobs")
"""What the agent sets, each with a version that is reported back."""

STACKS_SIGNAL = 58
"""As in `kaon.types.launch`, which is not imported here."""


class StandIn:
    """The replica."""

    def __init__(self, launch: dict[str, Any], secrets: dict[str, str]) -> None:
        self.launch = launch
        self.secrets = secrets
        self.behaviour = json.loads(launch["env"].get("BEHAVIOUR", "{}"))
        self.settings = {
            name: json.dumps({k: v for k, v in launch[name].items() if k != "version"}, separators=(",", ":"))
            for name in SETTINGS
        }
        self.versions = {name: launch[name]["version"] or "as it was started" for name in SETTINGS}
        self.ready = False
        self.in_flight = 0
        self.used: list[bytes] = []
        self.quiet = asyncio.Event()
        self.quiet.set()
        self.stopping = asyncio.Event()
        self.servers: list[asyncio.Server] = []

    async def run(self) -> int:
        """Serve until stopped, or for the behaviour's time; returns the exit code."""
        faulthandler.register(STACKS_SIGNAL, all_threads=True)
        Path(self.launch["flights_file"]).write_bytes(flights_file(self.behaviour.get("flights", {})))
        for line in self.behaviour.get("lines", ()):
            print(line, flush=True)
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._stop)
        await self._listen("control_address", self.control)
        await self._listen("service_address", self.service)
        ready_after = self.behaviour.get("ready_after_s", 0.0)
        if ready_after is not None:
            loop.call_later(ready_after, lambda: setattr(self, "ready", True))
        try:
            await asyncio.wait_for(self.stopping.wait(), self.behaviour.get("ends_after_s"))
        except TimeoutError:
            await self._close()
            self.write_job()
            return int(self.behaviour.get("exit_code", 1))
        await self.quiet.wait()
        await self._close()
        return 0

    def write_job(self) -> None:
        """Write what a job writes: its outputs, its result and its progress."""
        if not self.launch["job_dir"]:
            return
        folder = Path(self.launch["job_dir"])
        for path, text in self.behaviour.get("outputs", {}).items():
            file = folder / "outputs" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        (folder / "progress.jsonl").write_text("".join(f"{line}\n" for line in self.behaviour.get("progress", ())))
        if self.behaviour.get("result"):
            (folder / "result.json").write_text(self.behaviour["result"])

    async def _close(self) -> None:
        """Accept no more: a connection that begins while the loop ends would be an error in the log."""
        for server in self.servers:
            server.close()
        await asyncio.sleep(0)

    def _stop(self) -> None:
        if not self.behaviour.get("deaf"):
            self.ready = False
            self.stopping.set()

    async def _listen(self, address: str, answer: Any) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                while head := await reader.readuntil(b"\r\n\r\n"):
                    lines = head.decode().lower().split("\r\n")
                    length = next((int(line[15:]) for line in lines if line.startswith("content-length:")), 0)
                    status, body = await answer(*lines[0].split()[:2], await reader.readexactly(length))
                    writer.write(b"HTTP/1.1 %d x\r\ncontent-length: %d\r\n\r\n" % (status, len(body)) + body)
            except (asyncio.IncompleteReadError, ConnectionError):
                writer.close()

        path = self.launch[address].removeprefix("unix:")
        self.servers.append(await asyncio.start_unix_server(serve, path))

    async def control(self, method: str, target: str, body: bytes) -> StandInAnswer:
        """The control socket's calls."""
        path, _, query = target.partition("?")
        if method == "put" and (name := path.removeprefix("/")) in SETTINGS:
            self.settings[name] = body.decode()
            self.versions[name] = parse_qs(query)["version"][0]
            return 204, b""
        health = {
            "phase": "Ready" if self.ready else "Loading",
            "in_flight": self.in_flight,
            **self.versions,
        }
        return (200 if self.ready or target == "/live" else 503), json.dumps(health).encode()

    async def service(self, method: str, target: str, body: bytes) -> StandInAnswer:
        """The service socket's answer."""
        query = parse_qs(urlsplit(target).query)
        self.in_flight += 1
        self.quiet.clear()
        self.used.append(b"x" * int(query.get("use_bytes", ["0"])[0]))
        answer: dict[str, Any] = {"child": child_of_its_own()} if "fork" in query else {}
        await asyncio.sleep(float(query.get("hold_s", ["0"])[0]))
        self.in_flight -= 1
        if not self.in_flight:
            self.quiet.set()
        answer |= {"id": self.launch["id"], "pid": os.getpid(), "environ": dict(os.environ), "secrets": self.secrets}
        return 200, json.dumps(answer | self.settings).encode()


def flights_file(flights: dict[str, float]) -> bytes:
    """The content of a file of calls in flight (`kaon.types.flight`), from request id -> seconds left."""
    now = time.monotonic()
    return b"".join(struct.pack("=d64s", now + left_s, id_.encode()) for id_, left_s in flights.items())


def child_of_its_own() -> int:
    """Start a process that does not end by itself; its pid."""
    return subprocess.Popen(["sleep", "600"]).pid


if __name__ == "__main__":
    launch_file = Path(sys.argv[sys.argv.index("--launch") + 1])
    sys.exit(asyncio.run(StandIn(json.loads(launch_file.read_text()), json.load(sys.stdin)).run()))
