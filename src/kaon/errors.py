"""What can go wrong, as one tree, and its form on the wire.

    KaonError
    ├── InvalidInput        400   the request or file is wrong; says where
    ├── Unauthenticated     401   no key, or one that is unknown, expired or revoked
    ├── Forbidden           403   a good key that may not do this
    ├── NotFound            404   nothing of that name that you may see
    ├── MethodNotAllowed    405   the path exists, but not for this verb
    ├── RequestTimeout      408   the request's body stopped coming
    ├── Conflict            409   somebody changed it first, or it exists already
    ├── Gone                410   what was asked to go on with is not known any more: begin anew
    ├── TooLarge            413   over a stated limit
    ├── UnsupportedMediaType 415  a body in a form that is not taken here; says which are
    ├── TooManyRequests     429   this caller is over its share; `retry_after_s` says when to come back
    ├── ConfigError         500   a service cannot start as configured
    ├── UnreadableRow       500   something is stored in a form that this version cannot read
    ├── BuildError          422   sources or requirements do not make an artifact
    ├── ItemError           422   one row of a batch cannot be answered; the others can
    ├── PoisonRequest       422   this request was in flight at crashes of the service; it is refused for a while
    ├── BadAnswer           502   a handler answered something that its type hints do not allow
    ├── Unavailable         503   busy, draining or not reachable now; `retry_after_s` may say when
    │   ├── NotBegun        503   refused before any work, so that any replica may be asked instead
    │   ├── StaleEpoch      503   a newer control plane has started over this store: this one's decisions are refused
    │   ├── Interrupted     502   the replica broke off after it had the call: it may have worked on it
    │   ├── PlaceFull       503   a place has no room for one more workload now
    │   └── PlaceUnavailable 503  a place where workloads run cannot be reached
    ├── WorkloadRefused     422   a place can never run this workload as it is
    └── DeadlineExceeded    504   not answered in the time that the caller gave

Every error has a *code* (stable, for programs), a *cause* (what happened, for people) and a *hint*
(the next thing to do). On the wire it is RFC 9457 problem+json; nothing else of the exception, no
traceback and no repr, ever leaves the process.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar

PROBLEM_JSON = "application/problem+json"


class KaonError(Exception):
    """Something went wrong that has a name; see the module's tree."""

    code: str = "internal"
    status: int = 500
    exit_code: ClassVar[int] = 1
    headers: tuple[tuple[str, str], ...] = ()
    """Of the answer that tells of it, beyond the usual ones."""
    request_id: str = ""
    """Of the request that it answered, when it came over the wire."""

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

    def problem(self, request_id: str = "") -> dict[str, Any]:
        """The RFC 9457 members, ready for JSON."""
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

    def problem_json(self, request_id: str = "") -> bytes:
        """`problem` as UTF-8 JSON."""
        return json.dumps(self.problem(request_id), ensure_ascii=False).encode()


class InvalidInput(KaonError):
    """The request or file is wrong; `errors` says where."""

    code, status, exit_code = "invalid-input", 400, 2


class Unauthenticated(KaonError):
    """No key, or one that is unknown, expired or revoked."""

    code, status, exit_code = "unauthenticated", 401, 4


class Forbidden(KaonError):
    """A good key that may not do this."""

    code, status, exit_code = "forbidden", 403, 4


class NotFound(KaonError):
    """Nothing of that name that you may see."""

    code, status, exit_code = "not-found", 404, 3


class MethodNotAllowed(KaonError):
    """The path exists, but not for this verb; `allow` has those that it takes."""

    code, status, exit_code = "method-not-allowed", 405, 2
    allow: tuple[str, ...] = ()


class RequestTimeout(KaonError):
    """The request's body stopped coming."""

    code, status, exit_code = "request-timeout", 408, 6


class Conflict(KaonError):
    """Somebody changed it first, or it exists already."""

    code, status, exit_code = "conflict", 409, 5


class Gone(KaonError):
    """What was asked to go on with is not known any more: begin anew."""

    code, status, exit_code = "gone", 410, 5


