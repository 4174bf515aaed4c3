"""What a replica serves: the lanes of a constructed service, its routes, its mounted apps and its documents."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Iterable
from contextvars import Context, copy_context
from typing import Any

from kaon import context
from kaon.errors import KaonError
from kaon.runtime.batcher import BatchLane
from kaon.runtime.figures import EndpointFigures
from kaon.runtime.inflight import NOWHERE, Flights
from kaon.runtime.lane import AsyncLane, HeldLane, Lane, ThreadLane, worker_of
from kaon.runtime.long_calls import LongCalls
from kaon.runtime.mounts import Mounts
from kaon.runtime.request_checks import RequestChecks
from kaon.runtime.routes import Routes, routes
from kaon.runtime.sampling import Sampler
from kaon.runtime.steps import Stepper
from kaon.runtime.threads import Worker
from kaon.sdk.endpoint import Endpoint
from kaon.sdk.service import Service
from kaon.types.knobs import AS_THE_CLASS_SAYS, Knobs
from kaon.types.service import MAX_MESSAGE_BYTES, EndpointKind
from kaon.types.shadow import Sampling


class Serving:
    """The state that both ways in, fast path and ASGI, work on. Empty, and its door shut, until `open`."""

    def __init__(
        self, door: RequestChecks, loop: asyncio.AbstractEventLoop, prefix: str = "/", flights: Flights = NOWHERE
    ) -> None:
        self.door = door
        self.loop = loop
        self.flights = flights
        """Where calls in flight are noted."""
        self.lasting = LongCalls(door.gate, loop)
        self.service: Service | None = None
        self.lanes: tuple[Lane, ...] = ()
        self.routes = Routes()
        self.fast: dict[bytes, tuple[bytes, Lane]] = {}
        """Path -> method and lane of the endpoints that the fast path answers."""
        self.mounts = Mounts({})
        self.others = EndpointFigures()
        """Of requests that reach no endpoint: refused at the door, documents, mounted apps."""
        self.elsewhere = 0
        """Requests in flight in mounted apps."""
        self.sampler: Sampler | None = None
        """Keeps answers while a shadow is compared; None: as always."""
        self.new_context: Callable[[], Context] = Context
        """Makes the context of a request: a copy of what the class's module and constructor left."""
        self._knobs = AS_THE_CLASS_SAYS.named()
        self._prefix = prefix
        self._stepper: Stepper | None = None
        self._openapi: bytes | None = None

    def open(
        self,
        service: Service,
        instance: Any,
        mounts: Mounts | None = None,
        home: Context | None = None,
        main: Worker | None = None,
    ) -> None:
        """Begin to serve. `mounts`: the service's mounted apps, started. Each request has a copy of `home`, or of the
        caller's context now; `main` runs the sync handlers that run one at a time."""
        stepper = self._stepper = Stepper(self.loop)
        self.service = service
        self.new_context = context.copies(home or copy_context())
        self.lanes = tuple(lane_of(endpoint, instance, self.loop, stepper, main) for endpoint in service.endpoints)
        for lane in self.lanes:
            lane.new_context = self.new_context
            lane.flights = self.flights
        self.tune(self._knobs)
        self.routes = routes(self.lanes)
        self.fast = _fast(self.lanes)
        self.mounts = mounts or Mounts(service.mounted(instance))
        self.door.shut = ""

    def tune(self, knobs: Knobs) -> None:
        """Let `knobs` be in force, now and when it opens."""
        self._knobs = knobs.named()
        for lane in self.lanes:
            lane.tune(knobs)

    @property
    def knobs(self) -> str:
        """Version of the knobs in force."""
        return self._knobs.version

    @property
    def figures(self) -> tuple[EndpointFigures, ...]:
        """Of all requests."""
        return self.others, *(lane.figures for lane in self.lanes)

    @property
    def in_flight(self) -> int:
        """Requests that are not answered yet."""
        return sum(lane.in_flight for lane in self.lanes) + self.elsewhere

    @property
    def queued(self) -> int:
        """Requests that wait for a slot."""
        return sum(lane.queued for lane in self.lanes)

    @property
    def answered(self) -> int:
        """Requests that were answered, ever."""
        return sum(sum(figures.codes.values()) for figures in self.figures)

    def max_message_bytes(self, path: str) -> int:
        """How large a message a websocket at `path`, as it was sent, may send."""
        with contextlib.suppress(KaonError):
            return self.routes.find("GET", path)[0].spec.max_message_bytes
        return MAX_MESSAGE_BYTES

    def openapi(self) -> bytes:
        """The OpenAPI document as JSON."""
        if self._openapi is None:
            assert self.service is not None
            document = self.service.openapi(self._prefix.rstrip("/") or "/")
            self._openapi = json.dumps(document, ensure_ascii=False).encode()
        return self._openapi

    def sample(self, sampling: Sampling) -> None:
        """Keep answers of that share of calls from now on; of none with a share of 0."""
        if sampling.share == 0:
            self.sampler = None
        elif self.sampler is None:
            self.sampler = Sampler(sampling)
        else:
            self.sampler.renew(sampling)
        if self.sampler is not None:
            self.loop.call_later(sampling.for_s + 0.1, self._forget_answers)

    def _forget_answers(self) -> None:
        """Keep none when nobody asked for it any more, also where no call comes in."""
        if self.sampler is not None and self.sampler.over:
            self.sampler = None

    def keep(self, request_id: str, endpoint: str, status: int, media_type: str, body: bytes) -> None:
        """Show an answer to the sampler; the caller has looked that there is one."""
        if self.sampler is not None and not self.sampler.note(request_id, endpoint, status, media_type, body):
            self.sampler = None

    def close(self) -> None:
        """Let go of threads and tasks. Call when quiet."""
        self.door.shut = "the service has stopped"
        self.lasting.close()
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
    """Calls at plain paths, with a slash at the end or without. Where two verbs share a path, ASGI tells them apart.

    An endpoint with a limit of its own on bodies, or one that reads the request's head, is left to ASGI too.
    """
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
