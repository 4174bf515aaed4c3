"""The configuration that Envoy starts with. Pure."""

from __future__ import annotations

from pathlib import Path

from kaon.edge.layout import Layout
from kaon.edge.resources.limits import BUFFER_BYTES, CONNECTIONS_MAX, HEAP_MAX_BYTES, PATTERN_MAX
from kaon.edge.resources.upstream import breakers, http1_upstream, http2_upstream
from kaon.edge.resources.wire import ENDPOINTS_CLUSTER, V3, Json, address, followed, stream
from kaon.types.traffic import LATENCY_BOUNDS_S

API_CLUSTER = "kaon-api"
LATENCY = "upstream_rq_time"
"""Envoy's histogram of the times to a replica's answer."""
_ABOVE_ALL_MS = 1e9


def bootstrap(layout: Layout, api_socket: Path, connections: int = CONNECTIONS_MAX) -> Json:
    """The configuration that Envoy starts with: paths of its files, its admin socket, and its overload protection.

    `connections` is how many clients it may hold open at once.
    """
    return {
        "node": {"id": "edge", "cluster": "kaon"},
        "admin": {"address": address(f"unix:{layout.admin_socket}", mode=0o600)},
        "dynamic_resources": {
            "lds_config": followed(layout.listeners),
            "cds_config": followed(layout.clusters),
            "ads_config": stream(),
        },
        "static_resources": {
            "clusters": [
                _socket_cluster(API_CLUSTER, api_socket, http1_upstream()),
                _socket_cluster(ENDPOINTS_CLUSTER, layout.endpoints_socket, http2_upstream()),
            ]
        },
        # Histograms are merged every second, not every five.
        "stats_flush_interval": "1s",
        "stats_config": latency_buckets(),
        "overload_manager": _overload(connections),
        # Patterns of paths may be as large as the longest path that a table takes.
        # A client that opens and resets streams is disconnected after half of 200 were premature.
        "layered_runtime": {
            "layers": [
                {
                    "name": "limits",
                    "static_layer": {
                        "http.max_requests_per_io_cycle": 16,
                        "overload.premature_reset_total_stream_count": 200,
                        "re2.max_program_size.error_level": PATTERN_MAX,
                        "re2.max_program_size.warn_level": PATTERN_MAX,
                    },
                }
            ]
        },
    }


def latency_buckets() -> Json:
    """Latencies in the buckets of `kaon.types.traffic`, and one above them.

    Envoy measures in whole milliseconds, rounded down. A bound of 1 ms is therefore given to it as 0.5: what took
    0.9 ms is a 0 to Envoy, and what took 1.1 ms a 1.
    """
    bounds_ms = [bound * 1000 - 0.5 for bound in LATENCY_BOUNDS_S]
    return {
        "histogram_bucket_settings": [{"match": {"suffix": LATENCY}, "buckets": [*bounds_ms, _ABOVE_ALL_MS]}],
    }


def _overload(connections: int) -> Json:
    monitors = f"{V3}.extensions.resource_monitors"

    def above(share: float) -> list[Json]:
        return [{"name": "envoy.resource_monitors.fixed_heap", "threshold": {"value": share}}]

    return {
        "refresh_interval": "0.25s",
        "resource_monitors": [
            {
                "name": "envoy.resource_monitors.fixed_heap",
                "typed_config": {
                    "@type": f"{monitors}.fixed_heap.v3.FixedHeapConfig",
                    "max_heap_size_bytes": HEAP_MAX_BYTES,
                },
            },
            {
                "name": "envoy.resource_monitors.global_downstream_max_connections",
                "typed_config": {
                    "@type": f"{monitors}.downstream_connections.v3.DownstreamConnectionsConfig",
                    "max_active_downstream_connections": connections,
                },
            },
        ],
        "actions": [
            _shorter_timeouts(),
            {"name": "envoy.overload_actions.shrink_heap", "triggers": above(0.85)},
            {"name": "envoy.overload_actions.disable_http_keepalive", "triggers": above(0.9)},
            {"name": "envoy.overload_actions.stop_accepting_requests", "triggers": above(0.95)},
        ],
    }


def _shorter_timeouts() -> Json:
    """With more connections idle ones are closed sooner, so that a client with many does not exclude others."""
    shorter = [
        {"timer": "HTTP_DOWNSTREAM_CONNECTION_IDLE", "min_timeout": "1s"},
    ]
    return {
        "name": "envoy.overload_actions.reduce_timeouts",
        "triggers": [
            {
                "name": "envoy.resource_monitors.global_downstream_max_connections",
                "scaled": {"scaling_threshold": 0.5, "saturation_threshold": 0.9},
            }
        ],
        "typed_config": {
            "@type": f"{V3}.config.overload.v3.ScaleTimersOverloadActionConfig",
            "timer_scale_factors": shorter,
        },
    }


def _socket_cluster(name: str, socket: Path, protocol: Json) -> Json:
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "per_connection_buffer_limit_bytes": BUFFER_BYTES,
        "circuit_breakers": breakers(),
        "typed_extension_protocol_options": protocol,
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(f"unix:{socket}")}}]}],
        },
    }
