"""What `up`, `down`, `status` and `open` do: the platform on this machine."""

from __future__ import annotations

import time
import webbrowser

from kaon.cli import contexts, shapes
from kaon.cli.notes import note
from kaon.cli.output import Format, document, put
from kaon.cli.progress import Progress
from kaon.cli.remote import opened
from kaon.cli.text import plain, since, size, table
from kaon.errors import NotFound
from kaon.proc import started_at
from kaon.process_locks import holders, is_held
from kaon.settings import Settings
from kaon.types.model import Model

PARTS = ("server", "agent", "edge")
"""The platform's own processes, by the names of their locks."""


class PlatformPart(Model):
    """One of the platform's processes."""

    name: str
    running: bool
    pid: int | None = None
    started_at: float | None = None
    memory_bytes: int = 0


def up() -> None:
    """Start the platform, or find it running."""
    from kaon.stack.up import up as start

    settings = Settings()
    with Progress() as progress:
        start(settings, progress.say)
    put(f"Kaon runs at {settings.url}")
    note(f"Key: {settings.admin_key_file}. Next: kaon deploy FILE.py:CLASS")


def down() -> None:
    """Stop the platform."""
    from kaon.stack.up import down as stop

    with Progress() as progress:
        stop(Settings(), progress.say)
    note("Kaon is down; what it keeps is in " + str(Settings().home))


def parts_here(settings: Settings) -> list[PlatformPart]:
    """The platform's processes as this machine shows them."""
    return [_part(name, settings) for name in PARTS]


def _part(name: str, settings: Settings) -> PlatformPart:
    lock = settings.run_dir / f"{name}.lock"
    pids = holders(lock) if is_held(lock) else []
    if not pids:
        return PlatformPart(name=name, running=False)
    return PlatformPart(
        name=name, running=True, pid=pids[0], started_at=started_at(pids[0]), memory_bytes=sum(map(_memory, pids))
    )


def _memory(pid: int) -> int:
    """Proportional set size in bytes; 0 when it has ended."""
    try:
        with open(f"/proc/{pid}/smaps_rollup") as file:
            return next(1024 * int(line.split()[1]) for line in file if line.startswith("Pss:"))
    except (OSError, StopIteration):
        return 0


def status(form: Format) -> None:
    """Print what runs, and at the platform's word whether clouds are well. Raises `NotFound` when nothing runs."""
    settings = Settings()
    parts, now = parts_here(settings), time.time()
    if not contexts.in_use().url and not any(part.running for part in parts):
        raise NotFound("Kaon does not run on this machine.", hint="Start it with: kaon up")
    with opened() as remote:
        health, clouds = remote.health(), remote.clouds()
    if form is Format.NAME:
        put("\n".join(part.name for part in parts if part.running))
    elif form is Format.TABLE:
        rows = [
            (p.name, "running" if p.running else "down", p.pid or "-", since(p.started_at, now), size(p.memory_bytes))
            for p in parts
        ]
        shape = shapes.of("cloud", now)
        put(f"Kaon {plain(health.version)} at {settings.url}\n")
        put(table(("process", "state", "pid", "age", "memory"), rows) + "\n")
        put(table(shape.titles, [shape.row(cloud) for cloud in clouds]))
    else:
        members = {
            "version": health.version,
            "url": settings.url,
            "processes": [part.model_dump(mode="json") for part in parts],
            "clouds": [cloud.model_dump(mode="json") for cloud in clouds],
        }
        put(document(members, form))


def open_page(name: str, workspace: str | None) -> None:
    """Open a deployment's page in a browser; print where it is in any case."""
    with opened(workspace) as remote:
        url = f"{remote.deployment(name).url}/docs"
    put(plain(url))
    if url.startswith(("http://", "https://")) and not webbrowser.open(url):
        note("There is no browser here: open it elsewhere.")
