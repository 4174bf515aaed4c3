"""`kaon up`, `down`, `status` and `open`: the platform on this machine."""

from __future__ import annotations

import time
import webbrowser
from collections.abc import Sequence

from kaon.cli.shared import tables
from kaon.cli.shared.notes import note
from kaon.cli.shared.options import DeploymentArgument, OutputOption, WorkspaceOption, verb, verbs
from kaon.cli.shared.output import Format, document, put, put_list
from kaon.cli.shared.progress import ProgressLine
from kaon.cli.shared.remote import opened
from kaon.cli.shared.text import plain, since, size, table
from kaon.client import contexts
from kaon.errors import NotFound
from kaon.proc import started_at
from kaon.process_locks import holders, is_held
from kaon.settings import Settings
from kaon.types.model import Model

app = verbs()
PROCESSES = ("server", "agent", "edge")
"""The platform's own processes, by the names of their locks."""


class PlatformProcess(Model):
    """One of the platform's processes."""

    name: str
    running: bool
    pid: int | None = None
    started_at: float | None = None
    memory_bytes: int = 0


@verb(
    app,
    "kaon up",
    "KAON_PORT=9090 KAON_HOME=/srv/kaon kaon up",
    "KAON_TRUSTED_PROXIES=10.0.0.0/8 kaon up  # behind a load balancer",
)
def up() -> None:
    """Start the platform on this machine, unless it runs."""
    from kaon.stack.up import up as start  # imports the whole platform

    settings = Settings()
    with ProgressLine() as progress:
        start(settings, progress.show)
    put(f"Kaon runs at {settings.url}")
    note(f"Key: {settings.admin_key_file}. Next: kaon deploy")


@verb(app, "kaon down")
def down() -> None:
    """Stop the platform on this machine, with all its replicas."""
    from kaon.stack.up import down as stop

    settings = Settings()
    with ProgressLine() as progress:
        stop(settings, progress.show)
    note(f"Kaon has stopped. Its data stays in {settings.home}.")


@verb(app, "kaon status", "kaon status -o json")
def status(output: OutputOption = Format.TABLE) -> None:
    """Show the platform of the context in use: its clouds, and its processes if it is on this machine."""
    settings, url, now = Settings(), contexts.in_use().url, time.time()
    processes = [] if url else platform_processes(settings)
    if not url and not any(process.running for process in processes):
        raise NotFound("Kaon does not run on this machine.", hint="Start it: kaon up")
    with opened() as remote:
        health, clouds = remote.health(), remote.clouds()
    if output is Format.NAME:
        put("\n".join(process.name for process in processes if process.running))
    elif output is Format.TABLE:
        put(f"Kaon {plain(health.version)} at {plain(url or settings.url)}\n")
        if processes:
            put(process_table(processes, now) + "\n")
        put_list(clouds, tables.of("cloud", now), output)
    else:
        members = {
            "version": health.version,
            "url": url or settings.url,
            "processes": [process.model_dump(mode="json") for process in processes],
            "clouds": [cloud.model_dump(mode="json") for cloud in clouds],
        }
        put(document(members, output))


def process_table(processes: Sequence[PlatformProcess], now: float) -> str:
    """The processes as a table."""
    rows = [
        (p.name, "running" if p.running else "down", p.pid or "-", since(p.started_at, now), size(p.memory_bytes))
        for p in processes
    ]
    return table(("process", "state", "pid", "age", "memory"), rows)


@verb(app, "kaon open greeter", name="open")
def open_page(name: DeploymentArgument, workspace: WorkspaceOption = None) -> None:
    """Open a deployment's page in a browser, and print its URL."""
    with opened(workspace) as remote:
        url = f"{remote.deployment(name).url}/docs"
    put(plain(url))
    if url.startswith(("http://", "https://")) and not webbrowser.open(url):
        note("This machine has no browser; open the URL elsewhere.")


def platform_processes(settings: Settings) -> list[PlatformProcess]:
    """The platform's processes on this machine."""
    return [_process(name, settings) for name in PROCESSES]


def _process(name: str, settings: Settings) -> PlatformProcess:
    lock = settings.run_dir / f"{name}.lock"
    pids = holders(lock) if is_held(lock) else []
    if not pids:
        return PlatformProcess(name=name, running=False)
    return PlatformProcess(
        name=name, running=True, pid=pids[0], started_at=started_at(pids[0]), memory_bytes=sum(map(_memory_bytes, pids))
    )


def _memory_bytes(pid: int) -> int:
    """Proportional set size; 0 when the process has ended."""
    try:
        with open(f"/proc/{pid}/smaps_rollup") as file:
            return next(1024 * int(line.split()[1]) for line in file if line.startswith("Pss:"))
    except (OSError, StopIteration):
        return 0
