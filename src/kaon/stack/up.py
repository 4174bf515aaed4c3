"""`kaon up` and `kaon down`: the platform on this machine, as two daemons that outlive the command.

`up` may be called at any time: running parts are kept, missing ones are started. `down` needs no running part: it stops
the roles first, so that nothing is restarted, then the edge's listeners, lets every replica finish its calls, and
empties the run folder. The two never work at once: each locks the run folder.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import http.client
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from kaon import process_locks, processes
from kaon.clock import SystemClock
from kaon.errors import ConfigError, Conflict, KaonError, Unavailable
from kaon.settings import Settings
from kaon.stack.home import refuse_loose
from kaon.stack.roles import ROLES, ProcessRole, down_file

SayProgress = Callable[[str, str], None]
"""Called with a phase in one word, and what happens in it."""

_READY_WITHIN_S = 120.0
_ROLE_GRACE_S = 5.0
_DRAIN_MAX_S = 60.0
_LOOK_S = 0.01
_HEALTH = "/api/v1/health"


def up(settings: Settings, on_progress: SayProgress = lambda phase, text: None) -> None:
    """Start the parts that do not run, and return when the API answers and the edge listens.

    Raises `Conflict` when the port is in use or the platform runs with another one, `Unavailable` when a part does not
    start (with its last lines), `ConfigError` when the folders belong to another user.
    """
    settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    _private(settings)
    with _alone(settings):
        running = all(process_locks.is_held(ProcessRole(name, settings).lock) for name in ROLES)
        if not process_locks.is_held(settings.run_dir / "edge.lock"):
            _check_port(settings)
        down_file(settings).unlink(missing_ok=True)
        begun: dict[str, int] = {}
        for name in ROLES:
            if pid := ProcessRole(name, settings).start():
                on_progress("Starting", f"the {name}")
                begun[name] = pid
        try:
            _await("the API", lambda: _api_answers(settings), settings, begun, on_progress)
            _await("the edge", lambda: _edge_answers(settings), settings, begun, on_progress)
        except KaonError:
            if not running:
                asyncio.run(_down(settings))
            raise
    on_progress("Ready", settings.url)


def down(settings: Settings, on_progress: SayProgress = lambda phase, text: None) -> None:
    """Stop this platform on this machine; its home stays. Idempotent.

    Calls in flight get their deployment's drain time, a minute at most. Raises `Unavailable` when a process does not
    end.
    """
    if not settings.run_dir.exists():
        return
    with _alone(settings):
        asyncio.run(_down(settings, on_progress))


# --- up ---


def _private(settings: Settings) -> None:
    """Make the run folder, for this user only: its parent may be writable for everybody."""
    folder = settings.run_dir
    refuse_loose(settings)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for path in (settings.home, folder):
        found = path.lstat()
        if found.st_uid != os.getuid() or (path == folder and found.st_mode & 0o077):
            raise ConfigError(
                f"{path} belongs to another user, or other users can enter it.",
                hint=f"Check it, then: chmod 700 {path}; or set KAON_HOME to another folder.",
            )


@contextlib.contextmanager
def _alone(settings: Settings) -> Iterator[None]:
    """Wait until no other `up` or `down` is in progress, and let none begin meanwhile."""
    fd = os.open(settings.run_dir, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _check_port(settings: Settings) -> None:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
            probe.listen(1)
        except OSError as error:
            raise Conflict(
                f"Port {settings.port} of {settings.host} cannot be used: {error.strerror}.",
                hint=f"Choose another one: KAON_PORT={_other(settings.port)} kaon up",
            ) from None


def _other(port: int) -> int:
    return port + 1010 if port < 60_000 else 8080


def _await(
    what: str, ready: Callable[[], bool], settings: Settings, begun: dict[str, int], on_progress: SayProgress
) -> None:
    on_progress("Waiting", f"for {what}")
    give_up = time.monotonic() + _READY_WITHIN_S
    while not ready():
        for name, pid in begun.items():
            if (code := processes.exit_code(pid)) is not None:
                raise Unavailable(
                    f"The {name} ended at its start with code {code}: {_last_lines(ProcessRole(name, settings))}",
                    hint=f"See {ProcessRole(name, settings).log}",
                )
        if time.monotonic() > give_up:
            raise Unavailable(
                f"No answer from {what} within {_READY_WITHIN_S:.0f} s.",
                hint=f"See the logs under {settings.home}, or restart: kaon down && kaon up",
            )
        time.sleep(_LOOK_S)


def _last_lines(role: ProcessRole) -> str:
    return " | ".join(role.last_lines(3)) or "its log is empty"


class _OnSocket(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("kaon.local", timeout=2)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(2)
        self.sock.connect(self._path)


def _api_answers(settings: Settings) -> bool:
    return _answers(_OnSocket(str(settings.api_socket)))


def _edge_answers(settings: Settings) -> bool:
    """Whether the edge of this platform, and no other server, answers on the port."""
    if not process_locks.is_held(settings.run_dir / "edge.lock"):
        return False
    host = settings.url.removeprefix("http://").rpartition(":")[0]
    return _answers(http.client.HTTPConnection(host.strip("[]"), settings.port, timeout=2))


def _answers(connection: http.client.HTTPConnection) -> bool:
    try:
        connection.request("GET", _HEALTH)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


# --- down ---


async def _down(settings: Settings, on_progress: SayProgress = lambda phase, text: None) -> None:
    down_file(settings).touch(mode=0o600)
    on_progress("Stopping", "the platform")
    # The roles first, since they restart what ends. One that was about to start the other may still do so; that one
    # finds the down file and starts nothing.
    for _ in range(2):
        await asyncio.gather(*(processes.stop(ProcessRole(name, settings).lock, _ROLE_GRACE_S) for name in ROLES))
    await _stop_replicas(settings, on_progress)
    for path in settings.run_dir.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path != down_file(settings):
            path.unlink()
    down_file(settings).unlink()


async def _stop_replicas(settings: Settings, on_progress: SayProgress) -> None:
    """Stop listening, let the replicas finish, then end the edge too."""
    from kaon.agent.plan_file import PlanFile
    from kaon.drivers.process import ProcessDriver
    from kaon.edge import Edge

    edge, folder = Edge(settings), settings.home.absolute() / "agent"
    with contextlib.suppress(KaonError):
        await edge.stop_listening()
    driver = ProcessDriver(folder, settings.run_dir, _no_artifact, SystemClock())
    kept = PlanFile(folder / "plan.json").load()
    drains = {spec.id: min(spec.drain_s, _DRAIN_MAX_S) for spec in (kept.plan.replicas if kept else ())}
    try:
        replicas = list((await driver.observe()).replicas)
        if replicas:
            on_progress("Draining", f"{len(replicas)} replicas finish their calls")
        stops = (driver.stop(replica, drains.get(replica, _ROLE_GRACE_S)) for replica in replicas)
        stopped = await asyncio.gather(*stops, return_exceptions=True)
        await asyncio.gather(*(driver.forget(replica) for replica in replicas), return_exceptions=True)
    finally:
        await driver.close()
    await edge.stop()
    for error in stopped:  # raised once all the others have ended
        if isinstance(error, BaseException):
            raise error


async def _no_artifact(digest: str) -> Path:
    raise Unavailable(f"The platform is going down; {digest} is not fetched.")
