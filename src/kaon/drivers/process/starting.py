"""Starts a replica's process: below the keeper of its log, which is its parent, so that its exit code is never lost."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kaon import process_locks, processes
from kaon.drivers.process import keeper
from kaon.drivers.process.exits import write_private
from kaon.drivers.process.places import Places, private_folder
from kaon.errors import Unavailable
from kaon.types.launch import PASSED_ON, Launch
from kaon.types.replica import WorkloadKind

_LIMITS = processes.ProcessLimits(open_files=65_536, oom_score_adj=500)
_LOG_BYTES = str(10 * 2**20)  # a log is rotated at this size
_PARENT_S = 30.0
"""How long the parent may take to start the replica; it takes some 10 ms."""


def base_environment(data_dir: str) -> dict[str, str]:
    """The environment that every replica's process inherits, without the platform's own settings."""
    passed_on = {name: value for name in PASSED_ON if (value := os.environ.get(name)) is not None}
    return {"PATH": os.defpath, "LANG": "C.UTF-8", **passed_on, "HOME": data_dir, "PYTHONDONTWRITEBYTECODE": "1"}


def write_launch(places: Places, launch: Launch) -> None:
    """Write what a later driver object needs to find the replica again. Raises OSError."""
    folder = places.sockets(launch.id)
    shutil.rmtree(folder, ignore_errors=True)
    private_folder(folder)
    private_folder(places.replica(launch.id))
    places.exit_file(launch.id).unlink(missing_ok=True)
    places.ended_file(launch.id).unlink(missing_ok=True)
    write_private(places.launch_file(launch.id), launch.model_dump_json(indent=1))
    os.mkfifo(places.log_pipe(launch.id), 0o600)


async def start_replica(
    places: Places,
    launch: Launch,
    argv: Sequence[str],
    env: Mapping[str, str],
    secrets: Mapping[str, str],
    hidden: Sequence[str],
) -> tuple[int, int]:
    """Start the replica of `launch`, whose file exists; returns the pids of its process and of its log's keeper.

    `secrets` are written to its standard input; `hidden` texts are masked in its log. Raises `Conflict`,
    `InvalidInput`, `Unavailable`, OSError.
    """
    reading, writing = os.pipe()
    with contextlib.ExitStack() as opened:
        opened.callback(os.close, reading)
        with contextlib.ExitStack() as given:
            given.callback(os.close, writing)
            run: dict[str, Any] = {
                "argv": list(argv),
                "env": dict(env),
                "cwd": launch.code_dir,
                "exit_file": str(places.exit_file(launch.id)),
                "stdin": given.enter_context(processes.filled_pipe(json.dumps(dict(secrets)).encode())),
                # Opened for reading too, so that writing never fails for lack of a reader.
                "output": given.enter_context(_opened(places.log_pipe(launch.id), os.O_RDWR)),
                "lock": given.enter_context(process_locks.taken(places.lock(launch.id))),
                "answer": writing,
                "adopts": launch.kind is WorkloadKind.JOB,
            }
            keeping = start_keeper(places, launch.id, hidden, run)
        pid = await _pid(reading)
    processes.limit(pid, _LIMITS)
    return pid, keeping


def start_keeper(places: Places, replica: str, hidden: Sequence[str], run: dict[str, Any] | None = None) -> int:
    """Start the process that writes a replica's log, and that first starts the replica itself by `run`; its pid."""
    descriptors = [run[name] for name in ("stdin", "output", "lock", "answer")] if run else []
    with _opened(places.log_pipe(replica), os.O_RDONLY | os.O_NONBLOCK) as pipe:
        return processes.spawn(
            [sys.executable, "-I", "-S", keeper.__file__, str(pipe), str(places.log_file(replica)), _LOG_BYTES],
            lock=places.log_lock(replica),
            env={},
            stdin=json.dumps({"hidden": list(hidden), "run": run}).encode(),
            pass_fds=(pipe, *descriptors),
        )


async def _pid(answer: int) -> int:
    """The replica's pid, as its parent writes it. Raises `Unavailable` with the reason when there is none."""
    loop, written = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(answer, written.set)
    try:
        async with asyncio.timeout(_PARENT_S):
            await written.wait()
    except TimeoutError:
        raise Unavailable(f"It was not started within {_PARENT_S:.0f} s.", hint="Is the machine overloaded?") from None
    finally:
        loop.remove_reader(answer)
    text = os.read(answer, 4096).decode()
    if not text.isdecimal():
        raise Unavailable(f"It cannot be started: {text.removeprefix('!') or 'its parent has ended'}.")
    return int(text)


@contextlib.contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    fd = os.open(path, flags | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)
