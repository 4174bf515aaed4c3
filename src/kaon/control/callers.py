"""The callers of each deployment, from keys: grants in groups, each grant once, and the groups of each deployment.

Keys that may call the same deployments are one group. So the callers in a plan grow with the number of keys and of
their scopes, not with keys times deployments.
"""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from kaon.laws.rights import effective_rights
from kaon.types import resource
from kaon.types.key import Grant, Right
from kaon.types.plan import PartAccess, expanded

CallerScope = tuple[str | None, frozenset[str] | None]
"""Workspace, None: every one; deployments, None: all."""


@dataclass(frozen=True, slots=True)
class Callers:
    """The callers of all deployments."""

    grants: Mapping[str, tuple[Grant, ...]]
    """Group -> its grants."""
    groups: Mapping[tuple[str | None, str | None], tuple[str, ...]]
    """Workspace and deployment, None: every one -> the groups that may call it."""
    made_of: tuple[tuple[str, int], ...]
    """Uids and versions of the keys."""
    until: float
    """The first expiry, epoch seconds."""
    _lists: dict[tuple[bool, tuple[str, ...]], PartAccess] = field(default_factory=dict)
    """Cached access lists, by `public` and groups."""

    def access(self, at: tuple[str, str], public: bool) -> PartAccess:
        """The access list of a deployment."""
        workspace, name = at
        places = ((None, None), (workspace, None), (None, name), (workspace, name))
        groups = tuple(group for place in places for group in self.groups.get(place, ()))
        if (public, groups) not in self._lists:
            named = expanded(PartAccess(public=public, groups=groups), self.grants)
            self._lists[public, groups] = PartAccess(public=public, groups=groups, version=named.version)
        return self._lists[public, groups]


def callers_of(keys: Sequence[resource.Key], now: float, before: Callers | None = None) -> Callers:
    """Every key with the right to call, with a grant that expires with the key or a key above it.

    Access lists of `before` whose groups have the same grants are not made again.
    """
    made_of = tuple((key.uid, key.version) for key in keys)
    if before is not None and before.made_of == made_of and now < before.until:
        return before
    by_uid = {key.uid: key for key in keys}
    scopes: defaultdict[CallerScope, list[Grant]] = defaultdict(list)
    for key in sorted(keys, key=lambda key: (key.name, key.uid)):
        held = effective_rights(key, by_uid, now)
        if Right.CALL in held.rights:
            grant = Grant(hash=key.spec.hash, key=key.name, priority=held.priority, expires_at=held.expires_at)
            scopes[held.workspace, held.deployments].append(grant)
    grants: dict[str, tuple[Grant, ...]] = {}
    groups: defaultdict[tuple[str | None, str | None], list[str]] = defaultdict(list)
    for scope, found in scopes.items():
        name = _group_name(scope)
        grants[name] = tuple(found)
        for deployment in (None,) if scope[1] is None else sorted(scope[1]):
            groups[scope[0], deployment].append(name)
    grants = dict(sorted(grants.items()))
    until = min((at for key in keys if (at := key.spec.expires_at) is not None and at > now), default=math.inf)
    made = Callers(grants, {place: tuple(sorted(names)) for place, names in groups.items()}, made_of, until)
    if before is not None:
        same = {name for name, found in grants.items() if before.grants.get(name) == found}
        made._lists.update({key: access for key, access in before._lists.items() if same.issuperset(key[1])})
    return made


def _group_name(scope: CallerScope) -> str:
    workspace, deployments = scope
    text = f"{workspace or '*'}/{'*' if deployments is None else ','.join(sorted(deployments))}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]
