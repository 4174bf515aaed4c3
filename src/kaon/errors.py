"""The tree of errors, and their form on the wire.

    KaonError
    ├── InvalidInput        400   the request or file is invalid; `errors` says where
    ├── Unauthenticated     401   no key, or one that is unknown, expired or revoked
    ├── Forbidden           403   a good key that may not do this
    ├── NotFound            404   no such object, or none that the key may see
    ├── MethodNotAllowed    405   the path does not support this method
    ├── RequestTimeout      408   the request's body stopped arriving
    ├── Conflict            409   it was changed meanwhile, or exists already
    ├── Gone                410   the state to resume from no longer exists: start again
    ├── TooLarge            413   over a stated limit
    ├── UnsupportedMediaType 415  an unsupported media type or coding; the hint lists supported ones
    ├── TooManyRequests     429   the queue is full, or this caller is over its share; see `retry_after_s`
    ├── ConfigError         500   a service cannot start as configured
    ├── UnreadableRow       500   a stored document that this version cannot read
    ├── BuildError          422   sources or requirements do not make an artifact
    ├── ItemError           422   one row of a batch failed; the others did not
    ├── PoisonRequest       422   this request was in flight at crashes of the service, and is refused for a while
    ├── BadAnswer           502   a handler's answer does not match its type hints
    ├── JobFailed           502   a job whose result was waited for did not succeed
    ├── DependencyFailed    502   a call of another service failed in a handler; 504 when it was too late
    ├── Unavailable         503   busy, draining or not reachable now; `retry_after_s` may be set
    │   ├── DiskFull        507   a disk of the platform has not enough free space
    │   ├── NotBegun        503   refused before any work; another replica may take it
    │   ├── StaleEpoch      503   a newer control plane uses this store: this one's writes are refused
    │   ├── Interrupted     502   the connection broke after the call was sent; it may have been executed
    │   ├── PlaceFull       503   a place has no room for one more workload now
    │   └── PlaceUnavailable 503  a place where workloads run cannot be reached
    ├── WorkloadRefused     422   a place can never run this workload as it is specified
    └── DeadlineExceeded    504   not answered before the caller's deadline

Every error has a *code* (stable, for programs), a *cause* (what happened, for people) and a *hint*
(the next step). On the wire it is RFC 9457 problem+json; nothing else of the exception, no
traceback and no repr, leaves the process.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, ClassVar

PROBLEM_JSON = "application/problem+json"
_OPENAI_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    429: "rate_limit_error",
}
"""`type` of an error of the OpenAI API by its status; others are invalid_request_error and server_error."""


class KaonError(Exception):
    """The base of all errors; see the module's tree."""

    code: str = "internal"
    status: int = 500
    exit_code: ClassVar[int] = 1
    headers: tuple[tuple[str, str], ...] = ()
    """Further headers of its response."""
    request_id: str = ""
    """Id of the failed request, when the error came over the wire."""
    dependency: str = ""
    """The service whose call raised it, in a caller's process; empty: raised by the process itself."""

    def __init__(
        self,
        cause: str = "Something went wrong inside Kaon.",
        *,
        hint: str = "",
        retry_after_s: float | None = None,
        errors: list[dict[str, Any]] | None = None,
    ) -> None:
        super().__init__(cause)
        self.cause = cause
        self.hint = hint
        self.retry_after_s = retry_after_s
        self.errors = errors or []

    def __str__(self) -> str:
        return f"{self.cause} Hint: {self.hint}" if self.hint else self.cause

    def problem(self, request_id: str = "") -> dict[str, Any]:
        """The RFC 9457 members."""
        members: dict[str, Any] = {
            "type": f"urn:kaon:error:{self.code}",
            "title": self.code.replace("-", " "),
            "status": self.status,
            "code": self.code,
            "detail": self.cause,
        }
        if self.hint:
            members["hint"] = self.hint
        if self.errors:
            members["errors"] = self.errors
        if self.retry_after_s is not None:
            members["retry_after_s"] = self.retry_after_s
        if request_id:
            members["request_id"] = request_id
        return members

    def openai_json(self) -> bytes:
        """The error as the OpenAI API writes it, as UTF-8 JSON; `param` is the first wrong field of the body."""
        where = str(self.errors[0].get("where", "")) if self.errors else ""
        error = {
            "message": f"{self.cause} {self.hint}".strip(),
            "type": _OPENAI_TYPES.get(self.status)
            or ("server_error" if self.status >= 500 else "invalid_request_error"),
            "code": self.code,
            "param": where.removeprefix("body.") or None,
        }
        return json.dumps({"error": error}, ensure_ascii=False).encode()

    def problem_json(self, request_id: str = "") -> bytes:
        """`problem` as UTF-8 JSON."""
        return json.dumps(self.problem(request_id), ensure_ascii=False).encode()


