"""What the edge answers when it must answer itself: problem+json with a code, a cause and a hint."""

from __future__ import annotations

from typing import Any

from kaon.errors import PROBLEM_JSON

_ANY = 0
_OWN_STATUS = {"interrupted": 502}
"""Where Envoy's status would tell callers to send again what must not be."""
_BROKE_OFF = "The replica broke off while it had this call; nobody knows what of it was done."
_MAY_HAVE_RUN = "See why: kaon logs. With idempotent=True, retry=True the edge asks another replica."
_TABLE: tuple[tuple[int, tuple[str, ...], str, str, str], ...] = (
    # status, Envoy's response flags, code, cause, hint; the status that is told is the code's own, see `_OWN_STATUS`
    (404, ("NR",), "not-found", "Nothing is deployed at this path.", "See what there is: kaon ps"),
    (404, (), "not-found", "%LOCAL_REPLY_BODY%", "See what runs: kaon rollout history NAME"),
    (503, ("UH",), "no-ready-replica", "No replica of this deployment is ready.", "See why: kaon ps, kaon events"),
    (503, ("UO",), "unavailable", "Too many requests are open at once.", "Try again in a moment."),
    (503, ("UC", "UR"), "interrupted", _BROKE_OFF, _MAY_HAVE_RUN),
    (503, ("OM",), "unavailable", "The edge is out of memory or connections.", "Try again in a moment."),
    (
        504,
        (),
        "deadline-exceeded",
        "The service did not answer in time.",
        "Raise the endpoint's timeout_s.",
    ),
    (408, (), "deadline-exceeded", "The request did not arrive in time.", "Send the whole request without a pause."),
    (413, (), "too-large", "The request's body is over 100 MB.", "Send it in parts, or in chunks without a length."),
    (431, (), "too-large", "The request's headers are over 60 KiB or 100 lines.", "Send fewer or shorter headers."),
    (426, (), "invalid-input", "This protocol version is not spoken here.", "Use HTTP/1.1 or HTTP/2."),
    (400, (), "invalid-input", "The request is malformed.", "Check its line, headers and path."),
    (403, (), "forbidden", "The edge does not allow this request.", ""),
    (502, (), "interrupted", _BROKE_OFF, _MAY_HAVE_RUN),
    (503, (), "unavailable", "The service cannot be reached.", "Try again; see why: kaon ps, kaon logs"),
    (_ANY, (), "internal", "The edge could not answer this request.", "See the edge's log."),
)


def _filter(status: int, flags: tuple[str, ...]) -> dict[str, Any]:
    by_flag = {"response_flag_filter": {"flags": list(flags)}}
    operator, value = ("GE", 400) if status == _ANY else ("EQ", status)
    by_status = {
        "status_code_filter": {"comparison": {"op": operator, "value": {"default_value": value, "runtime_key": "_"}}}
    }
    return {"and_filter": {"filters": [by_status, by_flag]}} if flags else by_status


def _mapper(status: int, flags: tuple[str, ...], code: str, cause: str, hint: str) -> dict[str, Any]:
    problem = {
        "type": f"urn:kaon:error:{code}",
        "title": code.replace("-", " "),
        "status": "%RESPONSE_CODE%",
        "code": code,
        "detail": cause,
        **({"hint": hint} if hint else {}),
        "request_id": "%REQ(X-REQUEST-ID)%",
    }
    retry_after = [{"header": {"key": "retry-after", "value": "1"}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}]
    return {
        "filter": _filter(status, flags),
        **({"status_code": _OWN_STATUS[code]} if code in _OWN_STATUS else {}),
        "body_format_override": {
            "json_format": problem,
            "content_type": PROBLEM_JSON,
            "omit_empty_values": True,
        },
        **({"headers_to_add": retry_after} if status == 503 and code not in _OWN_STATUS else {}),
    }


LOCAL_REPLIES: dict[str, Any] = {"mappers": [_mapper(*row) for row in _TABLE]}
"""Envoy's `local_reply_config`: the first row that fits counts."""
