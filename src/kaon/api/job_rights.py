"""What a key may do with jobs.

Keys of a whole workspace see all its jobs, and with the right to write they submit and change them. Keys for some
deployments have nothing to do with jobs, which belong to the whole workspace. The own key of a service or job whose
artifact has jobs submits those, and sees and cancels what it has submitted.
"""

from __future__ import annotations

from dataclasses import dataclass

from kaon.api.context import ApiContext
from kaon.api.keyring import Caller
from kaon.errors import Forbidden
from kaon.types.key import KeySpec, identity_deployment, identity_job
from kaon.types.model import Digest
from kaon.types.resource import JobResource


@dataclass(frozen=True, slots=True)
class Submitter:
    """Who submits a job."""

    owner: str
    owner_uid: str
    artifact: Digest | None = None
    """Of a service's or job's own key: the only artifact whose jobs it submits; None: any."""
    secrets: frozenset[str] | None = None
    """Of such a key: the only secrets that it may pass on."""


def own_key(context: ApiContext, caller: Caller) -> KeySpec | None:
    """The caller's key, if it is a service's or job's own one that may submit jobs."""
    key = context.snapshot.with_uid("key", caller.uid)
    return key.spec if key is not None and key.spec.jobs else None


def sees(context: ApiContext, caller: Caller, job: JobResource) -> bool:
    """Whether the caller sees a job."""
    if caller.rights.deployments is None:
        return caller.rights.sees(job.workspace)
    own = own_key(context, caller)
    return own is not None and own.deployment_uid != "" and own.deployment_uid == job.spec.owner_uid


def check_change(context: ApiContext, caller: Caller) -> None:
    """Raises `Forbidden` for keys for some deployments, except the own ones of services and jobs."""
    if caller.rights.deployments is not None and own_key(context, caller) is None:
        raise Forbidden(
            "This key is for some deployments only; jobs belong to the whole workspace.",
            hint="Use a key for the whole workspace: kaon key create NAME --role editor",
        )


def submitter(context: ApiContext, caller: Caller, ws: str) -> Submitter:
    """The caller as the owner of new jobs. Raises `Forbidden`."""
    check_change(context, caller)
    own = own_key(context, caller)
    if own is None:
        return Submitter(caller.name, caller.uid)
    artifact, secrets = _source(context, caller.name, ws)
    return Submitter(caller.name, own.deployment_uid, artifact, frozenset(secrets))


def _source(context: ApiContext, key: str, ws: str) -> tuple[Digest, set[str]]:
    """The artifact and the secrets of the service or job with that key. Raises `Forbidden` when it is gone."""
    if (name := identity_job(key)) is not None:
        job = context.snapshot.find("job", ws, name)
        if job is not None:
            return job.spec.artifact, set(job.spec.secrets.values())
    elif (name := identity_deployment(key)) is not None:
        revision = context.snapshot.find("revision", ws, f"{name}-{key.rpartition('.')[2]}")
        if revision is not None:
            template = revision.spec.template
            return template.artifact, set(template.secrets.values())
    raise Forbidden("The service or job of this key is gone.", hint="Use a key of your own.")