class InvalidInput(KaonError):
    """The request or file is invalid; `errors` says where."""

    code, status, exit_code = "invalid-input", 400, 2


class Unauthenticated(KaonError):
    """No key, or one that is unknown, expired or revoked."""

    code, status, exit_code = "unauthenticated", 401, 4


class Forbidden(KaonError):
    """A good key that may not do this."""

    code, status, exit_code = "forbidden", 403, 4


class NotFound(KaonError):
    """No such object, or none that the key may see."""

    code, status, exit_code = "not-found", 404, 3


class MethodNotAllowed(KaonError):
    """The path does not support this method; `allow` has those that it supports."""

    code, status, exit_code = "method-not-allowed", 405, 2
    allow: tuple[str, ...] = ()


class RequestTimeout(KaonError):
    """The request's body stopped arriving."""

    code, status, exit_code = "request-timeout", 408, 6


class Conflict(KaonError):
    """It was changed meanwhile, or exists already."""

    code, status, exit_code = "conflict", 409, 5


class Gone(KaonError):
    """The state to resume from no longer exists: start again."""

    code, status, exit_code = "gone", 410, 5


class TooLarge(KaonError):
    """Over a stated limit."""

    code, status, exit_code = "too-large", 413, 2


class UnsupportedMediaType(KaonError):
    """An unsupported media type or coding; the hint lists supported ones."""

    code, status, exit_code = "unsupported-media-type", 415, 2


class TooManyRequests(KaonError):
    """This caller is over its share, or the queue is full."""

    code, status, exit_code = "too-many-requests", 429, 1


class ConfigError(KaonError):
    """A service cannot start as configured; a restart does not help."""

    code, status, exit_code = "config-error", 500, 1


class UnreadableRow(KaonError):
    """A stored document that this version of Kaon cannot read; everything else works without it."""

    code, status, exit_code = "unreadable", 500, 1
    row: Any = None
    """The `Unreadable` of the store, by which it can be deleted."""


class BuildError(KaonError):
    """Sources or requirements do not make an artifact."""

    code, status, exit_code = "build-error", 422, 1


class ItemError(KaonError):
    """One row of a batch failed; the others did not.

    A batched handler returns it in its list in place of the row's result, or raises it with the row's `index`: then the
    handler is called again for the others.
    """

    code, status, exit_code = "item-error", 422, 1

    def __init__(
        self,
        cause: str = "This row failed.",
        *,
        index: int | None = None,
        hint: str = "",
        retry_after_s: float | None = None,
        errors: list[dict[str, Any]] | None = None,
    ) -> None:
        super().__init__(cause, hint=hint, retry_after_s=retry_after_s, errors=errors)
        self.index = index


class PoisonRequest(KaonError):
    """The request was in flight at more than one crash of the service, and is refused for a while."""

    code, status, exit_code = "poison-request", 422, 1


class BadAnswer(KaonError):
    """A handler's answer does not match its type hints, or has the wrong number of results."""

    code, status, exit_code = "bad-answer", 502, 1


class JobFailed(KaonError):
    """A job whose result was waited for did not succeed."""

    code, status, exit_code = "job-failed", 502, 1


