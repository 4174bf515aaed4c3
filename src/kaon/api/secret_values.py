"""`/workspaces/{ws}/secrets`: values are written and never read."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from kaon import log
from kaon.api import audit, edits
from kaon.api.collection import Collection, ReadContext
from kaon.api.context import ApiContext, Named, WithCaller, WithContext, WorkspaceParam
from kaon.api.keyring import Caller
from kaon.api.preconditions import WithPrecondition, check_precondition
from kaon.api.problems import Unprocessable
from kaon.api.quotas import check_count
from kaon.api.router import AuthorizedRouter
from kaon.api.views import SecretRequest, SecretView
from kaon.errors import Conflict, Forbidden, NotFound
from kaon.store.writes import Create, UpdateSpec
from kaon.types.deployment import in_use, templates_of
from kaon.types.key import IDENTITY_PREFIX, Right
from kaon.types.kind import Verb
from kaon.types.kinds import KINDS
from kaon.types.resource import Secret

router = AuthorizedRouter("/workspaces/{ws}/secrets", tag="secrets")


def _users_at(read: ReadContext) -> _Users:
    return read.once("users", lambda: _users(read.context, read.workspace, read.caller))


def _sees(secret: Secret, read: ReadContext) -> bool:
    """A key for some deployments sees the secrets that these use."""
    if secret.name.startswith(IDENTITY_PREFIX):
        return False
    users = _users_at(read)
    return read.caller.rights.deployments is None or secret.name in users.running or secret.name in users.kept


collection = Collection(
    kind=KINDS["secret"],
    sees=_sees,
    view=lambda secret, read: _view(secret, _users_at(read)),
    special=frozenset({Verb.PUT, Verb.DELETE}),
)


@router.put("/{name}", right=Right.WRITE)
async def put_secret(
    ws: WorkspaceParam,
    name: Named,
    body: SecretRequest,
    context: WithContext,
    caller: WithCaller,
    precondition: WithPrecondition,
) -> SecretView:
    """Set a secret. Replicas that start from now on get the value; `restart` gives it to all."""
    _check_workspace(caller)
    _check_name(name)
    value = body.value.get_secret_value()
    log.hide(value)
    sealed = context.vault.seal(ws, name, value)

    async def attempt() -> Secret:
        current = await context.store.find("secret", ws, name)
        await check_precondition(context, precondition, current, "secret", ws, name)
        if current is None:
            await check_count(context, "secret", ws)
            change: Create | UpdateSpec = Create("secret", ws, name, sealed)
        else:
            change = UpdateSpec(current, sealed)
        return await audit.write(context, caller, change, "SecretSet", "Set to a new value.")

    kept = await edits.retry_on_conflict(attempt)
    return _view(kept, _users(context, ws, caller))


@router.delete("/{name}", right=Right.WRITE, status_code=204)
async def delete_secret(
    ws: WorkspaceParam, name: Named, context: WithContext, caller: WithCaller, precondition: WithPrecondition
) -> None:
    """Delete a secret that no revision uses which runs or may start by itself.

    A revision that only `undo` could bring back does not prevent it: such an undo is refused until it is set again.
    """
    _check_workspace(caller)
    _check_name(name)
    try:
        await edits.get_any(context.store, ("secret", ws, name))
    except NotFound:
        raise NotFound(
            f"There is no secret '{name}' in workspace '{ws}'.", hint="List them: kaon secret list"
        ) from None
    users = _users(context, ws, caller)
    if used_by := users.running.get(name):
        raise Conflict(
            f"Secret '{name}' is used by {', '.join(used_by[:5])}.",
            hint="Deploy them without it, wait until no revision with it runs, then repeat.",
        )
    unreadable = (row for kind in ("deployment", "revision") for row in context.snapshot.unreadable(kind))
    if row := next((row for row in unreadable if row.workspace == ws), None):
        raise Conflict(
            f"The {row.kind} '{row.name}' cannot be read and may use it.",
            hint=f"Delete that first: kaon rm {row.name.rpartition('-')[0] if row.kind == 'revision' else row.name}",
        )
    needed = f" Needed to go back to: {', '.join(kept[:5])}." if (kept := users.kept.get(name)) else ""
    await edits.delete(context, caller, precondition, ("secret", ws, name), "SecretDeleted", f"Deleted.{needed}")


def _check_workspace(caller: Caller) -> None:
    """Secrets belong to the workspace: other deployments may use the same one."""
    if caller.rights.deployments is not None:
        raise Forbidden("This key is for some deployments only.", hint="Use a key for the whole workspace.")


def _check_name(name: str) -> None:
    if name.startswith(IDENTITY_PREFIX):
        raise Unprocessable(
            f"Secrets that begin with '{IDENTITY_PREFIX}' belong to the platform.", hint="Choose another name."
        )


@dataclass(frozen=True, slots=True)
class _Users:
    """The users of each secret, by its name."""

    running: dict[str, list[str]]
    """Deployments that use it in their spec, or in a revision that runs or may start by itself."""
    kept: dict[str, list[str]]
    """Earlier revisions that would use it after an undo."""


def _users(context: ApiContext, ws: str, caller: Caller) -> _Users:
    """The users of secrets among the deployments that `caller` sees."""
    deployments = {d.name: d for d in context.snapshot.list("deployment", ws) if caller.rights.sees(ws, d.name)}
    running: defaultdict[str, dict[str, None]] = defaultdict(dict)
    kept: defaultdict[str, list[str]] = defaultdict(list)
    for name, deployment in deployments.items():
        for template in templates_of(deployment.spec):
            for secret in template.secrets.values():
                running[secret][name] = None
    for revision in context.snapshot.list("revision", ws):
        spec = revision.spec
        owner = deployments.get(spec.deployment)
        if owner is None or spec.deployment_uid not in ("", owner.uid):
            continue
        for secret in dict.fromkeys(spec.template.secrets.values()):
            if spec.number in in_use(owner.status.rollout):
                running[secret][owner.name] = None
            else:
                kept[secret].append(f"{owner.name} revision {spec.number}")
    return _Users({secret: list(names) for secret, names in running.items()}, dict(kept))


def _view(secret: Secret, users: _Users) -> SecretView:
    return SecretView(
        name=secret.name,
        workspace=secret.workspace,
        version=secret.version,
        created_at=secret.created_at,
        updated_at=secret.updated_at,
        used_by=users.running.get(secret.name, []),
        kept_by=users.kept.get(secret.name, []),
    )
