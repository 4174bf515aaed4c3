"""`kaon gc`: delete what nothing refers to any more."""

from __future__ import annotations

import time

from kaon.cli.shared.notes import ask, note
from kaon.cli.shared.options import DryRun, OutputOption, Yes, verb, verbs
from kaon.cli.shared.output import Format, document, put
from kaon.cli.shared.remote import opened
from kaon.cli.shared.text import plain, since, size, table
from kaon.types.garbage import Collected

app = verbs()
_ROWS = {"events": "old events", "decisions": "decisions of deleted deployments", "traffic": "minutes of traffic"}


@verb(app, "kaon gc --dry-run", "kaon gc -y")
def gc(yes: Yes = False, dry_run: DryRun = False, output: OutputOption = Format.TABLE) -> None:
    """Show what nothing refers to any more, and delete it.

    These are artifacts, their bytes, expired keys, records of deleted resources. The platform also does so by itself;
    KAON_KEEP_ARTIFACTS_S and other settings set how long things are kept. Needs an admin key of all workspaces.
    """
    with opened() as remote:
        garbage = remote.garbage()
        put(_report(garbage, output))
        if dry_run or not garbage:
            return
        ask("Delete all of this?", yes=yes)
        freed_bytes = 0
        while True:
            deleted = remote.collect_garbage()
            freed_bytes += deleted.freed_bytes
            if not deleted.more or not deleted:
                break
    note(f"Freed {size(freed_bytes)}.")


def _report(garbage: Collected, form: Format) -> str:
    if form in (Format.JSON, Format.YAML):
        return document(garbage.model_dump(mode="json"), form)
    if form is Format.NAME:
        return "\n".join(f"artifact/{artifact.digest}" for artifact in garbage.artifacts)
    if not garbage:
        return "Nothing to delete."
    now = time.time()
    artifacts = [
        (a.workspace, plain(a.service), a.digest[7:19], size(a.size_bytes), since(a.used_at, now))
        for a in garbage.artifacts
    ]
    parts = [table(("workspace", "artifact", "digest", "size", "unused for"), artifacts)] if artifacts else []
    counts = {"bytes of no artifact": garbage.blobs, "expired keys": len(garbage.keys)}
    counts |= {_ROWS.get(name, "records of deletions"): count for name, count in garbage.rows.items()}
    rows = [(what, f"{count:,}") for what, count in counts.items() if count]
    parts += [table(("records", "count"), rows)] if rows else []
    parts.append(f"{size(garbage.freed_bytes)} in files.")
    return "\n\n".join(parts)
