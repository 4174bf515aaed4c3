"""The control socket: the agent reads a replica's health and figures, and sets its access list and knobs."""

from __future__ import annotations

import asyncio
import hmac
from typing import TypeVar
from urllib.parse import parse_qs

from pydantic import BaseModel, ValidationError

from kaon.errors import InvalidInput, KaonError, NotFound, TooLarge, Unauthenticated
from kaon.runtime import metrics
from kaon.runtime.answers import Answer, problem_answer
from kaon.runtime.asgi import AsgiScope, Receive, Send
from kaon.runtime.serving import Serving
from kaon.runtime.sums import ReplicaSums
from kaon.types.key import Access
from kaon.types.knobs import Knobs
from kaon.types.launch import ReplicaHealth
from kaon.types.refusals import Refusals
from kaon.types.replica import Phase
from kaon.types.shadow import KeptAnswers, Sampling
from kaon.types.versioned import Versioned

_JSON = b"application/json"
_PROMETHEUS = b"text/plain; version=0.0.4; charset=utf-8"
_MAX_BODY_BYTES = 16 * 2**20
_OPEN = ("GET /live", "GET /ready")
"""Probes, which have no token; they reveal nothing that a caller could not observe."""

M = TypeVar("M", bound=BaseModel)
V = TypeVar("V", bound=Versioned)


class Control:
    """The control socket's ASGI app, and the replica's phase."""

    def __init__(self, serving: Serving, cpus: float = 1.0, token: str = "") -> None:
        """`token` is required of callers, except for `_OPEN`; empty: every connection may call."""
        self.phase = Phase.LOADING
        self._authorization = f"Bearer {token}".encode() if token else b""
        self._serving = serving
        self._sums = ReplicaSums(serving, cpus)
        self._refusals = Refusals().named()

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        try:
            call, query = f"{scope['method']} {scope['path']}", scope.get("query_string", b"").decode("latin-1")
            self._check(call, scope)
            answer = await self._answer(call, query, receive)
        except KaonError as error:
            answer = problem_answer(error, "")
        headers = [(b"content-type", answer.media_type), (b"content-length", b"%d" % len(answer.body))]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body})

    def _check(self, call: str, scope: AsgiScope) -> None:
        """Raise `Unauthenticated` when the call needs the token and has another or none."""
        if not self._authorization or call in _OPEN:
            return
        shown = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        if not hmac.compare_digest(shown, self._authorization):
            raise Unauthenticated("The control address requires this replica's token.")

    async def _answer(self, call: str, query: str, receive: Receive) -> Answer:
        match call:
            case "GET /live":
                return Answer(200, _JSON, b'{"status":"live"}')
            case "GET /ready":
                health = self.health()
                return Answer(200 if self.phase is Phase.READY else 503, _JSON, health.model_dump_json().encode())
            case "GET /figures":
                return Answer(200, _JSON, self._sums.read().model_dump_json(exclude_defaults=True).encode())
            case "GET /metrics":
                await asyncio.to_thread(__import__, "prometheus_client")
                return Answer(200, _PROMETHEUS, metrics.text(self._serving))
            case "PUT /access":
                self._serving.checks.access.put(await _versioned(query, receive, Access))
                return Answer(204, _JSON, b"")
            case "PUT /knobs":
                self._serving.tune(await _versioned(query, receive, Knobs))
                return Answer(204, _JSON, b"")
            case "PUT /refusals":
                self._refusals = await _versioned(query, receive, Refusals)
                self._serving.checks.refusals = frozenset(self._refusals.request_ids)
                return Answer(204, _JSON, b"")
            case "PUT /sampling":
                self._serving.sample(await _body_of(receive, Sampling))
                return Answer(204, _JSON, b"")
            case "GET /answers":
                return Answer(200, _JSON, self._kept(query.removeprefix("after=")).model_dump_json().encode())
        raise NotFound(
            "The control socket has /live, /ready, /figures, /metrics, /access, /knobs, /refusals, /sampling, /answers."
        )

    def _kept(self, after: str) -> KeptAnswers:
        sampler = self._serving.sampler
        return sampler.after(int(after) if after.isdecimal() else 0) if sampler else KeptAnswers(until=0)

    def health(self) -> ReplicaHealth:
        """Phase, load, and the versions in force."""
        serving = self._serving
        return ReplicaHealth(
            phase=self.phase,
            reason=serving.checks.not_ready,
            in_flight=serving.in_flight,
            queued=serving.queued,
            access=serving.checks.access.version,
            knobs=serving.knobs,
            refusals=self._refusals.version,
        )


async def _versioned(query: str, receive: Receive, model: type[V]) -> V:
    """The body with the version of the query; without one, as from an older agent, the version is a hash of the
    content. Raises `InvalidInput`, `TooLarge`."""
    body = (await _body_of(receive, model)).model_dump(exclude={"version"})
    version = parse_qs(query).get("version", [""])[0]
    try:
        return model.model_validate({**body, "version": version}).named()
    except ValidationError:
        raise InvalidInput("A version has at most 64 letters, digits, dots, dashes and underscores.") from None


async def _body_of(receive: Receive, model: type[M]) -> M:
    """The body as `model`. Raises `InvalidInput`, `TooLarge`."""
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > _MAX_BODY_BYTES:
            raise TooLarge(f"The body is larger than {_MAX_BODY_BYTES} bytes.")
        if not message.get("more_body", False):
            break
    try:
        return model.model_validate_json(bytes(body))
    except ValidationError as error:
        raise InvalidInput(f"The body is not a valid {model.__name__}: {error.error_count()} problems.") from None
