"""Answers of an activator itself, and their form on the wire."""

from __future__ import annotations

import http
import math
from collections.abc import Mapping
from dataclasses import dataclass

from kaon.edge.resources.routes import FINAL
from kaon.errors import PROBLEM_JSON, KaonError, NotBegun, Unauthenticated, Unavailable
from kaon.types.names import DeploymentKey
from kaon.types.route import NOT_BEGUN_HEADER


class NoReadyReplica(Unavailable):
    """No replica became ready within the time that a call may be held."""

    code = "no-ready-replica"


class StartFailed(Unavailable):
    """The deployment's replicas do not start."""

    code = "start-failed"


@dataclass(frozen=True, slots=True)
class ActivatorResponse:
    """Status, headers other than the length, and body."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def on_the_wire(self, *, bodiless: bool) -> bytes:
        """As bytes; without its body when it answers a HEAD."""
        lines = [f"HTTP/1.1 {self.status} {http.HTTPStatus(self.status).phrase}"]
        lines += [f"{name}: {text}" for name, text in self.headers.items()]
        lines += [f"content-length: {len(self.body)}", "connection: close", "", ""]
        return "\r\n".join(lines).encode("latin-1", "replace") + (b"" if bodiless else self.body)


def problem(error: KaonError, request_id: str) -> ActivatorResponse:
    """`error` as an answer that Envoy does not repeat, unless the call was not begun."""
    last = NOT_BEGUN_HEADER if isinstance(error, NotBegun) else FINAL
    headers = {"content-type": PROBLEM_JSON, last: "true"}
    if error.retry_after_s is not None:
        headers["retry-after"] = str(max(1, math.ceil(error.retry_after_s)))
    if isinstance(error, Unauthenticated):
        headers["www-authenticate"] = "Bearer"
    return ActivatorResponse(error.status, headers, error.problem_json(request_id))


def hint(key: DeploymentKey) -> str:
    """The commands that show a caller with more rights the cause."""
    workspace, name = key
    if workspace == "default":
        return f"See why: kaon describe {name}; kaon logs {name}"
    return f"See why: kaon describe {name} -w {workspace}; kaon logs {name} -w {workspace}"
