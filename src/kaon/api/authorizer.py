"""Who may pass: one check, made on the route that was matched, before its body is read.

What does not exist for a key (another workspace, another deployment, another cloud) is 404, as if it were
not there; what exists but is not allowed is 403.
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
    """What a route may say in place of a right."""

    TO_ALL = "all"
    TO_KEYS = "any key"


Need = Right | Open


class Authorizer:
    """Lets callers in, or raises `Unauthenticated`, `TooManyRequests`, `Forbidden` or `NotFound`."""

    def __init__(self, snapshot: Snapshot, keyring: Keyring, guesses: LoginThrottle) -> None:
        self._snapshot = snapshot
        self._keyring = keyring
        self._guesses = guesses

    async def admit(self, request: Request, need: Need) -> Caller | None:
        """Who is calling, once it is sure that they may; the snapshot has all that was written before they called."""
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
            self._guesses.wrong(peer)
            raise

    def _check_existing(self, workspace: str | None) -> None:
        try:
            exists = workspace is None or self._snapshot.find("workspace", "", workspace) is not None
        except UnreadableRow:  # what is in it can be read all the same
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
            f"This needs the right to {right.value}, which a key of role {caller.role.value} does not have here.",
            hint="`kaon key list` shows keys and roles; an admin makes others with `kaon key create`.",
        )
    if (cloud := path.get("cloud")) is not None and held.cloud != cloud:
        raise NotFound("There is no such cloud for this key.")


def workspace_not_found(name: str) -> NotFound:
    """The same whether it exists or not."""
    return NotFound(
        f"There is no workspace '{name[:40]}'.",
        hint="`kaon get workspaces` lists those of your key; -w NAME chooses one.",
    )


def deployment_not_found(workspace: str, name: str) -> NotFound:
    """The same whether it exists or not."""
    return NotFound(
        f"There is no deployment '{name[:40]}' in workspace '{workspace[:40]}'.",
        hint="`kaon ps` lists those there are.",
    )


def bearer(request: Request) -> str:
    """The key of the request. Raises `Unauthenticated` when there is none, or more than one."""
    given = request.headers.getlist("authorization")
    scheme, _, text = given[0].partition(" ") if len(given) == 1 else ("", "", "")
    text = text.strip()
    if scheme.lower() != "bearer" or not text or len(text) > _LONGEST_KEY:
        raise Unauthenticated(
            "This needs a key.", hint="Give it as `Authorization: Bearer KEY`; never in the URL, never as a cookie."
        )
    return text


def over_socket(scope: object) -> bool:
    """Whether the request came over the unix socket: from this machine's user or from the edge."""
    client = scope.get("client") if isinstance(scope, dict) else None
    return client is None or not client[0]


def peer_of(request: Request) -> str:
    """What counts as one address of those that the request came from."""
    return network(address_of(request))


def address_of(request: Request) -> str:
    """The address that the request came from; 'local': this machine's socket.

    The edge appends the address that it saw to `x-forwarded-for`, so the last one is true, and only when
    the request came through the edge's way in; anybody else could write the header.
    """
    if not over_socket(request.scope):
        return request.client.host[:64] if request.client else "local"
    forwarded = request.headers.getlist("x-forwarded-for")
    return forwarded[-1].rsplit(",", 1)[-1].strip()[:64] if forwarded else "local"
