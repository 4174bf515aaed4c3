"""The API as one ASGI app. It decides nothing: it writes specs into the store and reads the resulting status.

    UnknownPaths       suggestions                                paths of no deployment, from the edge
    ResponseGuard      request id, host, origin, headers            every response
      AuthorizedRoute  right, scope, existence, query, body limit   every route, before its body is read
        handler        checks, one write with compare-and-set, one event

The app gets an open store and does not close it; its lifespan keeps the snapshot that all routes read up to date.
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
    attempts,
    audit_log,
    cloud_admin,
    cloud_datasets,
    cloud_owners,
    clouds,
    dataset_pushes,
    dataset_versions,
    dataset_views,
    datasets,
    decisions,
    deployments,
    events,
    garbage,
    jobs,
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
from kaon.api.unknown_paths import UnknownPaths
from kaon.api.uploads import router as upload_routes
from kaon.api.uploads import uploads_of
from kaon.clock import Clock
from kaon.errors import KaonError
from kaon.login_throttle import LoginThrottle
from kaon.settings import Settings
from kaon.store.live_status import LiveStatus
from kaon.store.port import Blobs, Store
from kaon.store.snapshot import Snapshot
from kaon.store.traffic import TrafficRing
from kaon.store.uploads import Uploads
from kaon.types.kinds import KINDS
from kaon.version import __version__

COLLECTIONS = {
    module.collection.kind.name: module.collection
    for module in (artifacts, clouds, deployments, events, jobs, keys, replicas, rollouts, secret_values, workspaces)
} | {each.kind.name: each for each in (dataset_views.collection, dataset_views.versions_collection)}
"""The collections of the kinds that need more than their declaration."""


def routes() -> list[AuthorizedRoute]:
    """Every route: those of all kinds, then those of their own modules and of the platform."""
    found = [
        route for kind in KINDS.values() for route in routes_of(COLLECTIONS.get(kind.name) or Collection(kind=kind))
    ]
    special = (platform, workspaces, artifacts, deployments, decisions, rollouts, owners, replicas, events, audit_log)
    work = (jobs, attempts)
    for module in (*special, *work, keys, secret_values, clouds, cloud_admin, stats, tuning, advice, metrics, garbage):
        found += module.router
    return [
        *found,
        *upload_routes,
        *datasets.router,
        *dataset_pushes.router,
        *dataset_versions.router,
        *cloud_datasets.router,
        *cloud_owners.router,
    ]


ROUTES = routes()
"""Every route."""
_document = cache(partial(document, ROUTES))
"""Made once, on the first request for it."""


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
    uploads: Uploads | None = None,
) -> FastAPI:
    """The API over an open store. What agents post goes into `traffic`; controllers write `live_status`.

    A given `snapshot` is kept up to date by the caller; without one, or without `uploads`, the app makes its own.
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
    uploads = uploads or uploads_of(settings, clock)
    shared = ring, live_status or LiveStatus(), Meters(ring, clock), plans, Intake(snapshot, plans), recent
    app.state.context = ApiContext(
        store,
        blobs,
        uploads or uploads_of(settings, clock),
        vault,
        settings,
        clock,
        snapshot,
        keyring,
        Broker(),
        *shared,
    )
    app.state.refusals = RefusedAttempts(store, clock)
    app.state.authorizer = Authorizer(snapshot, keyring, LoginThrottle(clock))
    app.openapi = _document  # type: ignore[method-assign]
    app.add_middleware(ResponseGuard, settings=settings)
    app.add_middleware(UnknownPaths, authorizer=app.state.authorizer, snapshot=snapshot)
    return app
