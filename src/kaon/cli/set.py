"""`kaon set`: fields of a deployment's spec."""

from __future__ import annotations

from typing import Annotated

import typer

from kaon.cli.shared import assignments, spec_changes
from kaon.cli.shared.options import (
    DeploymentArgument,
    DryRun,
    NoWait,
    Timeout,
    Unset,
    WorkspaceOption,
    Yes,
    verb,
    verbs,
)
from kaon.cli.shared.output import put
from kaon.cli.shared.remote import opened
from kaon.cli.shared.rollout_wait import print_after_rollout
from kaon.cli.shared.secrets import check_secrets
from kaon.cli.shared.settings import check_settings, without
from kaon.cli.shared.text import seconds
from kaon.errors import InvalidInput

app = verbs()


@verb(
    app,
    "kaon set greeter objective.latency_s=0.2",
    "kaon set greeter template.resources.memory_bytes=512MiB",
    "kaon set greeter template.env.GREETING=Hi public=true --dry-run",
    "kaon set greeter --unset GREETING",
    name="set",
)
def set_fields(
    name: DeploymentArgument,
    fields: Annotated[
        list[str] | None, typer.Argument(metavar="[PATH=VALUE]...", help="What to set.", show_default=False)
    ] = None,
    unset: Unset = None,
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
    if not fields and not unset:
        raise InvalidInput("There is nothing to set.", hint="Write PATH=VALUE, or --unset NAME.")
    assignments.check(fields or ())
    with opened(workspace) as remote:
        current = remote.deployment(name)
        service = remote.artifact(current.spec.template.artifact).spec.manifest.service
        template = without(current.spec.template.model_dump(), unset or ())
        members = current.spec.model_dump() | {"template": template}
        after = spec_changes.valid_spec(assignments.assign(members, fields or (), assignments.class_defaults(service)))
        if after.template != current.spec.template:
            check_settings(service, after.template)
            check_secrets(remote, set(after.template.secrets.values()) - set(current.spec.template.secrets.values()))
        if dry_run:
            put(spec_changes.summary("deployment", name, current.spec, after))
            return
        spec_changes.ask_before_zero(name, current.spec.scaling, after.scaling, yes=yes)
        view = spec_changes.put_spec(remote, name, current, after)
        print_after_rollout(remote, view, None if no_wait else seconds(timeout))
