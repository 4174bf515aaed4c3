"""Checks callers' keys against the replica's own list, so that bypassing the edge opens nothing."""

from __future__ import annotations

from collections.abc import Callable

from kaon.clock import Clock
from kaon.errors import Unauthenticated
from kaon.types.key import Access, Grant, key_hash

_CACHE_BOUND = 1024
PUBLIC_GRANT = Grant(hash="", key="")
"""The grant of every caller of a public deployment."""
_HINT = "Send 'Authorization: Bearer KEY'; create a key with `kaon key create`."
_EXPIRED_HINT = "Create a new key: `kaon key create`."


class AccessList:
    """Checks keys against an `Access`.

    Accepted headers are cached, so that a key is hashed once; refused ones are not, so that strangers cannot evict
    callers. Expiry is checked every time.
    """

    def __init__(self, access: Access, clock: Clock) -> None:
        self.clock = clock
        self._cached: dict[bytes, Grant] = {}
        self._grants: dict[str, Grant] = {}
        self.public = False
        self.version = ""
        """The version of the list in force, as given."""
        self.on_change: Callable[[], None] = _nothing
        """Called when the list has changed."""
        self.put(access)

    def put(self, access: Access) -> None:
        """Use `access` from the next request on."""
        self.public = access.public
        self.version = access.named().version
        self._grants = {grant.hash: grant for grant in access.grants}
        self._cached.clear()
        self.on_change()

    def error_of(self, grant: Grant) -> Unauthenticated | None:
        """Why a caller admitted by `grant` would be refused now; None: it would be admitted."""
        if self.public:
            return None
        now = self._grants.get(grant.hash)
        if now is None:
            return Unauthenticated("The key was revoked, or may no longer call this deployment.", hint=_HINT)
        if now.expires_at is not None and self.clock.now() >= now.expires_at:
            return Unauthenticated("The key has expired.", hint=_EXPIRED_HINT)
        return None

    def check(self, authorization: bytes | None) -> Grant:
        """The caller's grant; `PUBLIC_GRANT` for a public deployment. Raises Unauthenticated."""
        if self.public:
            return PUBLIC_GRANT
        if authorization is None:
            raise Unauthenticated("The request has no key.", hint=_HINT)
        grant = self._cached.get(authorization) or self._find(authorization)
        if grant.expires_at is not None and self.clock.now() >= grant.expires_at:
            raise Unauthenticated("The key has expired.", hint=_EXPIRED_HINT)
        return grant

    def _find(self, authorization: bytes) -> Grant:
        scheme, _, key = authorization.partition(b" ")
        if scheme.lower() != b"bearer":
            raise Unauthenticated("The Authorization header is not of the form 'Bearer KEY'.", hint=_HINT)
        # Looked up by the key's hash: its duration reveals nothing about the key.
        grant = self._grants.get(key_hash(key.strip().decode("latin-1")))
        if grant is None:
            raise Unauthenticated("The key is unknown here, or was revoked.", hint=_HINT)
        if len(self._cached) >= _CACHE_BOUND:
            del self._cached[next(iter(self._cached))]
        self._cached[authorization] = grant
        return grant


def _nothing() -> None: ...
