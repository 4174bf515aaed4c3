"""One cluster per revision, the replicas of each, and the activators behind them. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from kaon.edge.layout import Layout
from kaon.edge.resources.limits import BUFFER_BYTES, SHADOW_CALLS
from kaon.edge.resources.upstream import breakers, http1_upstream
from kaon.edge.resources.wire import V3, Json, address, address_of, response, streamed
from kaon.edge.table import RouteRule, RouteTable, activator_name, key_of, paired, shadowed
from kaon.types.names import DeploymentKey
from kaon.types.route import ReplicaEndpoint

_HELD_RETRIES = 256
"""The most held calls that are repeated at the same time: all of them when the agent is killed."""


def clusters(table: RouteTable, layout: Layout) -> Json:
    """One cluster per revision; also the activator and the pair where calls may be held, and clusters for copies."""
    holding = [rule for rule in table.rules if rule.hold_s]
    hedged = {rule.key for rule in table.rules if rule.hedges}
    found = [_cluster(name, hedged=key_of(name) in hedged) for name in table.clusters]
    found += [_activator(key, layout) for key in dict.fromkeys(rule.key for rule in holding)]
    found += [_pair(name, rule) for rule in holding for name, _ in rule.weights]
    found += [_shadow(rule.shadow[0]) for rule in table.rules if rule.shadow]
    return response(list({cluster["name"]: cluster for cluster in found}.values()))


def _activator(key: DeploymentKey, layout: Layout) -> Json:
    """The socket where calls wait. Each gets a connection of its own: it is spliced to a replica as it is."""
    name = activator_name(key)
    pipe = address(f"unix:{layout.activator(*key)}")
    return {
        "@type": f"{V3}.config.cluster.v3.Cluster",
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "per_connection_buffer_limit_bytes": BUFFER_BYTES,
        "circuit_breakers": breakers(),
        "typed_extension_protocol_options": http1_upstream(requests=1),
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint": {"address": pipe}}]}]},
    }


def _pair(cluster: str, rule: RouteRule) -> Json:
    """The revision's replicas; when none of them is healthy, the activator.

    An activator in the revision's own cluster would get its health checks.
    """
    return {
        "@type": f"{V3}.config.cluster.v3.Cluster",
        "name": paired(cluster),
        # The pair counts answers by class and their times, in addition to the counts of the revision's cluster.
        "alt_stat_name": cluster,
        "connect_timeout": "1s",
        "lb_policy": "CLUSTER_PROVIDED",
        # Retries are counted here, not at the clusters below.
        "circuit_breakers": breakers(_HELD_RETRIES),
        "cluster_type": {
            "name": "envoy.clusters.aggregate",
            "typed_config": {
                "@type": f"{V3}.extensions.clusters.aggregate.v3.ClusterConfig",
                "clusters": [cluster, activator_name(rule.key)],
            },
        },
    }


def _cluster(name: str, *, hedged: bool) -> Json:
    return {
        "@type": f"{V3}.config.cluster.v3.Cluster",
        "name": name,
        "type": "EDS",
        "eds_cluster_config": {"eds_config": streamed()},
        "connect_timeout": "1s",
        "lb_policy": "LEAST_REQUEST",
        "per_connection_buffer_limit_bytes": BUFFER_BYTES,
        # Without a healthy replica all are tried, so that a check never switches a whole service off.
        "common_lb_config": {"healthy_panic_threshold": {"value": 1}},
        "ignore_health_on_host_removal": True,
        "health_checks": [_health_check()],
        "outlier_detection": _outliers(hedged=hedged),
        "circuit_breakers": breakers(),
        "typed_extension_protocol_options": http1_upstream(),
    }


def _shadow(cluster: str) -> Json:
    """The cluster for copies to a revision's replicas. Few may be open at once, so that a shadow that hangs delays
    nothing."""
    most = {"max_connections": SHADOW_CALLS, "max_pending_requests": SHADOW_CALLS, "max_requests": SHADOW_CALLS}
    return {
        "@type": f"{V3}.config.cluster.v3.Cluster",
        "name": shadowed(cluster),
        "type": "EDS",
        "eds_cluster_config": {"eds_config": streamed(), "service_name": cluster},
        "connect_timeout": "1s",
        "lb_policy": "LEAST_REQUEST",
        "per_connection_buffer_limit_bytes": BUFFER_BYTES,
        "ignore_health_on_host_removal": True,
        "circuit_breakers": {"thresholds": [{**most, "max_retries": 0}]},
        "typed_extension_protocol_options": http1_upstream(),
    }


def _health_check() -> Json:
    """Probes a replica's control socket. A 503 counts at once: that is how a replica reports that it drains."""
    return {
        "http_health_check": {"path": "/ready", "host": "replica"},
        "timeout": "2s",
        "interval": "1s",
        "no_traffic_interval": "1s",
        "unhealthy_interval": "0.5s",
        "unhealthy_threshold": 2,
        "healthy_threshold": 1,
    }


