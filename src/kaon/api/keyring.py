"""From the text of a key to what its holder may do, decided at the moment of use.

Keys are found by their hash in the snapshot, after it has taken in all that was written before the request came: a key
that was revoked or deleted lets nobody in from then on, whichever server that was asked of. A wrong key costs one small
read of the store, which those who come at the same time share.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from kaon.clock import Clock
from kaon.errors import Unauthenticated, Unavailable
from kaon.laws.rights import EffectiveRights, standing
from kaon.store.snapshot import Snapshot
from kaon.types.key import Role, key_hash
from kaon.types.resource import Key

STORE_PATIENCE_S = 0.8
"""How long a caller waits for the store to say who it is, so that a dead store is a 503 within a second."""
_HINT = "Give a key by `Authorization: Bearer KEY`; `kaon key create` makes one."


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose request this is, and what it may do now."""

    name: str
    uid: str
    home: str
    """The workspace that the key itself is kept in."""
    role: Role
    rights: EffectiveRights
    address: str = ""
    """Where the request came from."""
    verb: str = ""
    """What it asks for."""


class UnknownKey(Unauthenticated):
    """A key that was never made: perhaps a guess."""


class Keyring:
    """All keys."""

    def __init__(self, snapshot: Snapshot, clock: Clock) -> None:
        self._snapshot = snapshot
        self._clock = clock

    async def caller(self, text: str) -> Caller:
        """Who holds the key. The snapshot is up to date afterwards.

        Raises `UnknownKey`, `Unauthenticated` when it is revoked or expired, `Unavailable` when the
        store does not answer in time.
        """
        await self._update()
        key = self._snapshot.key_of_hash(key_hash(text))
        if key is None:
            raise UnknownKey("This key is not known.", hint=_HINT)
        held = self._rights(key)
        if held.lapsed:
            raise Unauthenticated(f"This key gives no access: {held.lapsed}.", hint=_HINT)
        return Caller(key.name, key.uid, key.workspace, key.spec.role, held)

    async def is_valid(self, caller: Caller) -> bool:
        """Whether the key of `caller` has not lapsed since. Raises `Unavailable`."""
        await self._update()
        key = self._snapshot.with_uid("key", caller.uid)
        return key is not None and not self._rights(key).lapsed

    async def rights_of(self, key: Key) -> EffectiveRights:
        """What `key`, just read, may do now."""
        return self._rights(key)

    async def _update(self) -> None:
        try:
            async with asyncio.timeout(STORE_PATIENCE_S):
                await self._snapshot.current()
        except TimeoutError:
            raise Unavailable("The store does not answer.", hint="Try again soon.", retry_after_s=1) from None

    def _rights(self, key: Key) -> EffectiveRights:
        return standing(key, self._snapshot.makers(key), self._clock.now())
