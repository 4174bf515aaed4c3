"""Runs one attempt of a job in this process: `python -m kaon.runtime` of the kind `job`.

The attempt's folder (`Launch.job_dir`) is all that the agent reads of it:

    outputs/PARAMETER/   what it writes to its outputs
    result.json          its result, written in one step when it has succeeded
    progress.jsonl       what it reports by `kaon.progress`, a line each; at 4 MiB it becomes progress.jsonl.1

The exit code is 0 when it has succeeded, 78 when it cannot run as configured (its module cannot be imported, a
parameter is wrong), else another one. SIGTERM raises `JobStopped` in the main thread, so that `finally` blocks run.

A command gets the same by environment variables: KAON_INPUT_NAME, KAON_OUTPUT_NAME and KAON_PARAM_NAME in capitals,
KAON_RESULT and KAON_PROGRESS with the paths of these files.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import os
import signal
import sys
import traceback
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any

from kaon import log
from kaon.errors import BadAnswer, ConfigError, InvalidInput
from kaon.runtime.endings import end_in_time, from_the_module
from kaon.runtime.logs import read_only, restore
from kaon.sdk import handle, left_out
from kaon.sdk.dataset import Dataset
from kaon.sdk.job import Job
from kaon.sdk.load import load, load_job
from kaon.sdk.output import Output
from kaon.sdk.progress import ProgressReport, receive
from kaon.sdk.service import construct
from kaon.sdk.setting import deployment_variables
from kaon.types.job import OUTPUTS_FOLDER, PROGRESS_FILE, RESULT_FILE, RESULT_MAX_BYTES, JobCall
from kaon.types.launch import EXIT_CONFIG, Launch

_PROGRESS_FILE_BYTES = 4 * 2**20


class JobStopped(BaseException):
    """The job is asked to end: it was cancelled, or its time is over."""


def run(launch: Launch) -> int:
    """Run the attempt; the exit code. A command takes this process over."""
    if launch.call is None:
        print("ConfigError: The job has no call. Submit it again.", file=sys.stderr)
        return EXIT_CONFIG
    folder = Path(launch.job_dir)
    for name in launch.call.outputs:
        (folder / OUTPUTS_FOLDER / name).mkdir(mode=0o700, parents=True, exist_ok=True)
    if launch.call.command:
        return _execute(launch, launch.call, folder)
    signal.signal(signal.SIGTERM, _stop)
    receive(ProgressFile(folder / PROGRESS_FILE).write)
    try:
        code = _run(launch, launch.call, folder)
    except JobStopped:
        print("The job was stopped.", file=sys.stderr, flush=True)
        code = 128 + signal.SIGTERM
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    end_in_time(code)
    return code


def _run(launch: Launch, call: JobCall, folder: Path) -> int:
    code_dir = Path(launch.code_dir)
    try:
        job = _loaded(launch, call)
        arguments = _arguments(job, call, launch.inputs, folder)
        first = _instance(job, code_dir)
    except ConfigError as error:
        print(f"ConfigError: {error.cause} {error.hint}".rstrip(), file=sys.stderr, flush=True)
        return EXIT_CONFIG
    except Exception as error:
        _print(error, code_dir)
        return 1
    try:
        result = job.function(*first, **arguments)
        if inspect.isawaitable(result):
            result = asyncio.run(_awaited(result))
        _keep_result(job, result, folder)
    except SystemExit as error:
        return _exit_code(error)
    except BadAnswer as error:
        print(f"{error.cause} {error.hint}".rstrip(), file=sys.stderr, flush=True)
        return 1
    except JobStopped:
        raise
    except BaseException as error:
        _print(error, code_dir)
        return 1
    return 0


def _loaded(launch: Launch, call: JobCall) -> Job:
    """The job of the call. Raises ConfigError."""
    try:
        job = load_job(call.entry, Path(launch.code_dir))
    except ConfigError:
        raise
    except Exception as error:
        _print(error, Path(launch.code_dir))
        raise ConfigError(f"{call.entry} cannot be imported: {type(error).__name__}: {error}") from error
    finally:
        restore()
    handle.allow(job.declaration.uses)
    return job


def _instance(job: Job, code_dir: Path) -> tuple[Any, ...]:
    """The instance of which a method is called, as its first argument. Raises ConfigError, or what the class raises."""
    if not job.is_method:
        return ()
    service = load(f"{job.declaration.entry.partition(':')[0]}:{job.entry_class}", code_dir)
    handle.allow((*job.declaration.uses, *service.uses))
    return (construct(service, deployment_variables()),)


def _arguments(job: Job, call: JobCall, inputs: Mapping[str, str], folder: Path) -> dict[str, Any]:
    """The function's arguments. Raises ConfigError."""
    declared = job.declaration
    try:
        arguments = job.signature.from_json(json.dumps(call.parameters).encode())
    except InvalidInput as error:
        wrong = "; ".join(f"{one['where'].removeprefix('body.')} {one['problem']}" for one in error.errors)
        raise ConfigError(
            f"The parameters of `{declared.name}` are wrong: {wrong.replace(' of this endpoint', '')}.",
            hint="Submit it with the parameters that the function has.",
        ) from None
    for name in declared.inputs:
        if name in inputs and name in call.inputs:
            version = call.inputs[name]
            arguments[name] = Dataset(Path(inputs[name]), version.dataset, version.number)
        elif name not in declared.optional_inputs:
            raise ConfigError(
                f"Input `{name}` of `{declared.name}` is missing.", hint=f"Submit it with {name}=DATASET@VERSION."
            )
    for name in declared.outputs:
        if name not in call.outputs:
            raise ConfigError(
                f"Output `{name}` of `{declared.name}` is missing.", hint=f"Submit it with {name}=DATASET."
            )
        arguments[name] = Output(folder / OUTPUTS_FOLDER / name, name)
    return arguments


