"""What `advise` does: what the figures say could be better, each with the command that does it."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Sequence

from kaon.cli.output import Format, TableShape, put, put_list
from kaon.cli.remote import opened
from kaon.cli.text import plain, since
from kaon.cli.watching import across
from kaon.types.advice import Advice, Advised

_WIDEST = 120
SHAPE: TableShape[Advice] = TableShape(
    ("deployment", "finding", "evidence", "gain", "command"),
    lambda a: (a.deployment, a.finding, a.evidence, a.gain, a.command),
    lambda a: f"{a.deployment}/{a.finding}",
)


def advise(name: str, workspace: str | None, form: Format) -> None:
    """Print the advice on one deployment, or on all of a workspace."""
    with opened(workspace) as remote:
        found = remote.advice(name)
    if form is not Format.TABLE:
        put_list(found.items, SHAPE, form)
    else:
        put(page(found, time.time(), min(across(), _WIDEST)))


def page(found: Advised, now: float, columns: int) -> str:
    """The advice, the most urgent of each deployment first; who is well, and of whom nothing is known. Pure."""
    blocks = [_block(advice, now, columns) for advice in found.items]
    last = []
    if found.well:
        last.append(f"All is well: {_named(found.well)}.")
    if found.unknown:
        last.append(f"No figures yet: {_named(found.unknown)}. Advice comes after some minutes of traffic.")
    if not (blocks or last):
        last.append("Nothing is deployed. Begin with: kaon deploy FILE.py:CLASS")
    blocks += ["\n".join(line for text in last for line in textwrap.wrap(text, columns))] if last else []
    return "\n\n".join(blocks)


def hint(advice: Sequence[Advice], name: str) -> str:
    """In a line what stands of a deployment, and where to read it; empty: nothing."""
    said = ", ".join(a.finding for a in advice)
    return f"{said}: kaon advise {name}" if said else ""


def _block(advice: Advice, now: float, columns: int) -> str:
    lines = [plain(f"{advice.deployment}: {advice.finding}, for {since(advice.since, now)}")]
    for text in (f"{advice.evidence[:1].upper()}{advice.evidence[1:]}.", f"Gain: {advice.gain}."):
        lines += textwrap.wrap(plain(text), columns, initial_indent="  ", subsequent_indent="  ")
    return "\n".join([*lines, f"  $ {plain(advice.command)}"])


def _named(names: Sequence[str]) -> str:
    return ", ".join(plain(name) for name in names)
