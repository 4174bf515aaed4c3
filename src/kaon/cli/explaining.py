"""What `explain` does: decisions as people read them, each with its reason and the numbers behind it."""

from __future__ import annotations

import shutil
import textwrap
import time
from collections.abc import Mapping
from typing import Any

from kaon.api.views import Decisions, DeploymentView
from kaon.cli import tuner_page
from kaon.cli.output import Format, document, put
from kaon.cli.remote import opened
from kaon.cli.shapes import bounded
from kaon.cli.text import plain, since
from kaon.types.deployment import RolloutState
from kaon.types.journal import JournalEntry

_WIDEST = 160
_DID = {"epoch": "considered ", "trial": "tried "}
"""What was done with a move of knobs; a change by hand simply is."""


def explain(name: str, since_s: float | None, limit: int, workspace: str | None, form: Format) -> None:
    """Print the last decisions."""
    with opened(workspace) as remote:
        found = remote.decisions(name, since_s, limit, lists=form is not Format.TABLE)
        if form is not Format.TABLE:
            put(document(found.model_dump(mode="json"), form))
            return
        columns = min(shutil.get_terminal_size().columns, _WIDEST)
        put(explained(remote.deployment(name), found, time.time(), columns))


def explained(deployment: DeploymentView, found: Decisions, now: float, columns: int) -> str:
    """How it is, what the law says now, and what was decided, the newest last; pure."""
    wanted = deployment.status.scaling.wanted
    head = (
        f"{deployment.name}: {deployment.ready} of {deployment.replicas if wanted is None else wanted} wanted replicas"
    )
    head += f" are ready; {bounded(deployment.spec.scaling)}"
    if deployment.state is not RolloutState.STABLE:
        head += f"; {deployment.state}{': ' + deployment.reason if deployment.reason else ''}"
    blocks = ["\n".join(textwrap.wrap(plain(head), columns, subsequent_indent="  "))]
    blocks += [_block(entry, since(entry.at, now) + " ago", columns) for entry in found.items]
    if not found.items:
        fixed = deployment.spec.scaling.min == deployment.spec.scaling.max
        blocks.append("Nothing was decided: the number is fixed." if fixed else "Nothing was decided yet.")
    if found.now is not None:
        blocks.append(_block(found.now, "now", columns))
    return "\n\n".join(blocks)


def _block(entry: JournalEntry, when: str, columns: int) -> str:
    """One decision: when and what on its first line, then why, then the numbers."""
    change = f"stays {entry.after}" if entry.before == entry.after else f"{entry.before} -> {entry.after}".strip()
    numbers = ", ".join(_number(name, value) for name, value in _flat(entry.figures).items() if value is not None)
    if entry.concern == "tuning":
        change, numbers = _tuning(entry.figures, change)
    lines = textwrap.wrap(plain(f"{when:<9}{entry.concern:<9}{change}"), columns, subsequent_indent=" " * 18)
    for text in (entry.reason, numbers):
        lines += textwrap.wrap(plain(text), columns, initial_indent="  ", subsequent_indent="  ")
    return "\n".join(lines)


def _tuning(figures: Mapping[str, Any], change: str) -> tuple[str, str]:
    """A move of knobs, and what it was to do to the loss beside what it did; all else is for `kaon tune --replay`."""
    before, after = figures.get("before"), figures.get("after")
    if not isinstance(before, dict) or not isinstance(after, dict):
        return change, ""
    loss = figures.get("loss")
    gains = {name: figures.get(name) for name in ("predicted", "realised")} if loss else {}
    told = [f"{name}: loss {tuner_page.changed(gain / loss)}" for name, gain in gains.items() if loss and gain]
    move = tuner_page.moved(before, after)
    return f"{_DID.get(str(figures.get('kind')), '')}{move}" if move else "stays as it is", ", ".join(told)


def _flat(figures: Mapping[str, Any], under: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in figures.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{under}{name} ")
        else:
            found[under + name] = value
    return found


def _number(name: str, value: Any) -> str:
    """A figure by the name and unit that people use: 'call_s' of 0.115 is 'call 115 ms'."""
    said = name.removesuffix("_s").replace("_", " ")
    if not isinstance(value, int | float) or isinstance(value, bool):
        return f"{said} {value}"
    if name.endswith("_s"):
        return f"{said} {value * 1000:.3g} ms" if 0 < abs(value) < 1 else f"{said} {value:.3g} s"
    return f"{said} {value:,.0f}" if abs(value) >= 1000 else f"{said} {value:.3g}"
