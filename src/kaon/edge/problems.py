"""What the edge answers when it must answer itself: problem+json with a code, a cause and a hint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kaon.errors import PROBLEM_JSON
from kaon.sdk.docs_page import docs_page

_V3 = "type.googleapis.com/envoy"
_ANY = 0
_OWN = "direct_response"
"""What Envoy calls an answer that a route of ours has."""


UNKNOWN_PATH = "unknown-path"
"""Name of the route of paths where nothing is deployed."""


@dataclass(frozen=True, slots=True)
class _Row:
    """One case and its problem document. The first row that matches counts."""

    status: int
    code: str
    cause: str
    hint: str
    flags: tuple[str, ...] = ()
    """Envoy's response flags, one of which there must be."""
    details: tuple[str, ...] = ()
    """Envoy's names of the case, one of which it must have."""
    route: str = ""
    """The name of the route that it must have."""
    answered_status: int = 0
    """The status to send instead of Envoy's, which would make callers repeat a call that must not be."""


_LINES = "Write headers as 'name: value', and percent-encode what is not ASCII in path and query."
_CHARACTERS = ("http1.invalid_characters", "http1.invalid_url", "http2.invalid.header.field", "header_map_invalid")
_LENGTHS = (
    "http1.content_length_not_allowed",
    "http1.content_length_and_chunked_not_allowed",
    "http1.content_length_and_chunked_not_allowed.",
    "http1.body_disallowed",
)
_TRANSFER = ("http1.invalid_transfer_encoding", "http1.invalid_scheme")
_CUT = "The replica broke off during this call, which may or may not have had an effect."
_CUT_HINT = "See why: kaon logs. With idempotent=True, retry=True the edge tries another replica."
_KEY_HINT = "Send 'Authorization: Bearer KEY'; `kaon key create` makes a key."

_NOTHING = "Nothing is deployed at this path."
_TABLE = (
    # The API, which would make a suggestion, cannot be reached.
    _Row(503, "not-found", _NOTHING, "List the deployments: kaon ps", route=UNKNOWN_PATH, answered_status=404),
    _Row(504, "not-found", _NOTHING, "List the deployments: kaon ps", route=UNKNOWN_PATH, answered_status=404),
    _Row(401, "unauthenticated", "The request has no key.", _KEY_HINT),
    _Row(404, "not-found", "%LOCAL_REPLY_BODY%", "See what runs: kaon rollout history NAME", details=(_OWN,)),
    _Row(404, "not-found", _NOTHING, "List the deployments: kaon ps"),
    _Row(503, "no-ready-replica", "No replica of this deployment is ready.", "See why: kaon ps, kaon events", ("UH",)),
    _Row(503, "unavailable", "Too many requests are open at once.", "Try again in a moment.", ("UO",)),
    _Row(503, "unavailable", "The edge is out of memory or connections.", "Try again in a moment.", ("OM",)),
    _Row(503, "interrupted", _CUT, _CUT_HINT, ("UC", "UR"), answered_status=502),
    _Row(503, "unavailable", "The service cannot be reached.", "Try again; see why: kaon ps, kaon logs"),
    _Row(502, "interrupted", _CUT, _CUT_HINT),
    _Row(504, "deadline-exceeded", "The service did not answer in time.", "Raise the endpoint's timeout_s."),
    _Row(408, "request-timeout", "The request did not arrive in time.", "Send the whole request without a pause."),
    _Row(413, "too-large", "The request's body is over 100 MB.", "Send it in parts, or in chunks without a length."),
    _Row(
        431,
        "too-large",
        "The request has over 100 headers.",
        "Send fewer headers.",
        details=("http1.too_many_headers", "http2.too_many_headers"),
    ),
    _Row(
        431,
        "too-large",
        "The request's path, query and headers are over 60 KiB.",
        "Send long values in a body; see whether cookies or keys have grown.",
    ),
    _Row(
        426,
        "invalid-input",
        "This version of HTTP is not supported, or the request's first line has none.",
        "Use HTTP/1.1 or HTTP/2; write the first line as 'GET /path HTTP/1.1'.",
    ),
    _Row(403, "invalid-input", "This upgrade of the connection is not supported.", "Use a WebSocket."),
    _Row(501, "invalid-input", "This transfer coding is not supported.", "Send the body with a length, or chunked."),
    _Row(400, "invalid-input", "%LOCAL_REPLY_BODY%", "Send the path without them.", details=(_OWN,)),
    _Row(400, "invalid-input", "The request has no Host header.", "Send one.", details=("missing_host_header",)),
    _Row(
        400,
        "invalid-input",
        "The request's Host header is not a host name.",
        "Send a name, with a port or without; continue no header on a next line.",
        details=("http.invalid_authority",),
    ),
    _Row(
        400,
        "invalid-input",
        "The request's path cannot be read: it has a zero byte, a fragment or a broken percent code.",
        "Percent-encode what is not a letter, digit or one of -._~.",
        details=("path_normalization_failed",),
    ),
    _Row(400, "invalid-input", "A header has an invalid character.", _LINES, details=_CHARACTERS),
    _Row(
        400,
        "invalid-input",
        "The length of the body is given twice, or is invalid.",
        "Send Content-Length once, or chunks.",
        details=_LENGTHS,
    ),
    _Row(400, "invalid-input", "A line of the request cannot be read as HTTP/1.1 (%RESPONSE_CODE_DETAILS%).", _LINES),
    _Row(_ANY, "internal", "The edge could not answer this request.", "See the edge's log."),
)


