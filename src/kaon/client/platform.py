"""Typed requests to the platform's API: over a unix socket on this machine, over HTTPS elsewhere.

Paths and answer types are given by its caller.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, TypeVar
from urllib.parse import quote

import httpx2
from pydantic import BaseModel, ValidationError

from kaon.client.events import EventReader, ServerEvent
from kaon.client.watch import ResourceChange, Watch
from kaon.context import REQUEST_ID_HEADER
from kaon.errors import (
    BadAnswer,
    Conflict,
    DeadlineExceeded,
    Gone,
    InvalidInput,
    KaonError,
    RequestTimeout,
    Unavailable,
    from_problem,
)
from kaon.types.hosts import uses_tls
from kaon.types.kind import Kind
from kaon.types.upload import UploadView

M = TypeVar("M", bound=BaseModel)
Body = BaseModel | Mapping[str, Any]
Query = Mapping[str, str | int | float | bool | None]

_CONNECT_S = 5.0
_CHUNK_BYTES = 256 * 1024
PART_BYTES = 32 * 2**20
"""Of a file, sent in one request: the edge limits bodies to 100 MB."""
_UPLOAD_S = 120.0
"""Without any progress of a part."""
_UPLOAD_TRIES = 6
_UPLOAD_AGAIN = frozenset({"unavailable", "deadline-exceeded", "request-timeout", "conflict"})
"""Codes of errors after which an upload is continued."""
_PAGE = 1000
"""Items per page."""
_IDLE_S = 45.0
"""A watch is reconnected after so long without an event; the platform sends one every 15 s."""
_RETRY_S = 0.2
_MAX_RETRY_S = 5.0


class PlatformClient:
    """Requests to `/api/v1` with one key. Every method raises the `KaonError` that the platform answered,
    `Unavailable` when it cannot be reached, `DeadlineExceeded` when it does not answer in time, and `BadAnswer` when
    the answer is not of the expected type.

    Args:
        key: The API key.
        url: The platform's URL; empty: `socket` is used.
        socket: The API's unix socket on this machine.
        timeout_s: Seconds for each request, uploads and logs apart.
    """

    def __init__(self, key: str, *, url: str = "", socket: Path | None = None, timeout_s: float = 30.0) -> None:
        self._where = url or str(socket)
        self.on_unreadable: Callable[[Mapping[str, Any]], None] = lambda row: None
        """Called for each resource of a list that the platform cannot read: its kind, name, reason and hint."""
        self._http = httpx2.Client(
            base_url=(url.rstrip("/") or "http://kaon.local") + "/api/v1",
            transport=None if url else httpx2.HTTPTransport(uds=str(socket), verify=False),
            verify=uses_tls(url),
            trust_env=bool(url),
            headers={"authorization": f"Bearer {key}", "accept": "application/json"},
            timeout=httpx2.Timeout(timeout_s, connect=_CONNECT_S),
        )

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def read(self, model: type[M], path: str, **query: str | int | float | bool | None) -> M:
        """The answer of `GET path`."""
        return self._parsed(model, self._sent("GET", path, query))

    def items(self, model: type[M], path: str, **query: str | int | float | bool | None) -> list[M]:
        """The items of the list at `path`, of all pages."""
        return list(self._pages(model, path, query))

    def resources(self, kind: Kind, workspace: str, /, most: int | None = None, **query: str | int | None) -> list[Any]:
        """The resources of a kind that the key may see, in order; at most `most`. `query` has filters of the kind."""
        filters = {**query, "limit": min(most, _PAGE)} if most is not None else query
        return list(islice(self._pages(kind.view, _path(kind, workspace), filters), most))

    def resource(self, kind: Kind, workspace: str, name: str) -> Any:
        """One resource."""
        return self.read(kind.view, _path(kind, workspace, name))

    def put_resource(
        self, kind: Kind, workspace: str, name: str, spec: Body, *, version: int | None = None, dry_run: bool = False
    ) -> Any:
        """Create a resource, or replace its spec; only when it still has `version`, if given."""
        headers = {} if version is None else {"if-match": str(version)}
        query = {"dry_run": True} if dry_run else {}
        path = _path(kind, workspace, name)
        return self.write("PUT", path, spec, query=query, headers=headers, answer=kind.view)

    def delete_resource(self, kind: Kind, workspace: str, name: str) -> None:
        """Delete a resource."""
        self.act("DELETE", _path(kind, workspace, name))

    def watch(self, kind: Kind, workspace: str, /, **query: str | int | None) -> Iterator[ResourceChange]:
        """The resources of a kind, then 'synced', then each change as it comes, without end.

        After a first success it reconnects whenever the connection fails; it ends with an error that the platform
        answers, such as a revoked key.
        """
        received, path, failures, began = Watch(kind), _path(kind, workspace), 0, False
        while True:
            try:
                for event in self._server_events(path, {**query, "watch": True, "since": received.since}):
                    failures, began = 0, True
                    yield from _changes(received, event)
            except Gone:
                received.restart()
            except (Unavailable, DeadlineExceeded):
                if not began:
                    raise
            time.sleep(min(_MAX_RETRY_S, _RETRY_S * 2**failures))
            failures = min(failures + 1, 10)

    def events_of(self, path: str) -> Iterator[ServerEvent]:
        """The server-sent events of `GET path`, until the platform ends them.

        After a first success it reconnects whenever the connection fails; events may then come again.
        """
        failures, began = 0, False
        while True:
            try:
                for event in self._server_events(path, {}):
                    failures, began = 0, True
                    yield event
                return
            except (Unavailable, DeadlineExceeded):
                if not began:
                    raise
            time.sleep(min(_MAX_RETRY_S, _RETRY_S * 2**failures))
            failures = min(failures + 1, 10)

    def _server_events(self, path: str, query: Query) -> Iterator[ServerEvent]:
        timeout = httpx2.Timeout(_IDLE_S, connect=_CONNECT_S)
        with (
            self._kaon_errors(),
            self._http.stream("GET", path, params=_query_texts(query), timeout=timeout) as response,
        ):
            if response.status_code >= 300:
                response.read()
                _checked(response)
            reader = EventReader()
            for chunk in response.iter_bytes():
                yield from reader.feed(chunk)

    def _pages(self, model: type[M], path: str, query: Query) -> Iterator[M]:
        after: str | None = None
        while True:
            page = _members(self._sent("GET", path, query if after is None else {**query, "after": after}))
            for row in page.get("unreadable", ()) if after is None else ():
                self.on_unreadable(row)
            for item in page["items"]:
                yield _valid(model, json.dumps(item))
            for row in page.get("unreadable", ()):
                self.on_unreadable(row)
            after = page.get("next")
            if after is None:
                return

    def write(
        self,
        method: str,
        path: str,
        body: Body | None = None,
        *,
        query: Query | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
        answer: type[M],
    ) -> M:
        """Send `body` and return the answer. `timeout_s`: other than that of the client."""
        return self._parsed(answer, self._sent(method, path, query or {}, _content(body), headers, timeout_s))

    def read_tagged(self, model: type[M], path: str) -> tuple[M, str]:
        """The answer of `GET path`, and its entity tag."""
        response = self._sent("GET", path, {})
        return self._parsed(model, response), response.headers.get("etag", "")

    def act(
        self,
        method: str,
        path: str,
        body: Body | None = None,
        *,
        query: Query | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Send a request and ignore the answer."""
        self._sent(method, path, query or {}, _content(body), headers)

    def upload(self, path: str, file: Path, digest: str, on_sent: Callable[[int], None] = lambda _: None) -> None:
        """Send a file with this digest to the uploads at `path`, from where an earlier upload of it stopped.

        `on_sent` gets the number of bytes that were sent so far. A cut connection is tried again, several times in a
        row without progress; then the upload can be continued by another call.
        """
        size, place = file.stat().st_size, f"{path}/{quote(digest, safe=':')}"
        state, failures = UploadView(digest=digest), 0
        with file.open("rb") as source:
            while not state.is_complete:
                try:
                    if failures or size > PART_BYTES:
                        state = self.read(UploadView, place)
                    while not state.is_complete:
                        state = self._send_part(place, source, state.received_bytes, size, on_sent)
                        failures = 0
                except (Unavailable, DeadlineExceeded, RequestTimeout, Conflict) as error:
                    failures += 1
                    if failures > _UPLOAD_TRIES or error.code not in _UPLOAD_AGAIN:
                        raise
                    time.sleep(min(_MAX_RETRY_S, _RETRY_S * 2**failures))

    def _send_part(
        self, place: str, source: BinaryIO, offset: int, size: int, on_sent: Callable[[int], None]
    ) -> UploadView:
        """Send the next part of a file."""
        length = min(PART_BYTES, size - offset)
        source.seek(offset)
        with self._kaon_errors():
            response = self._http.put(
                place,
                params={"size": size, "offset": offset},
                content=_chunks(source, offset, length, on_sent),
                headers={"content-type": "application/octet-stream", "content-length": str(length)},
                timeout=httpx2.Timeout(_UPLOAD_S, connect=_CONNECT_S),
            )
        return self._parsed(UploadView, _checked(response))

    def send(
        self, method: str, path: str, content: bytes | Iterator[bytes], size_bytes: int, query: Query | None = None
    ) -> bytes:
        """Send bytes; the answer's body."""
        headers = {"content-type": "application/octet-stream", "content-length": str(size_bytes)}
        timeout = httpx2.Timeout(600.0, connect=_CONNECT_S)
        with self._kaon_errors():
            response = self._http.request(
                method, path, params=_query_texts(query or {}), content=content, headers=headers, timeout=timeout
            )
        return _checked(response).content

    def chunks(self, path: str, **query: str | int | float | bool | None) -> Iterator[bytes]:
        """The bytes of `GET path`, as they come."""
        timeout = httpx2.Timeout(600.0, connect=_CONNECT_S)
        headers = {"accept": "application/octet-stream", "accept-encoding": "identity"}
        with (
            self._kaon_errors(),
            self._http.stream("GET", path, params=_query_texts(query), headers=headers, timeout=timeout) as response,
        ):
            if response.status_code >= 300:
                response.read()
                _checked(response)
            yield from response.iter_raw(_CHUNK_BYTES)

    def lines(self, model: type[M], path: str, **query: str | int | float | bool | None) -> Iterator[M]:
        """The NDJSON lines of `GET path`, as they come, for as long as they come."""
        timeout = httpx2.Timeout(None, connect=_CONNECT_S)
        with (
            self._kaon_errors(),
            self._http.stream("GET", path, params=_query_texts(query), timeout=timeout) as response,
        ):
            if response.status_code >= 300:
                response.read()
                _checked(response)
            for line in response.iter_lines():
                if line.strip():
                    yield _valid(model, line)

    def _sent(
        self,
        method: str,
        path: str,
        query: Query,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
    ) -> httpx2.Response:
        more = dict(headers or {})
        if content is not None:
            more["content-type"] = "application/json"
        timeout = self._http.timeout if timeout_s is None else httpx2.Timeout(timeout_s, connect=_CONNECT_S)
        with self._kaon_errors():
            response = self._http.request(
                method, path, params=_query_texts(query), content=content, headers=more, timeout=timeout
            )
        return _checked(response)

    @contextmanager
    def _kaon_errors(self) -> Iterator[None]:
        """Converts network errors to `KaonError`."""
        try:
            yield
        except httpx2.TimeoutException:
            raise DeadlineExceeded(
                f"The platform at {self._where} did not answer in time.", hint="Check it: kaon doctor"
            ) from None
        except httpx2.HTTPError as error:
            raise Unavailable(
                f"The platform at {self._where} cannot be reached: {error}.",
                hint="Start it: kaon up; or find out what is wrong: kaon doctor",
            ) from None

    def _parsed(self, model: type[M], response: httpx2.Response) -> M:
        return _valid(model, response.content)


