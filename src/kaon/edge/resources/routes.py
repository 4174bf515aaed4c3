"""Path -> cluster, with timeouts and retries. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

from kaon.edge.resources.bootstrap import API_CLUSTER
from kaon.edge.resources.limits import BODY_MAX_BYTES, IDLE_S, SHADOW_BODY_BYTES, STREAM_IDLE_S
from kaon.edge.resources.wire import V3, Json, response, seconds
from kaon.edge.table import Rule, Table, cluster_name, shadowed
from kaon.types.route import COPY_REFUSED, NOT_BEGUN_HEADER, REVISION_HEADER

ROUTES = "edge"
API_PREFIXES = ("/api", "/console", "/docs")

FINAL = "x-envoy-ratelimited"
"""An answer with this header is the last word: Envoy does not send its call again, whatever its status."""

_FORWARDED = ["x-forwarded-host", "x-forwarded-prefix", "x-forwarded-port", "x-original-url", "x-rewrite-url"]


def routes(table: Table) -> Json:
    """Path -> cluster: the API's own paths, then each deployment, longest prefix first."""
    rules = sorted(table.rules, key=lambda rule: (-rule.prefix.count("/"), rule.prefix))
    return response(
        [
            {
                "@type": f"{V3}.config.route.v3.RouteConfiguration",
                "name": ROUTES,
                # The whole first, then the route's own: a client's x-forwarded-prefix goes before ours is set.
                "most_specific_header_mutations_wins": True,
                "request_headers_to_remove": _FORWARDED,
                "response_headers_to_remove": ["server", "x-powered-by", FINAL, COPY_REFUSED, NOT_BEGUN_HEADER],
                "max_direct_response_body_size_bytes": 4096,
                "virtual_hosts": [
                    {
                        "name": "edge",
                        "domains": ["*"],
                        "include_request_attempt_count": True,
                        "routes": [
                            *(_api_route(prefix) for prefix in API_PREFIXES),
                            *(route for rule in rules for route in _rule_routes(rule)),
                        ],
                    }
                ],
            }
        ]
    )


def _api_route(prefix: str) -> Json:
    # The API restarts in about a second; a call that did not reach it waits that long instead of failing.
    retries = {**_NEVER_ARRIVED, "num_retries": 4, "retry_back_off": {"base_interval": "0.1s", "max_interval": "1s"}}
    return {
        "match": {"path_separated_prefix": prefix},
        "route": {
            "cluster": API_CLUSTER,
            "timeout": "0s",
            "idle_timeout": f"{STREAM_IDLE_S}s",
            "retry_policy": retries,
        },
    }


_NEVER_ARRIVED: Json = {"retry_on": "connect-failure,refused-stream,reset-before-request"}

