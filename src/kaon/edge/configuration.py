"""The configuration of Envoy, and whether Envoy has applied it.

Listeners, routes and clusters are files that Envoy follows; replicas come on a stream (`kaon.edge.discovery`), and
their files are for the next agent. Each document has a version. Envoy's statistics have the versions of files in force;
on the stream Envoy confirms them itself.
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

TAKEN_IN_WITHIN_S = 3.0
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
        self._expects_questions = False
        """Whether there are clusters whose replicas Envoy has to ask for."""

    async def start(self) -> None:
        """Serve the stream. Idempotent. Raises OSError."""
        await self._discovery.start()

    def close(self) -> None:
        """Stop the stream; Envoy goes on with what it has."""
        self._discovery.close()

    def put(self, documents: Mapping[Path, Json]) -> None:
        """Let these documents be in force, without waiting."""
        sent: dict[str, Json] = {}
        for path, document in documents.items():
            files.put(path, document)
            self._versions[path] = document["version_info"]
            if cluster := self._layout.cluster_of(path):
                sent[cluster] = document
            if path == self._layout.clusters:
                self._expects_questions = any(cluster.get("type") == "EDS" for cluster in document["resources"])
        self._discovery.put(sent)

    def remove(self, path: Path) -> None:
        """Let there be no such document."""
        path.unlink(missing_ok=True)
        self._versions.pop(path, None)
        if cluster := self._layout.cluster_of(path):
            self._discovery.forget(cluster)

    def has(self, path: Path) -> bool:
        """Whether there is such a document."""
        return path in self._versions

    async def take(self, step: Mapping[Path, Json]) -> str:
        """Tell some documents, and wait until Envoy works by them; empty.

        When it refuses one: the reason; the old ones are sent again.
        """
        new = {path: sent for path, sent in step.items() if self._versions.get(path) != sent["version_info"]}
        if not new:
            return ""
        before = {path: files.get(path) for path in new}
        since = await self._seen() if self._has_files(new) else None
        self.put(new)
        reason = await self.taken_in(new, since)
        if reason:
            _log.error("edge refused documents", files=[path.name for path in new][:10], reason=reason)
            self.put({path: old for path, old in before.items() if old})
            for path in [path for path, old in before.items() if not old]:
                self.remove(path)
        return reason

    async def taken_in(self, paths: Iterable[Path] = (), since: stats.ConfigVersions | None = None) -> str:
        """Wait until Envoy works by all documents; empty. The reason when it has refused one of `paths` since then.

        One that is slow is not waited for.
        """
        paths = set(paths)
        ask = not paths or self._has_files(paths)  # statistics of many clusters take long to read
        give_up = self._clock.monotonic() + TAKEN_IN_WITHIN_S
        pause_s = 0.001
        while self._clock.monotonic() < give_up:
            with contextlib.suppress(Unavailable):
                seen = await stats.versions(self._layout.admin_socket) if ask else None
                behind = self.behind(seen)
                if self._layout.listeners in behind:
                    # The port is taken: the edge tries again, and routes are not read until then.
                    behind -= {self._layout.listeners, self._layout.routes}
                unasked = self._expects_questions and not self._discovery.asked
                if not behind and not unasked and not (seen and seen.warming):
                    return ""
                if reason := self._refusal(behind & paths, since, seen):
                    return reason
            await self._clock.sleep(pause_s)
            pause_s = min(pause_s * 2, 0.05)
        return ""

    def behind(self, seen: stats.ConfigVersions | None) -> set[Path]:
        """Documents that Envoy has not taken in: files, if it is known what it has seen of them, and replicas, once it
        has asked for them."""
        found = {self._layout.endpoints(cluster) for cluster in self._discovery.behind}
        for path, name in self._names.items():
            if seen and path in self._versions and self._versions[path] != seen.taken.get(name, ""):
                found.add(path)
        return found

    def _has_files(self, paths: Iterable[Path]) -> bool:
        """Whether any of these is a file that Envoy follows."""
        return any(path in self._names for path in paths)

    def _refusal(
        self, behind: Iterable[Path], since: stats.ConfigVersions | None, seen: stats.ConfigVersions | None
    ) -> str:
        """Why one of these has been refused since then; empty: none was."""
        before = since.refused if since and seen and since.run == seen.run else {}
        for path in behind:
            if name := self._names.get(path):
                if seen and seen.refused.get(name, 0) > before.get(name, 0):
                    return self._process.refusal() or _NO_REASON
            else:
                version, why = self._discovery.refused.get(path.stem, ("", ""))
                if version == self._versions.get(path):
                    return why
        return ""

    async def _seen(self) -> stats.ConfigVersions | None:
        """How Envoy is now; None while it is only starting."""
        try:
            return await stats.versions(self._layout.admin_socket)
        except Unavailable:
            return None
