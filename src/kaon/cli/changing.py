"""What `scale`, `rm` and `rollout` do."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from kaon.cli import assigning, deploying, difference, shapes, sharing
from kaon.cli.bounds import ReplicaBounds, wished
from kaon.cli.notes import ask, note
from kaon.cli.output import Format, put, put_list
from kaon.cli.progress import Progress
from kaon.cli.remote import Remote, opened
from kaon.cli.text import plain, size
from kaon.cli.waiting import until_rolled_out
from kaon.errors import Conflict, DeadlineExceeded, InvalidInput, NotFound, UnreadableRow
from kaon.types.deployment import Scaling
from kaon.types.kind import Verb
from kaon.types.kinds import KINDS, kind_named

if TYPE_CHECKING:
    from kaon.api.views import DeploymentView

_DRAIN_S = 120.0
_LOOK_S = 0.2


def scale(
    name: str, wishes: ReplicaBounds, workspace: str | None, *, yes: bool, dry_run: bool, wait_s: float | None
) -> None:
    """Change the bounds; to none at all only after a yes."""
    if not wishes.any:
        raise InvalidInput("How many replicas?", hint="Give a number, or --min and --max.")
    with opened(workspace) as remote:
        current = remote.deployment(name)
        wanted = wished(current.spec.scaling, wishes)
        change = difference.told("deployment", name, current.spec, current.spec.model_copy(update={"scaling": wanted}))
        if dry_run:
            put(change)
            return
        note(change)
        _ask_for_less(name, current.spec.scaling, wanted, yes=yes)
        _after(remote, remote.scale(current, wanted), wait_s)


def _ask_for_less(name: str, before: Scaling, after: Scaling, *, yes: bool) -> None:
    """Go on only after a yes when there may be no replica from now on."""
    if after.max == 0 and before.max > 0:
        ask(f"Switch '{name}' off, so that callers are refused?", yes=yes)
    elif after.min == 0 and before.min > 0:
        ask(f"Let '{name}' go down to no replica when nobody calls?", yes=yes)


def put_fields(
    name: str, texts: Sequence[str], workspace: str | None, *, yes: bool, dry_run: bool, wait_s: float | None
) -> None:
    """Change fields of a deployment's spec, and wait for the rollout that may come of it."""
    assigning.assigned({}, texts)
    with opened(workspace) as remote:
        current = remote.deployment(name)
        service = remote.artifact(current.spec.template.artifact).spec.manifest.service
        inherited = assigning.as_the_class_says(service)

        after = deploying.valid_spec(assigning.assigned(current.spec.model_dump(), texts, inherited))
        if dry_run:
            put(difference.told("deployment", name, current.spec, after))
            return
        _ask_for_less(name, current.spec.scaling, after.scaling, yes=yes)
        _after(remote, deploying.put_told(remote, name, current, after), wait_s)


def remove(word: str, name: str, workspace: str | None, *, yes: bool, wait: bool) -> None:
    """Take a thing away, after a yes."""
    kind = kind_named(word)
    with opened(workspace) as remote:
        match kind.name:
            case "deployment":
                seen = _readable(remote, name)
                ask(f"Take deployment '{name}' away, with its revisions?", yes=yes)
                remote.delete_deployment(name, seen)
                if wait:
                    _until_gone(remote, name)
            case "secret":
                sharing.delete_secret(remote, name, yes=yes)
            case "key":
                sharing.revoke_key(remote, name, yes=yes)
            case "workspace":
                ask(f"Take workspace '{name}' away, with its keys, secrets and artifacts?", yes=yes)
                remote.delete_workspace(name)
            case "cloud":
                ask(f"Delete cloud '{name}'? Its deployments are placed in another one.", yes=yes)
                remote.delete_cloud(name)
            case "artifact":
                with suppress(UnreadableRow):
                    name = remote.artifact(name).name
                ask(f"Take artifact {plain(name)[:19]} away?", yes=yes)
                remote.delete_artifact(name)
            case _ if Verb.DELETE in kind.rights:
                ask(f"Delete {kind.name} '{name}'?", yes=yes)
                remote.delete_resource(kind, name)
            case _:
                names = ", ".join(other.name for other in KINDS.values() if Verb.DELETE in other.rights)
                raise InvalidInput(f"A {kind.name} is not deleted by hand.", hint=f"These are: {names}.")
    note(f"{kind.name} {name} is gone")


def set_cordoned(name: str, *, cordoned: bool) -> None:
    """Take a cloud out of placement, or back into it."""
    with opened() as remote:
        put_list([remote.set_cordoned(name, cordoned)], shapes.of("cloud", time.time()), Format.TABLE)


def remove_unused(word: str, workspace: str | None, *, yes: bool) -> None:
    """Take every artifact away that nothing is made of, after a yes."""
    if kind_named(word).name != "artifact":
        raise InvalidInput("--unused is for artifacts.", hint="kaon rm artifact --unused")
    ask("Take away every artifact that no deployment and no revision uses?", yes=yes)
    gone = freed_bytes = 0
    with opened(workspace) as remote:
        for artifact in remote.artifacts():
            try:
                remote.delete_artifact(artifact.name)
            except (Conflict, NotFound):  # it is used, or somebody was quicker
                continue
            gone, freed_bytes = gone + 1, freed_bytes + artifact.spec.size_bytes
    note(f"gone: {size(freed_bytes)}, artifacts: {gone}")


def _readable(remote: Remote, name: str) -> DeploymentView | None:
    """The deployment; None when it cannot be read, but is there."""
    try:
        return remote.deployment(name)
    except UnreadableRow:
        return None


def _until_gone(remote: Remote, name: str) -> None:
    """Wait until no replica of a deployment is left."""
    ends_at = time.monotonic() + _DRAIN_S
    with Progress() as progress:
        while time.monotonic() < ends_at:
            left = [replica for replica in remote.replicas() if replica.deployment == name]
            if not left:
                return
            progress.say("Draining", f"{len(left)} replica{'s' if len(left) > 1 else ''} of {name}")
            time.sleep(_LOOK_S)
    raise DeadlineExceeded(f"Replicas of '{name}' still drain.", hint="See them: kaon get replicas")


def undo(name: str, to: int | None, workspace: str | None, *, yes: bool, wait_s: float | None) -> None:
    """Go back, after showing what that changes and a yes."""
    with opened(workspace) as remote:
        current = remote.deployment(name)
        target = next((r for r in remote.revisions(name) if r.number == to), None)
        if to is not None and target is None:
            raise NotFound(f"'{name}' has no revision {to}.", hint=f"See: kaon rollout history {plain(name)}")
        if target is not None:
            after = current.spec.model_copy(update={"template": target.spec.template})
            note(difference.told("deployment", name, current.spec, after))
        ask(f"Go back to {'the revision before' if to is None else f'revision {to}'} of '{name}'?", yes=yes)
        _after(remote, remote.undo(current, to), wait_s)


def roll(name: str, verb: str, workspace: str | None, wait_s: float | None) -> None:
    """Restart, pause or resume."""
    with opened(workspace) as remote:
        _after(remote, remote.roll(remote.deployment(name), verb), wait_s)


def _after(remote: Remote, view: DeploymentView, wait_s: float | None) -> None:
    """The deployment as a table, after its rollout."""
    if wait_s is not None:
        view = until_rolled_out(remote, view.name, wait_s)
    put_list([view], shapes.of("deployment", time.time()), Format.TABLE)
