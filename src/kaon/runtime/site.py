"""Limits what browsers may request of a replica without an edge in front of it, as in `kaon dev`.

Any page on the web can make a browser send requests to this machine: under a host name that resolves to it (seen by
`Host`), or across origins (seen by `Origin`). Both are refused. Other programs send no `Origin`, and as the host any
name of this machine.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping

from kaon.errors import Forbidden

_HOST = re.compile(rb"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+))(?::[0-9]*)?")
_HINT = "Use http://127.0.0.1 or http://localhost with the port."


class Site:
    """The names under which a replica on TCP is reached."""

    def __init__(self, host: str) -> None:
        self._host = host.strip("[]").lower()
        """The host that it listens on."""
        self._checked_host: bytes | None = None
        """The last accepted `Host` header: most requests repeat it."""

    def check(self, fields: Mapping[bytes, bytes]) -> None:
        """Raises Forbidden for a request that may come from another site's page."""
        host = fields.get(b"host")
        if host != self._checked_host:
            if host is not None and not self._is_ours(_name(host)):
                raise Forbidden(f"This service is not at {host[:80].decode('latin-1')!r}.", hint=_HINT)
            self._checked_host = host
        origin = fields.get(b"origin")
        if origin is not None and origin.partition(b"://")[2] != host and not self.is_local(origin):
            raise Forbidden(
                f"Pages of {origin[:80].decode('latin-1')!r} may not call this service.",
                hint="Open the page from this machine, or allow its origin by `cors` where the service is deployed.",
            )

    def _is_ours(self, name: str) -> bool:
        return name == self._host or _is_loopback(name) or _is_address(name)

    def is_local(self, origin: bytes) -> bool:
        """Whether an origin is a page of this machine: such pages may call."""
        name = _name(origin.partition(b"://")[2]) if origin.startswith((b"http://", b"https://")) else ""
        return _is_loopback(name)


def _name(host: bytes) -> str:
    """The name or address in `host`, without its port; empty when invalid."""
    found = _HOST.fullmatch(host)
    return (found[1] or found[2]).decode("ascii").lower().rstrip(".") if found else ""


def _is_loopback(name: str) -> bool:
    if name == "localhost" or name.endswith(".localhost"):
        return True
    return _is_address(name) and ipaddress.ip_address(name).is_loopback


def _is_address(name: str) -> bool:
    """Whether it is an IP address, which no other site can have as its name."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def site_of(address: str, *, without_edge: bool = False) -> Site | None:
    """The site of a replica that listens on `address`; None behind an edge: for a unix socket, unless
    `without_edge`."""
    if address.startswith("unix:"):
        return Site("127.0.0.1") if without_edge else None
    return Site(address.rpartition(":")[0])
