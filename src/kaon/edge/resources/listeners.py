"""The listeners for clients, and their limits. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kaon.edge.layout import Layout
from kaon.edge.problems import LOCAL_REPLIES
from kaon.edge.resources.limits import (
    BUFFER_BYTES,
    HEADERS_MAX_KB,
    HEADERS_WITHIN_S,
    IDLE_S,
    REQUEST_WITHIN_S,
    SILENT_S,
)
from kaon.edge.resources.routes import ROUTES
from kaon.edge.resources.wire import V3, Json, address, followed, response


@dataclass(frozen=True, slots=True)
class Proxies:
    """Proxies between clients and the edge whose headers about clients are trusted."""

    trusted: Sequence[str] = ()
    """Their networks. `x-forwarded-for`, `-proto` and `-host` of others are not trusted."""
    proxy_protocol: bool = False
    """Whether they begin connections by the PROXY protocol; then only they and this machine may connect."""


_NO_WEBSOCKET = "(?i)([^w]|w[^e]|we[^b]).*"
_THIS_MACHINE = ("127.0.0.0/8", "::1/128")
_FORWARDED = ["x-forwarded-host", "x-forwarded-port", "x-original-url", "x-rewrite-url"]


def listeners(layout: Layout, host: str, port: int, proxies: Proxies = Proxies()) -> Json:
    """The listeners for clients. The routes are separate files, so that this one seldom changes."""
    here = [network for network in _THIS_MACHINE if network not in proxies.trusted]
    chains = []
    if proxies.trusted:
        chains.append(_chain("proxies", _behind_proxies(layout, proxies.trusted), proxies.trusted))
    if here or not proxies.proxy_protocol:
        chains.append(_chain("clients", _strangers(layout), here if proxies.proxy_protocol else ()))
    return response(
        [
            {
                "@type": f"{V3}.config.listener.v3.Listener",
                "name": "edge",
                "address": address(f"[{host}]:{port}" if ":" in host else f"{host}:{port}"),
                # Two processes must never share the port unnoticed.
                "enable_reuse_port": False,
                # With many concurrent callers the first call is read before the last connection is accepted: it may
                # have to wake a service for all of them.
                "max_connections_to_accept_per_socket_event": 4,
                "per_connection_buffer_limit_bytes": BUFFER_BYTES,
                "listener_filters": _listener_filters(proxies),
                # A client that has sent nothing by then is disconnected.
                "listener_filters_timeout": f"{SILENT_S}s",
                "filter_chains": chains,
            }
        ]
    )


def _listener_filters(proxies: Proxies) -> list[Json]:
    """The last one waits for a client's first bytes, and so finds clients that send none."""
    filters = f"{V3}.extensions.filters.listener"
    inspector = {
        "name": "envoy.filters.listener.http_inspector",
        "typed_config": {"@type": f"{filters}.http_inspector.v3.HttpInspector"},
    }
    if not proxies.proxy_protocol:
        return [inspector]
    return [
        {
            "name": "envoy.filters.listener.proxy_protocol",
            "typed_config": {
                "@type": f"{filters}.proxy_protocol.v3.ProxyProtocol",
                # Programs on this machine connect without.
                "allow_requests_without_proxy_protocol": True,
            },
        },
        inspector,
    ]


def _chain(name: str, manager: Json, peers: Sequence[str]) -> Json:
    """The filter chain for connections from `peers`; without any, from everywhere."""
    ranges = [_cidr(peer) for peer in peers]
    filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    match = {"filter_chain_match": {"direct_source_prefix_ranges": ranges}} if ranges else {}
    return {"name": name, **match, "filters": filters}


def _cidr(network: str) -> Json:
    first, _, length = network.partition("/")
    return {"address_prefix": first, "prefix_len": int(length)}


def _strangers(layout: Layout) -> Json:
    """The peer's address counts, and the headers of proxies are not trusted, not even on loopback."""
    return _connection_manager(layout, removed=_FORWARDED) | {"use_remote_address": True}


def _behind_proxies(layout: Layout, trusted: Sequence[str]) -> Json:
    """The client is the last address of `x-forwarded-for` that is not a trusted proxy."""
    detection = {
        "name": "envoy.http.original_ip_detection.xff",
        "typed_config": {
            "@type": f"{V3}.extensions.http.original_ip_detection.xff.v3.XffConfig",
            "xff_trusted_cidrs": {"cidrs": [_cidr(network) for network in trusted]},
            "skip_xff_append": False,
        },
    }
    removed = [name for name in _FORWARDED if name != "x-forwarded-host"]
    return _connection_manager(layout, removed=removed) | {"original_ip_detection_extensions": [detection]}


def _connection_manager(layout: Layout, *, removed: Sequence[str]) -> Json:
    return {
        "@type": f"{V3}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "edge",
        "rds": {"route_config_name": ROUTES, "config_source": followed(layout.routes)},
        "http_filters": [
            {
                "name": "envoy.filters.http.cors",
                "typed_config": {"@type": f"{V3}.extensions.filters.http.cors.v3.Cors"},
            },
            {
                "name": "envoy.filters.http.router",
                "typed_config": {
                    "@type": f"{V3}.extensions.filters.http.router.v3.Router",
                    "suppress_envoy_headers": True,
                },
            },
        ],
        "upgrade_configs": [{"upgrade_type": "websocket"}],
        "local_reply_config": LOCAL_REPLIES,
        # No client is trusted with Envoy's own headers.
        "internal_address_config": {"cidr_ranges": [{"address_prefix": "255.255.255.255", "prefix_len": 32}]},
        "server_header_transformation": "PASS_THROUGH",
        "preserve_external_request_id": True,
        "always_set_request_id_in_response": True,
        "early_header_mutation_extensions": [_first_changes(removed)],
        # Paths are normalized here and in the replica alike. Encoded slashes are part of a name, see `routes`.
        "normalize_path": True,
        "merge_slashes": True,
        "path_with_escaped_slashes_action": "KEEP_UNCHANGED",
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
            # Servers may treat x_a as x-a, so headers with underscores are not forwarded.
            "headers_with_underscores_action": "DROP_HEADER",
        },
        "http_protocol_options": {
            # A client of HTTP/1.0 need not name a host.
            "accept_http_10": True,
            "default_host_for_http_10": "localhost",
            # Requests to upgrade may be ignored, by RFC 9110.
            "ignore_http_11_upgrade": [{"safe_regex": {"regex": _NO_WEBSOCKET}}],
        },
        "http2_protocol_options": {
            "max_concurrent_streams": 100,
            "initial_stream_window_size": 64 * 1024,
            "initial_connection_window_size": 1024 * 1024,
        },
    }


def _first_changes(removed: Sequence[str]) -> Json:
    """A caller's own id is kept for its first 64 characters; Envoy makes one where there is none. `removed` are
    headers that are not trusted of this client."""
    shortened = {
        "append": {
            "header": {"key": "x-request-id", "value": "%REQ(X-REQUEST-ID):64%"},
            "append_action": "OVERWRITE_IF_EXISTS",
        }
    }
    return {
        "name": "envoy.http.early_header_mutation.header_mutation",
        "typed_config": {
            "@type": f"{V3}.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
            "mutations": [shortened, *({"remove": name} for name in removed)],
        },
    }
