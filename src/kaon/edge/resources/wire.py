"""Words that all of Envoy's resources share. Pure."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from kaon.types.model import Address

Json = dict[str, Any]

V3 = "type.googleapis.com/envoy"


def address(said: Address, mode: int | None = None) -> Json:
    """An address in Envoy's words; `mode` is for a socket that Envoy makes."""
    if said.startswith("unix:"):
        return {"pipe": {"path": said.removeprefix("unix:")} | ({"mode": mode} if mode else {})}
    host, _, port = said.rpartition(":")
    return {"socket_address": {"address": host.strip("[]"), "port_value": int(port)}}


def address_of(said: Json) -> Address:
    """An address as Envoy says it, in ours."""
    if pipe := said.get("pipe"):
        return f"unix:{pipe['path']}"
    host, port = said["socket_address"]["address"], said["socket_address"]["port_value"]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def followed(path: Path) -> Json:
    """A file that Envoy reads again whenever another one is renamed into its place."""
    return {"path_config_source": {"path": str(path)}, "resource_api_version": "V3"}


def response(resources: list[Json]) -> Json:
    """A discovery response. Its version names its content: Envoy says by it what it has taken in."""
    text = json.dumps(resources, sort_keys=True)
    return {"version_info": hashlib.sha256(text.encode()).hexdigest()[:16], "resources": resources}


def seconds(amount: float) -> str:
    """A protobuf duration: at most nine decimals, never an exponent."""
    return f"{amount:.6f}s"
