"""Every error as RFC 9457 problem+json, Kaon's and the framework's, with a request id and without internals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from kaon.context import request_id
from kaon.errors import (
    PROBLEM_JSON,
    Forbidden,
    InvalidInput,
    KaonError,
    MethodNotAllowed,
    NotFound,
    TooLarge,
    Unauthenticated,
)


class Unprocessable(InvalidInput):
    """A well-formed request that cannot be carried out; the hint has the way out."""

    status = 422


class Problem(BaseModel):
    """What went wrong: RFC 9457."""

    model_config = ConfigDict(frozen=True)

    type: str = Field(description="urn:kaon:error:CODE")
    title: str
    status: int
    code: str = Field(description="Stable, for programs.")
    detail: str = Field(description="What happened, for people.")
    hint: str = Field(default="", description="The next thing to do.")
    errors: list[dict[str, Any]] = Field(default_factory=list, description="Where the request is wrong.")
    retry_after_s: float | None = None
    request_id: str = ""


RESPONSES: dict[int | str, dict[str, Any]] = {
    "default": {
        "description": "What went wrong.",
        "content": {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
}
"""Responses that every route may have."""


def problem_response(error: KaonError, headers: Mapping[str, str] | None = None) -> Response:
    """`error` as an answer."""
    more = dict(headers or {})
    if isinstance(error, Unauthenticated):
        more["www-authenticate"] = "Bearer"
    if error.retry_after_s is not None:
        more["retry-after"] = str(max(1, math.ceil(error.retry_after_s)))
    return Response(error.problem_json(request_id.get()), error.status, headers=more, media_type=PROBLEM_JSON)


async def answer_kaon(_: Request, error: Exception) -> Response:
    """Answer with a `KaonError`."""
    assert isinstance(error, KaonError)
    return problem_response(error)


async def answer_framework(_: Request, error: Exception) -> Response:
    """Answer with the status of a framework error, without its text."""
    assert isinstance(error, HTTPException)
    match error.status_code:
        case 404:
            problem: KaonError = NotFound("This path does not exist.", hint="The paths are in /api/v1/openapi.json.")
        case 405:
            problem = MethodNotAllowed("This path does not support this method.")
        case 413:
            problem = TooLarge("The body is too large.")
        case 401 | 403:
            problem = Forbidden("This is not allowed.")
        case status if status >= 500:
            problem = KaonError()
        case _:
            problem = InvalidInput("The request cannot be read.")
    return problem_response(problem, error.headers)


async def answer_validation(_: Request, error: Exception) -> Response:
    """Answer where and why a request does not fit its types, never with what was sent: it may be a secret."""
    assert isinstance(error, RequestValidationError)
    return problem_response(
        Unprocessable(
            "The request does not match the types of this route.",
            hint="See `errors` for the places; the types are in /api/v1/openapi.json.",
            errors=[_where_and_why(e) for e in error.errors()[:20]],
        )
    )


def _where_and_why(error: Mapping[str, Any]) -> dict[str, str]:
    place: Sequence[Any] = error.get("loc", ())
    return {
        "where": ".".join(str(p)[:80] for p in place),
        "message": str(error.get("msg", "")).removeprefix("Value error, ")[:200],
    }
