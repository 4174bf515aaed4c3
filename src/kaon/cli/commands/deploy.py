"""`deploy` and `apply`: what should run."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from kaon.cli.options import SERVE, Allow, DryRun, Include, NoWait, Output, Timeout, WorkspaceOption, Yes, told
from kaon.cli.output import Format

_DEPLOY = told(
    "Build a class, bring it to the platform, and wait until it answers.",
    "kaon deploy greeter.py:Greeter",
    "kaon deploy greeter.py:Greeter --name hello --env GREETING=Hi --replicas 2",
    "kaon deploy greeter.py:Greeter --secret TOKEN=greeter-token --dry-run",
    "kaon deploy greeter.py:Greeter --include model.onnx --allow pickle",
    "kaon deploy greeter.py:Greeter --canary 5,25,50 --step 60s",
    "kaon deploy greeter.py:Greeter --shadow 10",
    "kaon deploy greeter.py:Greeter --max 5 --set objective.latency_s=0.2",
    more="What is not named stays as it is. The old revision serves until the new one is ready.",
)
_APPLY = told(
    "Make things as a file says; deployments that name a source are built first.",
    "kaon apply -f kaon.yaml",
    "kaon apply -f kaon.yaml --dry-run",
    "kaon apply -f kaon.yaml -y --no-wait",
)
_Pairs = Annotated[list[str] | None, typer.Option("--env", metavar="K=V", help="A setting; may be repeated.")]
_Secrets = Annotated[
    list[str] | None, typer.Option("--secret", metavar="K=NAME", help="A variable that a secret gives; repeatable.")
]

_Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="PATH=VALUE", help="Any field of the spec, like objective.latency_s=0.2; repeatable."
    ),
]


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(help=_DEPLOY, rich_help_panel=SERVE)(deploy)
    app.command(help=_APPLY, rich_help_panel=SERVE)(apply)


def deploy(
    target: Annotated[str, typer.Argument(metavar="FILE.py:CLASS", help="The class to deploy.", show_default=False)],
    name: Annotated[str, typer.Option(help="The deployment's name; the class's own unless given.")] = "",
    env: _Pairs = None,
    secret: _Secrets = None,
    replicas: Annotated[int | None, typer.Option(min=0, help="How many; the same as --min and --max.")] = None,
    low: Annotated[int | None, typer.Option("--min", min=0, help="Replicas at least.")] = None,
    high: Annotated[int | None, typer.Option("--max", min=0, help="Replicas at most.")] = None,
    public: Annotated[bool | None, typer.Option("--public/--closed", help="Whether callers need no key.")] = None,
    assignments: _Sets = None,
    canary: Annotated[
        str, typer.Option(metavar="STEPS", help="Per cent of the calls, step by step, like 5,25,50; 'off': none.")
    ] = "",
    step: Annotated[str, typer.Option(metavar="TIME", help="How long each step of a canary lasts at least.")] = "",
    shadow: Annotated[
        float | None,
        typer.Option(metavar="PERCENT", min=0.01, max=100, help="Run it on copies of calls only; the old one serves."),
    ] = None,
    include: Include = None,
    allow: Allow = None,
    dry_run: DryRun = False,
    no_wait: NoWait = False,
    timeout: Timeout = "10m",
    workspace: WorkspaceOption = None,
    output: Output = Format.TABLE,
) -> None:
    """Build, bring, put, wait."""
    from kaon.cli import assigning, deploying
    from kaon.cli.bounds import ReplicaBounds
    from kaon.cli.remote import opened
    from kaon.cli.text import pairs, seconds

    wishes = deploying.DeployOptions(
        env=pairs(env or [], "--env"),
        secrets=pairs(secret or [], "--secret"),
        scale=ReplicaBounds(replicas, low, high),
        public=public,
        sets=assignments or [],
        canary=canary,
        step_s=seconds(step) if step else None,
        shadow=shadow,
    )
    assigning.assigned({}, wishes.sets)  # what cannot be set is told before the build, not after
    wait_s = seconds(timeout)
    with tempfile.TemporaryDirectory(prefix="kaon-deploy-") as out, opened(workspace) as remote:
        remote.whoami()  # a wrong key or an absent platform is told before the build, not after
        variables = deploying.variables(remote, target, name, wishes.env)
        built = deploying.built(target, Path.cwd(), Path(out), env=variables, include=include or (), allow=allow or ())
        name = name or built.manifest.service.name
        if dry_run:
            deploying.preview(remote, name, lambda spec: deploying.merged(spec, built, wishes))
            return
        deploying.bring(remote, built)
        current = remote.find_deployment(name)
        after = deploying.merged(current.spec if current else None, built, wishes)
        view = deploying.put_told(remote, name, current, after)
        deploying.finish(remote, view, built.manifest, None if no_wait else wait_s, output)


def apply(
    file: Annotated[Path, typer.Option("-f", "--file", help="A YAML file with one or many documents.")],
    yes: Yes = False,
    dry_run: DryRun = False,
    no_wait: NoWait = False,
    timeout: Timeout = "10m",
    workspace: WorkspaceOption = None,
) -> None:
    """Make things as a file says."""
    from kaon.cli import applying
    from kaon.cli.text import seconds

    applying.apply(file, workspace, yes=yes, dry_run=dry_run, wait_s=None if no_wait else seconds(timeout))
