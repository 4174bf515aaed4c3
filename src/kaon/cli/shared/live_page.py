"""A page of charts on standard output: redrawn every second on a terminal, printed once elsewhere."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from kaon.cli.shared import charts
from kaon.cli.shared.charts import StyledLine
from kaon.cli.shared.output import page_columns, put
from kaon.cli.shared.text import plain
from kaon.errors import Unavailable

if TYPE_CHECKING:
    from rich.text import Text

REDRAW_S = 1.0


def redraw(draw: Callable[[int, int], list[StyledLine]]) -> None:
    """Show what `draw` returns for so many columns and lines, every second, until Ctrl-C."""
    from rich.console import Console  # heavy: only pages need it
    from rich.live import Live
    from rich.text import Text

    with Live(console=Console(highlight=False), screen=True, auto_refresh=False) as screen:
        drawn = Text("")
        while True:
            try:
                drawn = Text("\n").join(_styled(draw(page_columns(), shutil.get_terminal_size().lines)))
                screen.update(drawn, refresh=True)
            except Unavailable as error:  # the platform restarts; the last figures stay
                screen.update(Text(plain(error.cause), "yellow") + "\n" + drawn, refresh=True)
            time.sleep(REDRAW_S - time.time() % REDRAW_S)


def print_once(lines: Sequence[StyledLine]) -> None:
    """Print a page: with colours on a terminal that has them, else as plain text."""
    if not sys.stdout.isatty():
        put(charts.text(lines))
        return
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    for line in _styled(lines):
        console.print(line)


def _styled(lines: Sequence[StyledLine]) -> list[Text]:
    from rich.text import Text

    return [Text.assemble(*((part, style) for style, part in line)) for line in lines]
