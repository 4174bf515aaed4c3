"""The control plane over HTTP: a unix socket on its own machine, HTTPS from other clouds.

Every failure of the connection is `Unavailable`; a refusal by the control plane is raised as the exception that its
problem document names. Nothing is repeated here: the agent's loops do that, with their back-off.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import shutil
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import httpx2
from pydantic import TypeAdapter

from kaon.agent.plan_file import PlanReader
from kaon.agent.ports import AgentCall
from kaon.errors import DiskFull, Unavailable, from_problem
from kaon.types.hosts import uses_tls
from kaon.types.job import AttemptEnd, AttemptNews
from kaon.types.owners import FolderOwners
from kaon.types.plan import PLAN_IN_PARTS, NamedPlan, Report
from kaon.types.traffic import TrafficTaken

_TIMEOUT_S = 10.0
_UPLOADED_S = 120.0
"""How long the control plane may take for one chunk of an upload, and to check the file."""
_ENDED_S = 60.0
"""How long it may take to publish what an attempt has made."""
_CHUNK_BYTES = 2**20
_PART = ".part"
_PART_S = 86_400.0
"""How long an interrupted download can be continued by another agent."""
_T = TypeVar("_T")
_SECRETS = TypeAdapter(dict[str, str])


class ControlPlaneClient:
    """The control plane as one cloud's agent reaches it. Use `async with`, or `close` it."""

    def __init__(self, url: str, key: str, cloud: str, folder: Path, *, socket: Path | None = None) -> None:
        """`url` is the control plane's, `socket` its unix socket when it is here; `folder` keeps artifacts
        until they are unpacked, and nothing else."""
        self._folder = folder
        self._swept = False
        self._plans = PlanReader()
        self._client = httpx2.AsyncClient(
            base_url=f"{url.rstrip('/')}/api/v1/clouds/{cloud}",
            headers={"authorization": f"Bearer {key}"},
            transport=httpx2.AsyncHTTPTransport(
                uds=str(socket) if socket else None, retries=0, verify=not socket and uses_tls(url)
            ),
            timeout=_TIMEOUT_S,
            trust_env=False,
        )

    async def __aenter__(self) -> ControlPlaneClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    async def plan(self, after: str, wait_s: float) -> NamedPlan | None:
        # A server of the previous release reads `after`, and answers with a plan in one piece.
        headers = {"accept": f"{PLAN_IN_PARTS}, application/json"} | ({"if-none-match": f'"{after}"'} if after else {})
        answer = await self._get("/plan", {"after": after, "wait_s": wait_s}, wait_s, headers)
        if answer.status_code == 304:
            return None
        plan = _read(self._plans.read, answer.content)
        return NamedPlan.model_construct(name=answer.headers.get("etag", "").removeprefix("W/").strip('"'), plan=plan)

    async def report(self, report: Report) -> None:
        with _unavailable():
            answer = await self._client.post("/report", content=report.model_dump_json(), headers=_JSON)
        _check(answer)

    async def traffic(self, body: bytes) -> TrafficTaken:
        with _unavailable():
            answer = await self._client.post("/traffic", content=body, headers=_JSON)
        return _read(TrafficTaken.model_validate_json, _check(answer).content)

    async def artifact(self, digest: str) -> Path:
        if not self._swept:  # nothing of an earlier agent is in use
            self._swept = True
            await asyncio.to_thread(_sweep, self._folder)
        file = self._folder / f"{digest.removeprefix('sha256:')}.tar.gz"
        await self._download(f"/artifacts/{digest}", file, digest)
        return file

    async def owners(self) -> set[str]:
        """The uids of everything that may have a folder here."""
        answer = await self._get("/owners", {}, 0)
        return set(_read(FolderOwners.model_validate_json, answer.content).uids)

    async def secrets(self, replica: str) -> dict[str, str]:
        answer = await self._get(f"/replicas/{replica}/secrets", {}, 0)
        return _read(_SECRETS.validate_json, answer.content)

    async def attempt_secrets(self, attempt: str) -> dict[str, str]:
        answer = await self._get(f"/attempts/{attempt}/secrets", {}, 0)
        return _read(_SECRETS.validate_json, answer.content)

    async def attempt_news(self, attempt: str, news: AttemptNews) -> None:
        await self._post(f"/attempts/{attempt}/news", news.model_dump_json())

    async def missing_files(self, attempt: str, digests: Sequence[str]) -> list[str]:
        body = json.dumps({"digests": list(digests)})
        return _read(_missing, (await self._post(f"/attempts/{attempt}/missing-files", body)).content)

    async def upload_file(self, attempt: str, digest: str, file: Path) -> None:
        length = {"content-length": str(file.stat().st_size)}
        timeout = httpx2.Timeout(_TIMEOUT_S, read=_UPLOADED_S, write=_UPLOADED_S)
        with _unavailable():
            answer = await self._client.put(
                f"/attempts/{attempt}/files/{digest}", content=_chunks(file), headers=length, timeout=timeout
            )
        _check(answer)

    async def attempt_end(self, attempt: str, end: AttemptEnd) -> None:
        await self._post(f"/attempts/{attempt}/end", end.model_dump_json(), timeout_s=_ENDED_S)

    async def _post(self, path: str, content: str, timeout_s: float = _TIMEOUT_S) -> httpx2.Response:
        with _unavailable():
            return _check(await self._client.post(path, content=content, headers=_JSON, timeout=timeout_s))

    async def next_call(self, wait_s: float) -> AgentCall | None:
        answer = await self._get("/calls", {"wait_s": wait_s}, wait_s)
        return None if answer.status_code == 204 else _read(AgentCall.model_validate_json, answer.content)

    async def answer(self, call: str, lines: AsyncIterator[bytes]) -> None:
        without_limit = httpx2.Timeout(_TIMEOUT_S, read=None, write=None)
        with _unavailable():
            answer = await self._client.post(
                f"/calls/{call}",
                content=lines,
                headers={"content-type": "application/x-ndjson"},
                timeout=without_limit,
            )
        _check(answer)

    async def _get(
        self, path: str, query: Mapping[str, str | float], wait_s: float, headers: Mapping[str, str] | None = None
    ) -> httpx2.Response:
        with _unavailable():
            answer = await self._client.get(path, params=query, headers=headers, timeout=wait_s + _TIMEOUT_S)
        return _check(answer)

    async def _download(self, path: str, target: Path, digest: str) -> None:
        """Write the answer's body beside `target` and rename it into place: an existing target is complete.

        What a cut download left is continued by the next call. Raises `DiskFull` before a body is read that does not
        fit.
        """
        part = target.with_name(f"{target.name}{_PART}")
        offset = part.stat().st_size if part.exists() else 0
        headers = {"range": f"bytes={offset}-"} if offset else {}
        with _unavailable():
            async with self._client.stream("GET", path, headers=headers) as answer:
                if answer.is_error:
                    await answer.aread()
                _check(answer)
                is_continued = answer.status_code == 206
                _check_space(self._folder, int(answer.headers.get("content-length", 0)))
                with part.open("ab" if is_continued else "wb") as file:
                    async for chunk in answer.aiter_raw(_CHUNK_BYTES):
                        await asyncio.to_thread(file.write, chunk)
        if is_continued and await asyncio.to_thread(_digest_of, part) != digest:
            part.unlink()
            raise Unavailable("The artifact's download was continued and does not have its digest; it begins anew.")
        os.replace(part, target)


