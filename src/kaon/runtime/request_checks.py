"""What is checked before a call begins, for the fast path and for ASGI."""

from __future__ import annotations

import itertools
import math
import os

from kaon import context
from kaon.errors import InvalidInput, NotBegun, PoisonRequest, Unauthenticated
from kaon.login_throttle import LoginThrottle, network
from kaon.runtime.access_list import AccessList
from kaon.runtime.call import Call
from kaon.runtime.handshake import check_origin
from kaon.runtime.lane import Lane
from kaon.runtime.site import Site
from kaon.types.flight import ID_LENGTH
from kaon.types.key import Grant

_AUTHORIZATION = b"authorization"
_REQUEST_ID = context.REQUEST_ID_HEADER.encode()
_DEADLINE = context.DEADLINE_HEADER.encode()
_LONGEST_ID = 128
_SOON_S = 1.0
WRONG_KEYS = 30
"""Wrong keys accepted from one address in a minute, before it is throttled."""


class RequestChecks:
    """Admits callers, and gives calls a deadline and a request id."""

    def __init__(self, access: AccessList, site: Site | None = None) -> None:
        self.access = access
        self.site = site
        """What browsers may ask; None behind the edge."""
        self._throttle = LoginThrottle(access.clock, WRONG_KEYS)
        self.not_ready = "the service is starting"
        """Why no call is admitted; empty when open."""
        self.closing = False
        """Whether connections are closed after their next response."""
        self.refusals: frozenset[str] = frozenset()
        """Ids of requests that were in flight at crashes, by their first characters."""
        self._prefix = os.urandom(6).hex()
        self._count = itertools.count(1)

    def request_id(self, fields: dict[bytes, bytes]) -> str:
        """The caller's id of the request, or a new one."""
        given = fields.get(_REQUEST_ID)
        if given and len(given) <= _LONGEST_ID:
            text = given.decode("latin-1")
            if text.isascii() and text.isprintable():  # it becomes a response header
                return text
        return f"{self._prefix}{next(self._count):06x}"

    def check(self, fields: dict[bytes, bytes], client: tuple[str, int] | None = None) -> Grant:
        """The caller's grant.

        Raises Forbidden for another site's page, Unauthenticated, TooManyRequests after many wrong keys, and NotBegun.
        """
        if self.site is not None:
            self.site.check(fields)
        try:
            grant = self.access.check(fields.get(_AUTHORIZATION))
        except Unauthenticated:
            if _AUTHORIZATION in fields and (address := _address(fields, client)):
                self._throttle.wrong(network(address))
            raise
        if self.not_ready:
            raise NotBegun(f"Not ready: {self.not_ready}.", hint="Try again in a moment.", retry_after_s=_SOON_S)
        return grant

    def check_handshake(self, fields: dict[bytes, bytes], client: tuple[str, int] | None = None) -> Grant:
        """As `check`, for a websocket; raises Forbidden for pages of origins that the deployment does not allow."""
        if self.site is None:
            check_origin(fields)
        return self.check(fields, client)

    def refuse_poison(self, request_id: str) -> None:
        """Raise PoisonRequest for a request that was in flight when replicas crashed."""
        if request_id[:ID_LENGTH] in self.refusals:
            raise PoisonRequest(
                f"The request {request_id!r} was in flight at more than one crash of this service, so it is refused.",
                hint="Change the request and send it under another X-Request-Id; the service's log has the crash.",
            )

    def call(self, lane: Lane, grant: Grant, fields: dict[bytes, bytes], request_id: str) -> Call:
        """A call of an admitted caller. Raises InvalidInput for an invalid timeout header, and PoisonRequest."""
        if self.refusals:
            self.refuse_poison(request_id)
        timeout_s = lane.timeout_s
        header = fields.get(_DEADLINE)
        if header is not None:
            requested_s = _seconds(header)
            timeout_s = requested_s if timeout_s is None else min(timeout_s, requested_s)
        return Call(lane, grant, request_id, timeout_s)


def _address(fields: dict[bytes, bytes], client: tuple[str, int] | None) -> str:
    """The caller's address: of the connection, or behind the edge as the edge reports it; empty: this host."""
    if client is not None:
        return client[0]
    return fields.get(b"x-forwarded-for", b"").rpartition(b",")[2].strip().decode("latin-1")


def _seconds(text: bytes) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise InvalidInput(
            "The header X-Request-Timeout is not a positive number of seconds.", hint="Write it like '2.5'."
        )
    return value
