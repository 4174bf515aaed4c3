"""The keys by which a deployment's services call others, and whether who answers for them is still there.

Each revision that can serve has a key of its own, `identity-NAME.REVISION`. It may call the deployments that the
revision's artifact declares (`uses`), and nothing else. The API has checked these against the key that deployed it, at
the time when it did; so the key needs no owner, goes on when that key ends, and ends with the revision. One revision
cannot use the key of another: whoever deployed the other one may have been allowed more.

An artifact of an older Kaon declares nothing. Revisions of such ones share the key `identity-NAME`, which is owned by
the key that deployed last and may call what that one may call now.

A key's text is the secret of the same name, made first; the key holds the hash of that text and is made, or corrected,
from it. So a crash between the two, or the loss of either, is healed by the next look. A deployment that was made again
under the same name gets new texts: what its predecessor held opens nothing.
"""

from __future__ import annotations

import secrets
from collections import defaultdict
from collections.abc import Collection, Iterable

from kaon.clock import Clock
from kaon.errors import ConfigError, NotFound
from kaon.laws.rights import Standing, standing
from kaon.store.port import Change, Store
from kaon.store.vault import Vault
from kaon.types import resource
from kaon.types.deployment import templates_of
from kaon.types.key import KEY_PREFIX, KeySpec, Priority, Role, identity_deployment, identity_name, key_hash
from kaon.types.resource import Deployment, Revision

_HINT_LENGTH = len(KEY_PREFIX) + 4
_DECLARATIONS_KEPT = 10_000

Place = tuple[str, str]
"""Workspace and name."""
Uses = tuple[str, ...] | None
"""What an artifact declares that it uses; None: it is of an older Kaon, which did not ask."""


