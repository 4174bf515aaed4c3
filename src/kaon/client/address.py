"""A deployment's URL and the key to call it, from arguments and the environment.

A name is a deployment of this process's platform: in a replica the one of `KAON_EDGE_URL`, elsewhere the one of the
context in use, in its workspace, as for the command line (`kaon config`). The default key is that of the platform; it
is sent to no other one. `KAON_KEY` takes precedence.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from kaon.client import contexts, local
from kaon.errors import InvalidInput, KaonError
from kaon.types.hosts import LOOPBACK, split_url
from kaon.types.route import prefix_of

_EXAMPLE = "Try 'http://127.0.0.1:8080/name'."


@dataclass(frozen=True, slots=True)
class Destination:
    """A deployment's URL, without a trailing slash, and a key; empty: none."""

    url: str
    key: str


def find(target: str, key: str | None = None, environ: Mapping[str, str] = os.environ) -> Destination:
    """The address of `target`, a URL or a name. Raises InvalidInput when it is neither."""
    edge = environ.get("KAON_EDGE_URL", "").rstrip("/")
    if "://" in target:
        url = target.rstrip("/")
    elif not target.strip("/") or any(c in target for c in " ?#:\\"):
        raise InvalidInput(f"{target!r} is neither a URL nor a name.", hint=_EXAMPLE)
    elif edge:
        url = f"{edge}/{target.strip('/')}"
    else:
        url = _in_context(target.strip("/"), contexts.in_use(environ))
    try:
        parts, host = split_url(url)
    except ValueError:
        parts, host = None, ""
    if parts is None or parts.query or parts.fragment:
        raise InvalidInput(f"{target!r} is not the URL of a deployment.", hint=_EXAMPLE)
    if key is None:
        key = _default_key(url, host, edge, environ)
    return Destination(url, key)


def _in_context(name: str, context: contexts.Context) -> str:
    """The URL of a deployment on the context's platform; a name without a workspace is in that of the context."""
    base = context.url.rstrip("/") or local.url()
    return f"{base}/{name}" if "/" in name else base + prefix_of(context.workspace, name)


def _default_key(url: str, host: str, edge: str, environ: Mapping[str, str]) -> str:
    if edge:  # in a replica: the key is the service's own, for its own platform only
        return environ.get("KAON_KEY", "") if f"{url}/".startswith(f"{edge}/") else ""
    if given := environ.get("KAON_KEY", ""):
        return given
    try:
        context = contexts.in_use(environ)
        if context.url and not f"{url}/".startswith(f"{context.url.rstrip('/')}/"):
            context = contexts.Context()  # the URL is not of this platform
        return contexts.key_of(context, environ) if context.url or host in LOOPBACK else ""
    except KaonError:  # public deployments need no key
        return ""
