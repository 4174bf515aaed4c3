"""`kaon apply`: makes the changes that the documents of a file describe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kaon.cli.apply.documents import read_documents
from kaon.cli.apply.steps import apply_documents
from kaon.cli.shared.options import DryRun, NoWait, Timeout, WorkspaceOption, Yes, verb, verbs
from kaon.cli.shared.output import put
from kaon.cli.shared.remote import opened
from kaon.cli.shared.rollout_wait import until_rolled_out
from kaon.cli.shared.text import plain, seconds

app = verbs()


@verb(app, "kaon apply -f kaon.yaml", "kaon apply -f kaon.yaml --dry-run", "kaon apply -f kaon.yaml -y --no-wait")
def apply(
    file: Annotated[Path, typer.Option("-f", "--file", help="A YAML file of one or more documents.")],
    yes: Yes = False,
    dry_run: DryRun = False,
    no_wait: NoWait = False,
    timeout: Timeout = "10m",
    workspace: WorkspaceOption = None,
) -> None:
    """Create or change resources as a file describes them; deployments with a source are built first."""
    wait_s = None if no_wait else seconds(timeout)
    for step in apply_documents(read_documents(file), file.parent, workspace, yes=yes, dry_run=dry_run):
        if wait_s is not None:
            with opened(step.document.workspace or workspace) as remote:
                view = until_rolled_out(remote, step.document.name, wait_s)
                put(f"{plain(view.name)}: {view.state} at {plain(view.url)}")
