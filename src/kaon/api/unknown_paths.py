"""Answers calls of paths where nothing is deployed, which the edge sends here when they have a key.

A caller whose key is valid gets a suggestion, of the deployments that this key may read or call. With another key the
answer is that of a deployment that exists, so that it does not show which ones do. The edge itself answers calls
without a key, and all of them while the API does not run.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from kaon.api.authorizer import Authorizer, Open
from kaon.api.keyring import Caller
from kaon.api.problems import problem_response
from kaon.clock import SystemClock
from kaon.context import REQUEST_ID_HEADER, request_id
from kaon.errors import KaonError, NotFound, TooManyRequests, Unauthenticated
from kaon.runtime.access_list import AccessList
from kaon.store.snapshot import Snapshot
from kaon.types.key import Access, Right
from kaon.types.names import DeploymentKey
from kaon.types.route import RESERVED, prefix_of

_LONGEST_NAME = 80
_MOST_NAMES = 2000


class UnknownPaths:
    """ASGI middleware: paths of the API go on to `app`, others are those of no deployment."""

    def __init__(self, app: ASGIApp, authorizer: Authorizer, snapshot: Snapshot) -> None:
        self._app = app
        self._authorizer = authorizer
        self._snapshot = snapshot

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["path"].split("/")[1] in RESERVED:
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        given = request.headers.get(REQUEST_ID_HEADER, "")
        token = request_id.set(given)
        try:
            response = problem_response(await self._problem(request), {REQUEST_ID_HEADER: given} if given else {})
        finally:
            request_id.reset(token)
        await response(scope, receive, send)

    async def _problem(self, request: Request) -> KaonError:
        try:
            caller = await self._authorizer.admit(request, Open.TO_KEYS)
        except TooManyRequests as error:
            return error
        except Unauthenticated:
            return _as_a_replica_answers(request)
        except KaonError:
            caller = None
        near = nearest(request.url.path, self._visible(caller)) if caller is not None else ""
        suggestion = f"Did you mean {near}? " if near else ""
        return NotFound("Nothing is deployed at this path.", hint=f"{suggestion}List the deployments: kaon ps")

    def _visible(self, caller: Caller) -> list[DeploymentKey]:
        """The deployments that the caller may read or call."""
        if not caller.rights.rights & {Right.READ, Right.CALL}:
            return []
        keys = ((each.workspace, each.name) for each in self._snapshot.list("deployment", caller.rights.workspace))
        return [key for key in keys if caller.rights.sees(*key)][:_MOST_NAMES]


def _as_a_replica_answers(request: Request) -> KaonError:
    """The refusal of this key by a deployment that exists."""
    try:
        AccessList(Access(), SystemClock()).check(request.headers.get("authorization", "").encode("latin-1"))
    except Unauthenticated as error:
        return error
    raise AssertionError("a list without keys has admitted one")


def nearest(path: str, deployments: Collection[DeploymentKey]) -> str:
    """The path of the deployment that the caller of `path` may have meant; empty without one.

    That is a name that is nearly right, one that is in another workspace, or one below its workspace's name.
    """
    first, second = [*(part[:_LONGEST_NAME] for part in path.lower().split("/")[1:3]), ""][:2]
    asked = [(first[1:], second)] if first.startswith("~") else [("default", first), (first, second)]
    for workspace, name in asked:
        names = sorted(each for home, each in deployments if home == workspace)
        if near := difflib.get_close_matches(name, names, 1):
            return prefix_of(workspace, near[0])
    elsewhere = sorted(key for key in deployments if key[1] == asked[0][1])
    return prefix_of(*elsewhere[0]) if elsewhere else ""