def _also(key: str, value: str) -> list[dict[str, Any]]:
    return [{"header": {"key": key, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}]


_ALSO = {
    "unavailable": _also("retry-after", "1"),
    "no-ready-replica": _also("retry-after", "1"),
    "unauthenticated": _also("www-authenticate", "Bearer"),
}
"""Headers that go with a code."""


def _filter(row: _Row) -> dict[str, Any]:
    operator, value = ("GE", 400) if row.status == _ANY else ("EQ", row.status)
    compared = {"op": operator, "value": {"default_value": value, "runtime_key": "_"}}
    filters: list[dict[str, Any]] = [{"status_code_filter": {"comparison": compared}}]
    if row.flags:
        filters.append({"response_flag_filter": {"flags": list(row.flags)}})
    if row.details or row.route:
        tests = [f"response.code_details == '{name}'" for name in row.details]
        expression = f"xds.route_name == '{row.route}'" if row.route else " || ".join(tests)
        config = {"@type": f"{_V3}.extensions.access_loggers.filters.cel.v3.ExpressionFilter", "expression": expression}
        cel = {"name": "envoy.access_loggers.extension_filters.cel", "typed_config": config}
        filters.append({"extension_filter": cel})
    return filters[0] if len(filters) == 1 else {"and_filter": {"filters": filters}}


def _mapper(row: _Row) -> dict[str, Any]:
    problem = {
        "type": f"urn:kaon:error:{row.code}",
        "title": row.code.replace("-", " "),
        "status": "%RESPONSE_CODE%",
        "code": row.code,
        "detail": row.cause,
        "hint": row.hint,
        "request_id": "%REQ(X-REQUEST-ID)%",
    }
    return {
        "filter": _filter(row),
        **({"status_code": row.answered_status} if row.answered_status else {}),
        "body_format_override": {"json_format": problem, "content_type": PROBLEM_JSON, "omit_empty_values": True},
        **({"headers_to_add": _ALSO[row.code]} if row.code in _ALSO else {}),
    }


def _docs_page() -> dict[str, Any]:
    """The docs page is the only answer with status 200 that a route of ours has: so it is in the configuration once."""
    page = docs_page()
    headers = dict(page.headers)
    return {
        "filter": _filter(_Row(200, "", "", "", details=(_OWN,))),
        "body_format_override": {
            "text_format_source": {"inline_string": page.html.decode().replace("%", "%%")},
            "content_type": headers.pop("content-type"),
        },
        "headers_to_add": [each for name, text in headers.items() for each in _also(name, text.replace("%", "%%"))],
    }


LOCAL_REPLIES: dict[str, Any] = {"mappers": [_docs_page(), *(_mapper(row) for row in _TABLE)]}
"""Envoy's `local_reply_config`."""
