"""The key by which a deployment's services call others.

Its text is the secret `identity-NAME`, made first; the key `identity-NAME` holds the hash of that text and
is made, or corrected, from it. So a crash between the two, or the loss of either, is healed by the next look.

It is owned by the key that deployed (`DeploymentSpec.owner_uid`), and checked like any other key when it is used: the
code may call what whoever deployed it may call, and nothing once that key has ended. A deployment that was made again
under the same name gets a new text: what its predecessor held opens nothing.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from kaon.errors import ConfigError, NotFound
from kaon.store.port import Store
from kaon.store.snapshot import Snapshot
from kaon.store.vault import Vault
from kaon.types.key import KEY_PREFIX, KeySpec, Role, key_hash
from kaon.types.resource import Deployment

PREFIX = "identity-"
_HINT_LENGTH = len(KEY_PREFIX) + 4


def identity_name(deployment: str) -> str:
    """Name of the key, and of the secret."""
    return f"{PREFIX}{deployment}"


async def ensure(store: Store, snapshot: Snapshot, vault: Vault, deployment: Deployment) -> str:
    """Make the deployment's key and secret, or what is missing of them.

    Returns why that cannot be, or an empty text: a lost encryption key must not keep anything from running.
    Raises the store's errors.
    """
    workspace, name = deployment.workspace, identity_name(deployment.name)
    secret = snapshot.find("secret", workspace, name)
    key = snapshot.find("key", workspace, name)
    if secret is not None and key is not None and key.spec.deployment_uid not in ("", deployment.uid):
        await remove(store, snapshot, workspace, deployment.name)
        secret = key = None
    if secret is None:
        text = KEY_PREFIX + secrets.token_urlsafe(32)
        await store.create("secret", workspace, name, vault.seal(workspace, name, text))
    else:
        try:
            text = vault.open(workspace, name, secret.spec)
        except ConfigError as error:
            return error.cause
    spec = _spec(text, deployment)
    if key is None:
        await store.create("key", workspace, name, spec)
    elif key.spec != spec:
        await store.update_spec(key, spec)
    return ""


def _spec(text: str, deployment: Deployment) -> KeySpec:
    return KeySpec(
        hash=key_hash(text),
        hint=text[:_HINT_LENGTH],
        role=Role.CALLER,
        workspace=deployment.workspace,
        owner=deployment.spec.owner,
        owner_uid=deployment.spec.owner_uid,
        deployment_uid=deployment.uid,
    )


async def remove(store: Store, snapshot: Snapshot, workspace: str, deployment: str) -> None:
    """Take the secret and the key of a deployment that is gone; the key last, as it says whose the secret was."""
    for kind in ("secret", "key"):
        if found := snapshot.find(kind, workspace, identity_name(deployment)):
            try:
                await store.delete(found)
            except NotFound:
                pass


def owners(names: Sequence[str]) -> list[str]:
    """The deployments that keys or secrets of such names belong to."""
    return [name.removeprefix(PREFIX) for name in names if name.startswith(PREFIX)]
