"""The platform's own API for the command line: typed requests over a unix socket here, over HTTPS elsewhere.

It carries and checks; what the routes are called and what they answer is said by its user.
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
from kaon.errors import BadAnswer, DeadlineExceeded, Gone, InvalidInput, KaonError, Unavailable, from_problem
from kaon.types.hosts import uses_tls
from kaon.types.kind import Kind

M = TypeVar("M", bound=BaseModel)
Body = BaseModel | Mapping[str, Any]
Query = Mapping[str, str | int | float | bool | None]

_CONNECT_S = 5.0
_CHUNK_BYTES = 256 * 1024
_PAGE = 1000
"""Items that a page may have."""
_SILENCE_S = 45.0
"""A watch that is silent for longer, without a sign of life, is cut: three of those signs are missing."""
_AGAIN_S = 0.2
_AGAIN_MOST_S = 5.0


class PlatformClient:
    """Requests to `/api/v1` with one key. Every method raises the `KaonError` that the platform answered,
    `Unavailable` when it cannot be reached, `DeadlineExceeded` when it does not answer in time, and `BadAnswer` when
    the answer is not of the type that was asked for.

    Args:
        key: The API key.
        url: The platform's URL; empty: `socket` is used.
        socket: The API's unix socket on this machine.
        timeout_s: Seconds for each request, uploads and logs apart.
    """

    def __init__(self, key: str, *, url: str = "", socket: Path | None = None, timeout_s: float = 30.0) -> None:
        self._where = url or str(socket)
        self.on_unreadable: Callable[[Mapping[str, Any]], None] = lambda row: None
        """Called with each resource of a list that the platform cannot read: its kind, name, reason and hint."""
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
        """What `GET path` answers."""
        return self._parsed(model, self._sent("GET", path, query))

    def items(self, model: type[M], path: str, **query: str | int | float | bool | None) -> list[M]:
        """The items of the list that `GET path` answers, of all its pages."""
        return list(self._pages(model, path, query))

    def resources(self, kind: Kind, workspace: str, /, most: int | None = None, **query: str | int | None) -> list[Any]:
        """What the key sees of a kind, in order; `most` of it at most. `query` has filters of the kind."""
        asked = {**query, "limit": min(most, _PAGE)} if most is not None else query
        return list(islice(self._pages(kind.view, _path(kind, workspace), asked), most))

    def resource(self, kind: Kind, workspace: str, name: str) -> Any:
        """One resource."""
        return self.read(kind.view, _path(kind, workspace, name))

    def put_resource(
        self, kind: Kind, workspace: str, name: str, spec: Body, *, version: int | None = None, dry_run: bool = False
    ) -> Any:
        """Create a resource, or replace its spec; only when it still has `version`, if one is named."""
        headers = {} if version is None else {"if-match": str(version)}
        query = {"dry_run": True} if dry_run else {}
        path = _path(kind, workspace, name)
        return self.write("PUT", path, spec, query=query, headers=headers, answer=kind.view)

    def delete_resource(self, kind: Kind, workspace: str, name: str) -> None:
        """Delete a resource."""
        self.act("DELETE", _path(kind, workspace, name))

    def watch(self, kind: Kind, workspace: str, /, **query: str | int | None) -> Iterator[ResourceChange]:
        """What the key sees of a kind, then 'synced', then each change as it comes, without end.

        What was connected once is connected again whenever that fails; it ends with the error that the platform
        answers, such as that the key has ended.
        """
        known, path, failures, began = Watch(kind), _path(kind, workspace), 0, False
        while True:
            try:
                for event in self._server_events(path, {**query, "watch": True, "since": known.since}):
                    failures, began = 0, True
                    yield from _changes(known, event)
            except Gone:
                known.begin_anew()
            except (Unavailable, DeadlineExceeded):
                if not began:
                    raise
            time.sleep(min(_AGAIN_MOST_S, _AGAIN_S * 2**failures))
            failures = min(failures + 1, 10)

    def _server_events(self, path: str, query: Query) -> Iterator[ServerEvent]:
        timeout = httpx2.Timeout(_SILENCE_S, connect=_CONNECT_S)
        with self._failing(), self._http.stream("GET", path, params=_given(query), timeout=timeout) as response:
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
        answer: type[M],
    ) -> M:
        """Send `body` and return the answer."""
        return self._parsed(answer, self._sent(method, path, query or {}, _content(body), headers))

    def read_tagged(self, model: type[M], path: str) -> tuple[M, str]:
        """What `GET path` answers, and its entity tag."""
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
        """Send a request whose answer does not matter."""
        self._sent(method, path, query or {}, _content(body), headers)

    def upload(self, path: str, file: Path, answer: type[M], on_sent: Callable[[int], None] = lambda _: None) -> M:
        """Send a file; `on_sent` is told how many bytes went so far."""
        with file.open("rb") as source:
            headers = {"content-type": "application/gzip", "content-length": str(file.stat().st_size)}
            timeout = httpx2.Timeout(600.0, connect=_CONNECT_S)
            with self._failing():
                response = self._http.post(path, content=_chunks(source, on_sent), headers=headers, timeout=timeout)
        return self._parsed(answer, _checked(response))

    def lines(self, model: type[M], path: str, **query: str | int | float | bool | None) -> Iterator[M]:
        """The NDJSON lines of `GET path`, as they come, for as long as they come."""
        timeout = httpx2.Timeout(None, connect=_CONNECT_S)
        with self._failing(), self._http.stream("GET", path, params=_given(query), timeout=timeout) as response:
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
    ) -> httpx2.Response:
        more = dict(headers or {})
        if content is not None:
            more["content-type"] = "application/json"
        with self._failing():
            response = self._http.request(method, path, params=_given(query), content=content, headers=more)
        return _checked(response)

    @contextmanager
    def _failing(self) -> Iterator[None]:
        """Turns what can go wrong on the way into errors of ours."""
        try:
            yield
        except httpx2.TimeoutException:
            raise DeadlineExceeded(
                f"The platform at {self._where} did not answer in time.", hint="See how it is: kaon doctor"
            ) from None
        except httpx2.HTTPError as error:
            raise Unavailable(
                f"The platform at {self._where} cannot be reached: {error}.",
                hint="Start it with: kaon up; or see what is wrong: kaon doctor",
            ) from None

    def _parsed(self, model: type[M], response: httpx2.Response) -> M:
        return _valid(model, response.content)


def _changes(known: Watch, event: ServerEvent) -> Iterator[ResourceChange]:
    try:
        yield from known.take(event)
    except ValidationError:
        raise _strange() from None


def _path(kind: Kind, workspace: str, name: str | None = None) -> str:
    """Where a kind's resources are, or one of them. Raises `InvalidInput` for what cannot be a name."""
    path = kind.path.format(ws=quote(workspace, safe=""))
    if name is None:
        return path
    if not name or "/" in name:  # such a path would be another's, or nobody's
        raise InvalidInput(f"'{name}' is no name.", hint=f"See those there are: kaon get {kind.plural}")
    return f"{path}/{quote(name, safe=':')}"


