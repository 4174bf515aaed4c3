"""The edge of one cloud: routes and endpoints go in, Envoy obeys, and what it makes of them comes out.

All state is in files and in Envoy itself, so that an agent that was killed loses nothing: a new `Edge` over
the same folder finds the process by its lock and goes on from the files.

Order matters, and every step waits until Envoy says that it has taken the files in (2-10 ms): replicas
that come, then clusters, then routes, and replicas that go last, so that no request ever meets a route
without a way. Replicas that go are not taken out but marked as leaving: Envoy gives them nothing new and
still counts what they have, which `in_flight` tells. Once quiet they vanish, and empty clusters with them.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from pathlib import Path

from kaon import log
from kaon.clock import Clock, SystemClock
from kaon.edge import counts, files, resources, stats
from kaon.edge.layout import Layout
from kaon.edge.process import EnvoyProcess, open_files
from kaon.edge.table import DeploymentKey, Table, build
from kaon.errors import Unavailable
from kaon.settings import Settings
from kaon.types.model import Address
from kaon.types.plan import EdgeStatus
from kaon.types.route import Endpoint, Route

LOG_MAX_BYTES = 10 * 2**20
_TAKEN_IN_WITHIN_S = 3.0
TEND_EVERY_S = 0.25
_LOOK_EVERY_S = 2.0

_log = log.get("edge")

Members = dict[str, dict[Address, Endpoint]]
"""Cluster -> address -> replica."""


class Edge:
    """The proxy between callers and replicas; see the module."""

    def __init__(self, settings: Settings, clock: Clock | None = None) -> None:
        self._settings = settings
        self._clock = clock or SystemClock()
        self.layout = Layout(
            settings.home.absolute() / "edge", settings.run_dir / "edge-admin.sock", settings.run_dir / "edge.lock"
        )
        self.process = EnvoyProcess(self.layout, self._clock)
        self._wanted: tuple[tuple[Route, ...], Mapping[DeploymentKey, tuple[Endpoint, ...]]] | None = None
        self._table = Table()
        self._leaving: Members = {}
        self._versions: dict[Path, str] = {}
        self.refusal = ""
        """What of the last `apply` was not done, and why; empty: all of it was."""
        self._turn = asyncio.Lock()
        self._ready = False

    async def apply(self, routes: tuple[Route, ...], endpoints: Mapping[DeploymentKey, tuple[Endpoint, ...]]) -> None:
        """Let exactly these routes lead to exactly these replicas, and start Envoy when it does not run.

        Returns when Envoy has taken it in. What cannot be routed is left out and told by `status`; a route
        that cannot be routed any more keeps its last good form. Equal arguments cost nothing. Raises
        `ConfigError` when there is no Envoy.
        """
        async with self._turn:
            if self._wanted == (routes, endpoints) and self.process.running:
                return
            await self._prepare()
            table = build(routes, endpoints, self._table)
            self._leave(table)
            if await self._enact(table):
                self._table = table
                self.refusal = "; ".join(table.refused)
            self._wanted = (routes, dict(endpoints))

    async def status(self) -> EdgeStatus:
        """How Envoy is, and what of its configuration it or we refused."""
        address = f"{self._settings.host}:{self._settings.port}"
        if not self.process.running:
            return EdgeStatus(running=False, rejected=self.refusal or self.process.last_words(), address=address)
        try:
            seen = await stats.versions(self.layout.admin_socket)
        except Unavailable:
            return EdgeStatus(running=False, rejected=self.refusal, address=address)
        rejected = self.refusal
        if seen.rejected and self._behind(seen):
            rejected = self.process.refusal() or rejected
        return EdgeStatus(running=True, rejected=rejected, address=address)

    async def in_flight(self, address: Address) -> int | None:
        """Requests that Envoy has open to a replica; None when it knows no such replica.

        Raises `Unavailable` when Envoy runs but does not answer.
        """
        if not self.process.running:
            return None
        return (await stats.active(self.layout.admin_socket)).get(address)

    async def counts(self) -> counts.EdgeCounts:
        """What Envoy has counted of callers' traffic. Raises `Unavailable` when it does not answer."""
        return await counts.counts(self.layout.admin_socket)

    async def run(self) -> None:
        """Keep Envoy running and its files tidy, for ever."""
        async with self._turn:
            await self._prepare()
        async with asyncio.TaskGroup() as group:
            group.create_task(self.process.run())
            group.create_task(self._tend())

    async def close_door(self) -> None:
        """Take no new connection; what is open goes on. Raises `Unavailable` when Envoy does not answer."""
        await stats.ask(self.layout.admin_socket, "POST", "/drain_listeners")

    async def stop(self) -> None:
        """End Envoy. Idempotent."""
        await self.process.stop()

    # --- starting ---

    async def _prepare(self) -> None:
        """Files as Envoy needs them at its start, and Envoy running."""
        if not self._ready:
            self.layout.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.layout.lock.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            connections = min(resources.CONNECTIONS_MAX, max(256, open_files() - 1000) // 2)
            start = resources.bootstrap(self.layout, self._settings.api_socket.absolute(), connections)
            if files.put(self.layout.bootstrap, start) and self.process.running:
                await self.process.stop()  # another release of Kaon wrote it: begin anew
            self._find()
            said = self._settings
            proxies = resources.Proxies(said.trusted_proxies, said.proxy_protocol)
            self._put(self.layout.listeners, resources.listeners(self.layout, said.host, said.port, proxies))
            self._ready = True
        if self.process.start():
            await self._taken_in(0)

    def _find(self) -> None:
        """Go on from the files that an earlier edge left, or begin with empty ones."""
        if files.get(self.layout.routes) is None or files.get(self.layout.clusters) is None:
            self._put(self.layout.clusters, resources.clusters(self._table, self.layout))
            self._put(self.layout.routes, resources.routes(self._table))
        clusters: dict[str, tuple[Endpoint, ...]] = {}
        for path in self.layout.all_endpoints():
            with contextlib.suppress(KeyError, IndexError, TypeError, ValueError):
                document = files.get(path) or {}
                stay, leave = resources.members(document, int(path.stem.rpartition("~")[2]))
                clusters[path.stem] = tuple(stay)
                self._leaving[path.stem] = {endpoint.address: endpoint for endpoint in leave}
        self._table = Table(clusters=clusters)

    # --- applying ---

    def _leave(self, table: Table) -> None:
        """Whoever was a member and is none any more is leaving."""
        for name, before in self._table.clusters.items():
            leaving = self._leaving.setdefault(name, {})
            leaving.update({endpoint.address: endpoint for endpoint in before})
        for name, leaving in self._leaving.items():
            for endpoint in table.clusters.get(name, ()):
                leaving.pop(endpoint.address, None)

    def _all_clusters(self, table: Table) -> dict[str, tuple[Endpoint, ...]]:
        """Those of the table, and those that somebody is still leaving."""
        still = {name: () for name, leaving in self._leaving.items() if leaving}
        return dict(sorted({**still, **table.clusters}.items()))

    async def _enact(self, table: Table) -> bool:
        """Bring Envoy to the table; False when it refused a file, and then it works as before."""
        clusters = self._all_clusters(table)
        coming = {n for n, now in clusters.items() if now or not self.layout.endpoints(n).exists()}
        # Until the new routes are in force, the old ones need their clusters.
        old = {name: () for name in self._table.clusters if self.layout.endpoints(name).exists()}
        both = Table((*self._table.rules, *table.rules), dict(sorted({**old, **clusters}.items())))
        only = Table(table.rules, clusters)
        steps: list[dict[Path, resources.Json]] = [
            {self.layout.endpoints(name): self._endpoints(name, clusters[name]) for name in sorted(coming)},
            {self.layout.clusters: resources.clusters(both, self.layout)},
            {self.layout.routes: resources.routes(table)},
            {
                self.layout.clusters: resources.clusters(only, self.layout),
                **{self.layout.endpoints(n): self._endpoints(n, now) for n, now in clusters.items() if n not in coming},
            },
        ]
        for step in steps:
            if not await self._take(step):
                return False
        return True

    def _endpoints(self, name: str, members: tuple[Endpoint, ...]) -> resources.Json:
        leaving = self._leaving.get(name, {})
        return resources.endpoints(name, members, [leaving[address] for address in sorted(leaving)])

    async def _take(self, step: dict[Path, resources.Json]) -> bool:
        """Write some files and wait until Envoy works by them. When it refuses, put the old ones back."""
        before = {path: files.get(path) for path in step}
        if all(before[path] == document for path, document in step.items()):
            return True
        refusals = await self._refusals()
        for path, document in step.items():
            self._put(path, document)
        if await self._taken_in(refusals):
            return True
        self.refusal = self.process.refusal() or "Envoy refused its configuration; see edge/envoy.log."
        _log.error("edge refused files", files=[path.name for path in step], reason=self.refusal)
        for path, old in before.items():
            if old:
                self._put(path, old)
        return False

    def _put(self, path: Path, document: resources.Json) -> None:
        self._versions[path] = document["version_info"]
        files.put(path, document)

    async def _refusals(self) -> int:
        """How many files Envoy has refused since its start; 0 when it is only starting."""
        try:
            return (await stats.versions(self.layout.admin_socket)).rejected
        except Unavailable:
            return 0

    async def _taken_in(self, refusals: int) -> bool:
        """Wait until Envoy works by all files; False when it refused one. One that is slow is not waited for."""
        give_up = self._clock.monotonic() + _TAKEN_IN_WITHIN_S
        pause_s = 0.001
        while self._clock.monotonic() < give_up:
            with contextlib.suppress(Unavailable):
                seen = await stats.versions(self.layout.admin_socket)
                behind = self._behind(seen)
                if self.layout.listeners in behind:
                    # The port is taken: `_tend` tries again, and nobody reads routes until then.
                    behind = [path for path in behind if path not in (self.layout.listeners, self.layout.routes)]
                if not behind and not seen.warming:
                    return True
                if behind and seen.rejected > refusals:
                    return False
            await self._clock.sleep(pause_s)
            pause_s = min(pause_s * 2, 0.05)
        return True

    def _behind(self, seen: stats.Versions) -> list[Path]:
        """Files that Envoy has not taken in."""
        known = {self.layout.listeners: seen.listeners, self.layout.routes: seen.routes}
        known[self.layout.clusters] = seen.clusters
        known |= {self.layout.endpoints(name): version for name, version in seen.endpoints.items()}
        return [path for path, version in known.items() if self._versions.get(path, version) != version]

    # --- tending ---

    async def _tend(self) -> None:
        looked = self._clock.monotonic()
        while True:
            await self._clock.sleep(TEND_EVERY_S)
            try:
                # What an earlier edge was told stands in the files only: before `apply` there is no table to tidy by.
                if self._wanted is not None and any(self._leaving.values()):
                    async with self._turn:
                        await self._let_go()
                if self._clock.monotonic() - looked > _LOOK_EVERY_S:
                    looked = self._clock.monotonic()
                    files.rotate(self.layout.log, LOG_MAX_BYTES)
                    await self._retry_listeners()
            except (Unavailable, OSError) as e:
                _log.warning("edge not tended", reason=str(e))

    async def _let_go(self) -> None:
        """Forget the leaving that are quiet, and the clusters that are empty by that."""
        active = await stats.active(self.layout.admin_socket) if self.process.running else {}
        for leaving in self._leaving.values():
            for address in [address for address in leaving if not active.get(address)]:
                del leaving[address]
        self._leaving = {name: leaving for name, leaving in self._leaving.items() if leaving}
        if not await self._enact(self._table):
            return
        keep = {self.layout.endpoints(name) for name in self._all_clusters(self._table)}
        for path in self.layout.all_endpoints():
            if path not in keep:
                path.unlink(missing_ok=True)
                self._versions.pop(path, None)

    async def _retry_listeners(self) -> None:
        """Envoy tries a port once only: say it again when it was taken."""
        if not self.process.running:
            return
        seen = await stats.versions(self.layout.admin_socket)
        if self.layout.listeners in self._behind(seen):
            document = files.get(self.layout.listeners)
            self.layout.listeners.unlink()
            files.put(self.layout.listeners, document or {})
