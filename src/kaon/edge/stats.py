"""Envoy's statistics, read over its admin socket."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path

import httptools

from kaon.edge.resources import address_of
from kaon.errors import Unavailable
from kaon.types.model import Address

_TIMEOUT_S = 2.0


LISTENERS, ROUTES, CLUSTERS = "listener_manager.lds", "http.edge.rds.edge", "cluster_manager.cds"
"""Envoy's names for the three files that it follows."""


@dataclass(frozen=True, slots=True)
class ConfigVersions:
    """The versions of files that Envoy has applied and refused, by Envoy's names for the files."""

    run: int
    """Identifies the process of Envoy; another one counts from zero."""
    taken: dict[str, str]
    """File -> its version in force."""
    refused: dict[str, int]
    """File -> how many versions of it were refused in this run."""
    warming: bool
    """Whether it is still starting, or a cluster or listener is not ready."""


async def versions(admin: Path) -> ConfigVersions:
    """The versions of files that Envoy has applied. Raises `Unavailable` when it does not answer."""
    names = r"version_text|update_rejected|update_failure|warming_clusters|total_listeners_warming|workers_started"
    text = await ask(admin, "GET", f"/stats?filter=^(listener_manager|cluster_manager|http).*({names})$")
    found = dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)
    refused: dict[str, int] = {}
    for name, value in found.items():
        document, _, what = name.rpartition(".")
        if what in ("update_rejected", "update_failure"):
            refused[document] = refused.get(document, 0) + int(value)
    return ConfigVersions(
        run=run(admin),
        taken={
            name.removesuffix(".version_text"): value.strip('"')
            for name, value in found.items()
            if name.endswith(".version_text")
        },
        refused=refused,
        warming=found.get("listener_manager.workers_started") != "1"
        or found.get("cluster_manager.warming_clusters") != "0"
        or found.get("listener_manager.total_listeners_warming") != "0",
    )


def run(admin: Path) -> int:
    """Identifies the process of Envoy, by its socket. Raises `Unavailable` when there is none."""
    try:
        return admin.stat().st_ctime_ns
    except OSError as e:
        raise Unavailable("The edge has just ended.") from e


async def active(admin: Path) -> dict[Address, int]:
    """Open requests by replica's address. Raises `Unavailable` when Envoy does not answer."""
    answer = json.loads(await ask(admin, "GET", "/clusters?format=json"))
    found: dict[Address, int] = {}
    for cluster in answer.get("cluster_statuses", []):
        for host in cluster.get("host_statuses", []):
            count = sum(int(stat.get("value", 0)) for stat in host["stats"] if stat["name"] == "rq_active")
            address = address_of(host["address"])
            found[address] = found.get(address, 0) + count
    return found


class _Answer:
    """Collects one response; httptools calls it."""

    def __init__(self) -> None:
        self.body = bytearray()
        self.complete = False

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.complete = True


async def ask(admin: Path, method: str, path: str) -> str:
    """One call of the admin interface; its body. Raises `Unavailable` when it fails or takes over 2 s."""
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            return await _ask(admin, method, path)
    except (OSError, TimeoutError, httptools.HttpParserError) as e:
        raise Unavailable("The edge does not answer.", hint="See edge/envoy.log.") from e


async def _ask(admin: Path, method: str, path: str) -> str:
    reader, writer = await asyncio.open_unix_connection(str(admin))
    try:
        writer.write(f"{method} {path} HTTP/1.1\r\nhost: edge\r\ncontent-length: 0\r\n\r\n".encode())
        answer = _Answer()
        parser = httptools.HttpResponseParser(answer)
        while not answer.complete:
            received = await reader.read(2**16)
            if not received:
                raise ConnectionResetError("cut off")
            parser.feed_data(received)
    finally:
        writer.close()
    if parser.get_status_code() != 200:
        raise Unavailable(f"The edge answered {parser.get_status_code()} to {path}.")
    return answer.body.decode()
