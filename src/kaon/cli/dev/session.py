"""A session of `kaon dev`: a process for each service, replaced when files change, and the port in front of them.

A new process takes over when it is ready. When it does not come up, the previous one goes on serving.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from watchfiles import Change, DefaultFilter, awatch

from kaon.build.limits import LOCK
from kaon.cli.dev.access_log import AccessRecord
from kaon.cli.dev.proxy import Hop, Proxy
from kaon.cli.dev.replicas import DevReplica, DevService, launch_of
from kaon.cli.dev.routing import DevRoute, below_name, find_route
from kaon.errors import KaonError, Unavailable

PrepareEnvironment = Callable[[DevService], Path]
"""The interpreter of an environment with the service's requirements. Raises `KaonError`. Blocks."""


@dataclass(frozen=True)
class DevOutput:
    """Where a session reports what happens."""

    note: Callable[[str], None]
    access: Callable[[AccessRecord], None]
    line: Callable[[str, str], None]
    """Gets the service and a line of its process."""


@dataclass
class _Served:
    """A service, and the process that answers its calls."""

    service: DevService
    place: Path
    """How the paths of its sockets begin."""
    replica: DevReplica | None = None
    starting: asyncio.Task[None] | None = None
    started: int = 0
    """The number of processes so far."""
    settled: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the first process is ready or has ended."""


class DevSession:
    """Serves until `stop` is set."""

    def __init__(
        self,
        services: Sequence[DevService],
        folder: Path,
        python: PrepareEnvironment,
        platform: str,
        output: DevOutput,
        *,
        reload: bool,
    ) -> None:
        """`folder` is for sockets; calls of services that are not here go to `platform`, host and port of an edge."""
        self.stop = asyncio.Event()
        self._served = {s.name: _Served(s, folder / str(n)) for n, s in enumerate(services)}
        self._names = list(self._served)
        self._python = python
        self._platform = platform
        self._output = output
        self._reload = reload
        self._edge_url = ""
        self._code = 0
        self._ends: set[asyncio.Task[None]] = set()

    async def run(self, port: int) -> int:
        """Serve on `port` of this machine; the exit code: without reload that of the first process that ends."""
        outside = await asyncio.start_server(Proxy(self._hop, self._output.access).serve, "127.0.0.1", port)
        inside = await asyncio.start_server(Proxy(self._hop_of_service, self._output.access).serve, "127.0.0.1", 0)
        self._edge_url = f"http://127.0.0.1:{inside.sockets[0].getsockname()[1]}"
        watching = asyncio.create_task(self._watch())
        try:
            for served in self._served.values():
                await self._restart(served)
            await self.stop.wait()
        finally:
            outside.close()
            inside.close()
            await _cancelled(watching, *self._ends, *(s.starting for s in self._served.values() if s.starting))
            await asyncio.gather(*(s.replica.stop() for s in self._served.values() if s.replica is not None))
        return self._code

    async def _hop(self, target: bytes) -> Hop:
        """Of a request from outside."""
        return await self._hop_by(find_route(target, self._names))

    async def _hop_of_service(self, target: bytes) -> Hop:
        """Of a call that a service makes by `kaon.use`."""
        route = below_name(target, self._names)
        return Hop(self._platform, target) if route is None else await self._hop_by(route)

    async def _hop_by(self, route: DevRoute) -> Hop:
        """The service's current process; waits for the first one."""
        served = self._served[route.service]
        await served.settled.wait()
        if served.replica is None:
            raise Unavailable(f"`{route.service}` does not run.", hint="See its last lines where `kaon dev` runs.")
        return Hop(served.replica.address, route.target, route.prefix)

    async def _watch(self) -> None:
        """Replace the processes of services whose files change."""
        if not self._reload:
            return
        roots = sorted({served.service.target.root for served in self._served.values()})
        async for changes in awatch(*roots, watch_filter=_SourceFilter(roots), stop_event=self.stop, rust_timeout=500):
            files = sorted({Path(path) for _, path in changes})
            self._output.note(f"{files[0].name} changed{f', and {len(files) - 1} more' if len(files) > 1 else ''}.")
            for served in self._served.values():
                if any(served.service.target.root in file.parents for file in files):
                    await self._restart(served)

    async def _restart(self, served: _Served) -> None:
        """Begin to start a process of the service, instead of one that is not ready yet."""
        if served.starting is not None:
            await _cancelled(served.starting)
        served.starting = asyncio.create_task(self._start(served))

    async def _start(self, served: _Served) -> None:
        """Start a process of the service; when it is ready, it takes over and the previous one ends."""
        served.started += 1
        service, new = served.service, None
        place = served.place.with_suffix(f".{served.started}")
        prefix = "/" if len(self._served) == 1 else f"/{service.name}/"
        launch = launch_of(service, served.started, place, prefix=prefix, edge_url=self._edge_url)
        try:
            python = await asyncio.to_thread(self._python, service)
            file = place.with_suffix(f"{place.suffix}.json")
            new = await DevReplica.start(launch, python, file, lambda line: self._output.line(service.name, line))
            if not await new.is_ready():
                self._not_started(served, await new.ended())
                return
            before, served.replica, new = served.replica, new, None
            self._note_end_of(served, served.replica)
            if before is not None:
                self._output.note(f"{service.name}: the new code serves.")
                await before.stop()
        except (KaonError, OSError) as error:
            self._output.note(f"{service.name}: {error}")
            self._not_started(served, 1)
        finally:
            served.settled.set()
            if new is not None:
                await new.stop()

    def _not_started(self, served: _Served, code: int) -> None:
        name = served.service.name
        if not self._reload:
            self._code = code
            self.stop.set()
        elif served.replica is not None:
            self._output.note(f"{name}: the new code has an error, see above; the previous code still serves.")
        else:
            self._output.note(f"{name} does not run, see above; waiting for a file to change.")

    def _note_end_of(self, served: _Served, replica: DevReplica) -> None:
        """Report when the process ends while it is the current one."""

        async def wait() -> None:
            code = await replica.ended()
            if served.replica is not replica:
                return
            served.replica = None
            if self._reload:
                name = served.service.name
                self._output.note(f"{name} ended with exit code {code}; waiting for a file to change.")
            else:
                self._code = code
                self.stop.set()

        task = asyncio.create_task(wait())
        self._ends.add(task)
        task.add_done_callback(self._ends.discard)


async def _cancelled(*tasks: asyncio.Task[None]) -> None:
    """Cancel tasks and wait for their ends."""
    for task in tasks:
        task.cancel()
    for task in tasks:
        with suppress(asyncio.CancelledError):
            await task


class _SourceFilter(DefaultFilter):
    """Files that may be sources: no caches, no hidden files, and none that this process writes."""

    def __init__(self, roots: Iterable[Path]) -> None:
        super().__init__()
        self._roots = tuple(roots)

    def __call__(self, change: Change, path: str) -> bool:
        file = Path(path)
        if file.name == LOCK or _is_own_output(file) or not super().__call__(change, path):
            return False
        root = next((root for root in self._roots if root in file.parents), None)
        return root is not None and not any(part.startswith(".") for part in file.relative_to(root).parts)


def _is_own_output(file: Path) -> bool:
    """Whether this process's output goes to the file, as by `kaon dev > log.txt`."""
    with suppress(OSError):
        return any(os.path.samestat(file.stat(), os.fstat(descriptor)) for descriptor in (1, 2))
    return False
