"""Quotas of a workspace for each kind, so that no tenant takes the room of others."""

from __future__ import annotations

from kaon.api.context import ApiContext
from kaon.errors import Conflict
from kaon.types.key import IDENTITY_PREFIX

FREED_BY = {
    "artifact": "kaon rm artifact --unused",
    "dataset": "kaon dataset rm NAME@N",
    "deployment": "kaon rm NAME",
    "job": "kaon job rm --ended",
    "key": "kaon key revoke NAME",
    "secret": "kaon secret rm NAME",
}
"""The command that makes room."""


ENDED_PER_KEY = 10
"""So many ended keys for each that a workspace may have do not count, so that they too have a bound."""


class QuotaReached(Conflict):
    """The workspace has as much of a kind as it may have."""

    code = "quota-reached"


async def check_count(context: ApiContext, kind: str, ws: str) -> None:
    """Raises `QuotaReached` when the workspace may not have one more of `kind`."""
    settings = context.settings
    most = {
        "deployment": settings.most_deployments,
        "artifact": settings.most_artifacts,
        "dataset": settings.most_datasets,
        "secret": settings.most_secrets,
        "key": settings.most_keys,
    }[kind]
    await context.snapshot.at_least(context.store.written)
    held = [r.name for r in context.snapshot.list(kind, ws)]
    held += [r.name for r in context.snapshot.unreadable(kind) if r.workspace == ws]
    if kind in ("key", "secret"):  # those of services come with their deployments
        held = [name for name in held if not name.startswith(IDENTITY_PREFIX)]
    ended = _ended_keys(context, ws) & set(held) if kind == "key" else set()
    if len(held) - min(len(ended), ENDED_PER_KEY * most) >= most:
        raise _reached(f"{most:,} {kind}s", ws, kind, f"KAON_MOST_{kind.upper()}S")


def _ended_keys(context: ApiContext, ws: str) -> set[str]:
    """Names of the keys that were revoked or have expired: they are kept for a while, to be looked up."""
    now = context.clock.now()
    return {
        key.name
        for key in context.snapshot.list("key", ws)
        if key.status.revoked_at is not None or (key.spec.expires_at is not None and key.spec.expires_at <= now)
    }


async def check_bytes(context: ApiContext, ws: str, more_bytes: int) -> None:
    """Raises `QuotaReached` when the workspace's artifacts may not have `more_bytes` more."""
    most = context.settings.most_artifact_bytes
    await context.snapshot.at_least(context.store.written)
    if sum(a.spec.size_bytes for a in context.snapshot.list("artifact", ws)) + more_bytes > most:
        raise _reached(f"artifacts of {most / 2**30:,.3g} GiB", ws, "artifact", "KAON_MOST_ARTIFACT_BYTES")


def check_jobs(context: ApiContext, ws: str, more: int) -> None:
    """Raises `QuotaReached` when the workspace may not have `more` jobs, waiting and ended ones together."""
    most = context.settings.most_jobs
    if context.snapshot.count("job", ws) + more > most:
        raise _reached(f"{most:,} jobs", ws, "job", "KAON_MOST_JOBS")


async def check_dataset_bytes(context: ApiContext, ws: str, more_bytes: int) -> None:
    """Raises `QuotaReached` when the workspace's datasets may not have `more_bytes` more."""
    most = context.settings.most_dataset_bytes
    held_bytes = sum(blob.size_bytes for blob in await context.blobs.within(ws).list_all())
    if held_bytes + more_bytes > most:
        raise _reached(f"datasets of {most / 2**30:,.3g} GiB", ws, "dataset", "KAON_MOST_DATASET_BYTES")


def _reached(what: str, ws: str, kind: str, setting: str) -> QuotaReached:
    return QuotaReached(
        f"Workspace '{ws}' may have at most {what}.", hint=f"Delete some: {FREED_BY[kind]}; or raise {setting}."
    )
