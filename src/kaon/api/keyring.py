"""From the text of a key to what its holder may do, decided at the moment of use.

Keys are found by their hash in an index in memory; what the index finds is read again from the store, with
all its owners, before it counts. So a stale index can fail to find a key (then it is read anew, when the
store has moved on), but never let a revoked one in.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from kaon.api.changes import Changes
from kaon.clock import Clock
from kaon.errors import Unauthenticated, Unavailable
from kaon.laws.rights import LONGEST_LINE, Standing, standing
from kaon.store.port import Store
from kaon.types.key import Role, key_hash
from kaon.types.resource import Key

STORE_PATIENCE_S = 0.8
"""How long a caller waits for the store to say who it is, so that a dead store is a 503 within a second."""
SPARING_S = 1.0
"""How often those who sent many wrong keys make the index be read anew."""
_HINT = "Give a key by `Authorization: Bearer KEY`; `kaon key create` makes one."


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose request this is, and what it may do now."""

    name: str
    uid: str
    home: str
    """The workspace that the key itself is kept in."""
    role: Role
    standing: Standing


class UnknownKey(Unauthenticated):
    """A key that was never made: perhaps a guess."""


class Keyring:
    """All keys, by hash."""

    def __init__(self, store: Store, clock: Clock, changes: Changes) -> None:
        self._store = store
        self._clock = clock
        self._changes = changes
        self._by_hash: dict[str, tuple[str, str]] = {}
        self._by_uid: dict[str, tuple[str, str]] = {}
        self._read_at = -1
        self._caught_up_at = float("-inf")
        self._reading = asyncio.Lock()

    async def caller(self, text: str, *, sparing: bool = False) -> Caller:
        """Who holds the key. `sparing`: a key that is not in the index is looked for at most once a second in all.

        Raises `UnknownKey`, `Unauthenticated` when it is revoked or expired, `Unavailable` when the
        store does not answer in time.
        """
        try:
            async with asyncio.timeout(STORE_PATIENCE_S):
                return await self._caller(key_hash(text), sparing)
        except TimeoutError:
            raise Unavailable("The store does not answer.", hint="Try again soon.", retry_after_s=1) from None

    async def still_good(self, caller: Caller) -> bool:
        """Whether the key of `caller` has not lapsed since."""
        key = await self._by(self._by_uid, caller.uid)
        return key is not None and not (await self._standing(key)).lapsed

    async def standing_of(self, key: Key) -> Standing:
        """What `key`, just read, may do now."""
        return await self._standing(key)

    async def _caller(self, hashed: str, sparing: bool) -> Caller:
        lately = self._clock.monotonic() - self._caught_up_at < SPARING_S
        known = hashed in self._by_hash or not (sparing and lately)
        key = await self._by(self._by_hash, hashed) if known else None
        if key is None or key.spec.hash != hashed:
            raise UnknownKey("This key is not known.", hint=_HINT)
        held = await self._standing(key)
        if held.lapsed:
            raise Unauthenticated(f"This key gives no access: {held.lapsed}.", hint=_HINT)
        return Caller(key.name, key.uid, key.workspace, key.spec.role, held)

    async def _standing(self, key: Key) -> Standing:
        owners: dict[str, Key] = {}
        owner_uid = key.spec.owner_uid
        while owner_uid and len(owners) < LONGEST_LINE and owner_uid not in owners:
            owner = await self._by(self._by_uid, owner_uid)
            if owner is None:
                break
            owners[owner_uid] = owner
            owner_uid = owner.spec.owner_uid
        return standing(key, owners, self._clock.now())

    async def _by(self, index: dict[str, tuple[str, str]], value: str) -> Key | None:
        """The key as the store has it now."""
        place = index.get(value)
        if place is None:
            await self._catch_up()
            place = index.get(value)
        if place is None:
            return None
        key = await self._store.find("key", *place)
        if key is None or value not in (key.uid, key.spec.hash):
            return None
        return key

    async def _catch_up(self) -> None:
        """Read the index anew when keys may have changed since it was read.

        While the watch is up to date it knows the last change of any key, and a guess costs one cheap read.
        """
        async with self._reading:
            self._caught_up_at = self._clock.monotonic()
            newest = await self._store.version()
            changed_at = self._changes.newest("key") if self._changes.seen == newest else newest
            if self._read_at >= 0 and changed_at <= self._read_at:
                return
            keys = await self._store.list_all("key")
            self._by_hash.clear()
            self._by_uid.clear()
            for key in keys:
                self._by_hash[key.spec.hash] = self._by_uid[key.uid] = (key.workspace, key.name)
            self._read_at = newest
