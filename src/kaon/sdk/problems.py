"""pydantic's errors for callers: where and why, without the value and without internal names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import ValidationError

from kaon.errors import InvalidInput

MOST = 20
"""The most problems in one error."""
_COUNTED = 1000
"""With more problems, only their number is reported: pydantic builds them all to return the first."""
_LONGEST = 200
"""The most characters of a location or a reason."""

_TEXTS = {
    "missing": "is required",
    "extra_forbidden": "is not a parameter of this endpoint",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "dataclass_type": "must be an object",
    "recursion_loop": "is nested too deeply",
}


def invalid(error: ValidationError, where: str) -> InvalidInput:
    """The error for invalid input; `where` is `body`, `query`, `path` or `form`."""
    if error.error_count() > _COUNTED:
        return invalid_input([problem(where, f"is wrong in {error.error_count()} places, too many to list")])
    return invalid_input([problem(location(where, e["loc"]), _text(e)) for e in _first(error)])


def unreadable(error: ValidationError, body: bytes) -> InvalidInput:
    """The error for an invalid JSON body."""
    if body[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in body[:4]:
        return invalid_input([problem("body", "is UTF-16 or UTF-32; JSON is sent as UTF-8 (RFC 8259)")])
    return invalid(error, "body")


def unknown_parameters(where: str, names: Sequence[str]) -> InvalidInput:
    """The error for parameters that the endpoint does not have."""
    return invalid_input(
        [problem(f"{where}.{name[:80]}", "is not a parameter of this endpoint") for name in names[:MOST]]
    )


def invalid_input(problems: list[dict[str, str]]) -> InvalidInput:
    """`InvalidInput` with the first of `problems` as its cause."""
    first = problems[0]
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return InvalidInput(
        f"{first['where']} {first['problem']}{more}.",
        hint="See the endpoint's parameters on the deployment's /docs page.",
        errors=list(problems),
    )


def problem(where: str, why: str) -> dict[str, str]:
    """One entry of `errors`."""
    return {"where": where.encode("utf-8", "replace").decode()[:_LONGEST], "problem": why[:_LONGEST]}


def location(root: str, path: Iterable[Any]) -> str:
    """`body.items.3.price`; without the names that pydantic gives to members of unions."""
    steps = [str(step)[:80] for step in path if isinstance(step, int) or not set(str(step)) & set("[](), ")]
    return ".".join([root, *steps])


def summary(error: ValidationError) -> str:
    """The problems in one sentence, without the value; for settings and answers."""
    if error.error_count() > _COUNTED:
        return f"it is wrong in {error.error_count()} places"
    parts = []
    for e in _first(error)[:3]:
        at = location("", e["loc"]).lstrip(".")
        parts.append(f"{at} {_text(e)}" if at else _text(e))
    return "; ".join(parts)


def _first(error: ValidationError) -> list[Any]:
    return error.errors(include_url=False, include_context=False, include_input=False)[:MOST]


def _text(error: Any) -> str:
    text = _TEXTS.get(error["type"])
    if text is not None:
        return text
    if error["type"] == "json_invalid":
        return f"is not valid JSON: {str(error['msg']).removeprefix('Invalid JSON: ')}"
    message = str(error["msg"]).removeprefix("Value error, ").removeprefix("Assertion failed, ")
    for start, other in (("Input should be", "should be"), ("Input ", "")):
        if message.startswith(start):
            return other + message[len(start) :]
    return f"is invalid: {message}"
