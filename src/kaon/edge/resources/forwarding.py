"""Routes that forward calls to the clusters of a deployment: timeouts, retries, hedges, copies. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

from kaon.edge.resources.limits import IDLE_S, SHADOW_BODY_BYTES, STREAM_IDLE_S
from kaon.edge.resources.wire import V3, Json, seconds
from kaon.edge.table import RouteRule, shadowed
from kaon.types.route import COPY_REFUSED, NOT_BEGUN_HEADER, ORIGIN_ALLOWED

NEVER_ARRIVED: Json = {"retry_on": "connect-failure,refused-stream,reset-before-request"}

_NOT_BEGUN: Json = {
    "retry_on": f"{NEVER_ARRIVED['retry_on']},retriable-headers",
    "retriable_headers": [{"name": NOT_BEGUN_HEADER, "present_match": True}],
    "num_retries": 3,
    "retry_back_off": {"base_interval": "0.01s", "max_interval": "0.25s"},
    "retry_host_predicate": [
        {
            "name": "envoy.retry_host_predicates.previous_hosts",
            "typed_config": {
                "@type": f"{V3}.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate",
            },
        }
    ],
    "host_selection_retry_max_attempts": 10,
}
"""For all calls: another replica is tried when none has begun the call.

A call that broke off while a replica had it is not repeated, whatever its verb: it may have ended that replica, and
would end the next one too. There is no timeout per attempt, since valid answers may take any time; a frozen replica is
found by its health check."""

_BROKEN_OFF: Json = _NOT_BEGUN | {
    "retry_on": f"{_NOT_BEGUN['retry_on']},reset,retriable-status-codes",
    "retriable_status_codes": [503],
    "num_retries": 2,
}
"""For endpoints with `retry=True`: also a call that broke off. At most three replicas get it."""

_PATIENT: Json = {"num_retries": 20, "retry_back_off": {"base_interval": "0.1s", "max_interval": "1s"}}
"""Retries of held calls: a killed agent, with its activator, is restarted in about a second, in a few on a busy
machine; a call is repeated for about ten."""

_WEBSOCKET: Json = {"name": "upgrade", "string_match": {"exact": "websocket", "ignore_case": True}}

_LARGE: Json = {"name": "content-length", "range_match": {"start": SHADOW_BODY_BYTES + 1, "end": 2**63 - 1}}

_CHUNKED: Json = {"name": "transfer-encoding", "present_match": True}


def added(key: str, value: str) -> Json:
    """A header that is added to those that exist."""
    return {"header": {"key": key, "value": value}, "append_action": "APPEND_IF_EXISTS_OR_ADD"}


def from_pages_of(origins: Iterable[str]) -> Json:
    """Matches requests from pages of these origins."""
    if "*" in origins:
        return {"name": "origin", "present_match": True}
    return {"name": "origin", "string_match": {"safe_regex": {"regex": "|".join(map(re.escape, origins))}}}


def below(prefix: str) -> Json:
    """Matches all paths below a prefix."""
    return {"path_separated_prefix": prefix} if prefix else {"prefix": "/"}


def forwarded(rule: RouteRule, prefix: str) -> Iterable[Json]:
    """The routes to the clusters of a rule. Streams, websockets and large bodies are not copied to a shadow."""
    whole = below(prefix)
    websocket = _route(rule, prefix, whole | {"headers": [_WEBSOCKET]}, _NOT_BEGUN, lasting=True)
    if rule.cors_origins:
        match = whole | {"headers": [_WEBSOCKET, from_pages_of(rule.cors_origins)]}
        headers = [*websocket.get("request_headers_to_add", ()), added(ORIGIN_ALLOWED, "1")]
        yield websocket | {"match": match, "request_headers_to_add": headers}
    yield websocket
    retries = dict.fromkeys(rule.retry_paths, _BROKEN_OFF)
    for path in rule.stream_paths:
        match = _at(prefix, path, all_of_it=path != "/")
        yield _route(rule, prefix, match, retries.get(path, _NOT_BEGUN), lasting=True)
    for path, after_s in rule.hedges if rule.spare else ():
        hedged = _hedged(after_s, retries.get(path, _NOT_BEGUN))
        yield from _with_copies(rule, prefix, _at(prefix, path), hedged, hedged=True)
    for path in rule.retry_paths:
        if path not in rule.stream_paths:
            yield from _with_copies(rule, prefix, _at(prefix, path), _BROKEN_OFF)
    yield from _with_copies(rule, prefix, whole, _NOT_BEGUN)


def _with_copies(rule: RouteRule, prefix: str, match: Json, retries: Json, *, hedged: bool = False) -> Iterable[Json]:
    """A route whose calls are copied, after those for bodies that are too large to copy."""
    route = _route(rule, prefix, match, retries, hedged=hedged)
    if rule.shadow is None:
        yield route
        return
    for large in (_LARGE, _CHUNKED):
        yield route | {"match": match | {"headers": [*match.get("headers", ()), large]}}
    cluster, percent = rule.shadow
    copies = {
        "cluster": shadowed(cluster),
        "runtime_fraction": {"default_value": {"numerator": round(percent * 10_000), "denominator": "MILLION"}},
        "disable_shadow_host_suffix_append": True,
    }
    yield route | {"route": route["route"] | {"request_mirror_policies": [copies]}}


def _hedged(after_s: float, retries: Json) -> Json:
    """For calls that may run twice and must not wait for a slow replica: a second replica gets the call too, and the
    first good answer counts. A refusal of the second does not: the first is still at work. Within the retry budget.

    At most two replicas get such a call, also when both break off."""
    return retries | {
        "retriable_headers": [*retries["retriable_headers"], {"name": COPY_REFUSED, "present_match": True}],
        "num_retries": 1,
        "per_try_timeout": seconds(after_s),
    }


def _at(prefix: str, path: str, *, all_of_it: bool = False) -> Json:
    """Matches one path of a deployment, and all paths below it with `all_of_it` (a mounted app).

    `{name}` stands for one segment. A slash at the end does not matter, as in replicas.
    """
    if path == "/":
        return {"safe_regex": {"regex": f"{re.escape(prefix)}/?"}} if prefix else {"path": "/"}
    pattern = "".join("[^/]+" if part.startswith("{") else re.escape(part) for part in re.split(r"(\{[^{}]*\})", path))
    return {"safe_regex": {"regex": re.escape(prefix) + pattern + ("(/.*)?" if all_of_it else "/?")}}


def _route(
    rule: RouteRule, prefix: str, match: Json, retries: Json, *, lasting: bool = False, hedged: bool = False
) -> Json:
    """A route to the clusters of a rule, which removes the prefix. `lasting`: no timeout but an idle one."""
    # The time limit of a held call starts when a replica gets it.
    timeout_s = rule.timeout_s + rule.hold_s
    # An answer may be silent for as long as it may take; one second more, so that the timeout comes first.
    idle_s = STREAM_IDLE_S if lasting else max(timeout_s + 1, IDLE_S)
    return {
        "match": match,
        **(_prefix_header(prefix) if prefix else {}),
        "route": {
            **_to_clusters(rule.ways),
            **(_without_prefix(prefix) if prefix else {}),
            "timeout": "0s" if lasting else seconds(timeout_s),
            "idle_timeout": seconds(idle_s),
            "retry_policy": retries | _PATIENT if rule.hold_s and not hedged else retries,
            **({"hedge_policy": {"hedge_on_per_try_timeout": True}} if hedged else {}),
        },
    }


def _prefix_header(prefix: str) -> Json:
    header = {"key": "x-forwarded-prefix", "value": prefix}
    return {"request_headers_to_add": [{"header": header, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}]}


def _without_prefix(prefix: str) -> Json:
    return {
        "regex_rewrite": {"pattern": {"regex": f"^{re.escape(prefix)}/?(.*)$"}, "substitution": r"/\1"},
    }


def _to_clusters(weights: tuple[tuple[str, int], ...]) -> Json:
    if len(weights) == 1:
        return {"cluster": weights[0][0]}
    return {"weighted_clusters": {"clusters": [{"name": name, "weight": weight} for name, weight in weights]}}
