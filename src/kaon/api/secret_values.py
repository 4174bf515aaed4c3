"""`/workspaces/{ws}/secrets`: values go in and never come out."""

from __future__ import annotations

from kaon import log
from kaon.api import audit, edits
from kaon.api.checks import IDENTITY_PREFIX
from kaon.api.collection import Collection, Look
from kaon.api.doors import Doors
from kaon.api.keyring import Caller
from kaon.api.parts import InWorkspace, Named, WithCaller, WithParts
from kaon.api.problems import Unprocessable
from kaon.api.quotas import hold_to_count
from kaon.api.views import SecretRequest, SecretView
from kaon.errors import Conflict, Forbidden, NotFound
from kaon.types.deployment import templates_of
from kaon.types.key import Right
from kaon.types.kind import Verb
from kaon.types.kinds import KINDS
from kaon.types.resource import Deployment, Secret

doors = Doors("/workspaces/{ws}/secrets", tag="secrets")


def _sees(secret: Secret, look: Look) -> bool:
    """A key for some deployments sees what those get."""
    if secret.name.startswith(IDENTITY_PREFIX):
        return False
    return look.caller.standing.deployments is None or bool(_users(secret.name, _deployments(look)))


def _deployments(look: Look) -> list[Deployment]:
    return [d for d in look.all("deployment") if look.caller.standing.sees(look.workspace, d.name)]


collection = Collection(
    kind=KINDS["secret"],
    sees=_sees,
    view=lambda secret, look: _view(secret, _deployments(look)),
    special=frozenset({Verb.PUT, Verb.DELETE}),
)


@doors.put("/{name}", right=Right.WRITE)
async def put_secret(
    ws: InWorkspace, name: Named, body: SecretRequest, parts: WithParts, caller: WithCaller
) -> SecretView:
    """Set a secret. Replicas that start from now on get it; `restart` gives it to all."""
    _hold_to_workspace(caller)
    _hold_to_users(name)
    value = body.value.get_secret_value()
    log.hide(value)
    sealed = parts.vault.seal(ws, name, value)

    async def attempt() -> Secret:
        current = await parts.store.find("secret", ws, name)
        if current is None:
            await hold_to_count(parts, "secret", ws)
            return await parts.store.create("secret", ws, name, sealed)
        return await parts.store.update_spec(current, sealed)

    kept = await edits.until_written(attempt)
    await audit.note(
        parts, caller, workspace=ws, kind="secret", name=name, reason="SecretSet", message="Set to a new value."
    )
    return _view(kept, await parts.store.list_all("deployment", ws))


@doors.delete("/{name}", right=Right.WRITE, status_code=204)
async def delete_secret(ws: InWorkspace, name: Named, parts: WithParts, caller: WithCaller) -> None:
    """Forget a secret that no deployment gets."""
    _hold_to_workspace(caller)
    _hold_to_users(name)
    if await parts.store.find("secret", ws, name) is None:
        raise NotFound(f"There is no secret '{name}' in workspace '{ws}'.", hint="`kaon secret list` lists them.")
    if users := _users(name, await parts.store.list_all("deployment", ws)):
        raise Conflict(
            f"Secret '{name}' is given to {', '.join(users[:5])}.", hint="Deploy them without it first, then repeat."
        )
    await edits.remove(parts.store, "secret", ws, name)
    await audit.note(parts, caller, workspace=ws, kind="secret", name=name, reason="SecretDeleted", message="Deleted.")


def _hold_to_workspace(caller: Caller) -> None:
    """Secrets are the workspace's: another deployment may get the same one."""
    if caller.standing.deployments is not None:
        raise Forbidden("This key is for some deployments only.", hint="Use a key for the whole workspace.")


def _hold_to_users(name: str) -> None:
    if name.startswith(IDENTITY_PREFIX):
        raise Unprocessable(
            f"Secrets that begin with '{IDENTITY_PREFIX}' belong to the platform.", hint="Choose another name."
        )


def _users(secret: str, deployments: list[Deployment]) -> list[str]:
    return [d.name for d in deployments if any(secret in t.secrets.values() for t in templates_of(d.spec))]


def _view(secret: Secret, deployments: list[Deployment]) -> SecretView:
    return SecretView(
        name=secret.name,
        workspace=secret.workspace,
        version=secret.version,
        created_at=secret.created_at,
        updated_at=secret.updated_at,
        used_by=_users(secret.name, deployments),
    )
