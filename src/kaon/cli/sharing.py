"""What `key`, `secret`, `adopt`, `workspace create` and `whoami` do."""

from __future__ import annotations

import getpass
import sys
import time
from collections.abc import Sequence
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from kaon.api.views import KeyRequest, WorkspaceRequest
from kaon.cli import shapes
from kaon.cli.notes import ask, note
from kaon.cli.output import Format, document, put, put_one
from kaon.cli.remote import Remote, opened
from kaon.cli.text import plain, seconds, stamp, table
from kaon.errors import InvalidInput
from kaon.types.model import from_request

M = TypeVar("M", bound=BaseModel)


def create_key(
    name: str,
    role: str,
    priority: str,
    deployments: Sequence[str],
    expires: str,
    workspace: str | None,
    form: Format,
    *,
    everywhere: bool,
) -> None:
    """Make a key. The key alone goes to standard output, so that it can be piped."""
    request = _request(
        KeyRequest,
        name=name,
        role=role,
        priority=priority,
        deployments=tuple(deployments) or None,
        expires_at=time.time() + seconds(expires) if expires else None,
        everywhere=everywhere,
    )
    with opened(workspace) as remote:
        made = remote.create_key(request)
    if form in (Format.JSON, Format.YAML):
        put(document(made.model_dump(mode="json"), form))
        return
    put(plain(made.name if form is Format.NAME else made.key))
    first = "" if priority == "normal" else f", {priority} priority"
    until = f" It ends {stamp(made.expires_at)}." if made.expires_at else ""
    ends = f"{until} End it: kaon key revoke {name}"
    note(f"Key '{name}', role {role}{first}. It is shown this once; keep it safe.{ends}")


def set_secret(name: str, workspace: str | None) -> None:
    """Set a secret to what is typed unseen or comes on standard input, less the last new line."""
    if sys.stdin.isatty():
        value = getpass.getpass(f"Value of {plain(name)}: ", stream=sys.stderr)
    else:
        value = sys.stdin.read().removesuffix("\n")
    if not value:
        raise InvalidInput("The value is empty.", hint="Type it, or pipe it in: kaon secret set NAME < FILE")
    with opened(workspace) as remote:
        kept = remote.put_secret(name, value)
    note(f"Secret '{name}' is set.")
    for user in kept.used_by:
        note(f"To give it to replicas that run: kaon rollout restart {user}")


def delete_secret(remote: Remote, name: str, *, yes: bool) -> None:
    """Delete a secret, after saying which revisions nobody can go back to without it and a yes."""
    kept_by = next((secret.kept_by for secret in remote.secrets() if secret.name == name), [])
    if kept_by:
        note(f"Nobody can go back to these without it: {_listed(kept_by)}.")
    ask(f"Delete secret '{name}'?", yes=yes)
    remote.delete_secret(name)


def revoke_key(remote: Remote, name: str, *, yes: bool, with_deployments: bool = False) -> None:
    """End a key, after saying which deployments it answers for and a yes."""
    keys = remote.keys()
    owns = next((key.owns for key in keys if key.name == name), [])
    what = f"End key '{name}' and every key that it made"
    if with_deployments and owns:
        what = f"{what}, and delete these deployments: {_listed(owns)}"
    elif owns:
        note(f"It answers for these deployments: {_listed(owns)}.")
        note("They go on until an admin adopts them: kaon adopt NAME; --with-deployments deletes them.")
    ask(f"{what}?", yes=yes)
    remote.revoke_key(name, with_deployments=with_deployments)


def _listed(names: Sequence[str]) -> str:
    """Names in a sentence: the first ten."""
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")


def adopt(name: str, workspace: str | None) -> None:
    """Answer for a deployment with the key in use."""
    with opened(workspace) as remote:
        adopted = remote.roll(remote.deployment(name), "adopt")
    note(f"Key '{adopted.spec.owner}' answers for '{adopted.name}' from now on.")


def create_workspace(name: str, description: str) -> None:
    """Make a workspace."""
    with opened() as remote:
        made = remote.create_workspace(_request(WorkspaceRequest, name=name, description=description))
    put_one(made, shapes.of("workspace", time.time()), Format.TABLE)


def whoami(form: Format) -> None:
    """Tell what the key in use may do."""
    with opened() as remote:
        me = remote.whoami()
    if form in (Format.JSON, Format.YAML):
        put(document(me.model_dump(mode="json"), form))
    elif form is Format.NAME:
        put(plain(me.key))
    else:
        scope = ",".join(me.deployments) if me.deployments is not None else "all"
        put(
            table(
                ("key", "role", "workspace", "deployments", "expires"),
                [(me.key, me.role, me.workspace or "all", scope, stamp(me.expires_at))],
            )
        )


def _request(model: type[M], **members: object) -> M:
    try:
        return from_request(model, members)
    except ValidationError as error:
        raise InvalidInput(
            "That does not fit.",
            errors=[{"where": ".".join(map(str, e["loc"])), "message": e["msg"]} for e in error.errors()],
        ) from None
