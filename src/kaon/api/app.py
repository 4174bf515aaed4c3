"""The API as one ASGI app. It decides nothing: it writes wishes into the store and reads what came of them.

    Guard         request id, host, origin, headers            every answer
      Door        right, scope, existence, query, body limit   every route, before its body is read
        handler   checks, one write with compare-and-set, one event

The app is handed an open store and does not close it; its lifespan follows the snapshot that all routes read.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import cache, partial

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from kaon.api import (
    advice,
    artifacts,
    audit_log,
    cloud_admin,
    clouds,
    decisions,
    deployments,
    events,
    garbage,
    keys,
    metrics,
    owners,
    platform,
    replicas,
    rollouts,
    secret_values,
    stats,
    tuning,
    workspaces,
)
from kaon.api.authorizer import Authorizer
from kaon.api.broker import Broker
from kaon.api.collection import Collection
from kaon.api.context import ApiContext, SecretVault
from kaon.api.intake import Intake
from kaon.api.keyring import Keyring
from kaon.api.meters import Meters
from kaon.api.openapi import document
from kaon.api.plans import Plans
from kaon.api.problems import answer_framework, answer_kaon, answer_validation
from kaon.api.recent import RecentChanges
from kaon.api.refusals import RefusedAttempts
from kaon.api.resources import routes_of
from kaon.api.response_guard import ResponseGuard
from kaon.api.router import AuthorizedRoute
from kaon.clock import Clock
from kaon.errors import KaonError
from kaon.login_throttle import LoginThrottle
from kaon.settings import Settings
from kaon.store.live_status import LiveStatus
from kaon.store.port import Blobs, Store
from kaon.store.snapshot import Snapshot
from kaon.store.traffic import TrafficRing
from kaon.types.kinds import KINDS
from kaon.version import __version__

COLLECTIONS = {
    module.collection.kind.name: module.collection
    for module in (artifacts, clouds, deployments, events, keys, replicas, rollouts, secret_values, workspaces)
}
"""How the API reads the kinds of which more is to be said than their declaration."""


def routes() -> list[AuthorizedRoute]:
    """Every route there is: those of all kinds, then what is special of some, and of the platform."""
    found = [
        route for kind in KINDS.values() for route in routes_of(COLLECTIONS.get(kind.name) or Collection(kind=kind))
    ]
    special = (platform, workspaces, artifacts, deployments, decisions, rollouts, owners, replicas, events, audit_log)
    for module in (*special, keys, secret_values, clouds, cloud_admin, stats, tuning, advice, metrics, garbage):
        found += module.router
    return found


ROUTES = routes()
"""Every route there is."""
_document = cache(partial(document, ROUTES))
"""Made once, when somebody asks for it."""


def create_app(
    *,
    store: Store,
    blobs: Blobs,
    vault: SecretVault,
    settings: Settings,
    clock: Clock,
    traffic: TrafficRing | None = None,
    live_status: LiveStatus | None = None,
    snapshot: Snapshot | None = None,
) -> FastAPI:
    """The API over an open store; the traffic that agents post goes into `traffic`; `live_status` are the laws'.

    Without a `snapshot` of the store, which somebody else follows, it makes and follows one of its own.
    """
    follow = snapshot is None
    snapshot = snapshot or Snapshot(store)
    keyring, recent = Keyring(snapshot, clock), RecentChanges(snapshot)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        following = [asyncio.ensure_future(snapshot.run())] if follow else []
        try:
            with recent.following():
                yield
        finally:
            for task in following:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task

    app = FastAPI(
        title="Kaon",
        version=__version__,
        lifespan=lifespan,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        exception_handlers={
            KaonError: answer_kaon,
            HTTPException: answer_framework,
            RequestValidationError: answer_validation,
        },
    )
    app.router.route_class = AuthorizedRoute
    app.router.routes[:] = ROUTES
    ring = TrafficRing() if traffic is None else traffic
    plans = Plans(snapshot)
    shared = ring, live_status or LiveStatus(), Meters(ring, clock), plans, Intake(snapshot, plans), recent
    app.state.context = ApiContext(store, blobs, vault, settings, clock, snapshot, keyring, Broker(), *shared)
    app.state.refusals = RefusedAttempts(store, clock)
    app.state.authorizer = Authorizer(snapshot, keyring, LoginThrottle(clock))
    app.openapi = _document  # type: ignore[method-assign]
    app.add_middleware(ResponseGuard, settings=settings)
    return app
