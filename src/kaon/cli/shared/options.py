"""How verbs are declared, and the options that several of them have."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import typer
from typer.core import TyperCommand

from kaon.cli.shared.output import Format
from kaon.types.artifact import Consent

F = TypeVar("F", bound=Callable[..., Any])

OutputOption = Annotated[Format, typer.Option("-o", "--output", help="Output format: table, json, yaml or name.")]
WorkspaceOption = Annotated[
    str | None, typer.Option("-w", "--workspace", help="The workspace; default: that of the context.")
]
Include = Annotated[
    list[str] | None,
    typer.Option("--include", metavar="PATH", help="Pack files that .gitignore or a dot leaves out; repeatable."),
]
Allow = Annotated[
    list[Consent] | None,
    typer.Option(
        "--allow", metavar="[pickle|sdist]", help="Pack pickles, build packages from their sources; repeatable."
    ),
]
AllowPickle = Annotated[
    bool,
    typer.Option("--allow-pickle", help="Pack pickles (.pkl, .joblib, .pt ...); also: allow_pickle=True on the class."),
]
ExtraOption = Annotated[
    list[str] | None, typer.Option("--extra", metavar="NAME", help="Install an extra of pyproject.toml; repeatable.")
]
GroupOption = Annotated[
    list[str] | None,
    typer.Option("--group", metavar="NAME", help="Install a dependency group of pyproject.toml; repeatable."),
]
Env = Annotated[list[str] | None, typer.Option("--env", metavar="K=V", help="A setting; repeatable.")]
TargetArgument = Annotated[
    str, typer.Argument(metavar="FILE.py:CLASS", help="The service's class.", show_default=False)
]
Unset = Annotated[
    list[str] | None, typer.Option("--unset", metavar="K", help="Remove a setting or secret; repeatable.")
]
DeploymentArgument = Annotated[str, typer.Argument(help="The deployment.", show_default=False)]
Yes = Annotated[bool, typer.Option("-y", "--yes", help="Do not ask for confirmation.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would change; change nothing.")]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Return at once, before the change is complete.")]
Timeout = Annotated[str, typer.Option("--timeout", help="How long to wait, like 30s or 10m.")]

TRUST = (
    "Deployed code runs as the platform's user and can read its keys: everyone who may deploy has all rights of the "
    "platform."
)
"""Printed wherever rights are granted. Roles and workspaces separate callers and viewers, not deployed code."""


def verbs() -> typer.Typer:
    """An app for a module's verbs."""
    return typer.Typer(rich_markup_mode=None)


def group(name: str, summary: str) -> typer.Typer:
    """An app for a verb with subcommands."""
    return typer.Typer(name=name, help=summary, no_args_is_help=True, rich_markup_mode=None)


def verb(
    app: typer.Typer, *examples: str, name: str | None = None, more: str = "", cls: type[TyperCommand] = TyperCommand
) -> Callable[[F], F]:
    """Declare a function as a command. Its help is the docstring, `more`, and the examples."""

    def declare(function: F) -> F:
        parts = [inspect.cleandoc(function.__doc__ or ""), more]
        parts += ["\b\nExamples:\n" + "\n".join(f"  $ {line}" for line in examples)] if examples else []
        return app.command(name, help="\n\n".join(part for part in parts if part), cls=cls)(function)

    return declare
