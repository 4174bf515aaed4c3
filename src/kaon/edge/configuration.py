"""The configuration of Envoy, and whether Envoy has applied it.

Listeners, routes and clusters are files that Envoy follows; replicas are sent on a stream (`kaon.edge.discovery`), and
their files are for the next agent. Each document has a version. Envoy's statistics have the versions of files in force;
on the stream Envoy confirms each version.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from kaon import log
from kaon.clock import Clock
from kaon.edge import files, stats
from kaon.edge.discovery import Discovery
from kaon.edge.layout import Layout
from kaon.edge.process import EnvoyProcess
from kaon.edge.resources import Json
from kaon.errors import Unavailable

APPLIED_WITHIN_S = 3.0
_NO_REASON = "Envoy refused its configuration; see edge/envoy.log."

_log = log.get("edge")


class Configuration:
    """All documents of one Envoy."""

    def __init__(self, layout: Layout, process: EnvoyProcess, clock: Clock) -> None:
        self._layout = layout
        self._process = process
        self._clock = clock
        self._discovery = Discovery(layout.endpoints_socket)
        self._names = {
            layout.listeners: stats.LISTENERS,
            layout.routes: stats.ROUTES,
            layout.clusters: stats.CLUSTERS,
        }
        self._versions: dict[Path, str] = {}
        self._expects_requests = False
        """Whether Envoy must request the replicas of any cluster."""

    async def start(self) -> None:
        """Serve the stream. Idempotent. Raises OSError."""
        await self._discovery.start()

    def close(self) -> None:
        """Stop the stream; Envoy keeps its configuration."""
        self._discovery.close()

    def put(self, documents: Mapping[Path, Json]) -> None:
        """Send these documents to Envoy, without waiting."""
        sent: dict[str, Json] = {}
        for path, document in documents.items():
            files.put(path, document)
            self._versions[path] = document["version_info"]
            if cluster := self._layout.cluster_of(path):
                sent[cluster] = document
            if path == self._layout.clusters:
                self._expects_requests = any(cluster.get("type") == "EDS" for cluster in document["resources"])
        self._discovery.put(sent)

    def remove(self, path: Path) -> None:
        """Remove a document."""
        path.unlink(missing_ok=True)
        self._versions.pop(path, None)
        if cluster := self._layout.cluster_of(path):
            self._discovery.forget(cluster)

    def has(self, path: Path) -> bool:
        """Whether the document exists."""
        return path in self._versions

    async def take(self, step: Mapping[Path, Json]) -> str:
        """Send documents and wait until Envoy has applied them. Returns empty, or the reason when it refuses one: then
        the previous documents are sent again.
        """
        new = {path: sent for path, sent in step.items() if self._versions.get(path) != sent["version_info"]}
        if not new:
            return ""
        before = {path: files.get(path) for path in new}
        since = await self._applied() if self._has_files(new) else None
        self.put(new)
        reason = await self.applied_all(new, since)
        if reason:
            _log.error("edge refused documents", files=[path.name for path in new][:10], reason=reason)
            self.put({path: old for path, old in before.items() if old})
            for path in [path for path, old in before.items() if not old]:
                self.remove(path)
        return reason

    async def applied_all(self, paths: Iterable[Path] = (), since: stats.ConfigVersions | None = None) -> str:
        """Wait until Envoy has applied all documents. Returns empty, or why it refused one of `paths` after `since`.

        Waits no longer than `APPLIED_WITHIN_S`.
        """
        paths = set(paths)
        ask = not paths or self._has_files(paths)  # statistics of many clusters take long to read
        give_up = self._clock.monotonic() + APPLIED_WITHIN_S
        pause_s = 0.001
        while self._clock.monotonic() < give_up:
            with contextlib.suppress(Unavailable):
                applied = await stats.versions(self._layout.admin_socket) if ask else None
                behind = self.behind(applied)
                if self._layout.listeners in behind:
                    # The port is in use: the edge tries again, and until then Envoy does not read routes.
                    behind -= {self._layout.listeners, self._layout.routes}
                unrequested = self._expects_requests and not self._discovery.subscribed
                if not behind and not unrequested and not (applied and applied.warming):
                    return ""
                if reason := self._refusal(behind & paths, since, applied):
                    return reason
            await self._clock.sleep(pause_s)
            pause_s = min(pause_s * 2, 0.05)
        return ""

    def behind(self, applied: stats.ConfigVersions | None) -> set[Path]:
        """Documents that Envoy has not applied: files, by the versions in `applied`, and subscribed replicas."""
        found = {self._layout.endpoints(cluster) for cluster in self._discovery.behind}
        for path, name in self._names.items():
            if applied and path in self._versions and self._versions[path] != applied.taken.get(name, ""):
                found.add(path)
        return found

    def _has_files(self, paths: Iterable[Path]) -> bool:
        """Whether any of these is a file that Envoy follows."""
        return any(path in self._names for path in paths)

    def _refusal(
        self, behind: Iterable[Path], since: stats.ConfigVersions | None, applied: stats.ConfigVersions | None
    ) -> str:
        """Why one of these was refused after `since`; empty: none was."""
        before = since.refused if since and applied and since.run == applied.run else {}
        for path in behind:
            if name := self._names.get(path):
                if applied and applied.refused.get(name, 0) > before.get(name, 0):
                    return self._process.refusal() or _NO_REASON
            else:
                version, reason = self._discovery.refused.get(path.stem, ("", ""))
                if version == self._versions.get(path):
                    return reason
        return ""

    async def _applied(self) -> stats.ConfigVersions | None:
        """The versions that Envoy has applied; None while it is starting."""
        try:
            return await stats.versions(self._layout.admin_socket)
        except Unavailable:
            return None
