"""The messages of Envoy and the agent on the stream of endpoints. Pure.

Envoy's discovery service, "state of the world" flavour: Envoy names all clusters whose replicas it wants; each answer
holds some of them, and Envoy confirms it by the answer's nonce, or refuses it with a reason. The numbers are those of
the fields in Envoy's `discovery.proto`, `endpoint.proto`, `endpoint_components.proto` and `address.proto`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from kaon.edge.protobuf import fields, message, varint
from kaon.edge.resources import Json

ENDPOINTS = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
_HEALTH = {"UNKNOWN": 0, "DRAINING": 3}


@dataclass(frozen=True, slots=True)
class DiscoveryRequest:
    """A request of Envoy: its subscription, and its reply to an answer."""

    type_url: str
    clusters: frozenset[str]
    """All clusters that it subscribes to."""
    nonce: str
    """The last answer that it has read; empty: none yet."""
    refusal: str
    """Why it refuses that answer; empty: it confirms it."""


def request(data: bytes) -> DiscoveryRequest:
    """The request in a message. Raises `ValueError` when it is none."""
    texts = {4: "", 5: ""}
    names: list[str] = []
    refusal = ""
    for number, value in fields(data):
        if not isinstance(value, bytes):
            continue
        if number == 3:
            names.append(value.decode())
        elif number == 6:
            refusal = _status(value)
        elif number in texts:
            texts[number] = value.decode()
    return DiscoveryRequest(texts[4], frozenset(names), texts[5], refusal)


def _status(data: bytes) -> str:
    """The text of a `google.rpc.Status`."""
    reasons = [
        value.decode(errors="replace") for number, value in fields(data) if number == 2 and isinstance(value, bytes)
    ]
    return "".join(reasons) or "no reason given"


def response(nonce: str, documents: Iterable[Json]) -> bytes:
    """An answer: the replicas of some clusters, each given as its discovery response (see `resources.endpoints`)."""
    resources = [message(2, _any(document["resources"][0])) for document in documents]
    return b"".join([message(1, nonce), *resources, message(4, ENDPOINTS), message(5, nonce)])


def _any(assignment: Json) -> bytes:
    return message(1, ENDPOINTS) + message(2, _assignment(assignment))


def _assignment(document: Json) -> bytes:
    localities = [
        message(2, b"".join(message(2, _lb_endpoint(lb)) for lb in locality["lb_endpoints"]))
        for locality in document["endpoints"]
    ]
    overprovisioning = message(3, varint(1, document["policy"]["overprovisioning_factor"]))
    return b"".join([message(1, document["cluster_name"]), *localities, message(4, overprovisioning)])


def _lb_endpoint(document: Json) -> bytes:
    check = document["endpoint"]["health_check_config"]
    how = message(3, _address(check["address"])) if "address" in check else varint(4, 1)
    endpoint = message(1, _address(document["endpoint"]["address"])) + message(2, how)
    return message(1, endpoint) + varint(2, _HEALTH[document["health_status"]])


def _address(document: Json) -> bytes:
    if pipe := document.get("pipe"):
        return message(2, message(1, pipe["path"]))
    place = document["socket_address"]
    return message(1, message(2, place["address"]) + varint(3, place["port_value"]))
