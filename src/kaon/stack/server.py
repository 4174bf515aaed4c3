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
    live_status = LiveStatus()  # filled by the controllers, read by the API
    vault, blobs = Vault(load_key(settings)), FileBlobs(folder / "blobs")
    uploads = uploads_of(settings, clock)
    audit = AuditRetention(records=settings.audit_records, age_s=settings.audit_days * 86_400.0)
    store = open_store(settings.database, clock, audit)
    await store.open()
    try:
        await prepare_until_done(store, settings)
        epoch = await store.advance_epoch()  # from here on controllers of an earlier server cannot write
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
        # No proxy_headers: the API itself reads the caller's address from the edge's header.
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
    """Make Python search for unreachable objects less often.

    The snapshot, the traffic and the states of the laws are hundreds of thousands of long-lived objects without cycles.
    A search through all of them stops everything for 0.1 s or more, and would be frequent, as each tick replaces many.
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
    """Answer on `path`: bound under another name and renamed, so that an existing socket always answers."""
    new = path.with_suffix(".new")
    new.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listening.bind(str(new))
    listening.listen(1024)
    os.chmod(new, 0o600)
    new.rename(path)
    serving = asyncio.ensure_future(server.serve(sockets=[listening]))
    try:
        await asyncio.shield(serving)
    except asyncio.CancelledError:
        # Agents and log readers have long calls open; ending these now is no error.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        server.should_exit = True
        await serving
        raise
