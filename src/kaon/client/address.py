"""A deployment's URL and the key to call it, from arguments and the environment.

A name is a deployment of this process's platform (`KAON_EDGE_URL`, in a replica), else of the one on this machine. The
default key is `KAON_KEY`, else the admin key in `KAON_HOME`; neither is sent to another platform.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from kaon.errors import InvalidInput
from kaon.settings import Settings
from kaon.types.hosts import LOOPBACK, split_url


@dataclass(frozen=True, slots=True)
class Destination:
    """A deployment's URL, without a trailing slash, and a key; empty: none."""

    url: str
    key: str


def find(target: str, key: str | None = None, environ: Mapping[str, str] = os.environ) -> Destination:
    """The address of `target`, a URL or a name. Raises InvalidInput when it is neither."""
    edge = environ.get("KAON_EDGE_URL", "").rstrip("/")
    settings = Settings()
    if "://" not in target:
        if not target.strip("/") or any(c in target for c in " ?#:\\"):
            raise InvalidInput(f"{target!r} is neither a URL nor a name.", hint="Try 'http://127.0.0.1:8080/name'.")
        url = f"{edge or settings.url}/{target.strip('/')}"
    else:
        url = target.rstrip("/")
    try:
        parts, host = split_url(url)
    except ValueError:
        parts, host = None, ""
    if parts is None or parts.query or parts.fragment:
        raise InvalidInput(f"{target!r} is not the URL of a deployment.", hint="Try 'http://127.0.0.1:8080/name'.")
    if key is None:
        key = _own_key(url, host, edge, environ, settings)
    return Destination(url, key)


def _own_key(url: str, host: str, edge: str, environ: Mapping[str, str], settings: Settings) -> str:
    if edge:  # in a replica: the key is the service's own, for its own platform only
        return environ.get("KAON_KEY", "") if f"{url}/".startswith(f"{edge}/") else ""
    if given := environ.get("KAON_KEY", ""):
        return given
    if host not in LOOPBACK:
        return ""
    try:
        return settings.admin_key_file.read_text().strip()
    except OSError:
        return ""
