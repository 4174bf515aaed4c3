"""One process of a service under `kaon dev`, its start, readiness, output and end."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx2

from kaon.build.sources import Target
from kaon.sdk.setting import of_every_shell
from kaon.types.key import Access
from kaon.types.launch import Launch

_POLL_S = 0.05
_STOP_S = 10.0
_LINE_BYTES = 64 * 1024


@dataclass(frozen=True)
class DevService:
    """A service to serve."""

    name: str
    target: Target
    env: Mapping[str, str] = field(default_factory=dict)
    """Its variables, beside those of the shell."""


class DevReplica:
    """A running process of a service."""

    def __init__(self, launch: Launch, process: asyncio.subprocess.Process, on_line: Callable[[str], None]) -> None:
        self.address = launch.service_address
        self._control = launch.control_address.removeprefix("unix:")
        self._process = process
        self._reading = asyncio.create_task(_read(process, on_line))

    @classmethod
    async def start(cls, launch: Launch, python: Path, file: Path, on_line: Callable[[str], None]) -> DevReplica:
        """Start a process, whose launch is written to `file`; `on_line` gets each line of its output."""
        file.write_text(launch.model_dump_json())
        shell = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
        command = [str(python), "-P", "-s", "-m", "kaon.runtime", "--launch", str(file)]
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            cwd=launch.code_dir,
            env=launch.environment(shell),
            start_new_session=True,
        )
        return cls(launch, process, on_line)

    async def is_ready(self) -> bool:
        """Wait until it answers calls (True) or has ended (False)."""
        transport = httpx2.AsyncHTTPTransport(uds=self._control, verify=False)
        async with httpx2.AsyncClient(transport=transport, base_url="http://replica", timeout=5) as control:
            while self._process.returncode is None:
                with suppress(httpx2.HTTPError):
                    if (await control.get("/ready")).status_code == 200:
                        return True
                await asyncio.sleep(_POLL_S)
        await self._reading  # what it wrote at its end comes before what is printed on it
        return False

    async def ended(self) -> int:
        """Wait for its end; its exit code."""
        code = await self._process.wait()
        await self._reading
        return code

    async def stop(self) -> None:
        """End it: at once when it is idle, else within some seconds."""
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(self._process.wait(), _STOP_S)
            except TimeoutError:
                with suppress(ProcessLookupError):
                    os.killpg(self._process.pid, signal.SIGKILL)
        await self.ended()


async def _read(process: asyncio.subprocess.Process, on_line: Callable[[str], None]) -> None:
    """Give `on_line` each line of the output; one that is too long comes in parts."""
    assert process.stdout is not None
    rest = b""
    while data := await process.stdout.read(_LINE_BYTES):
        *lines, rest = (rest + data).split(b"\n")
        if len(rest) > _LINE_BYTES:
            lines, rest = [*lines, rest], b""
        for line in lines:
            on_line(line.decode(errors="replace").removesuffix("\r"))
    if rest:
        on_line(rest.decode(errors="replace"))


def launch_of(service: DevService, number: int, place: Path, *, prefix: str, edge_url: str) -> Launch:
    """How the service's process number `number` starts; the paths of its sockets begin with `place`."""
    return Launch(
        id="0" * 12,
        name=f"{service.name}-{number}",
        workspace="default",
        deployment=service.name,
        revision=number,
        entry=service.target.entry,
        code_dir=str(service.target.root),
        service_address=f"unix:{place}.service",
        control_address=f"unix:{place}.control",
        env=dict(service.env),
        own_names=tuple(name for name in os.environ if not of_every_shell(name)),
        access=Access(public=True),
        prefix=prefix,
        edge_url=edge_url,
        drain_s=1.0,
        without_edge=True,
    )
