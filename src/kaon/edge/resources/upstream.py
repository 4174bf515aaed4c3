"""How Envoy speaks to the servers behind it. Pure."""

from __future__ import annotations

from kaon.edge.resources.limits import CONNECTIONS_MAX
from kaon.edge.resources.wire import V3, Json


def breakers(retries: int = 10) -> Json:
    """Limits of what Envoy itself holds, and of the share of retries; replicas decide on admission.

    `retries` may go on at once, however few calls there are.
    """
    most = {
        "max_connections": CONNECTIONS_MAX,
        "max_pending_requests": CONNECTIONS_MAX,
        "max_requests": CONNECTIONS_MAX,
    }
    budget = {"budget_percent": {"value": 20}, "min_retry_concurrency": retries}
    return {"thresholds": [{**most, "retry_budget": budget}]}


def http2_upstream() -> Json:
    """HTTP/2 to the socket, over one long connection."""
    return {
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": f"{V3}.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {"http2_protocol_options": {}},
        }
    }


def http1_upstream(requests: int = 0) -> Json:
    """HTTP/1.1 to the socket; an idle connection is closed before the server (75 s) does so.

    `requests` bounds how many a connection carries; 0: it does not.
    """
    bound = {"max_requests_per_connection": requests} if requests else {}
    return {
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": f"{V3}.extensions.upstreams.http.v3.HttpProtocolOptions",
            "common_http_protocol_options": {"idle_timeout": "30s", **bound},
            "explicit_http_config": {"http_protocol_options": {}},
        }
    }
