"""Host and path -> cluster, with timeouts and retries. Pure.

One host is shared by all deployments, each below its prefix, and by the API. Besides, each deployment has hosts of its
own, where every path is its own: `NAME.localhost`, and what its spec names.

A call without a key to a deployment that is not public is answered here, in the same words as one to nothing at all: so
nobody without a key learns what there is. The page `/docs`, the same for every deployment, is answered here too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

from kaon.edge.resources.bootstrap import API_CLUSTER
from kaon.edge.resources.limits import BODY_MAX_BYTES, IDLE_S, SHADOW_BODY_BYTES, STREAM_IDLE_S
from kaon.edge.resources.wire import V3, Json, response, seconds
from kaon.edge.table import RouteRule, RouteTable, cluster_name, shadowed
from kaon.sdk.docs_page import docs_page
from kaon.types import cors
from kaon.types.route import COPY_REFUSED, KEY_PROTOCOL, NOT_BEGUN_HEADER, ORIGIN_ALLOWED, REVISION_HEADER

ROUTES = "edge"
_REFUSED: Json = {"direct_response": {"status": 401}}
API_PREFIXES = ("/api", "/console", "/docs")

FINAL = "x-envoy-ratelimited"
"""An answer with this header is the last word: Envoy does not send its call again, whatever its status."""

_OF_THE_ORIGIN = [
    "service-worker-allowed",
    "clear-site-data",
    "strict-transport-security",
    "alt-svc",
    "nel",
    "report-to",
]
"""By these headers an answer says how browsers deal with its whole origin. On the shared host that is everybody's."""


def routes(table: RouteTable) -> Json:
    """On the shared host the API's own paths, then each deployment, longest prefix first; and a host for each."""
    rules = sorted(table.rules, key=lambda rule: (-rule.prefix.count("/"), rule.prefix))
    return response(
        [
            {
                "@type": f"{V3}.config.route.v3.RouteConfiguration",
                "name": ROUTES,
                # The whole first, then the route's own: a client's x-forwarded-prefix goes before ours is set.
                "most_specific_header_mutations_wins": True,
                "request_headers_to_remove": ["x-forwarded-prefix"],
                "response_headers_to_remove": ["server", "x-powered-by", FINAL, COPY_REFUSED, NOT_BEGUN_HEADER],
                "max_direct_response_body_size_bytes": 128 * 1024,
                "ignore_port_in_host_matching": True,
                "virtual_hosts": [_shared_host(rules), _NO_HOST, *(_own_host(rule) for rule in rules if rule.hosts)],
            }
        ]
    )


def _shared_host(rules: list[RouteRule]) -> Json:
    return {
        "name": "edge",
        "domains": ["*"],
        "include_request_attempt_count": True,
        "response_headers_to_remove": _OF_THE_ORIGIN,
        "routes": [
            _UPWARDS,
            *(_api_route(prefix) for prefix in API_PREFIXES),
            _docs_page({"safe_regex": {"regex": f"{_NAMED}/docs"}}),
            *(route for rule in rules for route in _rule_routes(rule, rule.prefix)),
            {"match": {"safe_regex": {"regex": f"{_NAMED}(/.*)?"}, "headers": _NO_KEY}, **_REFUSED},
        ],
    }


def _own_host(rule: RouteRule) -> Json:
    return {
        "name": rule.prefix,
        "domains": list(rule.hosts),
        "include_request_attempt_count": True,
        "routes": [_UPWARDS, *_rule_routes(rule, "")],
    }


_NAMED = "/(~[a-z0-9-]+/)?[a-z][a-z0-9-]*"
"""The path of a deployment, whether it is there or not."""
_NO_KEY: list[Json] = [
    {"name": "authorization", "present_match": False},
    {
        "name": "sec-websocket-protocol",
        "string_match": {"contains": KEY_PROTOCOL},
        "invert_match": True,
        "treat_missing_header_as_empty": True,
    },
]
"""Matches calls without a key, which is a header, or of a browser's websocket a subprotocol."""

