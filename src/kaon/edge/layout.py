"""Paths of the edge's files and sockets."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Layout:
    """The edge's folder and sockets."""

    root: Path
    admin_socket: Path
    lock: Path

    @property
    def bootstrap(self) -> Path:
        """The configuration that Envoy starts with."""
        return self.root / "bootstrap.json"

    @property
    def log(self) -> Path:
        """Envoy's log."""
        return self.root / "envoy.log"

    @property
    def listeners(self) -> Path:
        """The addresses for clients."""
        return self.root / "listeners" / "edge.json"

    @property
    def routes(self) -> Path:
        """Path -> cluster."""
        return self.root / "routes" / "edge.json"

    @property
    def clusters(self) -> Path:
        """All clusters."""
        return self.root / "clusters" / "edge.json"

    @property
    def rules(self) -> Path:
        """The rules that the routes were made from, for the next agent."""
        return self.root / "rules.json"

    @property
    def activators(self) -> Path:
        """The folder of the sockets where calls are held for deployments that have no replica."""
        return self.admin_socket.parent / "held"

    def activator(self, workspace: str, deployment: str) -> Path:
        """The socket where one deployment's calls are held. Short, as a socket's path must be."""
        name = hashlib.sha256(f"{workspace}/{deployment}".encode()).hexdigest()[:12]
        return self.activators / f"{name}.sock"

    @property
    def endpoints_socket(self) -> Path:
        """The socket on which Envoy gets the replicas of its clusters."""
        return self.admin_socket.parent / "edge-endpoints.sock"

    def endpoints(self, cluster: str) -> Path:
        """The replicas of one cluster, as last sent to Envoy."""
        return self.root / "endpoints" / f"{cluster}.json"

    def cluster_of(self, path: Path) -> str | None:
        """The cluster whose replicas are in the file at `path`; None: it is another file."""
        return path.stem if path.parent == self.root / "endpoints" else None

    def all_endpoints(self) -> list[Path]:
        """The existing files of replicas; the stem of each is its cluster."""
        return sorted((self.root / "endpoints").glob("[!.]*.json"))
