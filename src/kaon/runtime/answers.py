"""Responses for success and failure. Of an exception only what is meant for callers leaves the process."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from kaon.errors import (
    PROBLEM_JSON,
    BadAnswer,
    DependencyFailed,
    KaonError,
    MethodNotAllowed,
    NotBegun,
    RequestTimeout,
    TooManyRequests,
    Unauthenticated,
    Unavailable,
    of_status,
)
from kaon.sdk.response import own_field
from kaon.sdk.signature import Signature
from kaon.types.route import ATTEMPT_HEADER, COPY_REFUSED, NOT_BEGUN_HEADER
from kaon.types.service import WireProtocol

_ATTEMPT = ATTEMPT_HEADER.encode()

HeaderList = list[tuple[bytes, bytes]]

_log = logging.getLogger("kaon.runtime")

BODILESS = frozenset({204, 304})
"""Statuses of answers without a body."""
_FAILED = "The service failed while it handled the request."
_LOGGED = "See the traceback in the deployment's log under this request id."


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, media type, body and further headers."""

    status: int
    media_type: bytes
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()

    def all_headers(self, request_id: str) -> HeaderList:
        """All headers of the response."""
        body = [(b"content-type", self.media_type), (b"content-length", b"%d" % len(self.body))]
        return [
            *(() if self.status in BODILESS else body),
            (b"x-request-id", request_id.encode("latin-1")),
            *self.headers,
        ]


def answer_to(signature: Signature, arguments: Mapping[str, Any], value: Any) -> Answer:
    """The response with a handler's value, and the head that it has set. Raises BadAnswer."""
    media_type, body = signature.to_body(value)
    head = arguments.get(signature.response or "")
    if head is None:
        return Answer(200, media_type.encode(), body)
    is_bare = head.status_code in BODILESS
    return Answer(head.status_code, media_type.encode(), b"" if is_bare else body, head.fields())


def interrupted(error: BaseException) -> bool:
    """Whether `error` is a cancellation of the current task, not a failure of the code in it."""
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling() > 0


def public_error(error: BaseException, endpoint: str, request_id: str) -> KaonError:
    """`error` as the caller may read it; an unexpected exception goes to the log, with its traceback."""
    if isinstance(error, asyncio.CancelledError):
        return Unavailable("The call was cancelled.", hint="Try again.")
    extra = {"fields": {"endpoint": endpoint, "request_id": request_id}}
    error = _of_http_exception(error) or error
    if not isinstance(error, KaonError):
        _log.error("the handler failed", exc_info=error, extra=extra)
        return KaonError(_FAILED, hint=_LOGGED)
    if error.dependency:
        _log.error(
            "a call of %s failed: %s: %s", error.dependency, error.code, error.cause, exc_info=error, extra=extra
        )
        return DependencyFailed.of(error)
    if isinstance(error, BadAnswer):
        _log.error("%s", error.cause, extra=extra)
    return error


def _of_http_exception(error: BaseException) -> KaonError | None:
    """An `HTTPException` of Starlette or FastAPI with its status, detail and headers; None for other errors."""
    module = sys.modules.get("starlette.exceptions")
    if module is None or not isinstance(error, module.HTTPException):
        return None
    try:
        detail = error.detail if isinstance(error.detail, str) else json.dumps(error.detail, default=str)
        converted = of_status(error.status_code, detail)
        converted.headers = tuple((error.headers or {}).items())
    except Exception:
        return None
    return converted


def problem_answer(
    error: KaonError,
    request_id: str,
    fields: Mapping[bytes, bytes] = MappingProxyType({}),
    protocol: WireProtocol = "kaon",
) -> Answer:
    """The response for `error`, to a request with the headers `fields`: a problem document, or OpenAI's form.

    Never raises: an error of a handler that cannot be written as JSON is reported as a failure of the service.
    """
    try:
        return _problem_answer(error, request_id, fields, protocol)
    except BaseException:
        _log.exception(
            "an error could not be written as a problem document", extra={"fields": {"request_id": request_id}}
        )
        return _problem_answer(KaonError(_FAILED, hint=_LOGGED), request_id, {}, protocol)


def _problem_answer(error: KaonError, request_id: str, fields: Mapping[bytes, bytes], protocol: WireProtocol) -> Answer:
    if not 400 <= error.status <= 599:
        raise ValueError(f"{error.status} is not the status of an error")
    headers = [own_field(name, value) for name, value in error.headers]
    if error.retry_after_s is not None:
        headers.append((b"retry-after", b"%d" % max(1, math.ceil(error.retry_after_s))))
    if isinstance(error, TooManyRequests) and fields.get(_ATTEMPT, b"1") != b"1":
        headers.append((COPY_REFUSED.encode(), b"1"))
    if isinstance(error, NotBegun):
        headers.append((NOT_BEGUN_HEADER.encode(), b"1"))
    if isinstance(error, MethodNotAllowed) and error.allow:
        headers.append(allowed(error.allow))
    if isinstance(error, RequestTimeout):  # the rest of its body must not be read as the next request
        headers.append((b"connection", b"close"))
    if isinstance(error, Unauthenticated):
        headers.append((b"www-authenticate", b"Bearer"))
    if protocol == "openai":
        return Answer(error.status, b"application/json", error.openai_json(), tuple(headers))
    return Answer(error.status, PROBLEM_JSON.encode(), error.problem_json(request_id), tuple(headers))


def allowed(verbs: Iterable[str]) -> tuple[bytes, bytes]:
    """The `Allow` header of a path whose endpoints take `verbs` (RFC 9110, 10.2.1)."""
    others = {"HEAD", "OPTIONS"} if "GET" in verbs else {"OPTIONS"}
    return b"allow", ", ".join(sorted({*verbs, *others})).encode()
