"""A deployment as a client sees it: its URL, the key, and the operations of its OpenAPI document. No I/O."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

from kaon import context
from kaon.client.events import ServerEvent
from kaon.client.exchange import (
    Budget,
    Conversation,
    HttpRequest,
    HttpResponse,
    Outcome,
    RetryWait,
    context_headers,
    converse,
    deadline_after,
)
from kaon.client.operation import SSE, Operation, operations, payload
from kaon.clock import Clock
from kaon.errors import BadAnswer, DeadlineExceeded, KaonError, NotFound, did_you_mean, from_problem
from kaon.types.media import File
from kaon.types.route import DESCRIPTION_HEADER

T = TypeVar("T")
Talk: TypeAlias = Generator[HttpRequest | RetryWait, Outcome | None, T]
Read: TypeAlias = Callable[[str, bytes], Any]
"""Decodes an answer: `read(media_type, content)`."""

TIMEOUT_S = 60.0
_JSON = "application/json"


@dataclass(frozen=True, slots=True)
class ClientCall:
    """One call of an endpoint: arguments by name, or a body by position."""

    endpoint: str
    arguments: Mapping[str, Any]
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    """Headers beside those that the client sets."""


@dataclass(slots=True)
class Description:
    """A deployment's OpenAPI document, shared by all clients of this process with the same URL and key."""

    operations: dict[str, Operation] = field(default_factory=dict)
    version: str = ""
    current: str = ""
    """The version that the last answer named, if any."""

    @property
    def is_stale(self) -> bool:
        """Whether an answer has named another version than the one that was fetched."""
        return bool(self.current) and self.current != self.version


_descriptions: dict[tuple[str, str], Description] = {}
_DESCRIPTIONS_MAX = 1024


def description_of(url: str, key: str) -> Description:
    """The description of the deployment at `url` for `key`; empty until a client fetches it."""
    while len(_descriptions) >= _DESCRIPTIONS_MAX:
        _descriptions.pop(next(iter(_descriptions)), None)
    return _descriptions.setdefault((url, key), Description())


def forget_descriptions() -> None:
    """Fetch each description again when a new client needs it."""
    _descriptions.clear()


@dataclass(slots=True)
class RemoteDeployment:
    """The state of `Client` and `AsyncClient`."""

    url: str
    key: str
    timeout_s: float | None
    """For every call; None: that of the endpoint, or 60 s."""
    clock: Clock
    jitter: Callable[[], float]
    budget: Budget = field(default_factory=Budget)
    description: Description = field(init=False)

    def __post_init__(self) -> None:
        self.description = description_of(self.url, self.key)

    @property
    def name(self) -> str:
        """The last part of its URL."""
        return self.url.rpartition("/")[2]

    def find(self, call: ClientCall) -> Talk[Operation]:
        """The operation of that name; fetches the OpenAPI document when it is unknown or stale. Raises NotFound."""
        found = self.description
        if call.endpoint not in found.operations or found.is_stale:
            yield from self.load()
        if call.endpoint not in found.operations:
            names = ", ".join(sorted(found.operations)) or "none"
            near = did_you_mean(call.endpoint, found.operations)
            raise NotFound(f"{self.url} has no endpoint `{call.endpoint}`.", hint=f"{near}Its endpoints: {names}.")
        return found.operations[call.endpoint]

    def load(self) -> Talk[Mapping[str, Operation]]:
        """Fetch the OpenAPI document; the operations by name."""
        response = yield from self._send(
            lambda left_s: HttpRequest("GET", f"{self.url}/openapi.json", self._headers(left_s), timeout_s=left_s),
            idempotent=True,
            retry=True,
            timeout_s=self.timeout_s or TIMEOUT_S,
        )
        try:
            self.description.operations = operations(json.loads(response.content))
        except ValueError:
            raise BadAnswer(f"{self.url}/openapi.json is not JSON.", hint="Check the URL.") from None
        self.description.version = self.description.current = response.headers.get(DESCRIPTION_HEADER, "")
        return self.description.operations

    def loaded(self) -> Mapping[str, Operation]:
        """The operations that were fetched so far, by name."""
        return self.description.operations

    def call(self, operation: Operation, call: ClientCall) -> Conversation:
        """The call as a conversation."""
        sent = payload(operation, call.arguments, call.body)
        more = dict(call.headers) | ({"content-type": sent.content_type} if sent.content_type else {})

        def request(left_s: float) -> HttpRequest:
            headers = self._headers(left_s) | more
            return HttpRequest(operation.method, self.url + sent.path, headers, sent.content, left_s)

        timeout_s = self.timeout_s or operation.timeout_s or TIMEOUT_S
        return self._send(request, idempotent=operation.idempotent, retry=operation.retry, timeout_s=timeout_s)

    def stream(self, operation: Operation, call: ClientCall) -> HttpRequest:
        """The request for a stream; its time-out is for each item."""
        sent = payload(operation, call.arguments, call.body)
        now = self.clock.monotonic()
        inherited = context.deadline.get()
        left_s = None if inherited is None else inherited - now
        if left_s is not None and left_s <= 0:
            raise DeadlineExceeded("The deadline passed before the call was sent.")
        headers = dict(call.headers) | self._headers(left_s) | {"accept": operation.media_type or SSE}
        if sent.content_type:
            headers["content-type"] = sent.content_type
        idle_s = min(self.timeout_s or TIMEOUT_S, left_s or TIMEOUT_S)
        return HttpRequest(operation.method, self.url + sent.path, headers, sent.content, idle_s)

    def item(self, event: ServerEvent, read: Read) -> Any:
        """The item of a stream's event. Raises the KaonError that an error event contains."""
        if event.name != "error":
            return read(SSE, event.data)
        try:
            members = json.loads(event.data)
            raise from_problem(int(members.get("status", 500)), members)
        except (ValueError, AttributeError, TypeError):
            raise KaonError("The stream broke.", hint="See why: kaon logs NAME") from None

    def _send(
        self, request: Callable[[float], HttpRequest], *, idempotent: bool, retry: bool, timeout_s: float
    ) -> Conversation:
        deadline = deadline_after(timeout_s, self.clock.monotonic())
        conversation = converse(
            request,
            idempotent=idempotent,
            retry=retry,
            deadline=deadline,
            clock=self.clock,
            jitter=self.jitter,
            budget=self.budget,
        )
        return self._noting_versions(conversation)

    def _noting_versions(self, conversation: Conversation) -> Conversation:
        """The conversation; keeps the version of the OpenAPI document that its answers name."""
        outcome: Outcome | None = None
        while True:
            try:
                step = conversation.send(outcome)
            except StopIteration as end:
                response: HttpResponse = end.value
                return response
            outcome = yield step
            if isinstance(outcome, HttpResponse) and (version := outcome.headers.get(DESCRIPTION_HEADER)):
                self.description.current = version

    def _headers(self, left_s: float | None) -> dict[str, str]:
        return context_headers(left_s) | ({"authorization": f"Bearer {self.key}"} if self.key else {})


def value_of(media_type: str, content: bytes) -> Any:
    """Python values from JSON, a `File` from other media types. Raises BadAnswer."""
    if media_type not in (_JSON, SSE):
        return _file(media_type, content) if content or media_type else None
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        raise BadAnswer("The answer is not valid JSON.") from None


def _file(media_type: str, content: bytes) -> File:
    try:
        return File(content, media_type=media_type)
    except ValueError as error:
        raise BadAnswer(f"The answer cannot be read: {error}.") from None