async def _chunks(file: Path) -> AsyncIterator[bytes]:
    """The bytes of a file, read in threads."""
    with await asyncio.to_thread(file.open, "rb") as opened:
        while chunk := await asyncio.to_thread(opened.read, _CHUNK_BYTES):
            yield chunk


def _missing(content: bytes) -> list[str]:
    missing = json.loads(content)["missing"]
    return [digest for digest in missing if isinstance(digest, str)]


def _sweep(folder: Path) -> None:
    """Make the folder, or delete what an earlier agent left in it, except for recent downloads to continue."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    oldest = time.time() - _PART_S
    for file in folder.iterdir():
        if file.is_file() and not (file.name.endswith(_PART) and file.stat().st_mtime > oldest):
            file.unlink(missing_ok=True)


def _check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DiskFull(
            f"The artifact has {needed:,} bytes more, and the disk of {folder} has {free:,} free.",
            hint="Make room: kaon gc",
        )


def _digest_of(file: Path) -> str:
    with file.open("rb") as opened:
        return f"sha256:{hashlib.file_digest(opened, 'sha256').hexdigest()}"


_JSON = {"content-type": "application/json"}


@contextlib.contextmanager
def _unavailable() -> Iterator[None]:
    try:
        yield
    except (httpx2.TransportError, httpx2.StreamError) as error:
        raise Unavailable(
            f"The control plane cannot be reached: {error or type(error).__name__}.", hint="Run: kaon status"
        ) from None


def _check(answer: httpx2.Response) -> httpx2.Response:
    """Returns the answer, or raises the error that it describes."""
    if answer.is_error:
        try:
            members = answer.json()
        except ValueError:
            members = {}
        raise from_problem(answer.status_code, members if isinstance(members, dict) else {})
    return answer


def _read(parse: Callable[[bytes], _T], content: bytes) -> _T:
    try:
        return parse(content)
    except ValueError:
        raise Unavailable(
            "The control plane's answer cannot be read by this agent.",
            hint="Use one version of Kaon for both.",
        ) from None
