"""What must be true before a deployment's spec is taken: told at once, with the command that helps."""

from __future__ import annotations

from collections.abc import Collection

from kaon.api.keyring import Caller
from kaon.api.problems import Unprocessable
from kaon.errors import Conflict, Forbidden
from kaon.store.port import Store
from kaon.types.deployment import DeploymentSpec, Template, templates_of
from kaon.types.resource import Deployment
from kaon.types.route import RESERVED

IDENTITY_VARIABLE = "KAON_KEY"
IDENTITY_PREFIX = "identity-"
_LONGEST_VALUE = 65_536
_MOST_BYTES = 131_072
"""Of all variables together: each replica's entry in the plan has them."""


def check_name(name: str) -> None:
    """Raises `Unprocessable` for a name that the platform needs for its own paths."""
    if name in RESERVED:
        raise Unprocessable(
            f"A deployment cannot be called '{name}': the platform answers under that path.",
            hint="Choose another name: kaon deploy ... --name OTHER",
        )


async def check_hosts(store: Store, platform: Collection[str], workspace: str, name: str, spec: DeploymentSpec) -> None:
    """Raises `Conflict` for a host name that the platform needs (`platform` are its own) or another deployment has."""
    wanted = set(spec.hosts)
    if not wanted:
        return
    if own := sorted(host for host in wanted if host in platform or host.split(".")[-1] == "localhost"):
        raise Conflict(
            f"The host name {own[0]} is the platform's.",
            hint="Choose another. NAME.localhost works for every deployment without a word.",
        )
    others = [d for d in await store.list_all("deployment") if (d.workspace, d.name) != (workspace, name)]
    if taken := sorted(wanted & {host for other in others for host in other.spec.hosts}):
        raise Conflict(f"The host name {taken[0]} belongs to another deployment.", hint="Choose another.")


async def check_spec(
    store: Store, caller: Caller, workspace: str, spec: DeploymentSpec, current: Deployment | None
) -> None:
    """Raises `Unprocessable` naming what is missing, `Forbidden` for secrets that are not the caller's to use."""
    await _check_template(store, caller, workspace, spec.template, current)
    if spec.shadow is None:
        return
    if spec.shadow.template is not None:
        await _check_template(store, caller, workspace, spec.shadow.template, current)
    number = spec.shadow.revision
    if number and (current is None or not await store.find("revision", workspace, f"{current.name}-{number}")):
        raise Unprocessable(f"There is no revision {number} that could be a shadow.", hint="See: kaon rollout history")


async def _check_template(
    store: Store, caller: Caller, workspace: str, template: Template, current: Deployment | None
) -> None:
    _check_variables(template)
    if await store.find("artifact", workspace, template.artifact) is None:
        raise Unprocessable(
            f"There is no artifact {template.artifact} in workspace '{workspace}'.",
            hint="Build and bring it with: kaon deploy FILE.py:CLASS",
        )
    _check_use_of_secrets(caller, template, current)
    for secret in sorted(set(template.secrets.values())):
        if await store.find("secret", workspace, secret) is None:
            raise Unprocessable(
                f"There is no secret '{secret}' in workspace '{workspace}'.", hint=f"Set it: kaon secret set {secret}"
            )


def _check_variables(template: Template) -> None:
    if IDENTITY_VARIABLE in template.env.keys() | template.secrets.keys():
        raise Unprocessable(
            f"{IDENTITY_VARIABLE} is set by the platform: it is the service's own key.", hint="Use another variable."
        )
    if twice := sorted(template.env.keys() & template.secrets.keys()):
        raise Unprocessable(f"{twice[0]} is given both as a value and as a secret.", hint="Give it once.")
    if sum(len(name) + len(value.encode()) for name, value in template.env.items()) > _MOST_BYTES:
        raise Unprocessable(
            f"The variables have more than {_MOST_BYTES:,} bytes together.", hint="Keep them in a file."
        )
    for name, value in template.env.items():
        if "\0" in value or len(value) > _LONGEST_VALUE:
            raise Unprocessable(f"The value of {name} cannot be an environment variable.", hint="Keep it in a file.")


def _check_use_of_secrets(caller: Caller, template: Template, current: Deployment | None) -> None:
    """Whoever deploys code can read the secrets that it gets.

    So a key for some deployments may only keep those that they have already; and nobody gets the key of
    another service by naming it.
    """
    had = set() if current is None else {s for t in templates_of(current.spec) for s in t.secrets.values()}
    new = set(template.secrets.values()) - had
    if stolen := sorted(s for s in new if s.startswith(IDENTITY_PREFIX)):
        raise Unprocessable(f"The secret '{stolen[0]}' belongs to the platform.", hint="Name one of your own.")
    if new and caller.standing.deployments is not None:
        raise Forbidden(
            "This key is for some deployments only and cannot give them other secrets of the workspace.",
            hint="Use a key for the whole workspace.",
        )
