"""What pydantic found wrong, said to a caller: where and why, never the value itself nor our own names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import ValidationError

from kaon.errors import InvalidInput

MOST = 20
"""Problems told at once; a list of a million bad rows needs no more to be understood."""
_COUNTED = 1000
"""More problems than these are not even looked at: pydantic makes them all before it shows the first."""
_LONGEST = 200
"""Characters of a place or a reason."""

_WORDS = {
    "missing": "is required",
    "extra_forbidden": "is not a parameter of this endpoint",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "dataclass_type": "must be an object",
    "recursion_loop": "is nested too deeply",
}


def invalid(error: ValidationError, where: str) -> InvalidInput:
    """The error to answer for input that does not fit; `where` is `body`, `query`, `path` or `form`."""
    if error.error_count() > _COUNTED:
        return refused([problem(where, f"is wrong in {error.error_count()} places, too many to tell")])
    return refused([problem(place(where, e["loc"]), _said(e)) for e in _first(error)])


def unreadable(error: ValidationError, body: bytes) -> InvalidInput:
    """The error to answer for a JSON body that does not fit, or is none."""
    if body[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in body[:4]:
        return refused([problem("body", "is UTF-16 or UTF-32; JSON is sent as UTF-8 (RFC 8259)")])
    return invalid(error, "body")


def surplus(where: str, names: Sequence[str]) -> InvalidInput:
    """The error to answer for parameters that the endpoint does not have."""
    return refused([problem(f"{where}.{name[:80]}", "is not a parameter of this endpoint") for name in names[:MOST]])


def refused(problems: list[dict[str, str]]) -> InvalidInput:
    """`InvalidInput` that leads with the first of `problems`."""
    first = problems[0]
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return InvalidInput(
        f"{first['where']} {first['problem']}{more}.",
        hint="The endpoint's parameters are described on the deployment's /docs page.",
        errors=list(problems),
    )


def problem(where: str, why: str) -> dict[str, str]:
    """One entry of `errors`."""
    return {"where": where.encode("utf-8", "replace").decode()[:_LONGEST], "problem": why[:_LONGEST]}


def place(root: str, path: Iterable[Any]) -> str:
    """`body.items.3.price`; the names that pydantic gives to the arms of unions are left out."""
    steps = [str(step)[:80] for step in path if isinstance(step, int) or not set(str(step)) & set("[](), ")]
    return ".".join([root, *steps])


def told(error: ValidationError) -> str:
    """What is wrong, in one sentence without the value; for settings and answers."""
    if error.error_count() > _COUNTED:
        return f"it is wrong in {error.error_count()} places"
    parts = []
    for e in _first(error)[:3]:
        at = place("", e["loc"]).lstrip(".")
        parts.append(f"{at} {_said(e)}" if at else _said(e))
    return "; ".join(parts)


def _first(error: ValidationError) -> list[Any]:
    return error.errors(include_url=False, include_context=False, include_input=False)[:MOST]


def _said(error: Any) -> str:
    text = _WORDS.get(error["type"])
    if text is not None:
        return text
    if error["type"] == "json_invalid":
        return f"is not valid JSON: {str(error['msg']).removeprefix('Invalid JSON: ')}"
    message = str(error["msg"]).removeprefix("Value error, ").removeprefix("Assertion failed, ")
    for start, other in (("Input should be", "should be"), ("Input ", "")):
        if message.startswith(start):
            return other + message[len(start) :]
    return f"does not fit: {message}"
