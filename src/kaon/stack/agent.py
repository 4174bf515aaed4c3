"""The role `agent`: replicas as processes of this machine, and the edge before them."""

from __future__ import annotations

import asyncio

from kaon.agent.act.waking import Waking
from kaon.agent.act.workloads import ControlTokens
from kaon.agent.agent import Agent
from kaon.agent.control_plane import ControlPlaneClient
from kaon.agent.dataset_source import DatasetSource
from kaon.agent.observe.probes import ControlSockets
from kaon.agent.traffic.observer import Observer
from kaon.build.limits import limits_of
from kaon.clock import Clock
from kaon.datasets.cache import DatasetCache
from kaon.drivers.process import ProcessDriver
from kaon.drivers.process.pruning import KeptOnDisk
from kaon.edge import Edge
from kaon.settings import Settings
from kaon.stack.boot import agent_key_file

_LOOK_S = 0.02
_SERVER_S = 3.0
_SOCKET_URL = "http://kaon.local"


async def serve(settings: Settings, clock: Clock) -> None:
    """Serve until cancelled. Replicas and edge keep running afterwards."""
    folder = settings.home.absolute() / "agent"
    edge = Edge(settings, clock)
    async with asyncio.TaskGroup() as group:
        group.create_task(edge.run())
        key = await _key(settings, clock)
        await _server_begun(settings, clock)
        async with ControlPlaneClient(
            _SOCKET_URL, key, settings.cloud, folder / "downloads", socket=settings.api_socket
        ) as link:
            keep = KeptOnDisk(settings.keep_unpacked, logs_s=settings.keep_logs_s)
            source = DatasetSource(_SOCKET_URL, key, settings.cloud, socket=settings.api_socket)
            datasets = DatasetCache(folder / "datasets", source)
            driver = ProcessDriver(
                folder,
                settings.run_dir,
                link.artifact,
                clock,
                keep=keep,
                datasets=datasets,
                limits=limits_of(settings),
                owners=link.owners,
            )
            try:
                waking = Waking(edge.layout, clock)
                tokens = ControlTokens.kept_in(folder / "control.key", driver.capabilities().addresses)
                sockets = ControlSockets(tokens.at)
                observer = Observer(
                    settings.cloud,
                    link,
                    edge,
                    clock,
                    replicas=sockets,
                    held=lambda: waking.held,
                    turned_away=lambda: waking.turned_away,
                )
                agent = Agent(
                    settings.cloud,
                    link,
                    driver,
                    edge,
                    clock,
                    folder,
                    settings.url,
                    holding=waking,
                    watching=observer,
                    attempts=link,
                    tokens=tokens,
                )
                await agent.run()
            finally:
                await driver.close()
                source.close()


async def _server_begun(settings: Settings, clock: Clock) -> None:
    """Wait a moment for a server that is starting, so that the first replicas get their secrets."""
    give_up = clock.monotonic() + _SERVER_S
    while not settings.api_socket.exists() and clock.monotonic() < give_up:
        await clock.sleep(_LOOK_S)


async def _key(settings: Settings, clock: Clock) -> str:
    """The agent's key, which the server makes at its first start."""
    while not agent_key_file(settings).exists():
        await clock.sleep(_LOOK_S)
    return agent_key_file(settings).read_text().strip()
