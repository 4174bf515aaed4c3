"""`kaon explain`: decisions, each with its reason and the numbers behind it."""

from __future__ import annotations

import shutil
import textwrap
import time
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from kaon.api.views import Decisions, DeploymentView
from kaon.cli.shared.options import DeploymentArgument, OutputOption, WorkspaceOption, verb, verbs
from kaon.cli.shared.output import Format, document, put
from kaon.cli.shared.remote import opened
from kaon.cli.shared.tables import scaling_text
from kaon.cli.shared.text import plain, seconds
from kaon.cli.shared.text import since as time_since
from kaon.cli.tune import page as tuner_page
from kaon.types.deployment import RolloutState
from kaon.types.journal import JournalEntry

app = verbs()
_MAX_COLUMNS = 160
_VERBS = {"epoch": "considered ", "trial": "tried "}
"""What the tuner did with knob values; a change by hand needs no word."""


@verb(app, "kaon explain greeter", "kaon explain greeter --since 10m", "kaon explain greeter -o json")
def explain(
    name: DeploymentArgument,
    since: Annotated[str, typer.Option(help="Only decisions of the last period, like 10m.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Maximum number of decisions.")] = 10,
    workspace: WorkspaceOption = None,
    output: OutputOption = Format.TABLE,
) -> None:
    """Show why a deployment has its number of replicas: the last decisions, with the numbers behind them.

    Lists decisions on scaling, rollouts and tuning, newest last, and then the current output of the scaling law.
    """
    with opened(workspace) as remote:
        since_s = seconds(since) if since else None
        decisions = remote.decisions(name, since_s, limit, lists=output is not Format.TABLE)
        if output is not Format.TABLE:
            put(document(decisions.model_dump(mode="json"), output))
            return
        columns = min(shutil.get_terminal_size().columns, _MAX_COLUMNS)
        put(page(remote.deployment(name), decisions, time.time(), columns))


def page(deployment: DeploymentView, decisions: Decisions, now: float, columns: int) -> str:
    """The deployment's state, the decisions, newest last, and the current output of its law. Pure."""
    wanted = deployment.replicas if deployment.status.scaling.wanted is None else deployment.status.scaling.wanted
    head = f"{deployment.name}: {deployment.ready} of {wanted} wanted replicas are ready; "
    head += scaling_text(deployment.spec.scaling)
    if deployment.state is not RolloutState.STABLE:
        head += f"; {deployment.state}{': ' + deployment.reason if deployment.reason else ''}"
    blocks = ["\n".join(textwrap.wrap(plain(head), columns, subsequent_indent="  "))]
    blocks += [_block(entry, time_since(entry.at, now) + " ago", columns) for entry in decisions.items]
    if not decisions.items:
        fixed = deployment.spec.scaling.min == deployment.spec.scaling.max
        blocks.append("No decisions: the number of replicas is fixed." if fixed else "No decisions yet.")
    if decisions.now is not None:
        blocks.append(_block(decisions.now, "now", columns))
    return "\n\n".join(blocks)


def _block(entry: JournalEntry, when: str, columns: int) -> str:
    """One decision: time and change on its first line, then the reason, then the numbers."""
    change = f"stays {entry.after}" if entry.before == entry.after else f"{entry.before} -> {entry.after}".strip()
    numbers = ", ".join(_number(name, value) for name, value in _flat(entry.figures).items() if value is not None)
    if entry.concern == "tuning":
        change, numbers = _tuning(entry.figures, change)
    lines = textwrap.wrap(plain(f"{when:<9}{entry.concern:<9}{change}"), columns, subsequent_indent=" " * 18)
    for text in (entry.reason, numbers):
        lines += textwrap.wrap(plain(text), columns, initial_indent="  ", subsequent_indent="  ")
    return "\n".join(lines)


def _tuning(figures: Mapping[str, Any], change: str) -> tuple[str, str]:
    """A change of knobs, with predicted and realised loss; `kaon tune --replay` shows all else."""
    before, after = figures.get("before"), figures.get("after")
    if not isinstance(before, dict) or not isinstance(after, dict):
        return change, ""
    loss = figures.get("loss")
    gains = {name: figures.get(name) for name in ("predicted", "realised")} if loss else {}
    losses = [f"{name}: loss {tuner_page.loss_change(gain / loss)}" for name, gain in gains.items() if loss and gain]
    move = tuner_page.knob_changes(before, after)
    return f"{_VERBS.get(str(figures.get('kind')), '')}{move}" if move else "no change", ", ".join(losses)


def _flat(figures: Mapping[str, Any], under: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in figures.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{under}{name} ")
        else:
            found[under + name] = value
    return found


def _number(name: str, value: Any) -> str:
    """A figure with its unit: 'call_s' of 0.115 is 'call 115 ms'."""
    label = name.removesuffix("_s").replace("_", " ")
    if not isinstance(value, int | float) or isinstance(value, bool):
        return f"{label} {value}"
    if name.endswith("_s"):
        return f"{label} {value * 1000:.3g} ms" if 0 < abs(value) < 1 else f"{label} {value:.3g} s"
    return f"{label} {value:,.0f}" if abs(value) >= 1000 else f"{label} {value:.3g}"
