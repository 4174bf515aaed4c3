"""From the text of a key to its caller and rights, computed on every use.

Keys are found by their hash in the snapshot, once it has all earlier writes: a key that was revoked or deleted on any
server gives no access from then on. An unknown key costs one small read of the store, shared by simultaneous requests.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from kaon.clock import Clock
from kaon.errors import Unauthenticated, Unavailable
from kaon.laws.rights import EffectiveRights, effective_rights
from kaon.store.snapshot import Snapshot
from kaon.types.key import Role, key_hash
from kaon.types.resource import Key

STORE_PATIENCE_S = 5.0
"""How long a caller waits for the store to confirm its key. A store that fails is a 503 at once; this limit is for one
that hangs. A busy machine may take over a second, and what is in memory is no substitute: the key may be revoked."""
_HINT = "Send a valid key as `Authorization: Bearer KEY`; create one: kaon key create NAME"


@dataclass(frozen=True, slots=True)
class Caller:
    """The key of a request, and its rights at this moment."""

    name: str
    uid: str
    home: str
    """The workspace in which the key itself is stored."""
    role: Role
    rights: EffectiveRights
    address: str = ""
    """The address of the client."""
    verb: str = ""
    """The verb of the route, for the audit log."""


class UnknownKey(Unauthenticated):
    """No such key exists: perhaps a guess."""


class Keyring:
    """All keys."""

    def __init__(self, snapshot: Snapshot, clock: Clock) -> None:
        self._snapshot = snapshot
        self._clock = clock

    async def caller(self, text: str) -> Caller:
        """The caller with this key. The snapshot is up to date afterwards.

        Raises `UnknownKey`, `Unauthenticated` when it is revoked or expired, `Unavailable` when the
        store does not answer in time.
        """
        await self._update()
        key = self._snapshot.key_of_hash(key_hash(text))
        if key is None:
            raise UnknownKey("This key does not exist.", hint=_HINT)
        rights = self._rights(key)
        if rights.lapsed:
            raise Unauthenticated(f"This key gives no access: {rights.lapsed}.", hint=_HINT)
        return Caller(key.name, key.uid, key.workspace, key.spec.role, rights)

    async def is_valid(self, caller: Caller) -> bool:
        """Whether the key of `caller` still gives access. Raises `Unavailable`."""
        await self._update()
        key = self._snapshot.with_uid("key", caller.uid)
        return key is not None and not self._rights(key).lapsed

    async def rights_of(self, key: Key) -> EffectiveRights:
        """The current rights of `key`."""
        return self._rights(key)

    async def _update(self) -> None:
        try:
            async with asyncio.timeout(STORE_PATIENCE_S):
                await self._snapshot.current()
        except TimeoutError:
            raise Unavailable("The store does not answer.", hint="Try again in a moment.", retry_after_s=1) from None

    def _rights(self, key: Key) -> EffectiveRights:
        return effective_rights(key, self._snapshot.makers(key), self._clock.now())
