"""What `audit` does."""

from __future__ import annotations

import time
from collections.abc import Mapping

from kaon.cli.output import Format, TableShape, put_list
from kaon.cli.remote import opened
from kaon.cli.text import since
from kaon.types.audit import ActorKind, AuditRecord, Outcome


def show(
    wanted: Mapping[str, str | int], since_s: float | None, workspace: str | None, form: Format, *, everywhere: bool
) -> None:
    """Print audit records, the newest last."""
    now = time.time()
    query: dict[str, str | int | float] = {name: value for name, value in wanted.items() if value}
    if "kind" in query:
        query["kind"] = str(query["kind"]).lower().removesuffix("s")
    if since_s is not None:
        query["since"] = max(0.0, now - since_s)
    with opened(workspace) as remote:
        found = remote.audit(everywhere=everywhere, **query)
    put_list(found[::-1], records(now), form)


def records(now: float) -> TableShape[AuditRecord]:
    """Audit records as a table."""
    return TableShape(
        ("age", "who", "did", "about", "from"),
        lambda r: (since(r.at, now), _who(r), _did(r), _about(r), r.address or "-"),
        lambda r: str(r.id),
    )


def _who(record: AuditRecord) -> str:
    return record.actor if record.actor_kind is ActorKind.KEY else f"{record.actor} ({record.actor_kind})"


def _did(record: AuditRecord) -> str:
    return record.verb if record.outcome is Outcome.DONE else f"{record.verb} ({record.outcome})"


def _about(record: AuditRecord) -> str:
    name = record.name[:19] if record.name.startswith("sha256:") else record.name
    return f"{record.kind}/{name}" if name else record.kind
