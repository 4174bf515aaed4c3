"""The keys with which a deployment's services call others, and whether their owner still exists.

Each revision that can serve has a key of its own, `identity-NAME.REVISION`. It may call the deployments that the
revision's artifact declares (`uses`), and nothing else. The API has checked these against the key that deployed it, at
the time when it did; so the key needs no owner, goes on when that key ends, and ends with the revision. A
revision cannot use the key of another one, which may have been deployed with more rights.

An artifact of an older Kaon declares nothing. Revisions of such artifacts share the key `identity-NAME`, which is owned
by the key that deployed last and may call what that one may call now.

A key's text is the secret of the same name, made first; the key holds the hash of that text and is made, or corrected,
from it. So a crash between the two, or the loss of either, is healed by the next look. A deployment that was made again
under the same name gets new texts: what its predecessor held opens nothing.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterable

from kaon.clock import Clock
from kaon.errors import ConfigError, KaonError, NotFound
from kaon.laws.rights import EffectiveRights, effective_rights
from kaon.store.port import AnyResource, Change, Store
from kaon.store.snapshot import Snapshot
from kaon.store.vault import Vault
from kaon.types import resource
from kaon.types.deployment import templates_of
from kaon.types.key import KEY_PREFIX, KeySpec, Priority, Role, identity_deployment, identity_name, key_hash
from kaon.types.names import DeploymentKey
from kaon.types.resource import Deployment, Revision, Unreadable

_HINT_LENGTH = len(KEY_PREFIX) + 4
_KINDS = ("secret", "key")
"""The key is deleted after the secret, since it names the owner of the secret."""

Uses = tuple[str, ...] | None
"""The services that an artifact declares to use; None: built by an older Kaon without declarations."""


class Identities:
    """The keys and secrets of all deployments' services. The caller brings the snapshot up to date."""

    def __init__(self, store: Store, snapshot: Snapshot, vault: Vault, clock: Clock) -> None:
        self._store = store
        self._snapshot = snapshot
        self._vault = vault
        self._clock = clock

    def deployments(self) -> set[DeploymentKey]:
        """Every deployment with a key or secret, including deleted ones."""
        there = (each for kind in _KINDS for each in self._snapshot.list(kind))
        return {(each.workspace, name) for each in there if (name := identity_deployment(each.name))}

    def affected(self, change: Change) -> set[DeploymentKey]:
        """The deployment whose own key or secret changed, or those whose owner a revoked or deleted key was."""
        if (name := identity_deployment(change.name)) is not None:
            return {(change.workspace, name)}
        if change.kind != "key":
            return set()
        if change.resource is None or isinstance(change.resource, Unreadable):
            return {_place(deployment) for deployment in self._snapshot.list("deployment")}
        return self._owned_by(change.resource) if change.resource.status.revoked_at is not None else set()

    def _owned_by(self, key: AnyResource) -> set[DeploymentKey]:
        """The deployments owned by a key, or by keys below it."""
        uids, found = [key.uid], set[DeploymentKey]()
        for uid in uids:
            found |= {_place(deployment) for deployment in self._snapshot.owned("deployment", uid)}
            uids += [made.uid for made in self._snapshot.owned("key", uid) if made.uid not in uids]
        return found

    def owner_gone(self, deployment: Deployment) -> str:
        """Why a deployment has no owner any more, with the next command; empty: its owner is valid."""
        owner = self._owner(deployment)
        if owner is None or not owner.lapsed:
            return ""
        name, key = deployment.name, deployment.spec.owner
        return f"Its owner, key '{key}', gives no access: {owner.lapsed}. An admin can adopt it: kaon adopt {name}"

    async def ensure(self, deployment: Deployment, revisions: Iterable[Revision]) -> str:
        """Create missing keys and secrets of `revisions`.

        Returns why that cannot be, or an empty text: neither a lost encryption key nor an artifact that cannot be read
        must keep anything from running. Raises the store's errors.
        """
        problems = []
        for revision in revisions:
            try:
                await self._ensure(deployment, revision, self._uses(revision))
            except _CannotBeHad as problem:
                problems.append(problem.cause)
        return problems[0] if problems else ""

    async def keep(self, deployment: Deployment, running: Collection[Revision]) -> None:
        """Delete the keys and secrets of all other revisions, and those of an earlier deployment of the name."""
        kept = {name for revision in running for name in self._possible_names(revision)}
        for found in self._of(*_place(deployment)):
            if found.name not in kept:
                await self._delete(found)

    async def clear(self, workspace: str, deployment: str) -> None:
        """Delete all keys and secrets of a deleted deployment."""
        for found in self._of(workspace, deployment):
            await self._delete(found)

    def _of(self, workspace: str, deployment: str) -> list[AnyResource]:
        return [each for kind in _KINDS for each in self._snapshot.of_deployment(workspace, deployment, kind)]

    def _owner(self, deployment: Deployment) -> EffectiveRights | None:
        """The current rights of a deployment's owner; None: unknown owner."""
        if not (uid := deployment.spec.owner_uid):
            return None
        owner = self._snapshot.with_uid("key", uid)
        if owner is None:
            return EffectiveRights(lapsed="deleted")
        return effective_rights(owner, self._snapshot.makers(owner), self._clock.now())

    def _uses(self, revision: Revision) -> Uses:
        try:
            artifact = self._snapshot.find("artifact", revision.workspace, revision.spec.template.artifact)
        except KaonError as error:
            raise _CannotBeHad(error.cause) from None
        return artifact.spec.manifest.service.uses if artifact else None

    def _possible_names(self, revision: Revision) -> set[str]:
        """The name of a revision's key; both possible names when its artifact cannot be read."""
        try:
            return {_name(revision, self._uses(revision))}
        except _CannotBeHad:
            return {_name(revision, None), _name(revision, ())}

    async def _ensure(self, deployment: Deployment, revision: Revision, uses: Uses) -> None:
        workspace, name = deployment.workspace, _name(revision, uses)
        secret = self._snapshot.find("secret", workspace, name)
        key = self._snapshot.find("key", workspace, name)
        if secret is not None and key is not None and key.spec.deployment_uid not in ("", deployment.uid):
            await self._delete(secret)
            await self._delete(key)
            secret = key = None
        if secret is None:
            text = KEY_PREFIX + secrets.token_urlsafe(32)
            await self._store.create("secret", workspace, name, self._vault.seal(workspace, name, text))
        else:
            try:
                text = self._vault.open(workspace, name, secret.spec)
            except ConfigError as error:
                raise _CannotBeHad(error.cause) from None
        spec = self._spec(deployment, revision, uses, text, key)
        if key is None:
            await self._store.create("key", workspace, name, spec)
        elif key.spec != spec:
            await self._store.update_spec(key, spec)

    def _spec(
        self, deployment: Deployment, revision: Revision, uses: Uses, text: str, key: resource.Key | None
    ) -> KeySpec:
        """The desired spec of a revision's key."""
        owner, priority = deployment.spec.owner, Priority.NORMAL
        if uses is not None:  # otherwise its owner is looked up at each use
            held = self._owner(deployment)
            ended = held is not None and bool(held.lapsed)
            priority = Priority.LOW if held and (ended or held.priority is Priority.LOW) else Priority.NORMAL
            if key is not None and (ended or revision.spec.template not in templates_of(deployment.spec)):
                owner, priority = key.spec.owner, key.spec.priority  # unchanged since the revision was deployed
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
            jobs=uses is not None and self._may_submit(deployment, revision, key),
        )

    def _may_submit(self, deployment: Deployment, revision: Revision, key: resource.Key | None) -> bool:
        """Whether a revision's key submits jobs: its artifact has some, and its owner acts in the whole workspace."""
        owner = self._owner(deployment)
        if owner is not None and owner.lapsed:
            return key is not None and key.spec.jobs  # unchanged since the revision was deployed
        if owner is not None and owner.deployments is not None:
            return False
        artifact = self._snapshot.find("artifact", revision.workspace, revision.spec.template.artifact)
        return artifact is not None and bool(artifact.spec.manifest.jobs)

    async def _delete(self, found: AnyResource) -> None:
        try:
            await self._store.delete(found)
        except NotFound:
            pass


class _CannotBeHad(KaonError):
    """A key's text or its purpose is unknown."""


def _name(revision: Revision, uses: Uses) -> str:
    return identity_name(revision.spec.deployment, None if uses is None else revision.spec.number)


def _place(deployment: Deployment | AnyResource) -> DeploymentKey:
    return deployment.workspace, deployment.name
