"""What `stats` does: a deployment's figures, again every second on a terminal, once elsewhere."""

from __future__ import annotations

import shutil
import sys
import time

from kaon.cli import gauges
from kaon.cli.output import Format, document, put
from kaon.cli.remote import Remote, opened
from kaon.cli.text import plain
from kaon.errors import Unavailable

EVERY_S = 1.0
SECONDS_S = 120.0
"""What is shown unless asked for more: as far back as there are single seconds."""
_WIDEST, _NARROWEST = 200, 40


def stats(name: str, since_s: float | None, once: bool, workspace: str | None, form: Format) -> None:
    """Show how a deployment does."""
    span_s = SECONDS_S if since_s is None else since_s
    with opened(workspace) as remote:
        if form is Format.NAME:
            put(remote.deployment(name).name)
        elif form is not Format.TABLE:
            put(document(remote.stats(name, span_s).model_dump(mode="json"), form))
        elif once or not sys.stdout.isatty():
            put(gauges.text(gauges.picture(remote.stats(name, span_s), _across())))
        else:
            _live(remote, name, span_s)


def _live(remote: Remote, name: str, span_s: float) -> None:
    """Draw again every second, until Ctrl-C."""
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    console = Console(highlight=False)
    seen = remote.stats(name, span_s)
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            lines = gauges.picture(seen, _across(), shutil.get_terminal_size().lines)
            drawn = Text("\n").join(Text.assemble(*((part, style) for style, part in line)) for line in lines)
            live.update(drawn, refresh=True)
            time.sleep(EVERY_S - time.time() % EVERY_S)
            try:
                seen = remote.stats(name, span_s)
            except Unavailable as error:  # it restarts; the last figures stay
                live.update(Text(plain(error.cause), "yellow") + "\n" + drawn, refresh=True)
                time.sleep(EVERY_S)


def _across() -> int:
    return min(max(shutil.get_terminal_size().columns, _NARROWEST), _WIDEST)
