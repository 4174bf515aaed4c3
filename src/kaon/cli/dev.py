"""`kaon dev`: one replica of a class on a port of this machine, restarted when a file changes.

It is the process that also serves in production; only the key check is off.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from watchfiles import watch

from kaon.build.environments import Environments
from kaon.build.locks import lock_for
from kaon.build.requirements import read_requirements
from kaon.build.sources import Target, find_target
from kaon.cli.shared import options
from kaon.cli.shared.artifacts import note_changed_lock
from kaon.cli.shared.notes import note
from kaon.cli.shared.progress import ProgressLine
from kaon.cli.shared.text import pairs
from kaon.errors import Conflict
from kaon.sdk.setting import of_every_shell
from kaon.settings import Settings
from kaon.types.artifact import Consent
from kaon.types.key import Access
from kaon.types.launch import Launch

app = options.verbs()
_STOP_S = 10.0


@options.verb(app, "kaon dev greeter.py:Greeter", "kaon dev greeter.py:Greeter --port 9000 --env GREETING=Hi")
def dev(
    target: options.TargetArgument,
    port: Annotated[int, typer.Option(help="The port, on this machine only.", min=1, max=65535)] = 8000,
    env: options.Env = None,
    reload: Annotated[bool, typer.Option(help="Restart when a file changes.")] = True,
    allow: options.Allow = None,
) -> None:
    """Serve a class on this machine, without keys, and restart it when a file changes."""
    found = find_target(target, Path.cwd())
    _check_free(port)
    python = _python(found, allow_sdist=Consent.SDIST in (allow or ()))
    with tempfile.TemporaryDirectory(prefix="kaon-dev-") as work, _stop_event() as stop:
        launch = _launch(found, port, pairs(env or [], "--env"), Path(work))
        file = Path(work) / "launch.json"
        file.write_text(launch.model_dump_json())
        note(f"{found.cls} at http://127.0.0.1:{port}/, without keys; its page: http://127.0.0.1:{port}/docs")
        raise typer.Exit(_serve(python, launch, file, found.root, stop, reload=reload))


def _serve(python: Path, launch: Launch, file: Path, root: Path, stop: threading.Event, *, reload: bool) -> int:
    """Serve until Ctrl-C, or without `reload` until the process ends; return the exit code."""
    while True:
        process = _start(python, launch, file)
        try:
            changed = _wait_for_change(root, process, stop, reload=reload)
        finally:
            code = _stop(process)
        if stop.is_set():
            return 0
        if not changed:
            return code
        note("A file changed; restarting.")


def _check_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            raise Conflict(f"Port {port} is in use.", hint=f"Use another one: --port {port + 1}") from None


def _python(found: Target, *, allow_sdist: bool) -> Path:
    """The interpreter of an environment with the class's requirements."""
    with (
        note_changed_lock(found),
        ProgressLine() as progress,
        tempfile.TemporaryDirectory(prefix="kaon-wheels-") as work,
    ):
        progress.show("Installing", "the requirements")
        lock = lock_for(found, read_requirements(found), Path(work), allow_sdist=allow_sdist)
        environments = Environments(Settings().home / "agent" / "environments")
        return environments.ensure(lock.text, wheels=lock.folders, options=lock.options, allow_sdist=allow_sdist)


def _launch(found: Target, port: int, env: Mapping[str, str], work: Path) -> Launch:
    return Launch(
        id="0" * 12,
        name="dev",
        workspace="default",
        deployment="dev",
        revision=1,
        entry=found.entry,
        code_dir=str(found.root),
        service_address=f"127.0.0.1:{port}",
        control_address=f"unix:{work / 'control.sock'}",
        env=dict(env),
        own_names=tuple(name for name in os.environ if not of_every_shell(name)),
        access=Access(public=True),
        edge_url=Settings().url,
        drain_s=1.0,
    )


def _start(python: Path, launch: Launch, file: Path) -> subprocess.Popen[bytes]:
    command = [str(python), "-P", "-s", "-m", "kaon.runtime", "--launch", str(file)]
    shell = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    environment = launch.environment(shell)
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, cwd=launch.code_dir, env=environment, start_new_session=True
    )


def _stop(process: subprocess.Popen[bytes]) -> int:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        return process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return process.wait()


@contextmanager
def _stop_event() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set."""
    stop = threading.Event()
    previous = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _wait_for_change(root: Path, process: subprocess.Popen[bytes], stop: threading.Event, *, reload: bool) -> bool:
    """Wait until a file changes (True), `stop` is set, or without `reload` the process ends (False)."""
    if not reload:
        while process.poll() is None and not stop.wait(0.1):
            pass
        return False

    def is_source(_: object, path: str) -> bool:
        """Whether it is neither a cache nor a hidden file."""
        parts = Path(path).relative_to(root).parts
        return not any(part.startswith(".") or part == "__pycache__" for part in parts)

    changes = watch(
        root,
        watch_filter=is_source,
        stop_event=stop,
        rust_timeout=500,
        yield_on_timeout=True,
        raise_interrupt=False,
    )
    noted = False
    for change in changes:
        if change:
            return True
        if process.poll() is not None and not noted:
            noted = True
            note("The process ended; waiting for a file to change.")
    return False