def _outliers(*, hedged: bool) -> Json:
    """Ejects a replica that cannot be reached twice in a row, or nine in ten of whose answers are 5xx.

    Where calls are hedged, Envoy counts a hedged call as a failed connection; there only the health check ejects.

    Consecutive 503 of a busy replica that sheds load and 5xx of a service's own faults are not counted: all replicas
    have them alike, and ejecting the busy ones would overload the rest.
    """
    return {
        "split_external_local_origin_errors": True,
        "consecutive_local_origin_failure": 2,
        "enforcing_consecutive_local_origin_failure": 0 if hedged else 100,
        "enforcing_consecutive_5xx": 0,
        "enforcing_consecutive_gateway_failure": 0,
        "enforcing_success_rate": 0,
        "enforcing_local_origin_success_rate": 0,
        "failure_percentage_threshold": 90,
        "failure_percentage_minimum_hosts": 2,
        "failure_percentage_request_volume": 10,
        "enforcing_failure_percentage": 100,
        "interval": "0.5s",
        "base_ejection_time": "0.5s",
        "max_ejection_time": "10s",
        "max_ejection_percent": 100,
        "successful_active_health_check_uneject_host": False,
    }


def endpoints(name: str, members: tuple[ReplicaEndpoint, ...], leaving: Iterable[ReplicaEndpoint] = ()) -> Json:
    """The replicas of one cluster. Leaving ones get no new requests but keep their open ones."""
    lb = [_lb_endpoint(e, "UNKNOWN") for e in members] + [_lb_endpoint(e, "DRAINING") for e in leaving]
    return response(
        [
            {
                "@type": f"{V3}.config.endpoint.v3.ClusterLoadAssignment",
                "cluster_name": name,
                "endpoints": [{"lb_endpoints": lb}] if lb else [],
                # One healthy replica gets all calls; the activator behind the cluster is used without any.
                "policy": {"overprovisioning_factor": 100_000},
            }
        ]
    )


def members(document: Json, revision: int) -> tuple[list[ReplicaEndpoint], list[ReplicaEndpoint]]:
    """The replicas in a cluster's document: the current ones and the leaving ones."""
    stay: list[ReplicaEndpoint] = []
    leave: list[ReplicaEndpoint] = []
    for locality in document["resources"][0]["endpoints"]:
        for lb in locality["lb_endpoints"]:
            check = lb["endpoint"]["health_check_config"].get("address")
            endpoint = ReplicaEndpoint(
                replica="",
                revision=revision,
                address=address_of(lb["endpoint"]["address"]),
                control_address=address_of(check) if check else None,
            )
            (leave if lb["health_status"] == "DRAINING" else stay).append(endpoint)
    return stay, leave


def _lb_endpoint(endpoint: ReplicaEndpoint, health: str) -> Json:
    check: Json = {"disable_active_health_check": True}
    if endpoint.control_address:
        check = {"address": address(endpoint.control_address)}
    return {
        "health_status": health,
        "endpoint": {"address": address(endpoint.address), "health_check_config": check},
    }
