"""Who may call: the caller's key against the replica's own list, so that it is closed even around the edge."""

from __future__ import annotations

from collections.abc import Callable

from kaon.clock import Clock
from kaon.errors import Unauthenticated
from kaon.types.key import Access, Grant, key_hash

_CACHE_BOUND = 1024
ANYBODY = Grant(hash="", key="")
"""Who calls a public deployment: no key, so that all are one."""
_HINT = "Send 'Authorization: Bearer KEY'; `kaon key create` makes a key."
_EXPIRED_HINT = "Ask for a new key: `kaon key create`."


class AccessList:
    """Checks keys against an `Access`.

    Headers that were good are remembered, so that a key is hashed once; what was refused is not, so strangers
    cannot crowd out callers. Expiry is looked at every time.
    """

    def __init__(self, access: Access, clock: Clock) -> None:
        self.clock = clock
        self._known: dict[bytes, Grant] = {}
        self._grants: dict[str, Grant] = {}
        self.public = False
        self.version = ""
        """Of the access list in force, as whoever gave it out calls it."""
        self.on_change: Callable[[], None] = _nothing
        """Called when another list is in force."""
        self.put(access)

    def put(self, access: Access) -> None:
        """Let `access` be in force from the next request on."""
        self.public = access.public
        self.version = access.named().version
        self._grants = {grant.hash: grant for grant in access.grants}
        self._known.clear()
        self.on_change()

    def objection(self, grant: Grant) -> Unauthenticated | None:
        """Why a caller who was let in by `grant` would not be let in now; None: it would."""
        if self.public:
            return None
        now = self._grants.get(grant.hash)
        if now is None:
            return Unauthenticated("The key was revoked, or may not call this any more.", hint=_HINT)
        if now.expires_at is not None and self.clock.now() >= now.expires_at:
            return Unauthenticated("The key has expired.", hint=_EXPIRED_HINT)
        return None

    def check(self, authorization: bytes | None) -> Grant:
        """The caller's grant; `ANYBODY` at a public deployment. Raises Unauthenticated."""
        if self.public:
            return ANYBODY
        if authorization is None:
            raise Unauthenticated("The request has no key.", hint=_HINT)
        grant = self._known.get(authorization) or self._find(authorization)
        if grant.expires_at is not None and self.clock.now() >= grant.expires_at:
            raise Unauthenticated("The key has expired.", hint=_EXPIRED_HINT)
        return grant

    def _find(self, authorization: bytes) -> Grant:
        scheme, _, key = authorization.partition(b" ")
        if scheme.lower() != b"bearer":
            raise Unauthenticated("The Authorization header is not of the form 'Bearer KEY'.", hint=_HINT)
        # The look-up is by the key's hash: how long it takes tells nothing about the key itself.
        grant = self._grants.get(key_hash(key.strip().decode("latin-1")))
        if grant is None:
            raise Unauthenticated("The key is not known here, or was revoked.", hint=_HINT)
        if len(self._known) >= _CACHE_BOUND:
            del self._known[next(iter(self._known))]
        self._known[authorization] = grant
        return grant


def _nothing() -> None: ...
