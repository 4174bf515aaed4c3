"""The role `server`: store, controllers and API."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import uvicorn

from kaon.api.app import create_app
from kaon.api.uploads import uploads_of
from kaon.clock import Clock
from kaon.control import Controllers
from kaon.datasets.retention import DatasetCollector
from kaon.settings import Settings
from kaon.sim.search import ThreadedTwin
from kaon.stack.boot import prepare_until_done
from kaon.store import open_store
from kaon.store.blobs import FileBlobs
from kaon.store.epoch import under_epoch
from kaon.store.garbage import Collector, keep_of
from kaon.store.live_status import LiveStatus
from kaon.store.port import AuditRetention
from kaon.store.snapshot import Snapshot
from kaon.store.traffic import TrafficRing
from kaon.store.vault import Vault, load_key


async def serve(settings: Settings, clock: Clock) -> None:
    """Serve until cancelled."""
    folder = settings.home / "server"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    ring = TrafficRing()  # filled by the API, read by the controllers
    live_status = LiveStatus()  # the other way round
    vault, blobs = Vault(load_key(settings)), FileBlobs(folder / "blobs")
    uploads = uploads_of(settings, clock)
    audit = AuditRetention(records=settings.audit_records, age_s=settings.audit_days * 86_400.0)
    store = open_store(settings.database, clock, audit)
    await store.open()
    try:
        await prepare_until_done(store, settings)
        epoch = await store.advance_epoch()  # from here on the controllers of a server before this one write nothing
        collect_garbage_seldom()
        snapshot = Snapshot(store)
        app = create_app(
            store=store,
            blobs=blobs,
            vault=vault,
            settings=settings,
            clock=clock,
            traffic=ring,
            live_status=live_status,
            snapshot=snapshot,
            uploads=uploads,
        )
        # No proxy_headers: who calls is read from the edge's header by the API itself.
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            ws="none",
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=1,
        )
        server = _Server(config)
        controlled = under_epoch(store, epoch)
        controllers = Controllers(
            controlled,
            vault,
            clock,
            traffic=ring,
            live_status=live_status,
            twin=ThreadedTwin(),
            routes_bytes=settings.routes_bytes,
            snapshot=snapshot,
            collector=Collector(controlled, blobs, clock, keep_of(settings), uploads),
            datasets=DatasetCollector(controlled, snapshot, blobs, clock),
        )
        async with asyncio.TaskGroup() as group:
            group.create_task(snapshot.run())
            group.create_task(controllers.run())
            group.create_task(_listen(server, settings.api_socket))
    finally:
        await store.close()


def collect_garbage_seldom() -> None:
    """Look for unreachable objects less often than Python does by itself.

    The snapshot, the traffic and the laws' memories are hundreds of thousands of objects that live long and have no
    cycles. Going through all of them stops everything for 0.1 s and more, and comes often, as each tick replaces many.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


class _Server(uvicorn.Server):
    """A server that leaves signals to its role."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _listen(server: uvicorn.Server, path: Path) -> None:
    """Answer on `path`: bound beside it and renamed over the old one, so that a socket there always answers."""
    beside = path.with_suffix(".new")
    beside.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listening.bind(str(beside))
    listening.listen(1024)
    os.chmod(beside, 0o600)
    beside.rename(path)
    serving = asyncio.ensure_future(server.serve(sockets=[listening]))
    try:
        await asyncio.shield(serving)
    except asyncio.CancelledError:
        # Agents and log readers hang on calls that wait; that they are cut off now is no error.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        server.should_exit = True
        await serving
        raise
