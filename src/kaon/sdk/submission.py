"""`kaon.submit`: start a job from a service or a program, and follow it.

In a service the job is one of its own artifact, and the service's own key submits it. Elsewhere the platform and the
key are those of the context in use, as for the command line, and the artifact is named. Within `kaon.local(...)` the
job runs in this process, in a thread, with `kaon.Dataset.local(...)` and `kaon.Output.local(...)`.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any, Protocol

from kaon.errors import ConfigError, DeadlineExceeded, InvalidInput, JobFailed, KaonError
from kaon.sdk import handle
from kaon.sdk.dataset import Dataset
from kaon.sdk.job import Job, job_of
from kaon.sdk.progress import ProgressReport, reporting_to
from kaon.types.job import JobRequest, JobState, JobStatus, Progress
from kaon.types.wire import json_of

_FIRST_S, _MOST_S = 0.1, 2.0
"""Between two looks at a job."""


class JobSource(Protocol):
    """Where a job runs."""

    def status(self) -> JobStatus:
        """Its status now."""
        ...

    def result(self) -> Any:
        """Its result as plain Python values, once it has succeeded."""
        ...

    def cancel(self) -> None:
        """Ask it to end."""
        ...


class SubmissionPort(Protocol):
    """The platform, as far as jobs need it."""

    def submit(self, request: JobRequest) -> str:
        """Queue a job; its name. Raises KaonError."""
        ...

    def job(self, name: str) -> JobSource:
        """A job that was submitted."""
        ...


_platform: Callable[[], SubmissionPort] | None = None


def plug_platform(platform: Callable[[], SubmissionPort]) -> None:
    """Set how the platform is reached; `kaon` sets the client."""
    global _platform
    _platform = platform


class JobHandle:
    """A submitted job. `aio` has the same methods for coroutines."""

    def __init__(self, name: str, source: JobSource) -> None:
        self.name = name
        self._source = source

    @property
    def aio(self) -> AsyncJobHandle:
        """The same job, for coroutines."""
        return AsyncJobHandle(self)

    def status(self) -> JobStatus:
        """Its state, progress and attempts."""
        return self._source.status()

    def progress(self) -> Iterator[Progress]:
        """Its progress, each time that it has changed, until the job has ended."""
        before: Progress | None = None
        for status in self._statuses(None):
            if status.progress != before:
                before = status.progress
                yield before

    def result(self, timeout_s: float | None = None) -> Any:
        """Wait for its end; its result as plain Python values.

        Raises `JobFailed` when it did not succeed, `DeadlineExceeded` when it has not ended after `timeout_s`.
        """
        for status in self._statuses(timeout_s):
            if status.state is JobState.SUCCEEDED:
                return self._source.result()
            if status.state.ended:
                raise JobFailed(
                    f"Job '{self.name}' ended as {status.state}: {status.reason or 'no reason is known'}",
                    hint=f"See: kaon job logs {self.name}",
                )
        raise AssertionError("the statuses end with an end")

    def cancel(self) -> None:
        """Ask it to end: SIGTERM, and SIGKILL after ten seconds. Does nothing when it has ended."""
        self._source.cancel()

    def _statuses(self, timeout_s: float | None) -> Iterator[JobStatus]:
        """Its statuses, seldom enough, the last one of its end."""
        give_up, pause_s = None if timeout_s is None else time.monotonic() + timeout_s, _FIRST_S
        while True:
            status = self.status()
            yield status
            if status.state.ended:
                return
            if give_up is not None and time.monotonic() + pause_s > give_up:
                raise DeadlineExceeded(f"Job '{self.name}' has not ended within {timeout_s:g} s: {status.state}.")
            time.sleep(pause_s)
            pause_s = min(_MOST_S, pause_s * 1.5)

    def __repr__(self) -> str:
        return f"kaon.submitted({self.name!r})"


class AsyncJobHandle:
    """A job whose methods are awaited."""

    def __init__(self, job: JobHandle) -> None:
        self._job = job
        self.name = job.name

    async def status(self) -> JobStatus:
        """Its state, progress and attempts."""
        return await asyncio.to_thread(self._job.status)

    async def progress(self) -> AsyncIterator[Progress]:
        """Its progress, each time that it has changed, until the job has ended."""
        before: Progress | None = None
        pause_s = _FIRST_S
        while True:
            status = await self.status()
            if status.progress != before:
                before, pause_s = status.progress, _FIRST_S
                yield before
            if status.state.ended:
                return
            await asyncio.sleep(pause_s)
            pause_s = min(_MOST_S, pause_s * 1.5)

    async def result(self, timeout_s: float | None = None) -> Any:
        """Wait for its end; its result. Raises `JobFailed`, `DeadlineExceeded`."""
        return await asyncio.to_thread(self._job.result, timeout_s)

    async def cancel(self) -> None:
        """Ask it to end."""
        await asyncio.to_thread(self._job.cancel)


def submit(
    function: Callable[..., Any],
    /,
    *,
    job_name: str | None = None,
    artifact: str | None = None,
    priority: int = 0,
    labels: Mapping[str, str] | None = None,
    **arguments: Any,
) -> JobHandle:
    """Submit a job: `kaon.submit(train, purchases="purchases@latest", model="shop-model", epochs=8)`.

    Args:
        function: A function or method below `@kaon.job`.
        job_name: The job's name; by default made from the function's.
        artifact: Digest of the artifact; by default that of the service or job that submits.
        priority: Higher ones of the workspace start first, from -100 to 100.
        labels: For people, to find it again.
        arguments: The function's parameters; of an input like 'purchases@3', of an output the name of a dataset.

    Raises InvalidInput for wrong arguments, or the KaonError of the platform.
    """
    job = job_of(function)
    if handle.within_local():
        return _run_here(job, arguments)
    options = {"name": job_name, "artifact": artifact, "priority": priority, "labels": dict(labels or {})}
    request = request_of(job, arguments, options)
    platform = _platform_in_use()
    name = platform.submit(request)
    return JobHandle(name, platform.job(name))


def submitted(name: str) -> JobHandle:
    """A job that was submitted before, by its name."""
    return JobHandle(name, _platform_in_use().job(name))


def _platform_in_use() -> SubmissionPort:
    if _platform is None:
        raise ConfigError("This process has no client of the platform.", hint="Import kaon as a whole: import kaon")
    return _platform()


def split_arguments(job: Job, arguments: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """(plain ones, inputs, outputs). The plain ones are checked. Raises InvalidInput."""
    declared = job.declaration
    inputs = {name: arguments[name] for name in declared.inputs if arguments.get(name) is not None}
    outputs = {name: arguments[name] for name in declared.outputs if name in arguments}
    missing = [name for name in declared.inputs if name not in inputs and name not in declared.optional_inputs]
    missing += [name for name in declared.outputs if name not in outputs]
    if missing:
        raise InvalidInput(f"`{declared.name}` needs {missing[0]}.", hint=f"Write {missing[0]}='NAME' of a dataset.")
    apart = {*declared.inputs, *declared.outputs}
    plain = {name: value for name, value in arguments.items() if name not in apart}
    job.signature.from_json(json_of(plain))
    return plain, inputs, outputs


def request_of(job: Job, arguments: Mapping[str, Any], options: Mapping[str, Any]) -> JobRequest:
    """The request that submits a job. Raises InvalidInput."""
    plain, inputs, outputs = split_arguments(job, arguments)
    try:
        return JobRequest.model_validate_json(
            json_of(
                {
                    **options,
                    "function": job.declaration.name,
                    "parameters": plain,
                    "inputs": {name: _reference(name, value) for name, value in inputs.items()},
                    "outputs": outputs,
                }
            )
        )
    except ValueError as error:
        raise InvalidInput(
            f"`{job.declaration.name}` cannot be submitted so: {error}",
            hint="Inputs are written like 'purchases@latest', outputs like 'shop-model'.",
        ) from None


def _reference(name: str, value: Any) -> Any:
    if not isinstance(value, Dataset):
        return value
    if not value.version:
        raise InvalidInput(
            f"Input `{name}` is a folder of this machine.", hint=f"Push it: kaon dataset push {name} FOLDER"
        )
    return f"{value.name}@{value.version}"


class LocalJob:
    """A job that runs in a thread of this process, as tests want it."""

    def __init__(self) -> None:
        self._status = JobStatus(state=JobState.RUNNING, started_at=time.time())
        self._result = b"null"
        self._lock = threading.Lock()

    def run(self, job: Job, call: Callable[[], Any]) -> None:
        """Run it to its end."""
        try:
            with reporting_to(self._report):
                result = call()
                if asyncio.iscoroutine(result):
                    result = asyncio.run(result)
                self._result = job.signature.to_json(result)
            state, reason = JobState.SUCCEEDED, ""
        except Exception as error:
            reason = f"{type(error).__name__}: {error.cause if isinstance(error, KaonError) else error}"
            state = JobState.FAILED
        with self._lock:
            changes = {"state": state, "reason": reason, "ended_at": time.time()}
            self._status = self._status.model_copy(update=changes)

    def status(self) -> JobStatus:
        with self._lock:
            return self._status

    def result(self) -> Any:
        return json.loads(self._result)

    def cancel(self) -> None:
        """A thread cannot be ended from outside: it runs on."""

    def _report(self, report: ProgressReport) -> None:
        with self._lock:
            before = self._status.progress
            fraction = before.fraction if report.fraction is None else report.fraction
            progress = Progress(fraction=fraction, text=report.text, at=report.at)
            self._status = self._status.model_copy(update={"progress": progress})


def _run_here(job: Job, arguments: Mapping[str, Any]) -> JobHandle:
    if job.is_method:
        raise ConfigError(
            f"`{job.declaration.name}` is a method, which kaon.local(...) does not run.",
            hint="Call it on an instance of its class.",
        )
    plain, inputs, outputs = split_arguments(job, arguments)
    if wrong := [name for name, value in (inputs | outputs).items() if isinstance(value, str)]:
        raise ConfigError(
            f"`{wrong[0]}` is the name of a dataset, and kaon.local(...) has none.",
            hint="Pass kaon.Dataset.local(FOLDER) or kaon.Output.local(FOLDER).",
        )
    source = LocalJob()
    read = job.signature.from_json(json_of(plain))
    thread = threading.Thread(target=source.run, args=(job, lambda: job.function(**read, **inputs, **outputs)))
    thread.daemon = True
    thread.start()
    return JobHandle(job.declaration.name, source)
