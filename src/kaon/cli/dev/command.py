"""`kaon dev`: the services of a folder on a port of this machine, restarted when a file changes.

Each has the process that also serves in production; only the key check is off.
"""

from __future__ import annotations

import asyncio
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from kaon.build.environments import Environments
from kaon.build.locks import lock_for
from kaon.build.requirements import read_requirements
from kaon.cli.dev.access_log import AccessRecord, access_line
from kaon.cli.dev.chosen import chosen_services
from kaon.cli.dev.replicas import DevService
from kaon.cli.dev.session import DevOutput, DevSession
from kaon.cli.shared import options
from kaon.cli.shared.artifacts import note_changed_lock
from kaon.cli.shared.log_lines import log_text
from kaon.cli.shared.notes import note
from kaon.cli.shared.progress import ProgressLine
from kaon.cli.shared.text import pairs
from kaon.drivers.port import LogLine
from kaon.errors import Conflict
from kaon.settings import Settings
from kaon.types.artifact import Consent

app = options.verbs()


@options.verb(
    app,
    "kaon dev",
    "kaon dev greeter.py:Greeter",
    "kaon dev greeter.py:Greeter --port 9000 --env GREETING=Hi",
)
def dev(
    target: Annotated[
        str,
        typer.Argument(
            metavar="[FILE.py:CLASS]", help="The service's class; default: every service here.", show_default=False
        ),
    ] = "",
    port: Annotated[int, typer.Option(help="The port, on this machine only.", min=1, max=65535)] = 8000,
    env: options.Env = None,
    reload: Annotated[bool, typer.Option(help="Restart when a file changes.")] = True,
    allow: options.Allow = None,
) -> None:
    """Serve the services of this folder on this machine, without keys, and restart them when a file changes.

    They call each other by `kaon.use`; calls of other services go to the platform on this machine. When new code
    does not start, the previous code still serves. A class with a name of its own in kaon.yaml has that name.
    """
    services = chosen_services(target, Path.cwd(), pairs(env or [], "--env"))
    _check_free(port)
    allow_sdist = Consent.SDIST in (allow or ())
    for service in services:
        with note_changed_lock(service.target), ProgressLine() as progress:
            progress.show("Installing", "the requirements")
            _python(service, allow_sdist=allow_sdist)
    with tempfile.TemporaryDirectory(prefix="kaon-dev-") as work:
        settings = Settings()
        session = DevSession(
            services,
            Path(work),
            lambda service: _python(service, allow_sdist=allow_sdist),
            f"{settings.host}:{settings.port}",
            _output(services),
            reload=reload,
        )
        _note_addresses(services, f"http://127.0.0.1:{port}")
        raise typer.Exit(asyncio.run(_run(session, port)))


async def _run(session: DevSession, port: int) -> int:
    """Serve until Ctrl-C, or until the terminal is closed."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, session.stop.set)
    return await session.run(port)


def _note_addresses(services: Sequence[DevService], url: str) -> None:
    if len(services) == 1:
        note(f"{services[0].target.cls} at {url}/, without keys; its page: {url}/docs")
        return
    note(f"{len(services)} services without keys; each has a page:")
    for service in services:
        note(f"  {url}/{service.name}/docs")


def _output(services: Sequence[DevService]) -> DevOutput:
    """Prints to standard error: notes, calls in colours on a terminal, and lines of the services with their names."""
    longest = max(len(service.name) for service in services)
    is_terminal = sys.stderr.isatty()

    def columns() -> int | None:
        return shutil.get_terminal_size().columns if is_terminal else None

    def print_access(access: AccessRecord) -> None:
        print(access_line(access, columns=columns(), coloured=is_terminal), file=sys.stderr, flush=True)

    def print_line(name: str, text: str) -> None:
        line = LogLine(replica=name.ljust(longest), at=time.time(), text=text)
        texts = log_text(line, named=len(services) > 1, columns=columns())
        print("\n".join(texts), file=sys.stderr, flush=True)

    return DevOutput(note, print_access, print_line)


def _check_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            raise Conflict(f"Port {port} is in use.", hint=f"Use another one: --port {port + 1}") from None


def _python(service: DevService, *, allow_sdist: bool) -> Path:
    """The interpreter of an environment with the service's requirements."""
    with tempfile.TemporaryDirectory(prefix="kaon-wheels-") as work:
        lock = lock_for(service.target, read_requirements(service.target), Path(work), allow_sdist=allow_sdist)
        environments = Environments(Settings().home / "agent" / "environments")
        return environments.ensure(lock.text, wheels=lock.folders, options=lock.options, allow_sdist=allow_sdist)