class Identities:
    """The keys and secrets of all deployments' services, and the keys that own deployments."""

    def __init__(self, store: Store, vault: Vault, clock: Clock) -> None:
        self._store = store
        self._vault = vault
        self._clock = clock
        self._keys: dict[str, resource.Key] | None = None
        self._deleted: set[str] = set()
        """Uids of owners that are no more: a uid never comes back."""
        self._names: defaultdict[Place, set[str]] = defaultdict(set)
        """Of which names a deployment may have keys or secrets: at least those that it has."""
        self._declared: dict[Place, Uses] = {}
        """(Workspace, digest) -> what the artifact declares, which never changes."""

    async def deployments(self) -> Collection[Place]:
        """Every deployment that something is left of. Reads all keys and secrets."""
        await self._read_keys()
        for secret in await self._store.list_all("secret"):
            self._note(secret.workspace, secret.name)
        return list(self._names)

    async def affected(self, changes: Iterable[Change]) -> Collection[Place]:
        """The deployments whose own keys or secrets changed, and all of them when a key that may own some has ended."""
        found: set[Place] = set()
        changed = [change for change in changes if change.kind in ("key", "secret")]
        for change in changed:
            if at := self._note(change.workspace, change.name):
                found.add(at)
        if any(c.kind == "key" and identity_deployment(c.name) is None for c in changed):
            before = self._good()
            await self._read_keys()
            if before - self._good():
                found |= {(d.workspace, d.name) for d in await self._store.list_all("deployment")}
        return found

    async def owner_gone(self, deployment: Deployment) -> str:
        """Why nobody answers for a deployment any more, with the next command; empty: its owner may still act."""
        owner = await self._owner(deployment)
        if owner is None or not owner.lapsed:
            return ""
        name = deployment.spec.owner
        return f"The key '{name}' that deployed it: {owner.lapsed}. An admin can adopt it: kaon adopt {deployment.name}"

    async def ensure(self, deployment: Deployment, revisions: Iterable[Revision]) -> str:
        """Make the keys and secrets of `revisions`, or what is missing of them.

        Returns why that cannot be, or an empty text: a lost encryption key must not keep anything from running.
        Raises the store's errors.
        """
        why = ""
        for revision in revisions:
            uses = await self._uses(revision)
            name = _name(revision, uses)
            key, text, problem = await self._there(deployment, name)
            why = why or problem
            if not text:
                continue
            spec = await self._spec(deployment, revision, uses, text, key)
            if key is None:
                await self._store.create("key", deployment.workspace, name, spec)
            elif key.spec != spec:
                await self._store.update_spec(key, spec)
        return why

    async def keep(self, deployment: Deployment, revisions: Iterable[Revision]) -> None:
        """Take away the keys and secrets of all revisions but these."""
        if self._keys is None:
            await self.deployments()
        at = (deployment.workspace, deployment.name)
        kept = {_name(revision, await self._uses(revision)) for revision in revisions}
        for name in self._names.get(at, set()) - kept:
            await self._remove(at, name)

    async def clear(self, workspace: str, deployment: str) -> None:
        """Take away all keys and secrets of a deployment that is gone."""
        if self._keys is None:
            await self.deployments()
        at = (workspace, deployment)
        for name in list(self._names.get(at, ())):
            await self._remove(at, name)

    def _note(self, workspace: str, name: str) -> Place | None:
        """Remember that a key or secret of that name may exist; the deployment that it belongs to."""
        deployment = identity_deployment(name)
        if deployment is None:
            return None
        self._names[workspace, deployment].add(name)
        return workspace, deployment

    async def _read_keys(self) -> dict[str, resource.Key]:
        keys = await self._store.list_all("key")
        for key in keys:
            self._note(key.workspace, key.name)
        self._keys = {key.uid: key for key in keys}
        return self._keys

    def _good(self) -> set[str]:
        """The uids of the keys that may do something now. Services' own keys own no deployment, and are left out."""
        now, keys = self._clock.now(), self._keys or {}
        others = (key for key in keys.values() if not key.spec.deployment_uid)
        return {key.uid for key in others if not standing(key, keys, now).lapsed}

    async def _owner(self, deployment: Deployment) -> Standing | None:
        """What the key that answers for a deployment may do now; None: it is not known which one that is."""
        if not (uid := deployment.spec.owner_uid):
            return None
        keys = self._keys
        if keys is None or (uid not in keys and uid not in self._deleted):
            keys = await self._read_keys()
        if uid in keys:
            return standing(keys[uid], keys, self._clock.now())
        self._deleted.add(uid)
        return Standing(lapsed="deleted")

    async def _uses(self, revision: Revision) -> Uses:
        at = (revision.workspace, revision.spec.template.artifact)
        if at not in self._declared:
            artifact = await self._store.find("artifact", *at)
            if artifact is None:
                return None
            if len(self._declared) >= _DECLARATIONS_KEPT:
                self._declared.clear()
            self._declared[at] = artifact.spec.manifest.service.uses
        return self._declared[at]

    async def _there(self, deployment: Deployment, name: str) -> tuple[resource.Key | None, str, str]:
        """The key of a name if there is one; its text, made when there is none yet; and why it cannot be had."""
        workspace = deployment.workspace
        secret = await self._store.find("secret", workspace, name)
        key = await self._store.find("key", workspace, name)
        if secret is not None and key is not None and key.spec.deployment_uid not in ("", deployment.uid):
            await self._remove((workspace, deployment.name), name)
            secret = key = None
        self._note(workspace, name)
        if secret is None:
            text = KEY_PREFIX + secrets.token_urlsafe(32)
            await self._store.create("secret", workspace, name, self._vault.seal(workspace, name, text))
            return key, text, ""
        try:
            return key, self._vault.open(workspace, name, secret.spec), ""
        except ConfigError as error:
            return key, "", error.cause

    async def _spec(
        self, deployment: Deployment, revision: Revision, uses: Uses, text: str, key: resource.Key | None
    ) -> KeySpec:
        """What the key of a revision should say."""
        owner, priority = deployment.spec.owner, Priority.NORMAL
        if uses is not None:  # else it is followed to its owner whenever it is used
            held = await self._owner(deployment)
            ended = held is not None and bool(held.lapsed)
            priority = Priority.LOW if held and (ended or held.priority is Priority.LOW) else Priority.NORMAL
            if key is not None and (ended or revision.spec.template not in templates_of(deployment.spec)):
                owner, priority = key.spec.owner, key.spec.priority  # as whoever deployed this revision left it
        return KeySpec(
            hash=key_hash(text),
            hint=text[:_HINT_LENGTH],
            role=Role.CALLER,
            workspace=deployment.workspace,
            deployments=uses,
            owner=owner,
            owner_uid=deployment.spec.owner_uid if uses is None else "",
            priority=priority,
            deployment_uid=deployment.uid,
        )

    async def _remove(self, at: Place, name: str) -> None:
        """Take a secret and its key away; the key last, as it says whose the secret was."""
        for kind in ("secret", "key"):
            if found := await self._store.find(kind, at[0], name):
                try:
                    await self._store.delete(found)
                except NotFound:
                    pass
        names = self._names.get(at, set())
        names.discard(name)
        if not names:
            self._names.pop(at, None)


def _name(revision: Revision, uses: Uses) -> str:
    return identity_name(revision.spec.deployment, None if uses is None else revision.spec.number)
