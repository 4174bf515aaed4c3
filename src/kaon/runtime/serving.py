"""What a replica serves: the lanes, routes, mounted apps and documents of a constructed service."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
from collections.abc import Callable, Iterable
from contextvars import Context, copy_context
from dataclasses import replace
from typing import Any

from kaon import context
from kaon.errors import KaonError, TooManyRequests
from kaon.runtime.answers import Answer
from kaon.runtime.batcher import BatchLane
from kaon.runtime.figures import EndpointFigures
from kaon.runtime.inflight import NOWHERE, Flights
from kaon.runtime.lane import AsyncLane, HeldLane, Lane, ThreadLane, worker_of
from kaon.runtime.long_calls import LongCalls
from kaon.runtime.mounts import MOST_OPEN, Mounts
from kaon.runtime.request_checks import RequestChecks
from kaon.runtime.routes import Routes, routes
from kaon.runtime.sampling import Sampler
from kaon.runtime.steps import Stepper
from kaon.runtime.threads import Worker
from kaon.sdk import mounted_docs
from kaon.sdk.endpoint import Endpoint
from kaon.sdk.service import Service
from kaon.types.knobs import AS_THE_CLASS_SAYS, Knobs
from kaon.types.route import DESCRIPTION_HEADER
from kaon.types.service import MAX_MESSAGE_BYTES, EndpointKind, WireProtocol
from kaon.types.shadow import Sampling

_MISFITS = frozenset({400, 404, 405, 415, 422})
"""Statuses of calls that may have been made from an older OpenAPI document."""

_log = logging.getLogger("kaon.runtime")


class Serving:
    """The state that the fast path and ASGI share. It admits no calls until `open`."""

    def __init__(
        self, checks: RequestChecks, loop: asyncio.AbstractEventLoop, prefix: str = "/", flights: Flights = NOWHERE
    ) -> None:
        self.checks = checks
        self.loop = loop
        self.flights = flights
        """Where calls in flight are recorded."""
        self.long_calls = LongCalls(checks.access, loop)
        self.service: Service | None = None
        self.lanes: tuple[Lane, ...] = ()
        self.routes = Routes()
        self.fast: dict[bytes, tuple[bytes, Lane]] = {}
        """Path -> method and lane of the endpoints on the fast path."""
        self.mounts = Mounts({})
        self.others = EndpointFigures()
        """Of calls without an endpoint: mounted apps, unknown paths."""
        self.not_calls = EndpointFigures()
        """Of requests that are no calls, and no load: refused for their key or origin, documents."""
        self.in_mounts = 0
        """Requests in flight in mounted apps."""
        self.sampler: Sampler | None = None
        """Keeps answers while a shadow is compared, else None."""
        self.new_context: Callable[[], Context] = Context
        """Makes the context of a request: a copy of the context in which the class was constructed."""
        self._knobs = AS_THE_CLASS_SAYS.named()
        self._prefix = prefix
        self._stepper: Stepper | None = None
        self._openapi: bytes | None = None
        self._description = b""

    def open(
        self,
        service: Service,
        instance: Any,
        mounts: Mounts | None = None,
        home: Context | None = None,
        main: Worker | None = None,
    ) -> None:
        """Begin to serve. `mounts`: the service's mounted apps, started. Each request gets a copy of `home`, by default
        the current context; `main` runs the sync handlers with `concurrency=1`."""
        stepper = self._stepper = Stepper(self.loop)
        self.service = service
        self.new_context = context.copies(home or copy_context())
        self.lanes = tuple(lane_of(endpoint, instance, self.loop, stepper, main) for endpoint in service.endpoints)
        for lane in self.lanes:
            lane.new_context = self.new_context
            lane.flights = self.flights
        self.tune(self._knobs)
        self.routes = routes(self.lanes, service.mounts)
        self.fast = _fast(self.lanes)
        self.mounts = mounts or Mounts(service.mounted(instance))
        self.checks.not_ready = ""

    def tune(self, knobs: Knobs) -> None:
        """Apply `knobs`, now or when it opens."""
        self._knobs = knobs.named()
        for lane in self.lanes:
            lane.tune(knobs)

    @property
    def knobs(self) -> str:
        """Version of the knobs in force."""
        return self._knobs.version

    @property
    def figures(self) -> tuple[EndpointFigures, ...]:
        """Of all calls."""
        return self.others, *(lane.figures for lane in self.lanes)

    def enter_mount(self) -> None:
        """Count a request or websocket of a mounted app as in flight. Raises TooManyRequests."""
        if self.in_mounts >= MOST_OPEN:
            raise TooManyRequests(
                "Too many requests of the mounted apps are open.", hint="Try again later.", retry_after_s=1.0
            )
        self.in_mounts += 1

    @property
    def in_flight(self) -> int:
        """Requests that are not answered yet."""
        return sum(lane.in_flight for lane in self.lanes) + self.in_mounts

    @property
    def queued(self) -> int:
        """Requests that wait for a slot."""
        return sum(lane.queued for lane in self.lanes)

    @property
    def answered(self) -> int:
        """Requests answered since the start."""
        return sum(sum(figures.codes.values()) for figures in self.figures)

    def protocol_of(self, path: str) -> WireProtocol:
        """The form of errors at a raw path; below `/v1` OpenAI's, if an endpoint has it."""
        protocols: set[WireProtocol] = set()
        with contextlib.suppress(KaonError):  # the path is not UTF-8
            protocols = {lane.spec.protocol for lane in self.routes.at(path)}
        is_near = path.startswith("/v1/") and any(lane.spec.protocol == "openai" for lane in self.lanes)
        return "openai" if "openai" in protocols or (is_near and not protocols) else "kaon"

    def max_message_bytes(self, path: str) -> int:
        """The limit on messages of a websocket at `path`, a raw path."""
        with contextlib.suppress(KaonError):
            return self.routes.find("GET", path)[0].spec.max_message_bytes
        return MAX_MESSAGE_BYTES

    def openapi(self) -> bytes:
        """The OpenAPI document as JSON."""
        if self._openapi is None:
            assert self.service is not None
            document = self.service.openapi(self._prefix.rstrip("/") or "/", self.mounts.apps)
            for path, app in self.mounts.apps.items():
                try:
                    if (own := mounted_docs.own_document(app)) is not None:
                        mounted_docs.merge(document, path, own)
                except Exception as error:
                    _log.warning("the app mounted at %s has no usable OpenAPI document: %s", path, error)
            self._openapi = json.dumps(document, ensure_ascii=False).encode()
        return self._openapi

    @property
    def description(self) -> tuple[bytes, bytes]:
        """The header that names the version of the OpenAPI document."""
        if not self._description:
            self._description = hashlib.sha256(self.openapi()).hexdigest()[:16].encode()
        return DESCRIPTION_HEADER.encode(), self._description

    def described(self, answer: Answer) -> Answer:
        """A refusal of a call that may not fit the document, with the document's version; other answers as they are."""
        if answer.status not in _MISFITS or self.service is None:
            return answer
        return replace(answer, headers=(*answer.headers, self.description))

    def sample(self, sampling: Sampling) -> None:
        """Keep answers of that share of calls from now on; with a share of 0 stop."""
        if sampling.share == 0:
            self.sampler = None
        elif self.sampler is None:
            self.sampler = Sampler(sampling)
        else:
            self.sampler.renew(sampling)
        if self.sampler is not None:
            self.loop.call_later(sampling.for_s + 0.1, self._forget_answers)

    def _forget_answers(self) -> None:
        """Drop the sampler when it has expired, also when no call comes in."""
        if self.sampler is not None and self.sampler.expired:
            self.sampler = None

    def keep(self, request_id: str, endpoint: str, status: int, media_type: str, body: bytes) -> None:
        """Give an answer to the sampler. Callers check before that there is one."""
        if self.sampler is not None and not self.sampler.add(request_id, endpoint, status, media_type, body):
            self.sampler = None

    def close(self) -> None:
        """Release threads and tasks."""
        self.checks.not_ready = "the service has stopped"
        self.long_calls.close()
        for lane in self.lanes:
            lane.close()
        if self._stepper is not None:
            self._stepper.close()


