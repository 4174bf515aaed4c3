"""`kaon deploy`: build, upload, change the spec, wait."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from kaon.cli.apply.documents import of_folder
from kaon.cli.deploy.folder import DocumentChanges, deploy_documents, finish_documents, only_service
from kaon.cli.deploy.result import finish
from kaon.cli.deploy.spec import DeployOptions, check, merged
from kaon.cli.shared import artifacts, spec_changes
from kaon.cli.shared.options import (
    Allow,
    AllowPickle,
    DryRun,
    Env,
    ExtraOption,
    GroupOption,
    Include,
    NoWait,
    OutputOption,
    Timeout,
    Unset,
    WorkspaceOption,
    verb,
    verbs,
)
from kaon.cli.shared.output import Format, put
from kaon.cli.shared.remote import opened
from kaon.cli.shared.replica_bounds import ReplicaBounds
from kaon.cli.shared.secrets import check_secrets
from kaon.cli.shared.settings import without
from kaon.cli.shared.text import pairs, seconds

app = verbs()


@verb(
    app,
    "kaon deploy",
    "kaon deploy greeter.py:Greeter",
    "kaon deploy greeter.py:Greeter --name hello --env GREETING=Hi --replicas 2",
    "kaon deploy greeter.py:Greeter --secret TOKEN=greeter-token --dry-run",
    "kaon deploy shop.py:Recommendation --dataset model=shop-model@prod",
    "kaon deploy greeter.py:Greeter --include model.joblib --allow-pickle",
    "kaon deploy greeter.py:Greeter --canary 5,25,50 --step 60s",
    "kaon deploy greeter.py:Greeter --shadow 10",
    "kaon deploy greeter.py:Greeter --max 5 --set objective.latency_s=0.2",
)
def deploy(
    target: Annotated[
        str,
        typer.Argument(
            metavar="[FILE.py:CLASS]",
            help="The service's class; default: what kaon.yaml says, or the only service here.",
            show_default=False,
        ),
    ] = "",
    name: Annotated[str, typer.Option(help="The deployment's name; default: that of the class.")] = "",
    env: Env = None,
    secret: Annotated[
        list[str] | None,
        typer.Option("--secret", metavar="K=NAME", help="A variable with the value of a secret; repeatable."),
    ] = None,
    dataset: Annotated[
        list[str] | None,
        typer.Option(
            "--dataset",
            metavar="NAME=DATASET[@VERSION]",
            help="A dataset for the constructor's parameter NAME; a label is followed; repeatable.",
        ),
    ] = None,
    unset: Unset = None,
    replicas: Annotated[int | None, typer.Option(min=0, help="Number of replicas: both --min and --max.")] = None,
    low: Annotated[int | None, typer.Option("--min", min=0, help="Minimum number of replicas.")] = None,
    high: Annotated[int | None, typer.Option("--max", min=0, help="Maximum number of replicas.")] = None,
    public: Annotated[bool | None, typer.Option("--public/--closed", help="Whether calls need no key.")] = None,
    fields: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="PATH=VALUE", help="Any field of the spec, like objective.latency_s=0.2; repeatable."
        ),
    ] = None,
    canary: Annotated[
        str, typer.Option(metavar="STEPS", help="Per cent of the calls, step by step, like 5,25,50; or off.")
    ] = "",
    step: Annotated[str, typer.Option(metavar="TIME", help="Minimum duration of a canary's step.")] = "",
    shadow: Annotated[
        float | None,
        typer.Option(
            metavar="PERCENT", min=0.01, max=100, help="Send it copies of calls only; the old revision serves."
        ),
    ] = None,
    include: Include = None,
    allow: Allow = None,
    allow_pickle: AllowPickle = False,
    extra: ExtraOption = None,
    group: GroupOption = None,
    dry_run: DryRun = False,
    no_wait: NoWait = False,
    timeout: Timeout = "10m",
    workspace: WorkspaceOption = None,
    output: OutputOption = Format.TABLE,
) -> None:
    """Build a class, upload it, and wait until it answers calls.

    Options that are not given stay unchanged. The old revision serves until the new one is ready. Without a class,
    the deployments of this folder's kaon.yaml are built and changed, as kaon apply does it; options are for its only
    one.
    """
    options = DeployOptions(
        env=pairs(env or [], "--env"),
        secrets=pairs(secret or [], "--secret"),
        datasets=pairs(dataset or [], "--dataset"),
        scale=ReplicaBounds(replicas, low, high),
        public=public,
        unset=unset or (),
        sets=fields or (),
        canary=canary,
        step_s=seconds(step) if step else None,
        shadow=shadow,
    )
    wait_s = None if no_wait else seconds(timeout)
    documents = [] if target else of_folder(Path.cwd())
    if documents:
        changes = DocumentChanges(
            options,
            name,
            include or (),
            artifacts.consents(allow, allow_pickle),
            tuple(extra or ()),
            tuple(group or ()),
        )
        steps = deploy_documents(documents, changes, workspace, dry_run=dry_run)
        finish_documents(steps, workspace, wait_s, output)
        return
    target = target or only_service(Path.cwd())
    with tempfile.TemporaryDirectory(prefix="kaon-deploy-") as out, opened(workspace) as remote:
        remote.whoami()  # fails before the build when the key is wrong or the platform cannot be reached
        current = artifacts.current_deployment(remote, target, name)
        before = current.spec if current else None
        check(before, options)
        check_secrets(remote, options.secrets.values())
        variables = {**(without(before.template.model_dump(), options.unset)["env"] if before else {}), **options.env}
        built = artifacts.build(
            target,
            Path.cwd(),
            Path(out),
            env=variables,
            include=include or (),
            allow=artifacts.consents(allow, allow_pickle),
            require=artifacts.required(extra, group),
        )
        name = name or built.manifest.service.name
        current = remote.find_deployment(name)
        before = current.spec if current else None
        after = merged(before, built, options)
        if dry_run:
            put(spec_changes.summary("deployment", name, before, after))
            return
        artifacts.upload(remote, built)
        view = spec_changes.put_spec(remote, name, current, after)
        finish(remote, view, built.manifest, wait_s, output)
