"""Audit records of refused requests of valid keys, with a limit for each key."""

from __future__ import annotations

from contextlib import suppress

from starlette.requests import Request

from kaon.api.keyring import Caller
from kaon.clock import Clock
from kaon.context import request_id
from kaon.errors import KaonError
from kaon.login_throttle import LoginThrottle
from kaon.store.port import Store
from kaon.store.writes import RecordAudit
from kaon.types.audit import AuditRecord, Outcome

_A_MINUTE = 10
"""Records of one key each minute: more would push those of others out of the log."""
_NAMES = ("deployment", "name", "cloud", "digest", "id", "ws")


class RefusedAttempts:
    """Records refused requests, ten a minute of each key."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._throttle = LoginThrottle(clock, tries=_A_MINUTE)

    async def record(self, request: Request, verb: str, kind: str) -> None:
        """Record that the caller of `request` was refused; nothing when the store does not answer."""
        caller: Caller | None = getattr(request.state, "caller", None)
        if caller is None or self._throttle.too_many(caller.uid):
            return
        self._throttle.wrong(caller.uid)
        path = request.path_params
        record = AuditRecord(
            at=self._clock.now(),
            actor=caller.name,
            actor_uid=caller.uid,
            request_id=request_id.get(),
            address=caller.address,
            verb=verb,
            kind=kind,
            workspace=path.get("ws", "")[:80],
            name=next((path[part] for part in _NAMES if part in path), "")[:80],
            outcome=Outcome.REFUSED,
        )
        with suppress(KaonError):
            await self._store.write([RecordAudit([record])])
