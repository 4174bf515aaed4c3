"""Who tries keys: at most ten wrong ones a minute from one address.

An address over its share is refused before its key is looked at, so that a right guess among many wrong
ones gains nothing. A key that the address has used successfully goes on working, so that a neighbour's
guesses lock nobody out.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict, deque
from dataclasses import dataclass, field

from kaon.clock import Clock
from kaon.errors import TooManyRequests

TRIES = 10
WINDOW_S = 60.0
_PEERS = 10_000
_KEYS_PER_PEER = 32


@dataclass(slots=True)
class _Peer:
    wrong: deque[float] = field(default_factory=deque)
    good: OrderedDict[str, None] = field(default_factory=OrderedDict)


class Guesses:
    """Wrong tries by address, over the last minute. Remembers 10,000 addresses, the latest."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._peers: OrderedDict[str, _Peer] = OrderedDict()

    def check(self, peer: str, key_hash: str) -> None:
        """Raises `TooManyRequests` when the address has tried too often and this is no key of its own."""
        known = self._peers.get(peer)
        if known is None or key_hash in known.good:
            return
        since = self._clock.monotonic() - WINDOW_S
        while known.wrong and known.wrong[0] <= since:
            known.wrong.popleft()
        if len(known.wrong) >= TRIES:
            raise TooManyRequests(
                "Too many unknown keys came from this address.",
                hint="Wait a minute, then use a key that exists.",
                retry_after_s=known.wrong[0] - since,
            )

    def wrong(self, peer: str) -> None:
        """An unknown key came from there."""
        self._peer(peer).wrong.append(self._clock.monotonic())

    def good(self, peer: str, key_hash: str) -> None:
        """A key came from there that gave access."""
        good = self._peer(peer).good
        good[key_hash] = None
        good.move_to_end(key_hash)
        if len(good) > _KEYS_PER_PEER:
            good.popitem(last=False)

    def _peer(self, peer: str) -> _Peer:
        known = self._peers.setdefault(peer, _Peer())
        self._peers.move_to_end(peer)
        if len(self._peers) > _PEERS:
            self._peers.popitem(last=False)
        return known


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