_NO_HOST: Json = {
    "name": "nobody",
    "domains": ["*.localhost"],
    "routes": [{"match": {"prefix": "/", "headers": _NO_KEY}, **_REFUSED}],
}
"""A local host that is no deployment's answers like one that is closed."""


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

_PATIENT: Json = {"num_retries": 20, "retry_back_off": {"base_interval": "0.1s", "max_interval": "1s"}}
"""Where calls are held: an agent that was killed is back, and its activator with it, in about a second, or in some on a
busy machine. A caller is patient for ten."""


def _hedged(after_s: float, retries: Json) -> Json:
    """For calls that may happen twice and must not wait for a slow replica: a second one is asked too, and the first
    good answer counts. A refusal of the second is none: the first is still at work. Within the retries' budget.

    No more than two replicas see such a call, also when both break off."""
    return retries | {
        "retriable_headers": [*retries["retriable_headers"], {"name": COPY_REFUSED, "present_match": True}],
        "num_retries": 1,
        "per_try_timeout": seconds(after_s),
    }


_SLASH = r"(/|%2[fF]|%5[cC])"
_UPWARDS: Json = {
    "match": {"safe_regex": {"regex": rf".*{_SLASH}(\.|%2[eE]){{2}}({_SLASH}.*)?"}},
    "direct_response": {"status": 400, "body": {"inline_string": "The path goes upwards by '..' and encoded slashes."}},
}
"""Encoded slashes are a service's own affair, but no server behind shall read such a path as one that leaves it."""

_TOO_LONG: Json = {"name": "content-length", "range_match": {"start": BODY_MAX_BYTES + 1, "end": 2**63 - 1}}
_READS: Json = {"name": ":method", "string_match": {"safe_regex": {"regex": "GET|HEAD"}}}
_WEBSOCKET: Json = {"name": "upgrade", "string_match": {"exact": "websocket", "ignore_case": True}}


_LARGE: Json = {"name": "content-length", "range_match": {"start": SHADOW_BODY_BYTES + 1, "end": 2**63 - 1}}
_CHUNKED: Json = {"name": "transfer-encoding", "present_match": True}
_NAMES_ONE: Json = {"name": REVISION_HEADER, "present_match": True}


