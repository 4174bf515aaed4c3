"""What `gc` does."""

from __future__ import annotations

import time

from kaon.cli.notes import ask, note
from kaon.cli.output import Format, document, put
from kaon.cli.remote import opened
from kaon.cli.text import plain, since, size, table
from kaon.types.garbage import Collected


def gc(form: Format, *, yes: bool, dry_run: bool) -> None:
    """Show what may go and, after a yes, delete it."""
    with opened() as remote:
        garbage = remote.garbage()
        put(_shown(garbage, form))
        if dry_run or not garbage:
            return
        ask("Delete all that?", yes=yes)
        freed_bytes = 0
        while True:
            gone = remote.collect_garbage()
            freed_bytes += gone.freed_bytes
            if not gone.more or not gone:
                break
    note(f"Freed {size(freed_bytes)}.")


def _shown(garbage: Collected, form: Format) -> str:
    if form in (Format.JSON, Format.YAML):
        return document(garbage.model_dump(mode="json"), form)
    if form is Format.NAME:
        return "\n".join(f"artifact/{artifact.digest}" for artifact in garbage.artifacts)
    if not garbage:
        return "Nothing may go now."
    now = time.time()
    artifacts = [
        (a.workspace, plain(a.service), a.digest[7:19], size(a.size_bytes), since(a.used_at, now))
        for a in garbage.artifacts
    ]
    parts = [table(("workspace", "artifact", "digest", "size", "unused for"), artifacts)] if artifacts else []
    counts = {"bytes of no artifact": garbage.blobs, "keys that have ended": len(garbage.keys), **_named(garbage.rows)}
    rows = [(what, f"{count:,}") for what, count in counts.items() if count]
    parts += [table(("records", "count"), rows)] if rows else []
    parts.append(f"{size(garbage.freed_bytes)} in files.")
    return "\n\n".join(parts)


def _named(rows: dict[str, int]) -> dict[str, int]:
    words = {"events": "old events", "decisions": "decisions of what is gone", "traffic": "minutes of traffic"}
    return {words.get(name, "notes of deletions"): count for name, count in rows.items()}
