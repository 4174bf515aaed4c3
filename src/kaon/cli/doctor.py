"""`kaon doctor`: checks of this machine and its platform; every finding has a cause and a next command.

A check is a function of the settings that returns a `CheckResult`. A check that raises is a finding too.
"""

from __future__ import annotations

import resource
import shutil
import socket
import sys
import time
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path

import typer
from uv import find_uv_bin

from kaon.cli.platform import PROCESSES
from kaon.cli.shared.options import TRUST, OutputOption, verb, verbs
from kaon.cli.shared.output import Format, TableShape, put_list
from kaon.cli.shared.remote import opened
from kaon.cli.shared.text import age, plain, size
from kaon.client import contexts
from kaon.errors import KaonError
from kaon.process_locks import is_held
from kaon.settings import Settings
from kaon.types.kinds.cloud import CloudView, capacity
from kaon.types.model import Model
from kaon.types.place import PlaceState

app = verbs()
_FREE_BYTES_FAIL, _FREE_BYTES_WARN = 200 * 10**6, 2 * 10**9
_FILES_FAIL, _FILES_WARN = 1024, 4096
_CLOCK_S = 5.0
_PYTHON = (3, 11)


@verb(app, "kaon doctor", "kaon doctor -o json")
def doctor(output: OutputOption = Format.TABLE) -> None:
    """Check this machine and the platform of the context in use; each finding has the next command."""
    results = examine(Settings(), ELSEWHERE if contexts.in_use().url else CHECKS)
    put_list(results, _TABLE, output)
    raise typer.Exit(int(any(result.verdict is CheckVerdict.FAIL for result in results)))


class CheckVerdict(StrEnum):
    """The outcome of a check."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class CheckResult(Model):
    """A finding."""

    check: str
    verdict: CheckVerdict
    cause: str
    next: str = ""


def _ok(check: str, cause: str) -> CheckResult:
    return CheckResult(check=check, verdict=CheckVerdict.OK, cause=cause)


def _warn(check: str, cause: str, then: str) -> CheckResult:
    return CheckResult(check=check, verdict=CheckVerdict.WARN, cause=cause, next=then)


def _fail(check: str, cause: str, then: str) -> CheckResult:
    return CheckResult(check=check, verdict=CheckVerdict.FAIL, cause=cause, next=then)


def python(_: Settings) -> CheckResult:
    """Whether this Python is new enough."""
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] < _PYTHON:
        return _fail("python", f"Python {version} is too old.", "install Python 3.11 or later")
    return _ok("python", version)


def envoy(_: Settings) -> CheckResult:
    """Whether the edge's program is installed."""
    from kaon.edge.process import find_binary  # imports the edge

    return _ok("envoy", find_binary())


def uv(_: Settings) -> CheckResult:
    """Whether the program that creates environments is installed."""
    try:
        return _ok("uv", find_uv_bin())
    except FileNotFoundError:
        return _fail("uv", "uv is not installed.", "pip install uv")


def home(settings: Settings) -> CheckResult:
    """Whether only this user can read the home folder."""
    folder = settings.home
    if not folder.exists():
        return _ok("home", f"{folder} is created by: kaon up")
    if folder.stat().st_mode & 0o077:
        return _fail("home", f"Other users can read {folder}.", f"chmod 700 {folder}")
    for file in (settings.admin_key_file, folder / "agent.key", folder / "secret.key"):
        if file.exists() and file.stat().st_mode & 0o077:
            return _fail("home", f"Other users can read {file}.", f"chmod 600 {file}")
    return _ok("home", str(folder))


def trust(_: Settings) -> CheckResult:
    """Warns that deployed code is trusted."""
    return _warn("trust", TRUST, "give tenants that do not trust each other machines of their own")


def disk(settings: Settings) -> CheckResult:
    """Whether enough disk space is free."""
    folder = next(above for above in (settings.home, *settings.home.absolute().parents) if above.exists())
    free = shutil.disk_usage(folder).free
    text = f"{size(free)} free under {folder}"
    if free < _FREE_BYTES_FAIL:
        return _fail("disk", text, "free disk space for artifacts, environments and logs")
    return _ok("disk", text) if free >= _FREE_BYTES_WARN else _warn("disk", text, "free disk space soon")


