"""`/workspaces/{ws}/keys`: made once, shown once, revoked at once."""

from __future__ import annotations

import secrets

from kaon.api import audit, edits
from kaon.api.checks import IDENTITY_PREFIX
from kaon.api.doors import Doors
from kaon.api.keyring import Caller
from kaon.api.parts import InWorkspace, Named, Parts, WithCaller, WithParts
from kaon.api.preconditions import WithPrecondition, hold_to
from kaon.api.problems import Unprocessable
from kaon.api.quotas import hold_to_count
from kaon.api.views import Items, KeyMade, KeyRequest, KeyView
from kaon.errors import Conflict, Forbidden, NotFound
from kaon.laws.rights import grantable
from kaon.store.writes import Create, Delete, UpdateStatus
from kaon.types.key import KEY_PREFIX, KeySpec, KeyStatus, Right, key_hash
from kaon.types.resource import Key

_HINT_CHARACTERS = len(KEY_PREFIX) + 4
_OTHER_NAME = "Choose another name."
doors = Doors("/workspaces/{ws}/keys", tag="keys")


@doors.get("", right=Right.ADMIN)
async def list_keys(ws: InWorkspace, parts: WithParts, caller: WithCaller) -> Items[KeyView]:
    """The keys of a workspace, those that gave up their access included."""
    found = await parts.store.list_all("key", ws)
    return Items(items=[await _view(parts, key) for key in found if grantable(caller.standing, key.spec)])


@doors.post("", right=Right.ADMIN, status_code=201)
async def create_key(ws: InWorkspace, body: KeyRequest, parts: WithParts, caller: WithCaller) -> KeyMade:
    """Make a key. The answer is the only place where it can ever be seen."""
    if body.name.startswith(IDENTITY_PREFIX):
        raise Unprocessable(f"Keys that begin with '{IDENTITY_PREFIX}' belong to the platform.", hint=_OTHER_NAME)
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
    if not grantable(caller.standing, spec):
        raise Forbidden("A key can never do more than the key that makes it.", hint="Ask for less: `kaon whoami`.")
    if body.expires_at is not None and body.expires_at <= parts.clock.now():
        raise Unprocessable("This key would have expired already.", hint="Give a later time.")
    made = await edits.until_written(lambda: _create(parts, caller, ws, body.name, spec))
    return KeyMade(**dict(await _view(parts, made)), key=text)


@doors.delete("/{name}", right=Right.ADMIN, status_code=204)
async def revoke_key(
    ws: InWorkspace, name: Named, parts: WithParts, caller: WithCaller, precondition: WithPrecondition
) -> None:
    """End a key, and with it every key that it made. It stays in the list until its name is used again.

    The services of what it deployed go on, but may call no others until another key deploys them.
    """

    async def attempt() -> None:
        key: Key | None = await parts.store.find("key", ws, name)
        if key is None or not grantable(caller.standing, key.spec):
            raise NotFound(f"There is no key '{name}' in workspace '{ws}'.", hint="`kaon key list` lists them.")
        await hold_to(parts, precondition, key, "key", ws, name)
        if key.status.revoked_at is not None:
            return
        change = UpdateStatus(key, KeyStatus(revoked_at=parts.clock.now()))
        await audit.write(parts, caller, change, "KeyRevoked", f"Revoked.{await _deployed_by(parts, key)}")

    await edits.until_written(attempt)


async def _deployed_by(parts: Parts, key: Key) -> str:
    """Which deployments lose the right to call others with it, in a sentence."""
    found = await parts.store.list_all("deployment", key.spec.workspace)
    names = sorted(f"{d.workspace}/{d.name}" for d in found if d.spec.owner_uid == key.uid)
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f" Until another key deploys them, these call no others: {', '.join(names[:5])}{more}." if names else ""


async def _create(parts: Parts, caller: Caller, ws: str, name: str, spec: KeySpec) -> Key:
    """The new key; the name of a revoked one is free again."""
    old: Key | None = await parts.store.find("key", ws, name)
    if old is not None and old.status.revoked_at is None:
        raise _Taken(f"A key '{name}' exists already.", hint=f"Choose another name, or: kaon key revoke {name}")
    if old is None:
        await hold_to_count(parts, "key", ws)
    first = [] if old is None else [Delete(old)]
    message = f"Made, with role {spec.role.value}."
    return await audit.write(parts, caller, Create("key", ws, name, spec), "KeyMade", message, first=first)


class _Taken(Conflict):
    """A name in use, which trying again does not free."""


async def _view(parts: Parts, key: Key) -> KeyView:
    spec: KeySpec = key.spec
    held = await parts.keyring.standing_of(key)
    return KeyView(
        name=key.name,
        workspace=spec.workspace,
        hint=spec.hint,
        role=spec.role,
        deployments=spec.deployments,
        priority=held.priority if not held.lapsed else spec.priority,
        cloud=spec.cloud,
        owner=spec.owner,
        created_at=key.created_at,
        expires_at=spec.expires_at,
        revoked_at=key.status.revoked_at,
        state=held.lapsed or "active",
    )
