"""What pydantic found wrong, said to a caller: where and why, never the value itself nor our own names."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import ValidationError

from kaon.errors import InvalidInput

_MOST = 20
"""Problems told at once; a list of a million bad rows needs no more to be understood."""

_WORDS = {
    "missing": "is required",
    "extra_forbidden": "is not a parameter of this endpoint",
    "json_invalid": "is not valid JSON",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "dataclass_type": "must be an object",
    "recursion_loop": "is nested too deeply",
}


def invalid(error: ValidationError, where: str) -> InvalidInput:
    """The error to answer for input that does not fit; `where` is `body`, `query`, `path` or `form`."""
    return refused([problem(place(where, e["loc"]), _said(e)) for e in _first(error)])


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
    return {"where": where.encode("utf-8", "replace").decode(), "problem": why}


def place(root: str, path: Iterable[Any]) -> str:
    """`body.items.3.price`; the names that pydantic gives to the arms of unions are left out."""
    steps = [str(step)[:80] for step in path if isinstance(step, int) or not set(str(step)) & set("[](), ")]
    return ".".join([root, *steps])


def told(error: ValidationError) -> str:
    """What is wrong, in one sentence without the value; for settings and answers."""
    parts = []
    for e in _first(error)[:3]:
        at = place("", e["loc"]).lstrip(".")
        parts.append(f"{at} {_said(e)}" if at else _said(e))
    return "; ".join(parts)


def _first(error: ValidationError) -> list[Any]:
    return error.errors(include_url=False, include_context=False, include_input=False)[:_MOST]


def _said(error: Any) -> str:
    text = _WORDS.get(error["type"])
    if text is not None:
        return text
    message = str(error["msg"]).removeprefix("Value error, ").removeprefix("Assertion failed, ")
    for start, other in (("Input should be", "should be"), ("Input ", "")):
        if message.startswith(start):
            return other + message[len(start) :]
    return f"does not fit: {message}"
