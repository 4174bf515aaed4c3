"""If-Match: a change applies to the resource as the client has read it, or not at all.

It takes the `ETag` of a GET, which stands for the spec (see `kaon.types.etag`), or a version, a number, which stands
for the status too. `If-None-Match: *` lets a PUT only create.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

from fastapi import Depends, Header

from kaon.api.context import ApiContext
from kaon.api.problems import Unprocessable
from kaon.errors import Conflict
from kaon.store.port import AnyResource, AuditQuery
from kaon.types.audit import AuditRecord, Outcome
from kaon.types.etag import etag
from kaon.types.model import content_hash
from kaon.types.resource import Resource, Unreadable

_TAG = re.compile(r'"?([0-9a-f]{1,32}\.\d{1,18})"?')
_VERSION = re.compile(r'"?(\d{1,18})"?')
_SEARCHED = 20


class ChangedSince(Conflict):
    """The resource is not the one that the change is based on: retrying does not help."""


@dataclass(frozen=True, slots=True)
class Precondition:
    """What must be true of a resource before a change; by default nothing."""

    tag: str | None = None
    version: int | None = None
    absent: bool = False

    def holds(self, current: AnyResource | Unreadable | None, tag: str | None = None) -> bool:
        """Whether it is true of `current`; `tag` replaces the resource's own entity tag."""
        if self.absent:
            return current is None
        if self.tag is not None:
            return isinstance(current, Resource) and self.tag == (tag or etag(current.uid, current.generation))
        return self.version is None or (current is not None and current.version == self.version)


async def _precondition(
    if_match: Annotated[
        str | None,
        Header(alias="If-Match", max_length=100, description="`ETag` or version that the change is based on."),
    ] = None,
    if_none_match: Annotated[
        str | None, Header(alias="If-None-Match", max_length=100, description="`*`: only when it does not exist.")
    ] = None,
) -> Precondition:
    if if_none_match is not None and if_none_match.strip() != "*":
        raise Unprocessable("If-None-Match takes only * here.", hint="To change what you have read, use If-Match.")
    if if_match is None:
        return Precondition(absent=if_none_match is not None)
    text = if_match.strip()
    if match := _TAG.fullmatch(text):
        return Precondition(tag=f'"{match[1]}"')
    if match := _VERSION.fullmatch(text):
        return Precondition(version=int(match[1]))
    raise Unprocessable("If-Match takes the ETag of a resource, or its version, a number.")


WithPrecondition = Annotated[Precondition, Depends(_precondition)]


async def check_precondition(
    context: ApiContext,
    precondition: Precondition,
    current: AnyResource | Unreadable | None,
    kind: str,
    workspace: str,
    name: str,
    tag: str | None = None,
) -> None:
    """Raises `ChangedSince`, with who changed it and when, unless `precondition` holds for `current`."""
    if precondition.holds(current, tag):
        return
    found = await context.store.audit(AuditQuery(workspace=workspace, kind=kind, name=name, limit=_SEARCHED))
    what, by = _what(precondition, current, tag), _by(_last(found, current))
    raise ChangedSince(
        f"{kind.capitalize()} '{name}' {what} since you read it{by}.",
        hint=f"Read it again and repeat the change. See who changed it: kaon audit {name} --kind {kind}",
    )


def _what(precondition: Precondition, current: AnyResource | Unreadable | None, tag: str | None) -> str:
    if current is None:
        return "was deleted"
    if precondition.absent:
        return "was created"
    if tag is None and precondition.tag is not None and precondition.tag.strip('"').partition(".")[0] != current.uid:
        return "was deleted and created again"
    return "was changed"


def _last(records: list[AuditRecord], current: AnyResource | Unreadable | None) -> AuditRecord | None:
    """The record of the change that led to the current state; `records` are newest first."""
    done = (record for record in records if record.outcome is Outcome.DONE)
    if current is None:
        return next((record for record in done if not record.after), None)
    if not isinstance(current, Resource):
        return None
    made = content_hash(current.spec), content_hash(current.status)
    return next((record for record in done if record.uid == current.uid and record.after in made), None)


def _by(record: AuditRecord | None) -> str:
    if record is None:
        return ""
    at = f"{datetime.fromtimestamp(record.at, UTC):%Y-%m-%d %H:%M:%S} UTC"
    return f", by {record.actor_kind} '{record.actor}' at {at}"
