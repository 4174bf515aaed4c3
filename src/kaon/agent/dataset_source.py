"""Versions of datasets from the control plane, for the cache of this machine. Called from threads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx2

from kaon.errors import Unavailable, from_problem
from kaon.types.hosts import uses_tls

_TIMEOUT_S = 60.0
_CHUNK_BYTES = 2**18


class DatasetSource:
    """A `VersionSource`: the versions that the plan of one cloud names."""

    def __init__(self, url: str, key: str, cloud: str, *, socket: Path | None = None) -> None:
        """`url` is the control plane's, `socket` its unix socket when it is here."""
        self._client = httpx2.Client(
            base_url=f"{url.rstrip('/')}/api/v1/clouds/{cloud}/datasets",
            headers={"authorization": f"Bearer {key}", "accept-encoding": "identity"},
            transport=httpx2.HTTPTransport(uds=str(socket) if socket else None, verify=not socket and uses_tls(url)),
            timeout=_TIMEOUT_S,
            trust_env=False,
        )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def manifest(self, digest: str) -> bytes:
        """See `VersionSource`."""
        return b"".join(self.stream(f"/{digest}"))

    def files_of(self, digest: str) -> PlannedFiles:
        """See `VersionSource`."""
        return PlannedFiles(self, digest)

    def stream(self, path: str, **query: int) -> Iterator[bytes]:
        """The bytes of `GET path`. Raises what the control plane refuses, `Unavailable`."""
        try:
            with self._client.stream("GET", path, params=query) as answer:
                if answer.is_error:
                    answer.read()
                    raise _problem(answer)
                yield from answer.iter_raw(_CHUNK_BYTES)
        except (httpx2.TransportError, httpx2.StreamError) as error:
            raise Unavailable(
                f"The control plane cannot be reached: {error or type(error).__name__}.", hint="Run: kaon status"
            ) from None


class PlannedFiles:
    """A `FileSource`: the files of one version."""

    def __init__(self, source: DatasetSource, digest: str) -> None:
        self._source = source
        self._digest = digest

    def files(self, first: int, count: int, offset: int = 0) -> Iterator[bytes]:
        """See `FileSource`."""
        return self._source.stream(f"/{self._digest}/files", first=first, count=count, offset=offset)


def _problem(answer: httpx2.Response) -> Exception:
    try:
        members = answer.json()
    except ValueError:
        members = {}
    return from_problem(answer.status_code, members if isinstance(members, dict) else {})
