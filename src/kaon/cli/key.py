"""`kaon key`: who may do what."""

from __future__ import annotations

import time
from enum import StrEnum
from typing import Annotated

import typer

from kaon.api.views import KeyRequest
from kaon.cli.get import print_resources
from kaon.cli.rm import revoke_key
from kaon.cli.shared.notes import note
from kaon.cli.shared.options import TRUST, OutputOption, WorkspaceOption, Yes, group, verb
from kaon.cli.shared.output import Format, document, put
from kaon.cli.shared.remote import opened
from kaon.cli.shared.spec_changes import request_of
from kaon.cli.shared.text import plain, seconds, stamp

app = group("key", "Create, list and revoke keys.")


class _Role(StrEnum):
    ADMIN = "admin"
    EDITOR = "editor"
    VIEWER = "viewer"
    CALLER = "caller"


class _Priority(StrEnum):
    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"


@verb(
    app,
    "kaon key create web --role caller --deployment greeter --expires 90d",
    "kaon key create ci --role editor",
    "kaon key create nightly --priority low",
    more=TRUST,
)
def create(
    name: Annotated[str, typer.Argument(help="The key's name.", show_default=False)],
    role: Annotated[_Role, typer.Option(help="What it may do.")] = _Role.CALLER,
    priority: Annotated[_Priority, typer.Option(help="Which calls go first under overload.")] = _Priority.NORMAL,
    deployment: Annotated[list[str] | None, typer.Option(help="Only this deployment; repeatable.")] = None,
    expires: Annotated[str, typer.Option(help="When it ends, like 90d; default: never.")] = "",
    everywhere: Annotated[bool, typer.Option("--everywhere", help="In every workspace; for admins.")] = False,
    workspace: WorkspaceOption = None,
    output: OutputOption = Format.TABLE,
) -> None:
    """Create a key and print it, once.

    A key never has more rights than the key that creates it, and ends with it. Under overload calls of high priority
    go first, and those of low priority are refused first. A key cannot be changed: create another.
    """
    request = request_of(
        KeyRequest,
        name=name,
        role=role.value,
        priority=priority.value,
        deployments=tuple(deployment or ()) or None,
        expires_at=time.time() + seconds(expires) if expires else None,
        everywhere=everywhere,
    )
    with opened(workspace) as remote:
        created = remote.create_key(request)
    if output in (Format.JSON, Format.YAML):
        put(document(created.model_dump(mode="json"), output))
        return
    put(plain(created.name if output is Format.NAME else created.key))  # alone, so that it can be piped
    note(f"Key '{name}' has role {role} and {priority} priority. It is shown only once; store it safely.")
    if created.expires_at:
        note(f"It ends {stamp(created.expires_at)}.")
    note(f"Revoke it: kaon key revoke {name}")


@verb(app, "kaon key list", "kaon key list -o json", name="list")
def list_keys(workspace: WorkspaceOption = None, output: OutputOption = Format.TABLE) -> None:
    """List keys, without the keys themselves."""
    print_resources("keys", output, workspace)


@verb(app, "kaon key revoke web", "kaon key revoke ci --with-deployments")
def revoke(
    name: Annotated[str, typer.Argument(help="The key.", show_default=False)],
    with_deployments: Annotated[
        bool, typer.Option("--with-deployments", help="Also delete the deployments that it owns.")
    ] = False,
    yes: Yes = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Revoke a key at once, and every key that it created.

    Its deployments keep running until an admin adopts them (kaon adopt NAME) or deletes them.
    """
    with opened(workspace) as remote:
        revoke_key(remote, name, yes=yes, with_deployments=with_deployments)
    note(f"Key '{name}' is revoked.")
