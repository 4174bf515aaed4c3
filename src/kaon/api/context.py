"""The services that routes use, created once and reached through the request."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Protocol

from fastapi import Depends, Path
from starlette.requests import Request

from kaon.api.broker import Broker
from kaon.api.held_manifests import HeldManifests
from kaon.api.intake import Intake
from kaon.api.keyring import Caller, Keyring
from kaon.api.meters import Meters
from kaon.api.plans import Plans
from kaon.api.recent import RecentChanges
from kaon.api.stream_limits import StreamLimits
from kaon.clock import Clock
from kaon.settings import Settings
from kaon.store.job_news import JobNews
from kaon.store.live_status import LiveStatus
from kaon.store.port import Blobs, Store
from kaon.store.snapshot import Snapshot
from kaon.store.traffic import TrafficRing
from kaon.store.uploads import Uploads
from kaon.types.model import Name
from kaon.types.secret import SecretSpec


class SecretVault(Protocol):
    """Encrypts secrets, each bound to its workspace and name."""

    def seal(self, workspace: str, name: str, text: str) -> SecretSpec:
        """The text, encrypted."""
        ...

    def open(self, workspace: str, name: str, spec: SecretSpec) -> str:
        """The decrypted text. Raises `KaonError` when it was encrypted for another place or with another key."""
        ...


@dataclass(frozen=True, slots=True)
class ApiContext:
    """The services that a route may use."""

    store: Store
    """For writes, and for the reads that writes are based on."""
    blobs: Blobs
    uploads: Uploads
    """Files on their way to `blobs`."""
    vault: SecretVault
    settings: Settings
    clock: Clock
    snapshot: Snapshot
    """For all other reads. It has everything that was written before the request."""
    keyring: Keyring
    broker: Broker
    traffic: TrafficRing
    live_status: LiveStatus
    meters: Meters
    plans: Plans
    intake: Intake
    recent: RecentChanges
    job_news: JobNews = field(default_factory=JobNews)
    streams: StreamLimits = field(default_factory=StreamLimits)
    pushes: HeldManifests = field(default_factory=HeldManifests)
    """Of versions that are being uploaded. A server that has started anew is sent the manifest again."""
    manifests: HeldManifests = field(default_factory=HeldManifests)
    """That were read last."""


async def _context(request: Request) -> ApiContext:
    context: ApiContext = request.app.state.context
    return context


async def _caller(request: Request) -> Caller:
    caller: Caller = request.state.caller
    return caller


WithContext = Annotated[ApiContext, Depends(_context)]
WithCaller = Annotated[Caller, Depends(_caller)]
WorkspaceParam = Annotated[Name, Path(alias="ws", description="The workspace's name.")]
DeploymentParam = Annotated[Name, Path(alias="deployment", description="The deployment's name.")]
CloudParam = Annotated[Name, Path(alias="cloud", description="The cloud's name.")]
Named = Annotated[Name, Path(alias="name")]
