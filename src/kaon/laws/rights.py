"""The effective rights of a key: its own, within those of the keys that made it.

A key never has more rights than its owner: its rights are an intersection along the line from the key to the first one:
the rights of its role, its workspace, its deployments, its expiry. When an owner is revoked, expires or is deleted, all
keys that it made end with it, at their next use and without a change of any row.

The keys of services are the exception; they cannot give anybody more rights than the deploying key had. A service
declares which others it calls; a key that may not call these itself cannot deploy it. The service's own key may call
them and nothing else, has no owner, and so does not end with the key that deployed it. It ends with the revision that
it belongs to (`kaon.control.identity`).

Example: `root` (admin, every workspace) makes `lead` (admin of `shop`), who makes `ci` (editor of
`shop/web`). Revoking `lead` ends `ci`. `ci` may read, write and call `shop/web`, and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kaon.types.key import RIGHTS, KeySpec, Priority, Right
from kaon.types.resource import Key

LONGEST_LINE = 16
"""Longest line of owners; keys with a longer one have no rights."""


@dataclass(frozen=True, slots=True)
class EffectiveRights:
    """The rights of a key at one moment; `lapsed` is the reason when there are none."""

    rights: frozenset[Right] = frozenset()
    workspace: str | None = None
    """The only workspace; None: every one."""
    deployments: frozenset[str] | None = None
    """The only deployments; None: all of the workspace."""
    cloud: str | None = None
    """For agents: the only cloud."""
    priority: Priority = Priority.NORMAL
    """Priority of its calls; low when that of the key, or of an owner, is."""
    expires_at: float | None = None
    """When it ends, by its own expiry or an owner's, epoch seconds."""
    lapsed: str = ""

    @property
    def whole_platform(self) -> bool:
        """Whether they hold for every workspace and every deployment."""
        return self.workspace is None and self.deployments is None

    def may(self, right: Right, workspace: str, deployment: str | None = None) -> bool:
        """Whether `right` holds in `workspace`, and for that deployment if one is named."""
        return right in self.rights and self.sees(workspace, deployment)

    def sees(self, workspace: str, deployment: str | None = None) -> bool:
        """Whether that workspace, and deployment if one is named, exists for this key."""
        inside = self.workspace is None or self.workspace == workspace
        return inside and (deployment is None or self.deployments is None or deployment in self.deployments)


def effective_rights(key: Key, keys: Mapping[str, Key], now: float) -> EffectiveRights:
    """The rights of `key` at `now` (epoch seconds); `keys` has its owners by uid."""
    held = _own(key, now)
    owner_uid = key.spec.owner_uid
    for _ in range(LONGEST_LINE):
        if held.lapsed or not owner_uid:
            return held
        owner = keys.get(owner_uid)
        if owner is None:
            return EffectiveRights(lapsed="the key that made it was deleted")
        above = _own(owner, now)
        if above.lapsed:
            return EffectiveRights(lapsed=f"the key that made it is {above.lapsed}")
        held = _within(held, above)
        owner_uid = owner.spec.owner_uid
    return EffectiveRights(lapsed="too many keys made one another")


def line(key: Key, keys: Mapping[str, Key]) -> list[Key]:
    """`key`, the key that made it, and so on; `keys` has them by uid."""
    found = [key]
    while len(found) <= LONGEST_LINE and (owner := keys.get(found[-1].spec.owner_uid)):
        found.append(owner)
    return found


def grantable(holder: EffectiveRights, wanted: KeySpec) -> bool:
    """Whether a key with the rights `holder` may make a key as `wanted`: never one with more rights.

    A key with a low priority can only make keys with a low one. Others can make any, since priorities only order calls.
    """
    deployments = None if wanted.deployments is None else frozenset(wanted.deployments)
    return (
        RIGHTS[wanted.role] <= _passed_on(holder)
        and (holder.workspace is None or holder.workspace == wanted.workspace)
        and (holder.priority is not Priority.LOW or wanted.priority is Priority.LOW)
        and (holder.deployments is None or (deployments is not None and deployments <= holder.deployments))
    )


def _own(key: Key, now: float) -> EffectiveRights:
    spec: KeySpec = key.spec
    if key.status.revoked_at is not None:
        return EffectiveRights(lapsed="revoked")
    if spec.expires_at is not None and now >= spec.expires_at:
        return EffectiveRights(lapsed="expired")
    return EffectiveRights(
        rights=RIGHTS[spec.role] | ({Right.JOBS, Right.SUBMIT} if spec.jobs else set()),
        workspace=spec.workspace,
        deployments=None if spec.deployments is None else frozenset(spec.deployments),
        cloud=spec.cloud,
        priority=spec.priority,
        expires_at=spec.expires_at,
    )


def _within(held: EffectiveRights, above: EffectiveRights) -> EffectiveRights:
    """`held`, within the rights that `above` may pass on."""
    if above.workspace is not None and held.workspace != above.workspace:
        return EffectiveRights(lapsed="outside the workspace of the key that made it")
    ends = [at for at in (held.expires_at, above.expires_at) if at is not None]
    return EffectiveRights(
        rights=held.rights & _passed_on(above),
        workspace=held.workspace,
        deployments=_common(held.deployments, above.deployments),
        cloud=held.cloud,
        priority=Priority.LOW if above.priority is Priority.LOW else held.priority,
        expires_at=min(ends, default=None),
    )


def _passed_on(holder: EffectiveRights) -> frozenset[Right]:
    """The rights for keys that it makes: an admin of every workspace also makes keys of agents."""
    everywhere = Right.ADMIN in holder.rights and holder.workspace is None
    return holder.rights | {Right.AGENT} if everywhere else holder.rights


def _common(a: frozenset[str] | None, b: frozenset[str] | None) -> frozenset[str] | None:
    if a is None:
        return b
    return a if b is None else a & b
