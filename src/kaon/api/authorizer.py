"""Authorization: one check on the matched route, before the body is read.

What a key may not see (another workspace, deployment or cloud) answers 404, whether it exists or not; what it may see
but not do answers 403.
"""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum

from starlette.requests import Request

from kaon.api.keyring import Caller, Keyring, UnknownKey
from kaon.errors import Forbidden, NotFound, Unauthenticated, UnreadableRow
from kaon.login_throttle import LoginThrottle, network
from kaon.store.snapshot import Snapshot
from kaon.types.key import Right

_LONGEST_KEY = 200


class Open(StrEnum):
    """What a route may require in place of a right."""

    TO_ALL = "all"
    TO_KEYS = "any key"


Need = Right | Open


class Authorizer:
    """Authenticates and authorizes requests."""

    def __init__(self, snapshot: Snapshot, keyring: Keyring, throttle: LoginThrottle) -> None:
        self._snapshot = snapshot
        self._keyring = keyring
        self._throttle = throttle

    async def admit(self, request: Request, need: Need) -> Caller | None:
        """The caller, if it is allowed; None on an open route. The snapshot then has all earlier writes.

        Raises `Unauthenticated`, `TooManyRequests`, `Forbidden` or `NotFound`.
        """
        if need is Open.TO_ALL:
            return None
        caller = replace(await self._caller(request), address=address_of(request))
        request.state.caller = caller
        if isinstance(need, Right):
            _check_scope(caller, need, request.path_params)
            self._check_existing(request.path_params.get("ws"))
        return caller

    async def _caller(self, request: Request) -> Caller:
        text, peer = bearer(request), peer_of(request)
        try:
            return await self._keyring.caller(text)
        except UnknownKey:
            self._throttle.wrong(peer)
            raise

    def _check_existing(self, workspace: str | None) -> None:
        try:
            exists = workspace is None or self._snapshot.find("workspace", "", workspace) is not None
        except UnreadableRow:  # its resources may be readable
            exists = True
        if not exists:
            raise workspace_not_found(workspace or "")


def _check_scope(caller: Caller, right: Right, path: dict[str, str]) -> None:
    held = caller.rights
    if (workspace := path.get("ws")) is not None and not held.sees(workspace):
        raise workspace_not_found(workspace)
    if (deployment := path.get("deployment")) is not None and not held.sees(workspace or "", deployment):
        raise deployment_not_found(workspace or "", deployment)
    if right not in held.rights:
        raise Forbidden(
            f"This needs the right to {right.value}, which this key of role {caller.role.value} does not have.",
            hint="List keys and roles: kaon key list. An admin creates keys: kaon key create NAME --role ROLE",
        )
    if (cloud := path.get("cloud")) is not None and held.cloud != cloud:
        raise NotFound("There is no such cloud for this key.")


def workspace_not_found(name: str) -> NotFound:
    """The same whether it exists or not."""
    return NotFound(
        f"There is no workspace '{name[:40]}'.",
        hint="List yours: kaon get workspaces. Choose one: -w NAME",
    )


def deployment_not_found(workspace: str, name: str) -> NotFound:
    """The same whether it exists or not."""
    return NotFound(
        f"There is no deployment '{name[:40]}' in workspace '{workspace[:40]}'.",
        hint="List them: kaon ps",
    )


def bearer(request: Request) -> str:
    """The key of the request. Raises `Unauthenticated` when there is none, or more than one."""
    given = request.headers.getlist("authorization")
    scheme, _, text = given[0].partition(" ") if len(given) == 1 else ("", "", "")
    text = text.strip()
    if scheme.lower() != "bearer" or not text or len(text) > _LONGEST_KEY:
        raise Unauthenticated(
            "The request has no key.",
            hint="Send it as `Authorization: Bearer KEY`, not in the URL or a cookie.",
        )
    return text


def over_socket(scope: object) -> bool:
    """Whether the request came over the unix socket: from this machine's user or from the edge."""
    client = scope.get("client") if isinstance(scope, dict) else None
    return client is None or not client[0]


def peer_of(request: Request) -> str:
    """The network that the request came from: what the login throttle counts as one peer."""
    return network(address_of(request))


def address_of(request: Request) -> str:
    """The address that the request came from; 'local': this machine's socket.

    The edge appends the peer's address to `x-forwarded-for`. So the last one is true, and only for requests over the
    edge's socket; any other client could write the header itself.
    """
    if not over_socket(request.scope):
        return request.client.host[:64] if request.client else "local"
    forwarded = request.headers.getlist("x-forwarded-for")
    return forwarded[-1].rsplit(",", 1)[-1].strip()[:64] if forwarded else "local"