async def _awaited(result: Any) -> Any:
    return await result


def _keep_result(job: Job, result: Any, folder: Path) -> None:
    """Write the result in one step. Raises BadAnswer."""
    text = job.signature.to_json(result)
    if len(text) > RESULT_MAX_BYTES:
        raise BadAnswer(
            f"The result has {len(text):,} bytes as JSON; at most {RESULT_MAX_BYTES:,} are kept.",
            hint="Write large results to a kaon.Output.",
        )
    beside = folder / f"{RESULT_FILE}.part"
    try:
        beside.write_bytes(text)
        beside.replace(folder / RESULT_FILE)
    except OSError as error:
        raise BadAnswer(f"The result cannot be written: {error.strerror}.", hint="Free space on the disk.") from error


def _print(error: BaseException, code_dir: Path) -> None:
    """Print the traceback of the user's code, with a hint at the end where one is possible."""
    lines = traceback.format_exception(type(error), error, from_the_module(error.__traceback__))
    hint = left_out.explanation(error, code_dir) + read_only(error, code_dir)
    print(log.blot("".join(lines)), file=sys.stderr, end="", flush=True)
    if hint:
        print(f"{type(error).__name__}: {hint}", file=sys.stderr, flush=True)


def _exit_code(error: SystemExit) -> int:
    """The exit code of `sys.exit(...)`, whose text is printed."""
    if error.code is None or isinstance(error.code, int):
        return (error.code or 0) & 0xFF
    print(error.code, file=sys.stderr, flush=True)
    return 1


def _stop(_number: int, _frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once: what the job cleans up is not interrupted
    raise JobStopped


class ProgressFile:
    """Where the reports of a job go: at most two files of 4 MiB. Called by one thread at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = -1
        self._bytes = 0

    def write(self, report: ProgressReport) -> None:
        """Append a report. One that cannot be written is dropped: progress never fails a job."""
        line = json.dumps(asdict(report)).encode() + b"\n"
        with contextlib.suppress(OSError):
            if self._file < 0:
                self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
                self._bytes = os.fstat(self._file).st_size
            self._bytes += os.write(self._file, line)
            if self._bytes >= _PROGRESS_FILE_BYTES:
                os.replace(self._path, f"{self._path}.1")
                os.close(self._file)
                self._file = -1


def _execute(launch: Launch, call: JobCall, folder: Path) -> int:
    """Replace this process by the command; the exit code when that is not possible."""
    own = {f"KAON_PARAM_{name.upper()}": _text(value) for name, value in call.parameters.items()}
    own |= {f"KAON_INPUT_{name.upper()}": path for name, path in launch.inputs.items()}
    own |= {f"KAON_OUTPUT_{name.upper()}": str(folder / OUTPUTS_FOLDER / name) for name in call.outputs}
    own |= {"KAON_RESULT": str(folder / RESULT_FILE), "KAON_PROGRESS": str(folder / PROGRESS_FILE)}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, and a program would inherit that
    try:
        os.execvpe(call.command[0], call.command, {**os.environ, **own, "PATH": path})  # noqa: S606 - a shell is what must not be
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        print(f"ConfigError: The program {call.command[0]!r} cannot be started: {why}.", file=sys.stderr, flush=True)
        return EXIT_CONFIG


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
