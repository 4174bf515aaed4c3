"""Host and path -> what the edge answers itself, and what it forwards (`forwarding`). Pure.

One host is shared by the API and all deployments, each below its prefix. Each deployment also has hosts of its own,
where every path belongs to it: `NAME.localhost`, and those of its spec.

A request without a key to a deployment that is not public is answered here, exactly as one to a deployment that does
not exist: which ones exist cannot be found out without a key. The page `/docs`, the same for every deployment, is
answered here too.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from kaon.edge.problems import UNKNOWN_PATH
from kaon.edge.resources.bootstrap import API_CLUSTER
from kaon.edge.resources.forwarding import NEVER_ARRIVED, added, below, forwarded, from_pages_of
from kaon.edge.resources.limits import BODY_MAX_BYTES, STREAM_IDLE_S
from kaon.edge.resources.wire import V3, Json, response
from kaon.edge.table import RouteRule, RouteTable, cluster_name
from kaon.types import cors
from kaon.types.route import COPY_REFUSED, KEY_PROTOCOL, NOT_BEGUN_HEADER, REVISION_HEADER

ROUTES = "edge"
_REFUSED: Json = {"direct_response": {"status": 401}}
API_PREFIXES = ("/api", "/console", "/docs")

FINAL = "x-envoy-ratelimited"
"""Envoy does not repeat a call whose answer has this header, whatever its status."""

_OF_THE_ORIGIN = [
    "service-worker-allowed",
    "clear-site-data",
    "strict-transport-security",
    "alt-svc",
    "nel",
    "report-to",
]
"""Headers that change how browsers treat a whole origin, which on the shared host is that of all deployments."""


def routes(table: RouteTable) -> Json:
    """The shared host: the API's paths, then the deployments, longest prefix first; and each deployment's hosts."""
    rules = sorted(table.rules, key=lambda rule: (-rule.prefix.count("/"), rule.prefix))
    return response(
        [
            {
                "@type": f"{V3}.config.route.v3.RouteConfiguration",
                "name": ROUTES,
                # First the configuration's, then the route's: a client's x-forwarded-prefix goes before ours is set.
                "most_specific_header_mutations_wins": True,
                "request_headers_to_remove": ["x-forwarded-prefix"],
                "response_headers_to_remove": ["server", "x-powered-by", FINAL, COPY_REFUSED, NOT_BEGUN_HEADER],
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
            _UNKNOWN_PATH,
        ],
    }


_NAMED = "/(~[a-z0-9-]+/)?[a-z][a-z0-9-]*"
"""The path of a deployment, which may not exist."""
_UNKNOWN_PATH: Json = {
    "name": UNKNOWN_PATH,
    "match": {
        "prefix": "/",
        "headers": [
            {"name": "authorization", "present_match": True},
            {"name": "upgrade", "present_match": False},
        ],
    },
    "route": {"cluster": API_CLUSTER, "timeout": "5s"},
}
"""The API suggests similar paths (`kaon.api.unknown_paths`)."""


def _own_host(rule: RouteRule) -> Json:
    return {
        "name": rule.prefix,
        "domains": list(rule.hosts),
        "include_request_attempt_count": True,
        "routes": [_UPWARDS, _docs_page({"path": "/docs"}), *_rule_routes(rule, "")],
    }


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

_READS: Json = {"name": ":method", "string_match": {"safe_regex": {"regex": "GET|HEAD"}}}


def _docs_page(match: Json) -> Json:
    """The docs page: the same for every deployment, also for one that does not exist; see `kaon.edge.problems`."""
    return {"match": match | {"headers": [_READS]}, "direct_response": {"status": 200}}


_NO_HOST: Json = {
    "name": "nobody",
    "domains": ["*.localhost"],
    "routes": [_docs_page({"path": "/docs"}), {"match": {"prefix": "/", "headers": _NO_KEY}, **_REFUSED}],
}
"""A local host without a deployment answers like that of a closed deployment."""


def _api_route(prefix: str) -> Json:
    # The API restarts in about a second; a request that does not reach it is repeated for that long.
    retries = {**NEVER_ARRIVED, "num_retries": 4, "retry_back_off": {"base_interval": "0.1s", "max_interval": "1s"}}
    return {
        "match": {"path_separated_prefix": prefix},
        "route": {
            "cluster": API_CLUSTER,
            "timeout": "0s",
            "idle_timeout": f"{STREAM_IDLE_S}s",
            "retry_policy": retries,
        },
    }


_SLASH = r"(/|%2[fF]|%5[cC])"
_UPWARDS: Json = {
    "match": {"safe_regex": {"regex": rf".*{_SLASH}(\.|%2[eE]){{2}}({_SLASH}.*)?"}},
    "direct_response": {"status": 400, "body": {"inline_string": "The path goes upwards by '..' and encoded slashes."}},
}
"""A service may use encoded slashes, but no server may interpret such a path as one outside of the service."""

_TOO_LONG: Json = {"name": "content-length", "range_match": {"start": BODY_MAX_BYTES + 1, "end": 2**63 - 1}}

_NAMES_ONE: Json = {"name": REVISION_HEADER, "present_match": True}


def _rule_routes(rule: RouteRule, prefix: str) -> Iterable[Json]:
    """The routes of one deployment below `prefix`, in order."""
    return (_for_browsers(rule, route) for route in _answers(rule, prefix))


def _for_browsers(rule: RouteRule, route: Json) -> Json:
    """A route with the headers for browsers that each answer of its deployment has."""
    headers = list(route.get("response_headers_to_add", ()))
    if rule.sandbox:
        headers.append(added("content-security-policy", _SANDBOX_OF_PAGES))
    if not rule.cors_origins:
        return route | ({"response_headers_to_add": headers} if headers else {})
    filters = {"envoy.filters.http.cors": _cors(rule)}
    return route | {"response_headers_to_add": [*headers, added("vary", "origin")], "typed_per_filter_config": filters}


_SANDBOX_OF_PAGES = (
    "%CEL('content-type' in response.headers && "
    "!response.headers['content-type'].matches('(?i)html|xml|multipart') ? '' : 'sandbox')%"
)
"""For answers in which a browser runs scripts: HTML, SVG and other XML, and those without a content type. Other answers
do not get the header."""


def _cors(rule: RouteRule) -> Json:
    """See `kaon.types.cors`."""
    return {
        "@type": f"{V3}.extensions.filters.http.cors.v3.CorsPolicy",
        "allow_origin_string_match": [{"exact": origin} for origin in rule.cors_origins],
        "allow_methods": cors.METHODS,
        "allow_headers": ", ".join((cors.SENT, *rule.cors_headers)),
        "expose_headers": _exposed(rule),
        "allow_credentials": rule.cors_credentials,
        "max_age": str(cors.MAX_AGE_S),
        "allow_private_network_access": True,
    }


def _exposed(rule: RouteRule) -> str:
    return ", ".join((cors.EXPOSED, *rule.cors_headers))


_PREFLIGHT: list[Json] = [
    {"name": ":method", "string_match": {"exact": "OPTIONS"}},
    {"name": "access-control-request-method", "present_match": True},
]


def _answers(rule: RouteRule, prefix: str) -> Iterable[Json]:
    whole = below(prefix)
    if rule.cors_origins:
        # Envoy's filter answers it; the cluster is never used, but a route must have one.
        match = [*_PREFLIGHT, from_pages_of(rule.cors_origins)]
        yield {"match": whole | {"headers": match}, "route": {"cluster": API_CLUSTER}}
    if rule.closed:
        yield from _direct(rule, whole | {"headers": _NO_KEY}, {"status": 401})
    yield from _direct(rule, whole | {"headers": [_TOO_LONG]}, {"status": 413})
    if not rule.ways:
        yield from _direct(rule, whole, {"status": 503})
        return
    if rule.revisions:
        yield from _direct(rule, whole | {"headers": [_NAMES_ONE, _other_than(rule)]}, _no_such_revision(rule))
    for revision in rule.revisions if len(rule.revisions) > 1 else ():
        # A held call gets the first ready replica, of whatever revision: so a call that names a revision is not held.
        weights = ((cluster_name(rule.key, revision), 100),)
        pinned = replace(rule, weights=weights, shadow=None, spare=False, hold_s=0.0)
        named = {"name": REVISION_HEADER, "string_match": {"exact": str(revision)}}
        for route in forwarded(pinned, prefix):
            match = route["match"]
            yield route | {"match": match | {"headers": [*match.get("headers", ()), named]}}
    yield from forwarded(rule, prefix)


def _direct(rule: RouteRule, match: Json, answer: Json) -> Iterable[Json]:
    """A request that the edge answers itself. Envoy's CORS filter ignores such routes: its headers are added here."""
    if rule.cors_origins:
        readable = [("access-control-allow-origin", "%REQ(ORIGIN)%"), ("access-control-expose-headers", _exposed(rule))]
        if rule.cors_credentials:
            readable.append(("access-control-allow-credentials", "true"))
        yield {
            "match": match | {"headers": [*match.get("headers", ()), from_pages_of(rule.cors_origins)]},
            "direct_response": answer,
            "response_headers_to_add": [added(*header) for header in readable],
        }
    yield {"match": match, "direct_response": answer}


def _other_than(rule: RouteRule) -> Json:
    """Matches calls that name a revision which the rule does not have."""
    revisions = "|".join(map(str, rule.revisions))
    return {"name": REVISION_HEADER, "string_match": {"safe_regex": {"regex": revisions}}, "invert_match": True}


def _no_such_revision(rule: RouteRule) -> Json:
    """The answer to a call that names a revision which does not run: it never goes to another one."""
    running = ", ".join(map(str, rule.revisions))
    text = f"No such revision of '{rule.key[1]}' runs. The header {REVISION_HEADER} may name: {running}."
    return {"status": 404, "body": {"inline_string": text}}
