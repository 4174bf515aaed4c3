"""`kaon set`: fields of a deployment's spec."""

from __future__ import annotations

from typing import Annotated

import typer

from kaon.cli.shared import assignments, spec_changes
from kaon.cli.shared.options import DeploymentArgument, DryRun, NoWait, Timeout, WorkspaceOption, Yes, verb, verbs
from kaon.cli.shared.output import put
from kaon.cli.shared.remote import opened
from kaon.cli.shared.rollout_wait import print_after_rollout
from kaon.cli.shared.text import seconds

app = verbs()


@verb(
    app,
    "kaon set greeter objective.latency_s=0.2",
    "kaon set greeter template.resources.memory_bytes=512MiB",
    "kaon set greeter template.env.GREETING=Hi public=true --dry-run",
    name="set",
)
def set_fields(
    name: DeploymentArgument,
    fields: Annotated[list[str], typer.Argument(metavar="PATH=VALUE", help="What to set.", show_default=False)],
    yes: Yes = False,
    dry_run: DryRun = False,
    no_wait: NoWait = False,
    timeout: Timeout = "10m",
    workspace: WorkspaceOption = None,
) -> None:
    """Change any field of a deployment's spec, without a build.

    `kaon get deployment NAME -o yaml` shows the fields. Changes below template start a rollout; all others take
    effect at once.
    """
    assignments.check(fields)
    with opened(workspace) as remote:
        current = remote.deployment(name)
        service = remote.artifact(current.spec.template.artifact).spec.manifest.service
        members = assignments.assign(current.spec.model_dump(), fields, assignments.class_defaults(service))
        after = spec_changes.valid_spec(members)
        if dry_run:
            put(spec_changes.summary("deployment", name, current.spec, after))
            return
        spec_changes.ask_before_zero(name, current.spec.scaling, after.scaling, yes=yes)
        view = spec_changes.put_spec(remote, name, current, after)
        print_after_rollout(remote, view, None if no_wait else seconds(timeout))
