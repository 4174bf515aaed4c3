"""`kaon adopt`: a new owner for a deployment."""

from __future__ import annotations

from kaon.cli.shared.notes import note
from kaon.cli.shared.options import DeploymentArgument, WorkspaceOption, verb, verbs
from kaon.cli.shared.remote import opened

app = verbs()


@verb(app, "kaon adopt greeter")
def adopt(name: DeploymentArgument, workspace: WorkspaceOption = None) -> None:
    """Make your key the owner of a deployment whose owner's key has ended; for admins.

    No replica is restarted. Your key must be allowed to call what the service uses.
    """
    with opened(workspace) as remote:
        adopted = remote.roll(remote.deployment(name), "adopt")
    note(f"Key '{adopted.spec.owner}' owns '{adopted.name}' now.")
