"""`gc`: delete what nothing refers to any more."""

from __future__ import annotations

import typer

from kaon.cli.options import PLATFORM, DryRun, Output, Yes, told
from kaon.cli.output import Format

_GC = told(
    "Show what nothing refers to any more, and delete it.",
    "kaon gc --dry-run",
    "kaon gc -y",
    more="Artifacts, their bytes, keys that have ended, records of what is gone. The platform does so by itself, too; "
    "how long things stay is set by KAON_KEEP_ARTIFACTS_S and others. Needs an admin's key of every workspace.",
)


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(help=_GC, rich_help_panel=PLATFORM)(gc)


def gc(yes: Yes = False, dry_run: DryRun = False, output: Output = Format.TABLE) -> None:
    """Delete what nothing refers to any more."""
    from kaon.cli import collecting

    collecting.gc(output, yes=yes, dry_run=dry_run)