class DependencyFailed(KaonError):
    """A call of another service failed in a handler; `details` has its name, the code of its error, its request id."""

    code, status, exit_code = "dependency-failed", 502, 1
    details: Mapping[str, str] = MappingProxyType({})

    @classmethod
    def of(cls, error: KaonError) -> DependencyFailed:
        """What a handler's caller gets for an error of a call that the handler has made; the cause is for the log."""
        failed = cls(
            f"A call of `{error.dependency}`, which this service uses, failed with {error.code}.",
            hint="The cause is in the service's log under this request id.",
            retry_after_s=error.retry_after_s,
        )
        failed.status = 504 if isinstance(error, DeadlineExceeded) else cls.status
        failed.details = {"name": error.dependency, "code": error.code, "request_id": error.request_id}
        failed.__cause__ = error
        return failed

    def problem(self, request_id: str = "") -> dict[str, Any]:
        return super().problem(request_id) | ({"dependency": dict(self.details)} if self.details else {})


class Unavailable(KaonError):
    """Busy, draining or not reachable now."""

    code, status, exit_code = "unavailable", 503, 7


class DiskFull(Unavailable):
    """There is not enough free space on a disk of the platform."""

    code, status = "disk-full", 507


class NotBegun(Unavailable):
    """Refused before any work on the call: it may be sent to another replica."""

    code = "not-begun"


class StaleEpoch(Unavailable):
    """A newer control plane uses this store: the writes of this one are refused."""

    code = "stale-epoch"


class Interrupted(Unavailable):
    """The connection to the replica broke after the call was sent: it may have been executed."""

    code, status = "interrupted", 502


class PlaceFull(Unavailable):
    """A place where workloads run has no room for another one now."""

    code = "place-full"


class PlaceUnavailable(Unavailable):
    """A place where workloads run cannot be reached; the outcome of the call is unknown."""

    code = "place-unavailable"


class WorkloadRefused(KaonError):
    """A place can never run this workload as it is specified."""

    code, status, exit_code = "workload-refused", 422, 2


class DeadlineExceeded(KaonError):
    """Not answered before the caller's deadline."""

    code, status, exit_code = "deadline-exceeded", 504, 6


def _tree(root: type[KaonError]) -> list[type[KaonError]]:
    return [root, *(c for sub in root.__subclasses__() for c in _tree(sub))]


_BY_STATUS: dict[int, type[KaonError]] = {
    kind.status: kind
    for kind in (
        InvalidInput,
        Unauthenticated,
        Forbidden,
        NotFound,
        MethodNotAllowed,
        Conflict,
        Gone,
        TooLarge,
        UnsupportedMediaType,
        TooManyRequests,
        Unavailable,
        DeadlineExceeded,
    )
}


@contextmanager
def calling(dependency: str) -> Iterator[None]:
    """Mark errors of a call of another service, so that they are not taken for the process's own."""
    try:
        yield
    except ConfigError:
        raise
    except KaonError as error:
        error.dependency = dependency
        raise


def of_status(status: int, cause: str) -> KaonError:
    """The error of an HTTP status; a status without a class has the code `http-STATUS`."""
    kind = _BY_STATUS.get(status)
    if kind is not None:
        return kind(cause)
    error = KaonError(cause)
    error.status, error.code = status, f"http-{status}"
    return error


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """A suggestion for a name that is nearly one of `names`, with a space behind it; else empty."""
    near = difflib.get_close_matches(name, list(names), 1)
    return f"Did you mean {near[0]}? " if near else ""


def from_problem(status: int, members: Mapping[str, Any]) -> KaonError:
    """The exception of a problem document, by its `code`, else by `status`, else `KaonError`.

    `members` may be an error of the OpenAI API too.
    """
    if isinstance(error := members.get("error"), Mapping):
        members = {"detail": error.get("message"), "code": error.get("code")}
    code = str(members.get("code", ""))
    kinds = _tree(KaonError)
    match = next((c for c in kinds if c.code == code), None)
    cls = match or next((c for c in kinds if c.status == status), KaonError)
    retry = members.get("retry_after_s")
    error = cls(
        str(members.get("detail") or members.get("title") or f"HTTP status {status}"),
        hint=str(members.get("hint", "")),
        retry_after_s=float(retry) if isinstance(retry, (int, float)) else None,
        errors=list(members.get("errors") or []),
    )
    error.request_id = str(members.get("request_id") or "")
    if isinstance(error, DependencyFailed) and isinstance(details := members.get("dependency"), Mapping):
        error.details = {str(key): str(value) for key, value in details.items()}
    return error