class TooLarge(KaonError):
    """Over a stated limit."""

    code, status, exit_code = "too-large", 413, 2


class UnsupportedMediaType(KaonError):
    """A body in a form that is not taken here; the hint says which are."""

    code, status, exit_code = "unsupported-media-type", 415, 2


class TooManyRequests(KaonError):
    """This caller is over its share, or the queue is full."""

    code, status, exit_code = "too-many-requests", 429, 1


class ConfigError(KaonError):
    """A service cannot start as configured; a restart does not help."""

    code, status, exit_code = "config-error", 500, 1


class UnreadableRow(KaonError):
    """Something is stored in a form that this version of Kaon cannot read; everything else goes on without it."""

    code, status, exit_code = "unreadable", 500, 1
    row: Any = None
    """The `Unreadable` of the store, by which it can be deleted."""


class BuildError(KaonError):
    """Sources or requirements do not make an artifact."""

    code, status, exit_code = "build-error", 422, 1


class ItemError(KaonError):
    """One row of a batch cannot be answered; the others can.

    A batched handler puts it in its list in the place of the row's result, or raises it with the row's `index`:
    then the handler is called again for the others.
    """

    code, status, exit_code = "item-error", 422, 1

    def __init__(
        self,
        cause: str = "This row cannot be answered.",
        *,
        index: int | None = None,
        hint: str = "",
        retry_after_s: float | None = None,
        errors: list[dict[str, Any]] | None = None,
    ) -> None:
        super().__init__(cause, hint=hint, retry_after_s=retry_after_s, errors=errors)
        self.index = index


class PoisonRequest(KaonError):
    """The request was in flight at more than one crash of the service; it is refused for a while."""

    code, status, exit_code = "poison-request", 422, 1


class BadAnswer(KaonError):
    """A handler answered something that its type hints do not allow, or the wrong number of results."""

    code, status, exit_code = "bad-answer", 502, 1


class Unavailable(KaonError):
    """Busy, draining or not reachable now."""

    code, status, exit_code = "unavailable", 503, 7


class NotBegun(Unavailable):
    """Refused before any work on the call was begun: it may be sent elsewhere, whatever it is."""

    code = "not-begun"


class StaleEpoch(Unavailable):
    """A newer control plane has started over this store: the decisions of this one are refused."""

    code = "stale-epoch"


class Interrupted(Unavailable):
    """The connection to the replica broke after the call was sent: nobody knows what of it was done."""

    code, status = "interrupted", 502


class PlaceFull(Unavailable):
    """A place where workloads run has no room for one more now; later it may have."""

    code = "place-full"


class PlaceUnavailable(Unavailable):
    """A place where workloads run cannot be reached, so nobody knows what became of the call."""

    code = "place-unavailable"


class WorkloadRefused(KaonError):
    """A place can never run this workload as it is; trying again does not help."""

    code, status, exit_code = "workload-refused", 422, 2


class DeadlineExceeded(KaonError):
    """Not answered in the time that the caller gave."""

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


def of_status(status: int, cause: str) -> KaonError:
    """The error of an HTTP status; one that has no class of its own here has the code `http-STATUS`."""
    kind = _BY_STATUS.get(status)
    if kind is not None:
        return kind(cause)
    error = KaonError(cause)
    error.status, error.code = status, f"http-{status}"
    return error


def from_problem(status: int, members: Mapping[str, Any]) -> KaonError:
    """The exception that a problem document describes.

    The class is found by `code`, else by `status`; an unknown one is a plain `KaonError`.
    """
    code = str(members.get("code", ""))
    known = _tree(KaonError)
    match = next((c for c in known if c.code == code), None)
    cls = match or next((c for c in known if c.status == status), KaonError)
    retry = members.get("retry_after_s")
    error = cls(
        str(members.get("detail") or members.get("title") or f"HTTP status {status}"),
        hint=str(members.get("hint", "")),
        retry_after_s=float(retry) if isinstance(retry, (int, float)) else None,
        errors=list(members.get("errors") or []),
    )
    error.request_id = str(members.get("request_id") or "")
    return error