def files(_: Settings) -> CheckResult:
    """How many files and sockets a process can open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = sys.maxsize if hard == resource.RLIM_INFINITY else hard
    text = f"{soft} open files for a process, limit {limit if limit < sys.maxsize else 'none'}"
    if limit < _FILES_FAIL:
        return _fail("files", text, "raise nofile in /etc/security/limits.conf")
    return _ok("files", text) if limit >= _FILES_WARN else _warn("files", text, f"ulimit -n {_FILES_WARN}")


def port(settings: Settings) -> CheckResult:
    """Whether the edge's port is free, or used by this platform's edge."""
    where = f"{settings.host}:{settings.port}"
    if is_held(settings.run_dir / "edge.lock"):
        return _ok("port", f"{where} is used by this platform")
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            return _fail("port", f"{where}: {error.strerror}.", "KAON_PORT=9090 kaon up")
    return _ok("port", f"{where} is free")


def sockets(settings: Settings) -> CheckResult:
    """Whether the sockets exist and only this user can open them."""
    folder: Path = settings.run_dir
    if not folder.exists():
        return _ok("sockets", f"{folder} is created by: kaon up")
    if folder.stat().st_mode & 0o077:
        return _fail("sockets", f"Other users can read {folder}.", f"chmod 700 {folder}")
    if is_held(folder / "server.lock") and not settings.api_socket.is_socket():
        return _fail("sockets", f"The server runs, but {settings.api_socket} does not exist.", "kaon down; kaon up")
    return _ok("sockets", str(folder))


def processes(settings: Settings) -> CheckResult:
    """Whether all of the platform's processes run, or none."""
    running = [name for name in PROCESSES if is_held(settings.run_dir / f"{name}.lock")]
    if not running:
        return _warn("processes", "Kaon does not run on this machine.", "kaon up")
    missing = [name for name in PROCESSES if name not in running]
    if missing:
        return _fail(
            "processes", f"Not running: {', '.join(missing)}.", f"see {settings.home}/server/server.log; kaon up"
        )
    return _ok("processes", f"{', '.join(running)} run")


def api(settings: Settings) -> CheckResult:
    """Whether the API answers, accepts the key, and gets reports of its agents."""
    if not contexts.in_use().url and not is_held(settings.run_dir / "server.lock"):
        return _warn("api", "The server does not run.", "kaon up")
    with opened() as remote:
        began = time.monotonic()
        me = remote.whoami()
        took_s = time.monotonic() - began
        clouds = remote.clouds()
    lost = [cloud.name for cloud in clouds if not cloud.connected]
    if lost:
        return _fail("api", f"The agent of {', '.join(lost)} does not report.", f"see {settings.home}/agent/agent.log")
    rejected = [cloud for cloud in clouds if cloud.edge.rejected]
    if rejected:
        return _fail("api", f"The edge rejected its configuration: {rejected[0].edge.rejected}", "kaon events")
    return _ok("api", f"answers as {me.role} in {1000 * took_s:.0f} ms")


def clouds(settings: Settings) -> CheckResult:
    """Whether the places of all clouds are healthy, and how much of each is in use."""
    if not contexts.in_use().url and not is_held(settings.run_dir / "server.lock"):
        return _warn("clouds", "The server does not run.", "kaon up")
    with opened() as remote:
        return of_clouds(remote.clouds())


def of_clouds(found: Sequence[CloudView]) -> CheckResult:
    """The first cloud whose place is not healthy, else the capacity of all."""
    for cloud in found:
        if cloud.place.state is not PlaceState.OK:
            cause = f"{cloud.name} is {cloud.place.state}: {plain(cloud.place.reason or 'no reason was given')}"
            return _warn("clouds", cause, f"kaon cloud describe {cloud.name}")
    return _ok("clouds", "; ".join(f"{cloud.name}: {capacity(cloud)} in use" for cloud in found) or "none has joined")


def clock(settings: Settings) -> CheckResult:
    """Whether the clock is not behind the platform's files."""
    ahead_s = 0.0
    for file in (settings.home / "server" / "kaon.db", settings.home / "agent" / "plan.json"):
        if file.exists():
            ahead_s = max(ahead_s, file.stat().st_mtime - time.time())
    if ahead_s > _CLOCK_S:
        return _fail("clock", f"Files are {age(ahead_s)} in the future: the clock was set back.", "timedatectl")
    return _ok("clock", time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime()))


CHECKS: tuple[Callable[[Settings], CheckResult], ...] = (
    python,
    envoy,
    uv,
    home,
    trust,
    disk,
    files,
    clock,
    port,
    sockets,
    processes,
    api,
    clouds,
)

ELSEWHERE: tuple[Callable[[Settings], CheckResult], ...] = (python, uv, home, disk, files, api, clouds)
"""Checks when the platform is on another machine: of what builds need here, and of its API."""

_TABLE: TableShape[CheckResult] = TableShape(
    ("check", "verdict", "what", "next"),
    lambda result: (result.check, result.verdict, result.cause, result.next),
    lambda result: result.check,
)


def examine(settings: Settings, checks: Sequence[Callable[[Settings], CheckResult]] = CHECKS) -> list[CheckResult]:
    """The result of every check."""
    return [_result(check, settings) for check in checks]


def _result(check: Callable[[Settings], CheckResult], settings: Settings) -> CheckResult:
    try:
        return check(settings)
    except KaonError as error:
        return _fail(check.__name__, plain(error.cause), plain(error.hint))
    except OSError as error:
        return _fail(check.__name__, f"The check failed: {error}.", "kaon doctor")
