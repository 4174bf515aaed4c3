"""Rows as older Kaons wrote them are read: a database is brought up to date, and fields that are new have defaults."""

from __future__ import annotations

import json
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, text

from kaon.store import migrations, open_store
from kaon.store.schema import HEAD
from kaon.types.deployment import Scaling

DIGEST = f"sha256:{'0' * 64}"
SERVICE = {"name": "Echo", "entry": "app:Echo", "openapi": {"paths": {"/echo": {}}}}
MANIFEST = {"kaon": "0", "python": "3.11", "service": SERVICE, "files": []}
ROUTE = {"workspace": "default", "deployment": "web", "prefix": "/web", "idempotent_paths": ["/echo"]}
PLAN = {"cloud": "local", "replicas": [], "routes": [ROUTE], "access": {}}
ROWS = {
    ("plan", "local"): {"plan": PLAN, "hash": "0" * 64},
    ("deployment", "web"): {"template": {"artifact": DIGEST}, "scaling": {"max": 4, "law": "kaon"}},
    ("deployment", "shop"): {"template": {"artifact": DIGEST}, "scaling": {"max": 4, "law": "knative"}},
    ("artifact", DIGEST): {"digest": DIGEST, "size_bytes": 1, "manifest": MANIFEST},
    ("key", "identity-web"): {"hash": "0" * 64, "hint": "kaon_", "role": "caller", "workspace": "default"},
}


async def test_what_an_older_kaon_wrote_is_read_after_the_migration(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'kaon.db'}")
    with engine.begin() as connection:
        config = Config()
        config.set_main_option("script_location", str(Path(str(migrations.__file__)).parent))
        config.attributes["connection"] = connection
        command.upgrade(config, "0002")
        for number, ((kind, name), spec) in enumerate(ROWS.items(), start=1):
            row = {"kind": kind, "name": name, "uid": f"u{number}", "version": number, "spec": json.dumps(spec)}
            connection.execute(
                text("INSERT INTO resources VALUES (:kind, 'default', :name, :uid, :version, 1, 1, 1, 0, :spec, '{}')"),
                row,
            )
        connection.execute(
            text(
                "INSERT INTO events (workspace, kind, name, at, level, reason, message)"
                " VALUES ('default', 'deployment', 'web', 2.0, 'normal', 'Old', 'of before')"
            )
        )
    engine.dispose()
    store = open_store(f"sqlite:///{tmp_path / 'kaon.db'}")
    await store.open()
    try:
        web = await store.get("deployment", "default", "web")
        assert (web.spec.owner, web.spec.owner_uid) == ("", "")
        assert (await store.get("artifact", "default", DIGEST)).spec.manifest.service.openapi == SERVICE["openapi"]
        assert (await store.get("key", "default", "identity-web")).spec.deployment_uid == ""
        (route,) = (await store.get("plan", "default", "local")).spec.plan.routes
        assert (route.prefix, route.retry_paths) == ("/web", ())
        assert (await store.get("deployment", "default", "shop")).spec.scaling == Scaling(max=4)
        old, replaced = await store.events("default")
        assert (old.reason, old.uid) == ("Old", "")
        assert (replaced.reason, replaced.name, replaced.uid) == ("ScalingLawReplaced", "shop", "u3")
        assert "'knative' is not available any more" in replaced.message
        await store.record([old.model_copy(update={"reason": "New"})])
        assert [event.id for event in await store.events("default")] == [old.id, replaced.id, replaced.id + 1]
    finally:
        await store.close()
    assert HEAD > "0002"
