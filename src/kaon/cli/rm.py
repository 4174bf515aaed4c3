"""`kaon rm`: delete a resource of any kind."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated

import typer

from kaon.api.views import DeploymentView
from kaon.cli.shared.notes import ask, note
from kaon.cli.shared.options import NoWait, WorkspaceOption, Yes, verb, verbs
from kaon.cli.shared.progress import ProgressLine
from kaon.cli.shared.remote import Remote, opened
from kaon.cli.shared.text import plain, size
from kaon.errors import Conflict, DeadlineExceeded, InvalidInput, KaonError, NotFound, UnreadableRow
from kaon.types.kind import Kind, Verb
from kaon.types.kinds import KINDS, kind_named

app = verbs()
_DRAIN_S = 120.0
_POLL_S = 0.2


@verb(
    app,
    "kaon rm greeter",
    "kaon rm deployment greeter -y",
    "kaon rm workspace team-a -y",
    "kaon rm artifact --unused",
    name="rm",
)
def remove(
    first: Annotated[str, typer.Argument(metavar="[KIND] NAME", help="What to delete.", show_default=False)],
    second: Annotated[str, typer.Argument(hidden=True)] = "",
    unused: Annotated[bool, typer.Option("--unused", help="Every artifact that no deployment uses.")] = False,
    yes: Yes = False,
    no_wait: NoWait = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Delete a deployment, workspace, secret or key.

    A deployment's replicas first finish the calls in flight.
    """
    if unused:
        _delete_unused_artifacts(first, workspace, yes=yes)
        return
    kind, name = (first, second) if second else ("deployment", first)
    delete(kind, name, workspace, yes=yes, wait=not no_wait)


def delete(word: str, name: str, workspace: str | None, *, yes: bool, wait: bool = False) -> None:
    """Delete a resource, after a confirmation."""
    kind = kind_named(word)
    with opened(workspace) as remote:
        _delete(remote, kind, name, yes=yes)
        if wait and kind.name == "deployment":
            _wait_until_drained(remote, name)
    note(f"{kind.name.capitalize()} '{name}' is deleted.")


def _delete(remote: Remote, kind: Kind, name: str, *, yes: bool) -> None:
    match kind.name:
        case "deployment":
            current = _readable(remote, name)
            question = f"Delete deployment '{name}' and its revisions?"
            if current is not None and _state_of(remote, current):
                question = f"Delete deployment '{name}', its revisions, and the state in its folder?"
            ask(question, yes=yes)
            remote.delete_deployment(name, current)
        case "secret":
            _delete_secret(remote, name, yes=yes)
        case "key":
            revoke_key(remote, name, yes=yes)
        case "workspace":
            ask(f"Delete workspace '{name}' with its keys, secrets and artifacts?", yes=yes)
            remote.delete_workspace(name)
        case "cloud":
            ask(f"Delete cloud '{name}'? Its deployments are placed in another one.", yes=yes)
            remote.delete_cloud(name)
        case "artifact":
            with suppress(UnreadableRow):
                name = remote.artifact(name).name
            ask(f"Delete artifact {plain(name)[:19]}?", yes=yes)
            remote.delete_artifact(name)
        case _ if Verb.DELETE in kind.rights:
            ask(f"Delete {kind.name} '{name}'?", yes=yes)
            remote.delete_resource(kind, name)
        case _:
            names = ", ".join(other.name for other in KINDS.values() if Verb.DELETE in other.rights)
            raise InvalidInput(f"A {kind.name} cannot be deleted.", hint=f"These can: {names}.")


def revoke_key(remote: Remote, name: str, *, yes: bool, with_deployments: bool = False) -> None:
    """Revoke a key, after naming the deployments that it owns and a confirmation."""
    keys = remote.keys()
    owns = next((key.owns for key in keys if key.name == name), [])
    if with_deployments and owns:
        ask(f"Revoke key '{name}' and every key that it created, and delete deployments {_listed(owns)}?", yes=yes)
    else:
        if owns:
            note(f"It owns these deployments: {_listed(owns)}.")
            note("They keep running until an admin adopts them: kaon adopt NAME; --with-deployments deletes them.")
        ask(f"Revoke key '{name}' and every key that it created?", yes=yes)
    remote.revoke_key(name, with_deployments=with_deployments)


def _delete_secret(remote: Remote, name: str, *, yes: bool) -> None:
    """Delete a secret, after naming the revisions that need it and a confirmation."""
    needed_by = next((secret.kept_by for secret in remote.secrets() if secret.name == name), [])
    if needed_by:
        note(f"Rolling back to these revisions needs it: {_listed(needed_by)}.")
    ask(f"Delete secret '{name}'?", yes=yes)
    remote.delete_secret(name)


def _delete_unused_artifacts(word: str, workspace: str | None, *, yes: bool) -> None:
    if kind_named(word).name != "artifact":
        raise InvalidInput("--unused is for artifacts.", hint="kaon rm artifact --unused")
    ask("Delete every artifact that no deployment and no revision uses?", yes=yes)
    count = freed_bytes = 0
    with opened(workspace) as remote:
        for artifact in remote.artifacts():
            try:
                remote.delete_artifact(artifact.name)
            except (Conflict, NotFound):  # in use, or already deleted
                continue
            count, freed_bytes = count + 1, freed_bytes + artifact.spec.size_bytes
    note(f"Deleted artifacts: {count}, {size(freed_bytes)}.")


def _state_of(remote: Remote, deployment: DeploymentView) -> str:
    """What its service declares to keep; empty when that is nothing, or not known."""
    try:
        return remote.artifact(deployment.spec.template.artifact).spec.manifest.service.state
    except KaonError:
        return ""


def _readable(remote: Remote, name: str) -> DeploymentView | None:
    """The deployment; None when its stored row cannot be read."""
    try:
        return remote.deployment(name)
    except UnreadableRow:
        return None


def _wait_until_drained(remote: Remote, name: str) -> None:
    """Return when the deployment has no replica. Raises `DeadlineExceeded`."""
    ends_at = time.monotonic() + _DRAIN_S
    with ProgressLine() as progress:
        while time.monotonic() < ends_at:
            left = [replica for replica in remote.replicas() if replica.deployment == name]
            if not left:
                return
            progress.show("Draining", f"{len(left)} replica{'s' if len(left) > 1 else ''} of {name}")
            time.sleep(_POLL_S)
    raise DeadlineExceeded(f"Replicas of '{name}' are still draining.", hint="See them: kaon get replicas")


def _listed(names: Sequence[str]) -> str:
    """The first ten names."""
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
