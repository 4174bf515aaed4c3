"""`/workspaces/{ws}/keys`: create and revoke keys; the text of a key is shown only when it is created."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated

from fastapi import Query

from kaon.api import audit, edits
from kaon.api.collection import Collection, ReadContext
from kaon.api.context import ApiContext, Named, WithCaller, WithContext, WorkspaceParam
from kaon.api.keyring import Caller
from kaon.api.owners import owned_by
from kaon.api.preconditions import Precondition, WithPrecondition, check_precondition
from kaon.api.problems import Unprocessable
from kaon.api.quotas import check_count
from kaon.api.router import AuthorizedRouter
from kaon.api.views import KeyMade, KeyRequest, KeyView
from kaon.errors import Conflict, Forbidden, NotFound
from kaon.laws.rights import EffectiveRights, effective_rights, grantable
from kaon.store.records import unreadable_row
from kaon.store.writes import Create, Delete, UpdateStatus
from kaon.types.key import IDENTITY_PREFIX, KEY_PREFIX, KeySpec, KeyStatus, Right, key_hash
from kaon.types.kind import Verb
from kaon.types.kinds import KINDS
from kaon.types.resource import Deployment, Key, Unreadable

_HINT_CHARACTERS = len(KEY_PREFIX) + 4
router = AuthorizedRouter("/workspaces/{ws}/keys", tag="keys")


def _shown(key: Key, read: ReadContext) -> KeyView:
    keys = read.once("keys", lambda: {owner.uid: owner for owner in read.everywhere("key")})
    owned = read.once("owned", lambda: owned_by(read.everywhere("deployment"), keys.values()))
    return _view(key, effective_rights(key, keys, read.now), owned.get(key.uid, ()))


collection = Collection(
    kind=KINDS["key"],
    sees=lambda key, read: grantable(read.caller.rights, key.spec),
    view=_shown,
    special=frozenset({Verb.DELETE}),
)
"""Lists include revoked keys."""


@router.post("", right=Right.ADMIN, status_code=201)
async def create_key(ws: WorkspaceParam, body: KeyRequest, context: WithContext, caller: WithCaller) -> KeyMade:
    """Create a key. Its text is in this answer only."""
    if body.name.startswith(IDENTITY_PREFIX):
        raise Unprocessable(
            f"The prefix '{IDENTITY_PREFIX}' is reserved for the platform.", hint="Choose another name."
        )
    text = KEY_PREFIX + secrets.token_urlsafe(32)
    spec = KeySpec(
        hash=key_hash(text),
        hint=text[:_HINT_CHARACTERS],
        role=body.role,
        workspace=None if body.everywhere or body.cloud else ws,
        deployments=body.deployments,
        owner=caller.name,
        owner_uid=caller.uid,
        priority=body.priority,
        expires_at=body.expires_at,
        cloud=body.cloud,
    )
    if not grantable(caller.rights, spec):
        raise Forbidden("A key cannot have more rights than the key that creates it.", hint="See yours: kaon whoami")
    if body.expires_at is not None and body.expires_at <= context.clock.now():
        raise Unprocessable("The expiry is in the past.", hint="Give a later time.")
    made = await edits.retry_on_conflict(lambda: _create(context, caller, ws, body.name, spec))
    return KeyMade(**dict(_view(made, await context.keyring.rights_of(made))), key=text)


@router.delete("/{name}", right=Right.ADMIN, status_code=204)
async def revoke_key(
    ws: WorkspaceParam,
    name: Named,
    context: WithContext,
    caller: WithCaller,
    precondition: WithPrecondition,
    with_deployments: Annotated[
        bool, Query(description="Also delete the deployments that this key, or a key created by it, owns.")
    ] = False,
) -> None:
    """Revoke a key and every key created by it. It stays in the list until its name is used again.

    Its deployments continue to run, with the condition `OwnerGone`, until an admin adopts them.
    """

    async def attempt() -> Key | None:
        key = await _found(context, ws, name)
        if isinstance(key, Unreadable) and caller.rights.whole_platform:
            await check_precondition(context, precondition, key, "key", ws, name)
            await audit.delete(context, caller, key, "KeyDeleted", "Deleted: it could not be read.")
            return None
        if isinstance(key, Unreadable):  # it gives no access; its rights, and so who may revoke it, are unknown
            raise unreadable_row(key)
        if key is None or not grantable(caller.rights, key.spec):
            raise NotFound(f"There is no key '{name}' in workspace '{ws}'.", hint="List them: kaon key list")
        await check_precondition(context, precondition, key, "key", ws, name)
        if key.status.revoked_at is not None:
            return key
        change = UpdateStatus(key, KeyStatus(revoked_at=context.clock.now()))
        orphans = "" if with_deployments else _without_owner(await _owned(context, key))
        await audit.write(context, caller, change, "KeyRevoked", f"Revoked.{orphans}")
        return key

    key = await edits.retry_on_conflict(attempt)
    # The key is revoked first, so that it cannot deploy any more while its deployments are deleted.
    for deployment in await _owned(context, key) if key and with_deployments else ():
        await _delete(context, caller, deployment)


async def _found(context: ApiContext, ws: str, name: str) -> Key | Unreadable | None:
    try:
        found: Key | Unreadable = await edits.get_any(context.store, ("key", ws, name))
    except NotFound:
        return None
    return found


async def _delete(context: ApiContext, caller: Caller, deployment: Deployment) -> None:
    place = "deployment", deployment.workspace, deployment.name
    with suppress(NotFound):
        await edits.delete(context, caller, Precondition(), place, "Deleted", "Deleted with the key that deployed it.")


async def _owned(context: ApiContext, key: Key) -> Sequence[Deployment]:
    await context.snapshot.at_least(context.store.written)
    return owned_by(context.snapshot.list("deployment"), context.snapshot.list("key")).get(key.uid, [])


def _without_owner(deployments: Sequence[Deployment]) -> str:
    """The sentence about deployments that lose their owner."""
    names = [f"{d.workspace}/{d.name}" for d in deployments]
    if not names:
        return ""
    shown = [*names[:5], *([f"and {len(names) - 5} more"] if len(names) > 5 else [])]
    return f" These have no owner until an admin adopts them: {', '.join(shown)}."


async def _create(context: ApiContext, caller: Caller, ws: str, name: str, spec: KeySpec) -> Key:
    """Create the key; a revoked one of the same name is deleted."""
    old: Key | None = await context.store.find("key", ws, name)
    if old is not None and old.status.revoked_at is None:
        raise _Taken(f"A key '{name}' exists already.", hint=f"Choose another name, or: kaon key revoke {name}")
    if old is None:
        await check_count(context, "key", ws)
    first = [] if old is None else [Delete(old)]
    message = f"Created, with role {spec.role.value}."
    return await audit.write(context, caller, Create("key", ws, name, spec), "KeyMade", message, first=first)


class _Taken(Conflict):
    """The name is in use; retrying does not help."""


def _view(key: Key, rights: EffectiveRights, owns: Sequence[Deployment] = ()) -> KeyView:
    spec: KeySpec = key.spec
    return KeyView(
        name=key.name,
        workspace=spec.workspace,
        hint=spec.hint,
        role=spec.role,
        deployments=spec.deployments,
        priority=rights.priority if not rights.lapsed else spec.priority,
        cloud=spec.cloud,
        owner=spec.owner,
        created_at=key.created_at,
        expires_at=spec.expires_at,
        revoked_at=key.status.revoked_at,
        state=rights.lapsed or "active",
        owns=[d.name if d.workspace == key.workspace else f"{d.workspace}/{d.name}" for d in owns],
    )
