"""The platform as `kaon.submit` needs it: jobs are submitted, looked at and cancelled over its API."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import httpx2
from pydantic import ValidationError

from kaon.client import contexts, local
from kaon.errors import BadAnswer, ConfigError, Unavailable, from_problem
from kaon.types.hosts import uses_tls
from kaon.types.job import JobRequest, JobStatus


class JobPlatform:
    """The platform of this process, as far as jobs need it."""

    def __init__(self, url: str, key: str, workspace: str = "") -> None:
        """`workspace` '': that of the key."""
        self._http = httpx2.Client(
            base_url=f"{url.rstrip('/')}/api/v1",
            headers={"authorization": f"Bearer {key}"},
            verify=uses_tls(url),
            timeout=30.0,
        )
        self._workspace = workspace

    @classmethod
    def in_use(cls, environ: Mapping[str, str] = os.environ) -> JobPlatform:
        """In a replica its own platform, elsewhere that of the context. Raises KaonError."""
        if edge := environ.get("KAON_EDGE_URL", ""):
            if not environ.get("KAON_KEY"):
                raise ConfigError(
                    "This service has no key of its own.", hint="Deploy it again with the jobs that it submits."
                )
            return cls(edge, environ["KAON_KEY"])
        context = contexts.in_use(environ)
        key = environ.get("KAON_KEY") or contexts.key_of(context, environ)
        return cls(context.url or local.url(), key, context.workspace)

    def submit(self, request: JobRequest) -> str:
        """Queue a job; its name."""
        body = request.model_dump_json(exclude_defaults=True)
        return str(self.request("POST", f"/workspaces/{self.workspace}/jobs", body)["name"])

    def job(self, name: str) -> RemoteJob:
        """A job that was submitted."""
        return RemoteJob(name, self)

    @property
    def workspace(self) -> str:
        """The workspace of the key, unless the context has one."""
        if not self._workspace:
            self._workspace = str(self.request("GET", "/whoami").get("workspace") or "default")
        return self._workspace

    def request(self, method: str, path: str, body: str | None = None) -> dict[str, Any]:
        """The JSON object of an answer. Raises KaonError."""
        headers = {"content-type": "application/json"} if body is not None else {}
        try:
            answer = self._http.request(method, path, content=body, headers=headers)
            members = answer.json()
        except httpx2.TransportError as error:
            raise Unavailable(f"The platform cannot be reached: {error}.", hint="Run: kaon status") from None
        except ValueError:
            members = {}
        if not isinstance(members, dict):
            members = {}
        if answer.is_error:
            raise from_problem(answer.status_code, members)
        return members


class RemoteJob:
    """A job on the platform."""

    def __init__(self, name: str, platform: JobPlatform) -> None:
        self._name = name
        self._platform = platform

    def status(self) -> JobStatus:
        try:
            return JobStatus.model_validate(self._request("GET", "").get("status"))
        except ValidationError as error:
            raise BadAnswer(f"The platform's answer cannot be read: {error}") from None

    def result(self) -> Any:
        return self._request("GET", "/result").get("result")

    def cancel(self) -> None:
        self._request("POST", "/cancel")

    def _request(self, method: str, path: str) -> dict[str, Any]:
        return self._platform.request(method, f"/workspaces/{self._platform.workspace}/jobs/{self._name}{path}")
