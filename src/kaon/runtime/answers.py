"""Answers: what goes back, for success and for failure. Nothing of an exception leaves but what it says on purpose."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from kaon.errors import (
    PROBLEM_JSON,
    BadAnswer,
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
from kaon.types.route import ATTEMPT_HEADER, COPY_REFUSED, NOT_BEGUN_HEADER

_ATTEMPT = ATTEMPT_HEADER.encode()

HeaderList = list[tuple[bytes, bytes]]

_log = logging.getLogger("kaon.runtime")

BODILESS = frozenset({204, 304})
"""Statuses of answers without a body."""
_FAILED = "The service failed while it worked on the request."
_LOGGED = "The reason is in the deployment's log under this request id."


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, media type, body, and headers beyond these."""

    status: int
    media_type: bytes
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()

    def all_headers(self, request_id: str) -> HeaderList:
        """Everything that goes on the wire."""
        body = [(b"content-type", self.media_type), (b"content-length", b"%d" % len(self.body))]
        return [
            *(() if self.status in BODILESS else body),
            (b"x-request-id", request_id.encode("latin-1")),
            *self.headers,
        ]


def interrupted(error: BaseException) -> bool:
    """Whether `error` ends the current task from outside, and is no failure of what ran in it."""
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling() > 0


def known(error: BaseException, endpoint: str, request_id: str) -> KaonError:
    """`error` as its caller may read it; what is not meant for callers goes to the log, with its traceback."""
    if isinstance(error, asyncio.CancelledError):
        return Unavailable("The call was cancelled.", hint="Try again.")
    extra = {"fields": {"endpoint": endpoint, "request_id": request_id}}
    error = _of_starlette(error) or error
    if not isinstance(error, KaonError):
        _log.error("the handler failed", exc_info=error, extra=extra)
        return KaonError(_FAILED, hint=_LOGGED)
    if isinstance(error, BadAnswer):
        _log.error("%s", error.cause, extra=extra)
    return error


def _of_starlette(error: BaseException) -> KaonError | None:
    """What an `HTTPException` of Starlette or FastAPI says: its status, its detail, its headers.

    None for other errors, and for one that says nothing that could be told.
    """
    module = sys.modules.get("starlette.exceptions")
    if module is None or not isinstance(error, module.HTTPException):
        return None
    try:
        detail = error.detail if isinstance(error.detail, str) else json.dumps(error.detail, default=str)
        told = of_status(error.status_code, detail)
        told.headers = tuple((error.headers or {}).items())
    except Exception:
        return None
    return told


def refusal(error: KaonError, request_id: str, fields: Mapping[bytes, bytes] = MappingProxyType({})) -> Answer:
    """The problem document for `error`, to a request with the headers `fields`.

    Never raises: an error of a handler's own making that no document can say is told as a failure of the service.
    """
    try:
        return _refusal(error, request_id, fields)
    except BaseException:
        _log.exception("an error could not be told to its caller", extra={"fields": {"request_id": request_id}})
        return _refusal(KaonError(_FAILED, hint=_LOGGED), request_id, {})


def _refusal(error: KaonError, request_id: str, fields: Mapping[bytes, bytes]) -> Answer:
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
    if isinstance(error, RequestTimeout):  # what is left of its body must not be read as the next request
        headers.append((b"connection", b"close"))
    if isinstance(error, Unauthenticated):
        headers.append((b"www-authenticate", b"Bearer"))
    return Answer(error.status, PROBLEM_JSON.encode(), error.problem_json(request_id), tuple(headers))


def allowed(verbs: Iterable[str]) -> tuple[bytes, bytes]:
    """The header `Allow` of a path whose endpoints take `verbs` (RFC 9110, 10.2.1)."""
    others = {"HEAD", "OPTIONS"} if "GET" in verbs else {"OPTIONS"}
    return b"allow", ", ".join(sorted({*verbs, *others})).encode()
