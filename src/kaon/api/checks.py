"""Checks of a deployment's spec before it is stored, each with the command that helps."""

from __future__ import annotations

from collections.abc import Collection

from kaon.api import edits
from kaon.api.keyring import Caller
from kaon.api.problems import Unprocessable
from kaon.datasets.versions import mounted, with_versions
from kaon.errors import Conflict, Forbidden, InvalidInput, NotFound
from kaon.store.port import Store
from kaon.store.snapshot import Snapshot
from kaon.types.dataset import DatasetVersionStatus
from kaon.types.deployment import DeploymentSpec, Template, templates_of
from kaon.types.job import JobRequest
from kaon.types.key import IDENTITY_PREFIX, Right
from kaon.types.resource import Artifact, Deployment, Unreadable
from kaon.types.route import RESERVED
from kaon.types.service import runs_alone

IDENTITY_VARIABLE = "KAON_KEY"
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
            f"The host name {own[0]} belongs to the platform.",
            hint="Choose another one. NAME.localhost works for every deployment without configuration.",
        )
    unreadable: list[Unreadable] = []
    found = await store.list_all("deployment", unreadable=unreadable)
    others = [d for d in found if (d.workspace, d.name) != (workspace, name)]
    if taken := sorted(wanted & {host for other in others for host in other.spec.hosts}):
        raise Conflict(f"The host name {taken[0]} belongs to another deployment.", hint="Choose another one.")
    if any((row.workspace, row.name) != (workspace, name) for row in unreadable):
        raise Conflict(
            "A deployment is stored in a form that cannot be read, and may have this host name.",
            hint="An admin finds it with `kaon ps` and deletes it.",
        )


async def check_spec(
    store: Store,
    caller: Caller,
    workspace: str,
    spec: DeploymentSpec,
    current: Deployment | None,
    *,
    now: float | None = None,
) -> None:
    """Raises `Unprocessable` for what is missing, `Forbidden` for what the caller may not use or call.

    `now`: the time of the write; the spec's artifacts are marked as used then. None: a dry run.
    """
    before = () if current is None else templates_of(current.spec)
    for place, template in enumerate(templates_of(spec)):
        is_new = before[place : place + 1] != (template,)  # promoting a shadow deploys its template
        artifact = await _check_template(store, caller, workspace, template, current, is_new=is_new)
        check_alone(spec, template, artifact)
        if now is not None and is_new:
            await _keep_artifact(store, workspace, template.artifact, now)
            for version in mounted(template):
                await _keep_version(store, workspace, version.text, now)
    if spec.shadow is None:
        return
    number = spec.shadow.revision
    if number and (current is None or not await store.find("revision", workspace, f"{current.name}-{number}")):
        raise Unprocessable(f"There is no revision {number} to be the shadow.", hint="See: kaon rollout history NAME")


def with_dataset_versions(snapshot: Snapshot, workspace: str, spec: DeploymentSpec) -> DeploymentSpec:
    """A spec whose datasets have the versions that their references mean now. Raises `Unprocessable`."""
    try:
        template, shadow = with_versions(snapshot, workspace, spec.template), spec.shadow
        if shadow is not None and shadow.template is not None:
            shadow = shadow.model_copy(update={"template": with_versions(snapshot, workspace, shadow.template)})
    except InvalidInput as error:
        raise Unprocessable(error.cause, hint=error.hint) from None
    return spec.model_copy(update={"template": template, "shadow": shadow})


async def _check_template(
    store: Store, caller: Caller, workspace: str, template: Template, current: Deployment | None, *, is_new: bool
) -> Artifact:
    check_variables(template)
    artifact = await store.find("artifact", workspace, template.artifact)
    if artifact is None:
        raise _no_artifact(workspace, template.artifact)
    service = artifact.spec.manifest.service
    if artifact.spec.manifest.jobs and not service.endpoints and not service.mounts:
        raise Unprocessable(
            f"The artifact of '{service.name}' has jobs only, which are run and not deployed.",
            hint="Run: kaon job run FILE.py:FUNCTION",
        )
    if is_new:
        _check_uses(caller, workspace, artifact)
    _check_use_of_secrets(caller, template, current)
    _check_use_of_datasets(caller, template, current)
    for secret in sorted(set(template.secrets.values())):
        if await store.find("secret", workspace, secret) is None:
            raise Unprocessable(
                f"There is no secret '{secret}' in workspace '{workspace}'.", hint=f"Set it: kaon secret set {secret}"
            )
    return artifact


async def _keep_artifact(store: Store, workspace: str, digest: str, now: float) -> None:
    try:
        await edits.touch_artifact(store, workspace, digest, now)
    except NotFound:  # it was collected meanwhile
        raise _no_artifact(workspace, digest) from None


async def _keep_version(store: Store, workspace: str, name: str, now: float) -> None:
    """Mark a version as used, so that one who deletes it at the same time reads what uses it again."""

    async def attempt() -> None:
        version = await store.get("dataset-version", workspace, name)
        await store.update_status(version, DatasetVersionStatus(used_at=now))

    try:
        await edits.retry_on_conflict(attempt)
    except NotFound:
        raise Unprocessable(f"There is no version '{name}'.", hint="List them: kaon get dataset-versions") from None


def _no_artifact(workspace: str, digest: str) -> Unprocessable:
    return Unprocessable(
        f"There is no artifact {digest} in workspace '{workspace}'.",
        hint="Build and upload it: kaon deploy FILE.py:CLASS",
    )


