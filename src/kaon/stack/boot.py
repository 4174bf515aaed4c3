"""Makes what a platform needs at its first start: a workspace, an admin's key, its agent's key, its cloud.

Every step checks what exists, and files are written before resources, so that the next start completes an interrupted
one.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from kaon.errors import Conflict
from kaon.settings import Settings
from kaon.store.port import Store
from kaon.types.cloud import CloudSpec, CloudStatus
from kaon.types.key import KEY_PREFIX, KeySpec, KeyStatus, Role, key_hash
from kaon.types.workspace import DEFAULT_WORKSPACE, WorkspaceSpec, WorkspaceStatus

_HINT_CHARACTERS = len(KEY_PREFIX) + 4
ADMIN = "admin"


def agent_key_file(settings: Settings) -> Path:
    """The agent's key, mode 0600."""
    return settings.home / "agent.key"


async def prepare(store: Store, settings: Settings) -> None:
    """Make what is missing. Raises `Conflict` when another server does the same at the same time."""
    if await store.find("workspace", "", DEFAULT_WORKSPACE) is None:
        await store.create("workspace", "", DEFAULT_WORKSPACE, WorkspaceSpec(), WorkspaceStatus())
    await _admin(store, settings)
    await _agent(store, settings)
    wanted = CloudSpec(driver="process", edge_url=settings.url)
    cloud = await store.find("cloud", "", settings.cloud)
    if cloud is None:
        await store.create("cloud", "", settings.cloud, wanted, CloudStatus())
    elif cloud.spec != wanted:
        await store.update_spec(cloud, wanted)


async def _admin(store: Store, settings: Settings) -> None:
    """The first admin's key. One that was revoked, or whose file was deleted, is not made again."""
    if await store.find("key", DEFAULT_WORKSPACE, ADMIN) is None:
        text = key_text(settings.admin_key_file)
        await store.create("key", DEFAULT_WORKSPACE, ADMIN, _spec(text, Role.ADMIN), KeyStatus())


async def _agent(store: Store, settings: Settings) -> None:
    """The agent's key. Only the platform uses it, so the one in the file is valid."""
    name = f"agent-{settings.cloud}"
    wanted = _spec(key_text(agent_key_file(settings)), Role.AGENT, cloud=settings.cloud)
    found = await store.find("key", DEFAULT_WORKSPACE, name)
    if found is not None and (found.spec != wanted or found.status.revoked_at is not None):
        await store.delete(found)
        found = None
    if found is None:
        await store.create("key", DEFAULT_WORKSPACE, name, wanted, KeyStatus())


def _spec(text: str, role: Role, cloud: str | None = None) -> KeySpec:
    return KeySpec(hash=key_hash(text), hint=text[:_HINT_CHARACTERS], role=role, cloud=cloud)


def key_text(path: Path) -> str:
    """The key in a file, made at its first use in one step: it is never incomplete or readable for others."""
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        pass
    text = KEY_PREFIX + secrets.token_urlsafe(32)
    new = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with open(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.link(new, path)
    except FileExistsError:
        return path.read_text().strip()  # another process was faster
    finally:
        new.unlink(missing_ok=True)
    return text


async def prepare_until_done(store: Store, settings: Settings) -> None:
    """`prepare`, repeated after a conflict: two servers may start over one database."""
    while True:
        try:
            return await prepare(store, settings)
        except Conflict:
            continue
