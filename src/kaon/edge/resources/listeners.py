"""Where clients come in, and the limits that they meet. Pure."""

from __future__ import annotations

from kaon.edge.layout import Layout
from kaon.edge.problems import LOCAL_REPLIES
from kaon.edge.resources.limits import BUFFER_BYTES, HEADERS_MAX_KB, HEADERS_WITHIN_S, IDLE_S, REQUEST_WITHIN_S
from kaon.edge.resources.routes import ROUTES
from kaon.edge.resources.wire import V3, Json, address, followed, response


def listeners(layout: Layout, host: str, port: int) -> Json:
    """Where clients come in. The routes are files of their own, so that this one rests."""
    return response(
        [
            {
                "@type": f"{V3}.config.listener.v3.Listener",
                "name": "edge",
                "address": address(f"[{host}]:{port}" if ":" in host else f"{host}:{port}"),
                # Two processes must never share the port unseen.
                "enable_reuse_port": False,
                # Of many callers at once the first one's call is read before the last one is let in: it may have to
                # wake a service for all of them.
                "max_connections_to_accept_per_socket_event": 4,
                "per_connection_buffer_limit_bytes": BUFFER_BYTES,
                "filter_chains": [
                    {
                        "filters": [
                            {
                                "name": "envoy.filters.network.http_connection_manager",
                                "typed_config": _connection_manager(layout),
                            }
                        ]
                    }
                ],
            }
        ]
    )


def _connection_manager(layout: Layout) -> Json:
    return {
        "@type": f"{V3}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "edge",
        "rds": {"route_config_name": ROUTES, "config_source": followed(layout.routes)},
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {
                    "@type": f"{V3}.extensions.filters.http.router.v3.Router",
                    "suppress_envoy_headers": True,
                },
            }
        ],
        "upgrade_configs": [{"upgrade_type": "websocket"}],
        "local_reply_config": LOCAL_REPLIES,
        # Who calls. The peer's address counts, and no client is trusted with Envoy's own headers, not even on loopback.
        "use_remote_address": True,
        "internal_address_config": {"cidr_ranges": [{"address_prefix": "255.255.255.255", "prefix_len": 32}]},
        "server_header_transformation": "PASS_THROUGH",
        "preserve_external_request_id": True,
        "always_set_request_id_in_response": True,
        "early_header_mutation_extensions": [_shortened_request_id()],
        # What a path is: one reading, here and in the replica.
        "normalize_path": True,
        "merge_slashes": True,
        "path_with_escaped_slashes_action": "REJECT_REQUEST",
        # How long a client may take.
        "request_headers_timeout": f"{HEADERS_WITHIN_S}s",
        "request_timeout": f"{REQUEST_WITHIN_S}s",
        "stream_idle_timeout": f"{IDLE_S}s",
        "drain_timeout": "5s",
        "delayed_close_timeout": "0.5s",
        "max_request_headers_kb": HEADERS_MAX_KB,
        "common_http_protocol_options": {
            "idle_timeout": f"{IDLE_S}s",
            "max_headers_count": 100,
            "headers_with_underscores_action": "REJECT_REQUEST",
        },
        "http2_protocol_options": {
            "max_concurrent_streams": 100,
            "initial_stream_window_size": 64 * 1024,
            "initial_connection_window_size": 1024 * 1024,
        },
    }


def _shortened_request_id() -> Json:
    """A caller's own id is kept for its first 64 characters; Envoy makes one where there is none."""
    return {
        "name": "envoy.http.early_header_mutation.header_mutation",
        "typed_config": {
            "@type": f"{V3}.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
            "mutations": [
                {
                    "append": {
                        "header": {"key": "x-request-id", "value": "%REQ(X-REQUEST-ID):64%"},
                        "append_action": "OVERWRITE_IF_EXISTS",
                    }
                }
            ],
        },
    }