def _check_uses(caller: Caller, workspace: str, artifact: Artifact) -> None:
    """A key may deploy only code that calls what the key itself may call."""
    if beyond := _beyond(caller, workspace, artifact):
        raise _uses_forbidden(
            artifact, beyond, f"Deploy with a key that may call it: kaon key create NAME {_scope(caller, beyond)}"
        )


async def check_adoption(store: Store, caller: Caller, workspace: str, deployment: Deployment) -> None:
    """Raises `Forbidden` when `caller` may not call what the services of a deployment use."""
    for artifact in await _artifacts(store, workspace, deployment.spec):
        if beyond := _beyond(caller, workspace, artifact):
            raise _uses_forbidden(artifact, beyond, "Adopt it with an admin's key of the workspace, which may call it.")


def _uses_forbidden(artifact: Artifact, beyond: list[str], hint: str) -> Forbidden:
    return Forbidden(
        f"The service '{artifact.spec.manifest.service.name}' uses '{beyond[0]}', which this key may not call.",
        hint=hint,
        errors=[{"where": "uses", "message": f"this key may not call '{name}'"} for name in beyond],
    )


def _scope(caller: Caller, more: list[str]) -> str:
    """The options of `kaon key create` for a key like the caller's that may also call `more`."""
    names = sorted({*(caller.rights.deployments or ()), *more})
    return " ".join([f"--role {caller.role.value}", *(f"--deployment {name}" for name in names)])


def _beyond(caller: Caller, workspace: str, artifact: Artifact) -> list[str]:
    """What a service uses that `caller` may not call."""
    uses = artifact.spec.manifest.service.uses or ()
    return [name for name in uses if not caller.rights.may(Right.CALL, workspace, name)]


async def may_own(store: Store, caller: Caller, workspace: str, spec: DeploymentSpec) -> bool:
    """Whether `caller` may call everything that the services of a deployment use, and so may be its owner."""
    return not any(_beyond(caller, workspace, artifact) for artifact in await _artifacts(store, workspace, spec))


async def _artifacts(store: Store, workspace: str, spec: DeploymentSpec) -> list[Artifact]:
    found = [await store.find("artifact", workspace, template.artifact) for template in templates_of(spec)]
    return [artifact for artifact in found if artifact is not None]


def check_variables(given: Template | JobRequest) -> None:
    """Raises `Unprocessable` for variables that a process cannot have."""
    if IDENTITY_VARIABLE in given.env.keys() | given.secrets.keys():
        raise Unprocessable(
            f"{IDENTITY_VARIABLE} is set by the platform to the service's own key.", hint="Use another variable."
        )
    if twice := sorted(given.env.keys() & given.secrets.keys()):
        raise Unprocessable(f"{twice[0]} is given both as a value and as a secret.", hint="Remove one of them.")
    if sum(len(name) + len(value.encode()) for name, value in given.env.items()) > _MOST_BYTES:
        raise Unprocessable(
            f"The variables have more than {_MOST_BYTES:,} bytes together.", hint="Keep them in a file."
        )
    for name, value in given.env.items():
        if "\0" in value or len(value) > _LONGEST_VALUE:
            raise Unprocessable(f"The value of {name} cannot be an environment variable.", hint="Keep it in a file.")


def _check_use_of_secrets(caller: Caller, template: Template, current: Deployment | None) -> None:
    """Deployed code can read its secrets.

    So a key for some deployments may only keep the secrets that they have already, and no spec may name the secret that
    holds another service's key.
    """
    had = set() if current is None else {s for t in templates_of(current.spec) for s in t.secrets.values()}
    new = set(template.secrets.values()) - had
    if reserved := sorted(s for s in new if s.startswith(IDENTITY_PREFIX)):
        raise Unprocessable(f"The secret '{reserved[0]}' belongs to the platform.", hint="Use a secret of your own.")
    if new and caller.rights.deployments is not None:
        raise Forbidden(
            "This key is for some deployments only and cannot give them other secrets of the workspace.",
            hint="Use a key for the whole workspace.",
        )


def check_alone(spec: DeploymentSpec, template: Template, artifact: Artifact) -> None:
    """Raises `Unprocessable` for a second replica, a canary or a shadow of a service whose state is in a folder."""
    service = artifact.spec.manifest.service
    if not runs_alone(service, template.env.keys() | template.secrets.keys()):
        return
    beside = {
        f"{spec.scaling.max} replicas": spec.scaling.max > 1,
        "a canary": spec.rollout.canary is not None,
        "a shadow": spec.shadow is not None,
    }
    if wants := [what for what, is_wanted in beside.items() if is_wanted]:
        raise Unprocessable(
            f"'{service.name}' keeps its state in a folder, so only one replica may run; the spec has {wants[0]}.",
            hint="Set --replicas 1, no canary and no shadow; or keep the state in a database server: "
            "--secret DATABASE_URL=NAME with state='database'.",
        )


def _check_use_of_datasets(caller: Caller, template: Template, current: Deployment | None) -> None:
    """Deployed code can read its datasets: a key for some deployments may only keep those that they have already."""
    had = set() if current is None else {ref.dataset for t in templates_of(current.spec) for ref in mounted(t)}
    if caller.rights.deployments is not None and {ref.dataset for ref in mounted(template)} - had:
        raise Forbidden(
            "This key is for some deployments only and cannot give them other datasets of the workspace.",
            hint="Use a key for the whole workspace.",
        )