def _members(response: httpx2.Response) -> dict[str, Any]:
    """The members of a page."""
    try:
        members = response.json()
    except ValueError:
        raise _strange() from None
    if not isinstance(members, dict) or not isinstance(members.get("items"), list):
        raise _strange()
    return members


def _given(query: Query) -> dict[str, str]:
    """The parameters that have a value, as the API writes them."""
    texts = {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in query.items()}
    return {name: text for name, text in texts.items() if query[name] is not None}


def _content(body: Body | None) -> bytes | None:
    if body is None:
        return None
    members = body.model_dump(mode="json") if isinstance(body, BaseModel) else dict(body)
    return json.dumps(members, ensure_ascii=False).encode()


def _chunks(source: BinaryIO, on_sent: Callable[[int], None]) -> Iterator[bytes]:
    sent = 0
    while chunk := source.read(_CHUNK_BYTES):
        yield chunk
        sent += len(chunk)
        on_sent(sent)


def _valid(model: type[M], content: bytes | str) -> M:
    try:
        return model.model_validate_json(content)
    except ValidationError:
        raise _strange() from None


def _strange() -> KaonError:
    return BadAnswer(
        "The platform answered something that this command line does not know.",
        hint="Is it of the same version? `kaon status` tells; `pip install --upgrade kaon` helps.",
    )


def _checked(response: httpx2.Response) -> httpx2.Response:
    """The response when it is a success. Raises the error that it describes otherwise."""
    if response.status_code < 300:
        return response
    try:
        members: Any = response.json()
    except ValueError:
        members = None
    if not isinstance(members, dict):
        members = {"detail": f"The answer was HTTP status {response.status_code}.", "hint": "Is this a platform's URL?"}
    error = from_problem(response.status_code, members)
    error.request_id = error.request_id or response.headers.get(REQUEST_ID_HEADER, "")
    raise error
