"""`/workspaces/{ws}/secrets`: values go in and never come out."""

from __future__ import annotations

from kaon import log
from kaon.api import audit, edits
from kaon.api.checks import IDENTITY_PREFIX
from kaon.api.doors import Doors
from kaon.api.keyring import Caller
from kaon.api.parts import InWorkspace, Named, WithCaller, WithParts
from kaon.api.preconditions import WithPrecondition, hold_to
from kaon.api.problems import Unprocessable
from kaon.api.quotas import hold_to_count
from kaon.api.views import Items, SecretRequest, SecretView
from kaon.errors import Conflict, Forbidden, NotFound
from kaon.store.writes import Create, UpdateSpec
from kaon.types.deployment import templates_of
from kaon.types.key import Right
from kaon.types.resource import Deployment, Secret

doors = Doors("/workspaces/{ws}/secrets", tag="secrets")


@doors.get("", right=Right.READ)
async def list_secrets(ws: InWorkspace, parts: WithParts, caller: WithCaller) -> Items[SecretView]:
    """The secrets of a workspace: names and who gets them. A key for some deployments sees what those get."""
    found = await parts.store.list_all("secret", ws)
    deployments = [d for d in await parts.store.list_all("deployment", ws) if caller.standing.sees(ws, d.name)]
    views = [_view(s, deployments) for s in found if not s.name.startswith(IDENTITY_PREFIX)]
    return Items(items=[v for v in views if caller.standing.deployments is None or v.used_by])


@doors.put("/{name}", right=Right.WRITE)
async def put_secret(
    ws: InWorkspace,
    name: Named,
    body: SecretRequest,
    parts: WithParts,
    caller: WithCaller,
    precondition: WithPrecondition,
) -> SecretView:
    """Set a secret. Replicas that start from now on get it; `restart` gives it to all."""
    _hold_to_workspace(caller)
    _hold_to_users(name)
    value = body.value.get_secret_value()
    log.hide(value)
    sealed = parts.vault.seal(ws, name, value)

    async def attempt() -> Secret:
        current = await parts.store.find("secret", ws, name)
        await hold_to(parts, precondition, current, "secret", ws, name)
        if current is None:
            await hold_to_count(parts, "secret", ws)
            change: Create | UpdateSpec = Create("secret", ws, name, sealed)
        else:
            change = UpdateSpec(current, sealed)
        return await audit.write(parts, caller, change, "SecretSet", "Set to a new value.")

    kept = await edits.until_written(attempt)
    return _view(kept, await parts.store.list_all("deployment", ws))


@doors.delete("/{name}", right=Right.WRITE, status_code=204)
async def delete_secret(
    ws: InWorkspace, name: Named, parts: WithParts, caller: WithCaller, precondition: WithPrecondition
) -> None:
    """Forget a secret that no deployment gets."""
    _hold_to_workspace(caller)
    _hold_to_users(name)
    if await parts.store.find("secret", ws, name) is None:
        raise NotFound(f"There is no secret '{name}' in workspace '{ws}'.", hint="`kaon secret list` lists them.")
    if users := _users(name, await parts.store.list_all("deployment", ws)):
        raise Conflict(
            f"Secret '{name}' is given to {', '.join(users[:5])}.", hint="Deploy them without it first, then repeat."
        )
    await edits.delete(parts, caller, precondition, ("secret", ws, name), "SecretDeleted")


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
