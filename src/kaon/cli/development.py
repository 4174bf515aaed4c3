"""What `dev` does: one replica of the class on a port of this machine, started anew when a file changes.

It is the same process that serves in production, so what works here works there; only the key check is off.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from kaon.build.environments import Environments
from kaon.build.locks import lock_for
from kaon.build.requirements import read_requirements
from kaon.build.sources import Target, find_target
from kaon.cli.deploying import telling_of_a_lock
from kaon.cli.notes import note
from kaon.cli.progress import Progress
from kaon.errors import Conflict
from kaon.sdk.setting import of_every_shell
from kaon.settings import Settings
from kaon.types.artifact import Consent
from kaon.types.key import Access
from kaon.types.launch import Launch

_STOP_S = 10.0


def serve(
    target: str,
    folder: Path,
    port: int,
    env: Mapping[str, str],
    *,
    reload: bool,
    allow: Collection[Consent] = (),
) -> int:
    """Serve until Ctrl-C, or without `reload` until the process ends; return the exit code."""
    found = find_target(target, folder)
    _check_free(port)
    python = _python(found, allow_sdist=Consent.SDIST in allow)
    with tempfile.TemporaryDirectory(prefix="kaon-dev-") as work, _interrupts() as stop:
        launch = _launch(found, port, env, Path(work))
        file = Path(work) / "launch.json"
        file.write_text(launch.model_dump_json())
        note(f"{found.cls} at http://127.0.0.1:{port}/, without keys; its page: http://127.0.0.1:{port}/docs")
        while True:
            process = _started(python, launch, file)
            try:
                changed = _watch(found.root, process, stop, reload=reload)
            finally:
                code = _stopped(process)
            if stop.is_set():
                return 0
            if not changed:
                return code
            note("A file changed: starting anew.")


def _check_free(port: int) -> None:
    import socket

    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            raise Conflict(f"Port {port} is taken.", hint=f"Name another: --port {port + 1}") from None


def _python(found: Target, *, allow_sdist: bool) -> Path:
    """The interpreter with the requirements that the class names."""
    with (
        telling_of_a_lock(found),
        Progress() as progress,
        tempfile.TemporaryDirectory(prefix="kaon-wheels-") as work,
    ):
        progress.say("Installing", "the requirements")
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


def _started(python: Path, launch: Launch, file: Path) -> subprocess.Popen[bytes]:
    command = [str(python), "-P", "-s", "-m", "kaon.runtime", "--launch", str(file)]
    shell = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    environment = launch.environment(shell)
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, cwd=launch.code_dir, env=environment, start_new_session=True
    )


def _stopped(process: subprocess.Popen[bytes]) -> int:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        return process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return process.wait()


@contextmanager
def _interrupts() -> Iterator[threading.Event]:
    """Set when somebody asks to stop."""
    stop = threading.Event()
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _watch(root: Path, process: subprocess.Popen[bytes], stop: threading.Event, *, reload: bool) -> bool:
    """Wait until a file changed (True), somebody asks to stop, or without `reload` the process ended (False)."""
    if not reload:
        while process.poll() is None and not stop.wait(0.1):
            pass
        return False
    from watchfiles import watch

    def matters(_: object, path: str) -> bool:
        """Not what Python and others write for themselves: caches and hidden files."""
        parts = Path(path).relative_to(root).parts
        return not any(part.startswith(".") or part == "__pycache__" for part in parts)

    changes = watch(
        root,
        watch_filter=matters,
        stop_event=stop,
        rust_timeout=500,
        yield_on_timeout=True,
        raise_interrupt=False,
    )
    told = False
    for change in changes:
        if change:
            return True
        if process.poll() is not None and not told:
            told = True
            note("It ended; waiting for a file to change.")
    return False
