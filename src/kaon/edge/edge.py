"""The edge of one cloud: configures Envoy by routes and endpoints, and reports what Envoy applied and refused.

All state is in files and in Envoy itself, so that a killed agent loses nothing: a new `Edge` over the same folder finds
the process by its lock and continues from the files.

Order matters, and every step waits until Envoy has applied the files (2-10 ms): first added replicas, then clusters,
then routes, and removed replicas last, so that no request gets a route without replicas. Removed replicas are first
marked as leaving: Envoy sends them no new requests and still counts the open ones (`in_flight`). Once they have none,
they are deleted, and clusters that are empty then.

When Envoy refuses a configuration, the invalid deployments are searched (`kaon.edge.bisection`): these keep their last
valid form, and all others are updated.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from pathlib import Path

from kaon import log
from kaon.clock import Clock, SystemClock
from kaon.edge import counts, files, resources, stats
from kaon.edge.bisection import Bisection
from kaon.edge.configuration import Configuration
from kaon.edge.layout import Layout
from kaon.edge.process import EnvoyProcess, open_files
from kaon.edge.table import RULES, RouteRule, RouteTable, build, differing, mixed
from kaon.errors import Unavailable
from kaon.settings import Settings
from kaon.types.model import Address
from kaon.types.names import DeploymentKey
from kaon.types.plan import EdgeStatus
from kaon.types.route import ReplicaEndpoint, Route

LOG_MAX_BYTES = 10 * 2**20
MAINTAIN_EVERY_S = 0.25
_LOOK_EVERY_S = 2.0

_log = log.get("edge")

Members = dict[str, dict[Address, ReplicaEndpoint]]
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
        self.configuration = Configuration(self.layout, self.process, self._clock)
        self._wanted: tuple[tuple[Route, ...], Mapping[DeploymentKey, tuple[ReplicaEndpoint, ...]]] | None = None
        self._table = RouteTable()
        self._leaving: Members = {}
        self.refused: dict[DeploymentKey, str] = {}
        """Deployments of which the last `apply` left something out, and why."""
        self._turn = asyncio.Lock()
        self._ready = False
        self._settled = False
        """Whether the documents are those of the table and of the leaving replicas."""

    async def apply(
        self, routes: tuple[Route, ...], endpoints: Mapping[DeploymentKey, tuple[ReplicaEndpoint, ...]]
    ) -> None:
        """Set all routes and their replicas, and start Envoy when it does not run.

        Returns when Envoy has applied them. What cannot be routed is left out and listed by `status`; a route that
        becomes invalid keeps its last valid form. Equal arguments cost nothing. Raises `ConfigError` without Envoy.
        """
        async with self._turn:
            if self._wanted == (routes, endpoints) and self.process.running:
                return
            await self._prepare()
            table = build(routes, endpoints, self._table)
            refused = await self._apply(table)
            self.refused = {refusal.key: refusal.why for refusal in reversed(table.refused)} | refused
            self._wanted = (routes, dict(endpoints))

    async def status(self) -> EdgeStatus:
        """The status of Envoy, and what was refused."""
        address = f"{self._settings.host}:{self._settings.port}"
        refused = {"/".join(key): why for key, why in sorted(self.refused.items())}
        if not self.process.running:
            return EdgeStatus(running=False, rejected=self.process.last_error(), refused=refused, address=address)
        try:
            applied = await stats.versions(self.layout.admin_socket)
        except Unavailable:
            return EdgeStatus(running=False, refused=refused, address=address)
        rejected = (
            self.process.refusal() if any(applied.refused.values()) and self.configuration.behind(applied) else ""
        )
        return EdgeStatus(running=True, rejected=rejected, refused=refused, address=address)

    async def in_flight(self) -> Mapping[Address, int]:
        """Open requests of Envoy by the replica's address, with one request to Envoy.

        Raises `Unavailable` when Envoy runs but does not answer.
        """
        return await stats.active(self.layout.admin_socket) if self.process.running else {}

    async def counts(self) -> counts.EdgeCounts:
        """What Envoy has counted of callers' traffic. Raises `Unavailable` when it does not answer."""
        return await counts.counts(self.layout.admin_socket)

    async def run(self) -> None:
        """Keep Envoy running and its files in order, until cancelled."""
        async with self._turn:
            await self._prepare()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.process.run())
                group.create_task(self._maintain())
        finally:
            self.configuration.close()

    async def stop_listening(self) -> None:
        """Accept no new connections; open ones stay. Raises `Unavailable` when Envoy does not answer."""
        await stats.ask(self.layout.admin_socket, "POST", "/drain_listeners")

    async def stop(self) -> None:
        """End Envoy. Idempotent."""
        await self.process.stop()

    # --- starting ---

    async def _prepare(self) -> None:
        """Write the files that Envoy needs at its start, and start it."""
        if not self._ready:
            self.layout.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.layout.lock.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            connections = min(resources.CONNECTIONS_MAX, max(256, open_files() - 1000) // 2)
            start = resources.bootstrap(self.layout, self._settings.api_socket.absolute(), connections)
            if files.put(self.layout.bootstrap, start) and self.process.running:
                await self.process.stop()  # another release of Kaon wrote it: begin anew
            self._find()
            settings = self._settings
            proxies = resources.Proxies(settings.trusted_proxies, settings.proxy_protocol)
            front = resources.listeners(self.layout, settings.host, settings.port, proxies)
            self.configuration.put({self.layout.listeners: front})
            self._ready = True
        await self.configuration.start()  # before Envoy, which gets its replicas there
        if self.process.start():
            await self.configuration.applied_all()

    def _find(self) -> None:
        """Read the files of an earlier edge, or begin with empty ones."""
        routes, named = files.get(self.layout.routes), files.get(self.layout.clusters)
        if routes is None or named is None:
            routes, named = resources.routes(self._table), resources.clusters(self._table, self.layout)
        found = {self.layout.clusters: named, self.layout.routes: routes}
        clusters: dict[str, tuple[ReplicaEndpoint, ...]] = {}
        for path in self.layout.all_endpoints():
            with contextlib.suppress(KeyError, IndexError, TypeError, ValueError):
                document = files.get(path) or {}
                stay, leave = resources.members(document, int(path.stem.rpartition("~")[2]))
                clusters[path.stem] = tuple(stay)
                self._leaving[path.stem] = {endpoint.address: endpoint for endpoint in leave}
                found[path] = document
        self.configuration.put(found)
        rules: tuple[RouteRule, ...] = ()
        with contextlib.suppress(ValueError):
            rules = RULES.validate_python((files.get(self.layout.rules) or {}).get("rules", ()))
        self._table = RouteTable(rules, clusters)

    # --- applying ---

    async def _apply(self, after: RouteTable) -> dict[DeploymentKey, str]:
        """Apply a table, except for what Envoy refuses; returns the refused deployments, and why.

        A refused deployment keeps its rule in force; if that is refused too, also its replicas. When even the whole
        table in force is refused (by another Envoy than the one that accepted it), nothing is kept.
        """
        before = self._table
        reason = await self._try_table(after)
        if not reason:
            return {}
        for base, replicas in ((before, False), (before, True), (RouteTable(), True)):
            reason = await self._try_table(mixed(base, after, (), replicas=replicas))
            if not reason:
                return await self._search(base, after, replicas=replicas)
        return dict.fromkeys(differing(RouteTable(), after), reason)

    async def _search(self, base: RouteTable, after: RouteTable, *, replicas: bool) -> dict[DeploymentKey, str]:
        """Apply all changes from a table in force to another one except for those that Envoy refuses."""
        search = Bisection(differing(base, after), self.refused)
        reason = ""
        while (trying := search.trying) is not None:
            reason = await self._try_table(mixed(base, after, trying, replicas=replicas))
            search.report(reason)
        if reason:  # the last attempt was refused, and part of it may still be in the files
            await self._try_table(mixed(base, after, search.taken, replicas=replicas))
        return search.refused

    async def _try_table(self, table: RouteTable) -> str:
        """Apply a table. Returns the reason when Envoy refuses it: then the previous table stays in force."""
        leaving = self._left(table)
        steps, self._settled = self._steps(table, leaving), False
        for step in steps:
            if reason := await self.configuration.take(step):
                return reason
        self._table, self._leaving, self._settled = table, leaving, True
        files.put(self.layout.rules, {"rules": RULES.dump_python(table.rules, mode="json")})
        return ""

    def _left(self, table: RouteTable) -> Members:
        """The leaving replicas once `table` is in force: former members of its clusters."""
        found = {name: dict(leaving) for name, leaving in self._leaving.items()}
        for name, before in self._table.clusters.items():
            found.setdefault(name, {}).update({endpoint.address: endpoint for endpoint in before})
        for name, leaving in found.items():
            for endpoint in table.clusters.get(name, ()):
                leaving.pop(endpoint.address, None)
        return {name: leaving for name, leaving in found.items() if leaving}

    def _steps(self, table: RouteTable, leaving: Members) -> list[dict[Path, resources.Json]]:
        """The documents to send, in steps."""
        clusters = _all_clusters(table, leaving)
        before = _all_clusters(self._table, self._leaving)
        same = {
            name
            for name, members in clusters.items()
            if self._settled and before.get(name) == members and self._leaving.get(name) == leaving.get(name)
        }
        documents = {
            name: resources.endpoints(name, members, [of[address] for address in sorted(of)])
            for name, members in clusters.items()
            for of in [leaving.get(name, {})]
            if name not in same
        }
        if self._settled and table.rules == self._table.rules and clusters.keys() == before.keys():
            return [{self.layout.endpoints(name): document for name, document in documents.items()}]
        at = {name: self.layout.endpoints(name) for name in {*clusters, *self._table.clusters}}
        coming = {name for name in documents if clusters[name] or not self.configuration.has(at[name])}
        # Until the new routes are in force, the old ones need their clusters.
        old = {name: () for name in self._table.clusters if self.configuration.has(at[name])}
        both = RouteTable((*self._table.rules, *table.rules), dict(sorted({**old, **clusters}.items())))
        only = RouteTable(table.rules, clusters)
        return [
            {at[name]: documents[name] for name in sorted(coming)},
            {self.layout.clusters: resources.clusters(both, self.layout)},
            {self.layout.routes: resources.routes(table)},
            {
                self.layout.clusters: resources.clusters(only, self.layout),
                **{at[name]: document for name, document in documents.items() if name not in coming},
            },
        ]

    # --- maintenance ---

    async def _maintain(self) -> None:
        looked = self._clock.monotonic()
        while True:
            await self._clock.sleep(MAINTAIN_EVERY_S)
            try:
                # Before `apply` the table is the one that an earlier edge left in the files.
                if self._wanted is not None and any(self._leaving.values()):
                    async with self._turn:
                        await self._remove_left()
                if self._clock.monotonic() - looked > _LOOK_EVERY_S:
                    looked = self._clock.monotonic()
                    files.rotate(self.layout.log, LOG_MAX_BYTES)
                    await self._retry_listeners()
            except (Unavailable, OSError) as e:
                _log.warning("maintenance of the edge failed", reason=str(e))

    async def _remove_left(self) -> None:
        """Remove leaving replicas without open requests, and clusters that are empty then."""
        active = await stats.active(self.layout.admin_socket) if self.process.running else {}
        still = {
            name: found
            for name, leaving in self._leaving.items()
            if (found := {address: endpoint for address, endpoint in leaving.items() if active.get(address)})
        }
        if still == self._leaving and self._settled:
            return
        self._leaving, self._settled = still, False
        if await self._try_table(self._table):
            return
        keep = {self.layout.endpoints(name) for name in _all_clusters(self._table, self._leaving)}
        for path in self.layout.all_endpoints():
            if path not in keep:
                self.configuration.remove(path)

    async def _retry_listeners(self) -> None:
        """Envoy tries a port only once: send the listeners again when it was in use."""
        if not self.process.running:
            return
        applied = await stats.versions(self.layout.admin_socket)
        if self.layout.listeners in self.configuration.behind(applied):
            document = files.get(self.layout.listeners)
            self.layout.listeners.unlink()
            files.put(self.layout.listeners, document or {})


def _all_clusters(table: RouteTable, leaving: Members) -> dict[str, tuple[ReplicaEndpoint, ...]]:
    """The clusters of the table, and those with leaving replicas."""
    still = dict.fromkeys(leaving, ())
    return dict(sorted({**still, **table.clusters}.items()))
