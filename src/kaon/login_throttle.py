"""Limits the wrong keys per minute from one address; more of them are refused with 429. At the API and at replicas.

A valid key is accepted from every address, however many wrong ones came from there, so that another user of the address
cannot lock anyone out. Among 2^256 keys none can be guessed; the limit saves work and log lines.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict, deque

from kaon.clock import Clock
from kaon.errors import TooManyRequests

TRIES = 10
"""Wrong keys in a minute after which the API refuses more."""
WINDOW_S = 60.0
_PEERS = 10_000


class LoginThrottle:
    """Wrong keys of the last minute by address, for the latest 10,000 addresses."""

    def __init__(self, clock: Clock, tries: int = TRIES) -> None:
        self._clock = clock
        self._tries = tries
        self._peers: OrderedDict[str, deque[float]] = OrderedDict()

    def too_many(self, peer: str) -> bool:
        """Whether the next wrong key from this address is refused with 429."""
        tries = self._peers.get(peer)
        return tries is not None and sum(at > self._clock.monotonic() - WINDOW_S for at in tries) >= self._tries

    def wrong(self, peer: str) -> None:
        """Count a wrong key from this address. Raises `TooManyRequests` when there were too many in the last minute."""
        now = self._clock.monotonic()
        tries = self._peers.setdefault(peer, deque())
        self._peers.move_to_end(peer)
        if len(self._peers) > _PEERS:
            self._peers.popitem(last=False)
        while tries and tries[0] <= now - WINDOW_S:
            tries.popleft()
        if len(tries) >= self._tries:
            raise TooManyRequests(
                "Too many unknown keys came from this address.",
                hint="A valid key is accepted at any time.",
                retry_after_s=tries[0] - (now - WINDOW_S),
            )
        tries.append(now)


def network(address: str) -> str:
    """The network that counts as one address: an address of IPv4, a /64 of IPv6 (one customer has all of it)."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return "local"
    if isinstance(ip, ipaddress.IPv4Address):
        return str(ip)
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    return str(ipaddress.ip_network((ip, 64), strict=False).network_address)