def _changes(received: Watch, event: ServerEvent) -> Iterator[ResourceChange]:
    try:
        yield from received.take(event)
    except ValidationError:
        raise _unexpected() from None


def _path(kind: Kind, workspace: str, name: str | None = None) -> str:
    """The path of a kind's resources, or of one. Raises `InvalidInput` for an invalid name."""
    path = kind.path.format(ws=quote(workspace, safe=""))
    if name is None:
        return path
    if not name or "/" in name:  # it would be the path of another resource
        raise InvalidInput(f"'{name}' is not a name.", hint=f"List them: kaon get {kind.plural}")
    return f"{path}/{quote(name, safe=':')}"


def _members(response: httpx2.Response) -> dict[str, Any]:
    """The members of a page."""
    try:
        members = response.json()
    except ValueError:
        raise _unexpected() from None
    if not isinstance(members, dict) or not isinstance(members.get("items"), list):
        raise _unexpected()
    return members


def _query_texts(query: Query) -> dict[str, str]:
    """The parameters that have a value, as text."""
    texts = {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in query.items()}
    return {name: text for name, text in texts.items() if query[name] is not None}


def _content(body: Body | None) -> bytes | None:
    if body is None:
        return None
    members = body.model_dump(mode="json") if isinstance(body, BaseModel) else dict(body)
    return json.dumps(members, ensure_ascii=False).encode()


def _chunks(source: BinaryIO, offset: int, length: int, on_sent: Callable[[int], None]) -> Iterator[bytes]:
    end = offset + length
    while offset < end and (chunk := source.read(min(_CHUNK_BYTES, end - offset))):
        yield chunk
        offset += len(chunk)
        on_sent(offset)


def _valid(model: type[M], content: bytes | str) -> M:
    try:
        return model.model_validate_json(content)
    except ValidationError:
        raise _unexpected() from None


def _unexpected() -> KaonError:
    return BadAnswer(
        "The platform's answer is not of the expected type.",
        hint="Compare the versions (kaon status; kaon --version), and upgrade the older one.",
    )


def _checked(response: httpx2.Response) -> httpx2.Response:
    """The response, when it is a success. Raises its error otherwise."""
    if response.status_code < 300:
        return response
    try:
        members: Any = response.json()
    except ValueError:
        members = None
    if not isinstance(members, dict):
        members = {
            "detail": f"The answer was HTTP status {response.status_code}.",
            "hint": "Check that the URL is a platform's.",
        }
    error = from_problem(response.status_code, members)
    error.request_id = error.request_id or response.headers.get(REQUEST_ID_HEADER, "")
    raise error
