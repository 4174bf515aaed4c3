"""Options that many commands share, said once."""

from __future__ import annotations

from typing import Annotated

import typer

from kaon.cli.output import Format
from kaon.types.artifact import Consent

SERVE = "Write and serve"
LOOK = "Look"
CHANGE = "Change"
SHARE = "Share"
PLATFORM = "Platform"
HEADINGS = (SERVE, LOOK, CHANGE, SHARE, PLATFORM)
"""Headings of the verbs in `kaon --help`, in order."""

Output = Annotated[Format, typer.Option("-o", "--output", help="How to print: table, json, yaml or name.")]
WorkspaceOption = Annotated[
    str | None, typer.Option("-w", "--workspace", help="The workspace; the context's own unless given.")
]
Include = Annotated[
    list[str] | None,
    typer.Option("--include", metavar="PATH", help="Pack what .gitignore or a dot leaves out; may be repeated."),
]
Allow = Annotated[
    list[Consent] | None,
    typer.Option(
        "--allow", metavar="[pickle|sdist]", help="Pack pickles, build packages from their sources; may be repeated."
    ),
]
Yes = Annotated[bool, typer.Option("-y", "--yes", help="Do not ask.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would change; change nothing.")]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Return at once; do not wait until it is so.")]
Timeout = Annotated[str, typer.Option("--timeout", help="How long to wait, like 30s or 10m.")]


def told(summary: str, *examples: str, more: str = "") -> str:
    """A command's help: what it does, more of that, and examples."""
    shown = "\n\n".join(["\b\nExamples:\n" + "\n".join(f"  $ {line}" for line in examples)] if examples else [])
    return "\n\n".join(part for part in (summary, more, shown) if part)


TRUST = (
    "Deployed code runs as the platform's user and can read its keys: "
    "whoever may deploy may do all that the platform may."
)
"""Said wherever rights are given out. Roles and workspaces keep people apart who call and look, not their code."""