def _docs_page(match: Json) -> Json:
    """The page that shows a deployment's documents, the same for every one, and for none."""
    page = docs_page()
    said = [
        {"header": {"key": key, "value": value.replace("%", "%%")}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
        for key, value in page.headers
    ]
    return {
        "match": match | {"headers": [_READS]},
        "response_headers_to_add": said,
        "direct_response": {"status": 200, "body": {"inline_string": page.html.decode()}},
    }


def _rule_routes(rule: RouteRule, prefix: str) -> Iterable[Json]:
    """The routes of one deployment below `prefix`; the first that matches counts."""
    return (_shown(rule, route) for route in _answers(rule, prefix))


def _shown(rule: RouteRule, route: Json) -> Json:
    """A route with what browsers are told by each answer of its deployment."""
    said = list(route.get("response_headers_to_add", ()))
    if rule.sandbox:
        said.append(_added("content-security-policy", _SANDBOX_OF_PAGES))
    if not rule.cors_origins:
        return route | ({"response_headers_to_add": said} if said else {})
    filters = {"envoy.filters.http.cors": _cors(rule.cors_origins)}
    return route | {"response_headers_to_add": [*said, _added("vary", "origin")], "typed_per_filter_config": filters}


_SANDBOX_OF_PAGES = (
    "%CEL('content-type' in response.headers && "
    "!response.headers['content-type'].matches('(?i)html|xml|multipart') ? '' : 'sandbox')%"
)
"""For answers in which a browser runs scripts: HTML, SVG and other XML, and those that do not say what they are. Other
answers have no such header."""


def _added(key: str, value: str) -> Json:
    return {"header": {"key": key, "value": value}, "append_action": "APPEND_IF_EXISTS_OR_ADD"}


def _cors(origins: Iterable[str]) -> Json:
    """See `kaon.types.cors`."""
    return {
        "@type": f"{V3}.extensions.filters.http.cors.v3.CorsPolicy",
        "allow_origin_string_match": [{"exact": origin} for origin in origins],
        "allow_methods": cors.METHODS,
        "allow_headers": cors.SENT,
        "expose_headers": cors.EXPOSED,
        "max_age": str(cors.MAX_AGE_S),
        "allow_private_network_access": True,
    }


_PREFLIGHT: list[Json] = [
    {"name": ":method", "string_match": {"exact": "OPTIONS"}},
    {"name": "access-control-request-method", "present_match": True},
]


def _whole(prefix: str) -> Json:
    """Matches all that is below a prefix."""
    return {"path_separated_prefix": prefix} if prefix else {"prefix": "/"}


def _answers(rule: RouteRule, prefix: str) -> Iterable[Json]:
    whole = _whole(prefix)
    if rule.cors_origins:
        # Envoy's filter answers it; the cluster stands here because a route must have one.
        asked = [*_PREFLIGHT, _may_call(rule.cors_origins)]
        yield {"match": whole | {"headers": asked}, "route": {"cluster": API_CLUSTER}}
    if rule.closed:
        yield from _said(rule, whole | {"headers": _NO_KEY}, {"status": 401})
    yield from _said(rule, whole | {"headers": [_TOO_LONG]}, {"status": 413})
    if not rule.ways:
        yield from _said(rule, whole, {"status": 503})
        return
    if rule.revisions:
        yield from _said(rule, whole | {"headers": [_NAMES_ONE, _other_than(rule)]}, _no_such_revision(rule))
    for revision in rule.revisions if len(rule.revisions) > 1 else ():
        # Whoever waits gets the first replica that is ready, of whatever revision: so no call that names one waits.
        weights = ((cluster_name(rule.key, revision), 100),)
        pinned = replace(rule, weights=weights, shadow=None, spare=False, hold_s=0.0)
        named = {"name": REVISION_HEADER, "string_match": {"exact": str(revision)}}
        for route in _ways(pinned, prefix):
            match = route["match"]
            yield route | {"match": match | {"headers": [*match.get("headers", ()), named]}}
    yield from _ways(rule, prefix)


def _said(rule: RouteRule, match: Json, answer: Json) -> Iterable[Json]:
    """What the edge answers itself. Envoy's filter for pages of other origins passes over such routes, so the headers
    by which these may read the answer are put here."""
    if rule.cors_origins:
        readable = (("access-control-allow-origin", "%REQ(ORIGIN)%"), ("access-control-expose-headers", cors.EXPOSED))
        yield {
            "match": match | {"headers": [*match.get("headers", ()), _may_call(rule.cors_origins)]},
            "direct_response": answer,
            "response_headers_to_add": [_added(*header) for header in readable],
        }
    yield {"match": match, "direct_response": answer}


def _may_call(origins: Iterable[str]) -> Json:
    """Matches calls from pages of these origins."""
    if "*" in origins:
        return {"name": "origin", "present_match": True}
    return {"name": "origin", "string_match": {"safe_regex": {"regex": "|".join(map(re.escape, origins))}}}


def _other_than(rule: RouteRule) -> Json:
    """Matches calls that name none of a rule's revisions."""
    known = "|".join(map(str, rule.revisions))
    return {"name": REVISION_HEADER, "string_match": {"safe_regex": {"regex": known}}, "invert_match": True}


def _no_such_revision(rule: RouteRule) -> Json:
    """A call that names a revision never goes to another one."""
    there = ", ".join(map(str, rule.revisions))
    said = f"No such revision of '{rule.key[1]}' runs. The header {REVISION_HEADER} may name: {there}."
    return {"status": 404, "body": {"inline_string": said}}


def _ways(rule: RouteRule, prefix: str) -> Iterable[Json]:
    """The routes to a rule's clusters. Streams, websockets and large bodies are not copied to a shadow."""
    whole = _whole(prefix)
    websocket = _route(rule, prefix, whole | {"headers": [_WEBSOCKET]}, _NOT_BEGUN, lasting=True)
    if rule.cors_origins:
        match = whole | {"headers": [_WEBSOCKET, _may_call(rule.cors_origins)]}
        added = [*websocket.get("request_headers_to_add", ()), _added(ORIGIN_ALLOWED, "1")]
        yield websocket | {"match": match, "request_headers_to_add": added}
    yield websocket
    retries = dict.fromkeys(rule.retry_paths, _BROKEN_OFF)
    for path in rule.stream_paths:
        match = _below(prefix, path, all_of_it=path != "/")
        yield _route(rule, prefix, match, retries.get(path, _NOT_BEGUN), lasting=True)
    for path, after_s in rule.hedges if rule.spare else ():
        hedged = _hedged(after_s, retries.get(path, _NOT_BEGUN))
        yield from _copied(rule, prefix, _below(prefix, path), hedged, hedged=True)
    for path in rule.retry_paths:
        if path not in rule.stream_paths:
            yield from _copied(rule, prefix, _below(prefix, path), _BROKEN_OFF)
    yield from _copied(rule, prefix, whole, _NOT_BEGUN)


def _copied(rule: RouteRule, prefix: str, match: Json, retries: Json, *, hedged: bool = False) -> Iterable[Json]:
    """A route whose calls may be copied, after those for bodies that are too large for that."""
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


def _below(prefix: str, path: str, *, all_of_it: bool = False) -> Json:
    """Matches one path of a deployment, and what is below it when `all_of_it` (a mounted app's streams).

    `{name}` stands for one segment. With a slash at its end it is the same path, as it is for replicas.
    """
    if path == "/":
        return {"safe_regex": {"regex": f"{re.escape(prefix)}/?"}} if prefix else {"path": "/"}
    pattern = "".join("[^/]+" if part.startswith("{") else re.escape(part) for part in re.split(r"(\{[^{}]*\})", path))
    return {"safe_regex": {"regex": re.escape(prefix) + pattern + ("(/.*)?" if all_of_it else "/?")}}


def _route(
    rule: RouteRule, prefix: str, match: Json, retries: Json, *, lasting: bool = False, hedged: bool = False
) -> Json:
    """A route to the rule's clusters, with the prefix taken off. `lasting`: no timeout but an idle one."""
    # A held call has its time from when a replica gets it.
    timeout_s = rule.timeout_s + rule.hold_s
    # An answer may be silent for as long as it may take; one second more, so that the timeout speaks first.
    idle_s = STREAM_IDLE_S if lasting else max(timeout_s + 1, IDLE_S)
    return {
        "match": match,
        **(_told_of(prefix) if prefix else {}),
        "route": {
            **_to(rule.ways),
            **(_taken_off(prefix) if prefix else {}),
            "timeout": "0s" if lasting else seconds(timeout_s),
            "idle_timeout": seconds(idle_s),
            "retry_policy": retries | _PATIENT if rule.hold_s and not hedged else retries,
            **({"hedge_policy": {"hedge_on_per_try_timeout": True}} if hedged else {}),
        },
    }


def _told_of(prefix: str) -> Json:
    said = {"key": "x-forwarded-prefix", "value": prefix}
    return {"request_headers_to_add": [{"header": said, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}]}


def _taken_off(prefix: str) -> Json:
    return {
        "regex_rewrite": {"pattern": {"regex": f"^{re.escape(prefix)}/?(.*)$"}, "substitution": r"/\1"},
    }


def _to(weights: tuple[tuple[str, int], ...]) -> Json:
    if len(weights) == 1:
        return {"cluster": weights[0][0]}
    return {"weighted_clusters": {"clusters": [{"name": name, "weight": weight} for name, weight in weights]}}
