"""What `stats` does: a deployment's figures, again every second on a terminal, once elsewhere."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from kaon.cli import drawing, stats_page
from kaon.cli.drawing import StyledLine
from kaon.cli.output import Format, document, put
from kaon.cli.remote import opened
from kaon.cli.text import plain
from kaon.errors import Unavailable

if TYPE_CHECKING:
    from rich.text import Text

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
            put(drawing.text(stats_page.picture(remote.stats(name, span_s), across())))
        else:
            remote.deployment(name)
            live(lambda wide, down: stats_page.picture(remote.stats(name, span_s), wide, down))


def live(look: Callable[[int, int], list[StyledLine]]) -> None:
    """Draw what `look` gives for so many columns and lines, again every second, until Ctrl-C."""
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    with Live(console=Console(highlight=False), screen=True, auto_refresh=False) as screen:
        drawn = Text("")
        while True:
            try:
                drawn = Text("\n").join(styled(look(across(), shutil.get_terminal_size().lines)))
                screen.update(drawn, refresh=True)
            except Unavailable as error:  # it restarts; the last figures stay
                screen.update(Text(plain(error.cause), "yellow") + "\n" + drawn, refresh=True)
            time.sleep(EVERY_S - time.time() % EVERY_S)


def print_once(lines: Sequence[StyledLine]) -> None:
    """Print a picture: with colours on a terminal that wants some, else as plain text."""
    if not sys.stdout.isatty():
        put(drawing.text(lines))
        return
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    for line in styled(lines):
        console.print(line)


def styled(lines: Sequence[StyledLine]) -> list[Text]:
    """Lines as rich has them."""
    from rich.text import Text

    return [Text.assemble(*((part, style) for style, part in line)) for line in lines]


def across() -> int:
    """How many columns a picture may take."""
    return min(max(shutil.get_terminal_size().columns, _NARROWEST), _WIDEST)