def lane_of(
    endpoint: Endpoint, instance: Any, loop: asyncio.AbstractEventLoop, stepper: Stepper, main: Worker | None = None
) -> Lane:
    """The lane that an endpoint needs."""
    if endpoint.spec.kind is EndpointKind.CALL and endpoint.is_async and endpoint.spec.batch is None:
        return AsyncLane(endpoint, instance, loop, stepper)
    worker = worker_of(endpoint, loop, main)
    if endpoint.spec.kind is not EndpointKind.CALL:
        return HeldLane(endpoint, instance, loop, worker)
    if endpoint.spec.batch is not None:
        return BatchLane(endpoint, instance, loop, stepper, worker)
    return ThreadLane(endpoint, instance, loop, worker)


def _fast(lanes: Iterable[Lane]) -> dict[bytes, tuple[bytes, Lane]]:
    """Calls at paths without parameters, with or without a trailing slash. Paths that two verbs share, endpoints with a
    body limit and those that take the request's or the response's head go through ASGI."""
    found: dict[bytes, tuple[bytes, Lane]] = {}
    shared: set[bytes] = set()
    for lane in lanes:
        spec, path = lane.spec, lane.spec.path.encode()
        if path in found:
            shared.add(path)
        elif (
            spec.kind is EndpointKind.CALL
            and "{" not in spec.path
            and spec.max_body_bytes is None
            and not lane.signature.heads
        ):
            found[path] = (spec.method.encode(), lane)
    plain = {path: entry for path, entry in found.items() if path not in shared}
    return plain | {path + b"/": entry for path, entry in plain.items() if path != b"/"}
