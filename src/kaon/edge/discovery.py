"""The replicas of each cluster, sent to Envoy on one gRPC stream over a unix socket.

One stream serves any number of clusters: a file for each would take an inotify instance for each, of which a user has
128 (decision 9 has the alternatives that were tried). Envoy subscribes to clusters; each answer holds the replicas of
some, and Envoy confirms it, or refuses it with a reason. So the agent has the version in force of every cluster.

Envoy keeps its replicas while no agent runs, and connects again within half a second once one does. Requests for
clusters without a document here are not answered, so that an agent which has lost its files removes nothing.

When the definition of a cluster changes, Envoy makes it anew and waits for its replicas, though it had them: it
requests the same clusters again, and is answered with all of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from kaon.edge import messages
from kaon.edge.http2 import GrpcStream
from kaon.edge.messages import DiscoveryRequest
from kaon.edge.resources import Json

ClusterVersions = dict[str, str]
"""Cluster -> version of its replicas."""


@dataclass(slots=True)
class SentEndpoints:
    """What was sent on one stream, and Envoy's replies. Pure: `answer` and `changed` return what to send."""

    documents: dict[str, Json]
    """Of all clusters, shared by all streams."""
    subscribed: frozenset[str] | None = None
    """The clusters that Envoy subscribes to; None: it has sent no request yet."""
    taken: ClusterVersions = field(default_factory=dict)
    refused: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Cluster -> the version that Envoy refused, and why."""
    _open: dict[str, ClusterVersions] = field(default_factory=dict)
    """Nonce -> what was sent with it and is neither confirmed nor refused."""
    _nonces: itertools.count[int] = field(default_factory=itertools.count)

    def answer(self, request: DiscoveryRequest) -> list[bytes]:
        """What to send upon a request."""
        if request.type_url != messages.ENDPOINTS:
            return []
        confirmed = request.nonce in self._open
        again = self._confirm(request) if confirmed else []
        before, self.subscribed = self.subscribed, request.clusters
        for cluster in (before or frozenset()) - request.clusters:
            self.taken.pop(cluster, None)
            self.refused.pop(cluster, None)
        new = request.clusters - (before or frozenset())
        if not confirmed and before == request.clusters:
            new = request.clusters
        return [*self._send(new), *(text for cluster in again for text in self._send([cluster]))]

    def changed(self, clusters: Iterable[str]) -> list[bytes]:
        """What to send when the replicas of some clusters have changed."""
        return self._send(cluster for cluster in clusters if self.subscribed and cluster in self.subscribed)

    def _confirm(self, request: DiscoveryRequest) -> list[str]:
        """Record the reply to an answer; returns the clusters to send again, one by one, to find the refused one."""
        sent: ClusterVersions = {}
        for nonce in list(self._open):
            sent = self._open.pop(nonce)
            if nonce == request.nonce:
                break
            self.taken |= sent  # Envoy reads in order, and has read a later one
        if not request.refusal:
            self.taken |= sent
            for cluster in sent:
                self.refused.pop(cluster, None)
        elif len(sent) > 1:
            return sorted(sent)
        else:
            self.refused |= {cluster: (version, request.refusal) for cluster, version in sent.items()}
        return []

    def _send(self, clusters: Iterable[str]) -> list[bytes]:
        found = {cluster: self.documents[cluster] for cluster in clusters if cluster in self.documents}
        if not found:
            return []
        nonce = str(next(self._nonces))
        self._open[nonce] = {cluster: document["version_info"] for cluster, document in found.items()}
        return [messages.response(nonce, found.values())]


class Discovery:
    """The server. For one event loop."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._documents: dict[str, Json] = {}
        self._streams: set[_Stream] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen on the socket, which only its owner may open. Idempotent. Raises OSError."""
        if self._server is not None:
            return
        with contextlib.suppress(FileNotFoundError):
            self._socket.unlink()
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(lambda: _Stream(self._documents, self._streams), str(self._socket))
        os.chmod(self._socket, 0o600)

    def close(self) -> None:
        """Close all streams. Idempotent."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for stream in list(self._streams):
            stream.abort()

    def put(self, documents: dict[str, Json]) -> None:
        """Set the replicas of these clusters."""
        self._documents |= documents
        for stream in self._streams:
            stream.changed(documents)

    def forget(self, cluster: str) -> None:
        """Remove a cluster."""
        self._documents.pop(cluster, None)

    @property
    def subscribed(self) -> bool:
        """Whether Envoy is connected and has subscribed to clusters."""
        return any(stream.sent.subscribed is not None for stream in self._streams)

    @property
    def behind(self) -> set[str]:
        """Clusters that Envoy has subscribed to, but whose version it has not confirmed."""
        return {
            cluster
            for stream in self._streams
            for cluster in stream.sent.subscribed or ()
            if (document := self._documents.get(cluster)) and stream.sent.taken.get(cluster) != document["version_info"]
        }

    @property
    def refused(self) -> dict[str, tuple[str, str]]:
        """Cluster -> the version that Envoy refused last, and why."""
        return {cluster: why for stream in self._streams for cluster, why in stream.sent.refused.items()}


class _Stream(asyncio.Protocol):
    """One connection of Envoy."""

    def __init__(self, documents: dict[str, Json], streams: set[_Stream]) -> None:
        self.sent = SentEndpoints(documents)
        self._streams = streams
        self._grpc = GrpcStream()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its type
        self._streams.add(self)

    def data_received(self, data: bytes) -> None:
        stream = self._grpc.stream
        try:
            requests = [messages.request(message) for message in self._grpc.receive(data)]
        except ValueError:
            self.abort()
            return
        if self._grpc.stream != stream:  # Envoy begins anew
            self.sent = SentEndpoints(self.sent.documents)
        for request in requests:
            self._send(self.sent.answer(request))
        self._send([])

    def connection_lost(self, exc: Exception | None) -> None:
        self._streams.discard(self)

    def changed(self, clusters: Iterable[str]) -> None:
        """Send the replicas of clusters that have changed."""
        self._send(self.sent.changed(clusters))

    def abort(self) -> None:
        """Cut the connection."""
        if self._transport is not None:
            self._transport.abort()

    def _send(self, texts: Iterable[bytes]) -> None:
        for text in texts:
            self._grpc.send(text)
        if self._transport is not None and (out := self._grpc.to_send()):
            self._transport.write(out)
