"""`key`: who may do what."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from kaon.cli.options import SHARE, TRUST, Output, WorkspaceOption, Yes, told
from kaon.cli.output import Format

_CREATE = told(
    "Make a key and print it, this once.",
    "kaon key create web --role caller --deployment greeter --expires 90d",
    "kaon key create ci --role editor",
    "kaon key create nightly --priority low",
    more="A key can never do more than the key that makes it, and ends with it. When not all calls can be served, "
    "those of high priority go first, and those of low priority are refused first. A key never changes: make another. "
    + TRUST,
)
_LIST = told("List keys, without the keys.", "kaon key list", "kaon key list -o json")
_REVOKE = told(
    "End a key at once, and every key that it made.",
    "kaon key revoke web",
    "kaon key revoke ci --with-deployments",
    more="Services that it deployed go on until an admin adopts them (kaon adopt NAME) or deletes them.",
)


class _Role(StrEnum):
    ADMIN = "admin"
    EDITOR = "editor"
    VIEWER = "viewer"
    CALLER = "caller"


class _Priority(StrEnum):
    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"


def add_to(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(help="Make, list and revoke keys.", no_args_is_help=True, rich_markup_mode=None)
    group.command(help=_CREATE)(create)
    group.command("list", help=_LIST)(list_keys)
    group.command(help=_REVOKE)(revoke)
    app.add_typer(group, name="key", rich_help_panel=SHARE)


def create(
    name: Annotated[str, typer.Argument(help="What to call it.", show_default=False)],
    role: Annotated[_Role, typer.Option(help="What it may do.")] = _Role.CALLER,
    priority: Annotated[_Priority, typer.Option(help="Whose calls go first under overload.")] = _Priority.NORMAL,
    deployment: Annotated[list[str] | None, typer.Option(help="Only this one; may be repeated.")] = None,
    expires: Annotated[str, typer.Option(help="When it ends, like 90d; never unless given.")] = "",
    everywhere: Annotated[bool, typer.Option("--everywhere", help="In every workspace; for admins.")] = False,
    workspace: WorkspaceOption = None,
    output: Output = Format.TABLE,
) -> None:
    """Make a key."""
    from kaon.cli import sharing

    sharing.create_key(
        name, role.value, priority.value, deployment or [], expires, workspace, output, everywhere=everywhere
    )


def list_keys(workspace: WorkspaceOption = None, output: Output = Format.TABLE) -> None:
    """List keys."""
    from kaon.cli import looking

    looking.get("keys", "", workspace, output)


def revoke(
    name: Annotated[str, typer.Argument(help="The key.", show_default=False)],
    with_deployments: Annotated[bool, typer.Option("--with-deployments", help="Delete what it deployed, too.")] = False,
    yes: Yes = False,
    workspace: WorkspaceOption = None,
) -> None:
    """End a key."""
    from kaon.cli import sharing
    from kaon.cli.notes import note
    from kaon.cli.remote import opened

    with opened(workspace) as remote:
        sharing.revoke_key(remote, name, yes=yes, with_deployments=with_deployments)
    note(f"key {name} is gone")