_NOT_BEGUN: Json = {
    "retry_on": f"{_NEVER_ARRIVED['retry_on']},retriable-headers",
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
"""For all calls: another replica is asked where none has begun the call.

A call that broke off while a replica had it is not among them, whatever its verb: it may be what ended the replica, and
would end the next one too. There is no per-try timeout, since only the service's author knows how long a good answer
takes; a frozen replica is found by its health check."""

_BROKEN_OFF: Json = _NOT_BEGUN | {
    "retry_on": f"{_NOT_BEGUN['retry_on']},reset,retriable-status-codes",
    "retriable_status_codes": [503],
    "num_retries": 2,
}
"""For endpoints that say `retry=True`: also a call that broke off. At most three replicas see it."""

_PATIENT: Json = {"num_retries": 6, "retry_back_off": {"base_interval": "0.1s", "max_interval": "1s"}}
"""Where calls are held: an agent that was killed is back, and its activator with it, in about a second."""


def _hedged(after_s: float, retries: Json) -> Json:
    """For calls that may happen twice and must not wait for a slow replica: a second one is asked too, and the first
    good answer counts. A refusal of the second is none: the first is still at work. Within the retries' budget.

    No more than two replicas see such a call, also when both break off."""
    return retries | {
        "retriable_headers": [*retries["retriable_headers"], {"name": COPY_REFUSED, "present_match": True}],
        "num_retries": 1,
        "per_try_timeout": seconds(after_s),
    }


_TOO_LONG: Json = {"name": "content-length", "range_match": {"start": BODY_MAX_BYTES + 1, "end": 2**63 - 1}}
_WEBSOCKET: Json = {"name": "upgrade", "string_match": {"exact": "websocket", "ignore_case": True}}


_LARGE: Json = {"name": "content-length", "range_match": {"start": SHADOW_BODY_BYTES + 1, "end": 2**63 - 1}}
_CHUNKED: Json = {"name": "transfer-encoding", "present_match": True}
_NAMES_ONE: Json = {"name": REVISION_HEADER, "present_match": True}


def _rule_routes(rule: Rule) -> Iterable[Json]:
    """The routes of one deployment; the first that matches counts."""
    whole = {"path_separated_prefix": rule.prefix}
    yield {"match": whole | {"headers": [_TOO_LONG]}, "direct_response": {"status": 413}}
    if not rule.ways:
        yield {"match": whole, "direct_response": {"status": 503}}
        return
    if rule.revisions:
        yield _no_such_revision(rule)
    for revision in rule.revisions if len(rule.revisions) > 1 else ():
        # Whoever waits gets the first replica that is ready, of whatever revision: so no call that names one waits.
        weights = ((cluster_name(rule.key, revision), 100),)
        pinned = replace(rule, weights=weights, shadow=None, spare=False, hold_s=0.0)
        named = {"name": REVISION_HEADER, "string_match": {"exact": str(revision)}}
        for route in _ways(pinned):
            match = route["match"]
            yield route | {"match": match | {"headers": [*match.get("headers", ()), named]}}
    yield from _ways(rule)


def _no_such_revision(rule: Rule) -> Json:
    """A call that names a revision never goes to another one."""
    known = "|".join(map(str, rule.revisions))
    other = {"name": REVISION_HEADER, "string_match": {"safe_regex": {"regex": known}}, "invert_match": True}
    there = ", ".join(map(str, rule.revisions))
    said = f"No such revision of '{rule.key[1]}' runs. The header {REVISION_HEADER} may name: {there}."
    return {
        "match": {"path_separated_prefix": rule.prefix, "headers": [_NAMES_ONE, other]},
        "direct_response": {"status": 404, "body": {"inline_string": said}},
    }


def _ways(rule: Rule) -> Iterable[Json]:
    """The routes to a rule's clusters. Streams, websockets and large bodies are not copied to a shadow."""
    whole = {"path_separated_prefix": rule.prefix}
    retries = dict.fromkeys(rule.retry_paths, _BROKEN_OFF)
    for path in rule.stream_paths:
        match = _below(rule.prefix, path, all_of_it=path != "/")
        yield _route(rule, match, retries.get(path, _NOT_BEGUN), lasting=True)
    yield _route(rule, whole | {"headers": [_WEBSOCKET]}, _NOT_BEGUN, lasting=True)
    for path, after_s in rule.hedges if rule.spare else ():
        hedged = _hedged(after_s, retries.get(path, _NOT_BEGUN))
        yield from _copied(rule, _below(rule.prefix, path), hedged, hedged=True)
    for path in rule.retry_paths:
        if path not in rule.stream_paths:
            yield from _copied(rule, _below(rule.prefix, path), _BROKEN_OFF)
    yield from _copied(rule, whole, _NOT_BEGUN)


def _copied(rule: Rule, match: Json, retries: Json, *, hedged: bool = False) -> Iterable[Json]:
    """A route whose calls may be copied, after those for bodies that are too large for that."""
    route = _route(rule, match, retries, hedged=hedged)
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


def _below(prefix: str, path: str, *, all_of_it: bool = False) -> Json:
    """Matches one path of a deployment, and what is below it when `all_of_it` (a mounted app's streams).

    `{name}` stands for one segment; the root may end in a slash or not.
    """
    if path == "/":
        return {"safe_regex": {"regex": f"{re.escape(prefix)}/?"}}
    if "{" not in path and not all_of_it:
        return {"path": prefix + path}  # no pattern, which costs memory and time by its length
    pattern = "".join("[^/]+" if part.startswith("{") else re.escape(part) for part in re.split(r"(\{[^{}]*\})", path))
    return {"safe_regex": {"regex": re.escape(prefix) + pattern + ("(/.*)?" if all_of_it else "")}}


def _route(rule: Rule, match: Json, retries: Json, *, lasting: bool = False, hedged: bool = False) -> Json:
    """A route to the rule's clusters, with the prefix taken off. `lasting`: no timeout but an idle one."""
    # A held call has its time from when a replica gets it.
    timeout_s = rule.timeout_s + rule.hold_s
    # An answer may be silent for as long as it may take; one second more, so that the timeout speaks first.
    idle_s = STREAM_IDLE_S if lasting else max(timeout_s + 1, IDLE_S)
    return {
        "match": match,
        "request_headers_to_add": [
            {
                "header": {"key": "x-forwarded-prefix", "value": rule.prefix},
                "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
            }
        ],
        "route": {
            **_to(rule.ways),
            "regex_rewrite": {
                "pattern": {"regex": f"^{re.escape(rule.prefix)}/?(.*)$"},
                "substitution": r"/\1",
            },
            "timeout": "0s" if lasting else seconds(timeout_s),
            "idle_timeout": seconds(idle_s),
            "retry_policy": retries | _PATIENT if rule.hold_s and not hedged else retries,
            **({"hedge_policy": {"hedge_on_per_try_timeout": True}} if hedged else {}),
        },
    }


def _to(weights: tuple[tuple[str, int], ...]) -> Json:
    if len(weights) == 1:
        return {"cluster": weights[0][0]}
    return {"weighted_clusters": {"clusters": [{"name": name, "weight": weight} for name, weight in weights]}}
