"""`kaon advise`: what could be better, each with the command that does it."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Sequence
from typing import Annotated

import typer

from kaon.cli.shared.options import OutputOption, WorkspaceOption, verb, verbs
from kaon.cli.shared.output import Format, TableShape, page_columns, put, put_list
from kaon.cli.shared.remote import opened
from kaon.cli.shared.text import plain, since
from kaon.types.advice import Advice, Advised

app = verbs()
_MAX_COLUMNS = 120
_TABLE: TableShape[Advice] = TableShape(
    ("deployment", "finding", "evidence", "gain", "command"),
    lambda a: (a.deployment, a.finding, a.evidence, a.gain, a.command),
    lambda a: f"{a.deployment}/{a.finding}",
)


@verb(app, "kaon advise", "kaon advise greeter", "kaon advise -o json")
def advise(
    name: Annotated[str, typer.Argument(help="Only this deployment.", show_default=False)] = "",
    workspace: WorkspaceOption = None,
    output: OutputOption = Format.TABLE,
) -> None:
    """Show what could be better: the evidence, the gain, and the command that does it.

    Every minute of traffic is judged; a finding that holds for five minutes is listed. Findings: too many or too few
    replicas, memory near its limit, batches that never fill, slow cold starts, unusual latency or errors.
    """
    with opened(workspace) as remote:
        found = remote.advice(name)
    if output is not Format.TABLE:
        put_list(found.items, _TABLE, output)
    else:
        put(page(found, time.time(), min(page_columns(), _MAX_COLUMNS)))


def page(found: Advised, now: float, columns: int) -> str:
    """The advice, by deployment and urgency; then the deployments without findings and without figures. Pure."""
    blocks = [_block(advice, now, columns) for advice in found.items]
    last = []
    if found.well:
        last.append(f"No findings: {_listed(found.well)}.")
    if found.unknown:
        last.append(f"No figures yet: {_listed(found.unknown)}. Advice comes after some minutes of traffic.")
    if not (blocks or last):
        last.append("Nothing is deployed. Begin with: kaon deploy FILE.py:CLASS")
    blocks += ["\n".join(line for text in last for line in textwrap.wrap(text, columns))] if last else []
    return "\n\n".join(blocks)


def hint(advice: Sequence[Advice], name: str) -> str:
    """The findings on a deployment in a line, with the command that shows them; empty without findings."""
    findings = ", ".join(a.finding for a in advice)
    return f"{findings}: kaon advise {name}" if findings else ""


def _block(advice: Advice, now: float, columns: int) -> str:
    lines = [plain(f"{advice.deployment}: {advice.finding}, for {since(advice.since, now)}")]
    for text in (f"{advice.evidence[:1].upper()}{advice.evidence[1:]}.", f"Gain: {advice.gain}."):
        lines += textwrap.wrap(plain(text), columns, initial_indent="  ", subsequent_indent="  ")
    return "\n".join([*lines, f"  $ {plain(advice.command)}"])


def _listed(names: Sequence[str]) -> str:
    return ", ".join(plain(name) for name in names)
