"""Who tries keys: so many wrong ones a minute from one address; the next are told to wait. At the API and at replicas.

A key that exists is let in from every address, however many wrong ones came from there: a neighbour's guesses lock
nobody out. Among 2^256 keys no number of guesses finds one; what is spared is the noise and the work.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict, deque

from kaon.clock import Clock
from kaon.errors import TooManyRequests

TRIES = 10
"""Wrong keys that the API takes in a minute."""
WINDOW_S = 60.0
_PEERS = 10_000


class LoginThrottle:
    """Wrong tries by address, over the last minute. Remembers 10,000 addresses, the latest."""

    def __init__(self, clock: Clock, tries: int = TRIES) -> None:
        self._clock = clock
        self._tries = tries
        self._peers: OrderedDict[str, deque[float]] = OrderedDict()

    def too_many(self, peer: str) -> bool:
        """Whether the next wrong key from there is told to wait."""
        tries = self._peers.get(peer)
        return tries is not None and sum(at > self._clock.monotonic() - WINDOW_S for at in tries) >= self._tries

    def wrong(self, peer: str) -> None:
        """An unknown key came from there. Raises `TooManyRequests` when that was too often lately."""
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
                hint="Use a key that exists: it is let in.",
                retry_after_s=tries[0] - (now - WINDOW_S),
            )
        tries.append(now)


def network(address: str) -> str:
    """What counts as one address: one of IPv4, a /64 of IPv6 (one customer has all of it)."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return "local"
    if isinstance(ip, ipaddress.IPv4Address):
        return str(ip)
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    return str(ipaddress.ip_network((ip, 64), strict=False).network_address)
