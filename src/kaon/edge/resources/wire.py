"""Parts that Envoy's resources share. Pure."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from kaon.types.model import Address

Json = dict[str, Any]

V3 = "type.googleapis.com/envoy"

ENDPOINTS_CLUSTER = "kaon-endpoints"
"""The cluster by which Envoy reaches the agent, which sends it the replicas of each cluster."""
_FIRST_ANSWER_S = 3
"""How long a cluster waits for its replicas before it is used without."""


def address(given: Address, mode: int | None = None) -> Json:
    """An address in Envoy's form; `mode` is for a socket that Envoy makes."""
    if given.startswith("unix:"):
        return {"pipe": {"path": given.removeprefix("unix:")} | ({"mode": mode} if mode else {})}
    host, _, port = given.rpartition(":")
    return {"socket_address": {"address": host.strip("[]"), "port_value": int(port)}}


def address_of(document: Json) -> Address:
    """An address in Envoy's form as an `Address`."""
    if pipe := document.get("pipe"):
        return f"unix:{pipe['path']}"
    host, port = document["socket_address"]["address"], document["socket_address"]["port_value"]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def followed(path: Path) -> Json:
    """A file that Envoy reads again whenever it is replaced by a rename."""
    return {"path_config_source": {"path": str(path)}, "resource_api_version": "V3"}


def streamed() -> Json:
    """Endpoints from the agent; see `kaon.edge.discovery`."""
    return {"ads": {}, "initial_fetch_timeout": f"{_FIRST_ANSWER_S}s", "resource_api_version": "V3"}


def stream() -> Json:
    """The connection of Envoy to the agent, which is opened again soon after it was lost."""
    again = {"retry_back_off": {"base_interval": "0.05s", "max_interval": "0.5s"}}
    return {
        "api_type": "GRPC",
        "transport_api_version": "V3",
        "set_node_on_first_message_only": True,
        "grpc_services": [{"envoy_grpc": {"cluster_name": ENDPOINTS_CLUSTER, "retry_policy": again}}],
    }


def response(resources: list[Json]) -> Json:
    """A discovery response. Its version names its content: Envoy reports by it what it has applied."""
    text = json.dumps(resources, sort_keys=True)
    return {"version_info": hashlib.sha256(text.encode()).hexdigest()[:16], "resources": resources}


def seconds(amount: float) -> str:
    """A protobuf duration: at most nine decimals, never an exponent."""
    return f"{amount:.6f}s"
