"""Where a deployment is and with which key: from what the caller says, and from the environment.

A bare name is a deployment of the platform that this process belongs to (`KAON_EDGE_URL`, in a replica), else of the
one on this machine. A key that was not given is `KAON_KEY`, else the first admin key in `KAON_HOME`; neither is ever
sent to a platform that it is not for.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kaon.errors import InvalidInput
from kaon.types.hosts import LOOPBACK, split_url


@dataclass(frozen=True, slots=True)
class Destination:
    """A deployment's URL, without a slash at its end, and a key; empty: none."""

    url: str
    key: str


def find(target: str, key: str | None = None, environ: Mapping[str, str] = os.environ) -> Destination:
    """The address that `target`, a URL or a name, stands for. Raises InvalidInput when it is neither."""
    edge = environ.get("KAON_EDGE_URL", "").rstrip("/")
    if "://" not in target:
        if not target.strip("/") or any(c in target for c in " ?#:\\"):
            raise InvalidInput(f"{target!r} is neither a URL nor a name.", hint="Try 'http://127.0.0.1:8080/name'.")
        url = f"{edge or local_url()}/{target.strip('/')}"
    else:
        url = target.rstrip("/")
    try:
        parts, host = split_url(url)
    except ValueError:
        parts, host = None, ""
    if parts is None or parts.query or parts.fragment:
        raise InvalidInput(f"{target!r} is not the URL of a deployment.", hint="Try 'http://127.0.0.1:8080/name'.")
    if key is None:
        key = _own_key(url, host, edge, environ)
    return Destination(url, key)


def local_url() -> str:
    """`Settings.url`, read without pydantic-settings, which kaon-runtime does not require."""
    host = os.environ.get("KAON_HOST", "127.0.0.1")
    return f"http://{'127.0.0.1' if host in ('0.0.0.0', '::') else host}:{os.environ.get('KAON_PORT', '8080')}"  # noqa: S104


def local_admin_key_file() -> Path:
    """`Settings.admin_key_file`, read likewise."""
    return Path(os.environ.get("KAON_HOME") or Path.home() / ".kaon") / "admin.key"


def _own_key(url: str, host: str, edge: str, environ: Mapping[str, str]) -> str:
    if edge:  # in a replica: the key is the service's own, for its own platform only
        return environ.get("KAON_KEY", "") if f"{url}/".startswith(f"{edge}/") else ""
    if given := environ.get("KAON_KEY", ""):
        return given
    if host not in LOOPBACK:
        return ""
    try:
        return local_admin_key_file().read_text().strip()
    except OSError:
        return ""
