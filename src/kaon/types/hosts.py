"""The host of a URL or of a Host header, parsed in one way everywhere, so that no two places disagree."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import SplitResult, urlsplit

_AUTHORITY = re.compile(
    r"(\[(?P<address>[0-9A-Fa-f:.]+)\]|(?P<name>[^\x00-\x20\x7f\[\]@/\\?#%:]+))(:(?P<port>[0-9]{1,5}))?"
)
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
"""The names of this machine, as `host_of` gives them."""


def host_of(authority: str) -> str:
    """The host of `host`, `host:port`, `[address]` or `[address]:port`, in lower case and without brackets.

    Raises `ValueError` for anything else: `[::1]evil.com` is no host, and neither is `user@host`.
    """
    match = _AUTHORITY.fullmatch(authority)
    if match is None or int(match["port"] or 0) > 65_535:
        raise ValueError(f"{authority[:80]!r} is no host")
    if match["address"] is None:
        return match["name"].lower()
    try:
        return str(ipaddress.IPv6Address(match["address"]))
    except ValueError:
        raise ValueError(f"{authority[:80]!r} is no host") from None


def split_url(url: str) -> tuple[SplitResult, str]:
    """The parts of an http or https URL without a user, and its host. Raises `ValueError` for any other URL."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https"):
        raise ValueError(f"{url[:80]!r} is no http URL")
    return parts, host_of(parts.netloc)


def uses_tls(url: str) -> bool:
    """Whether a client of this URL may need certificates, which take 25 ms to load: any URL but `http://`."""
    return not url.lower().startswith("http://")
