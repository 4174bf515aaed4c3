"""The changes that a store takes, as plain values.

`Store.write` takes a list of them and makes all or none, so that a change, its event, its audit record and the decision
behind it are never apart. `Create`, `UpdateSpec`, `UpdateStatus` and `Delete` are checked against what those before
them in the list left; the others are kept beside the resources.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from kaon.types.audit import AuditRecord
from kaon.types.event import Event
from kaon.types.journal import JournalEntry
from kaon.types.resource import Resource, Unreadable
from kaon.types.traffic import Sample


def new_uid() -> str:
    """A uid that no other resource has."""
    return secrets.token_hex(8)


@dataclass(frozen=True, slots=True)
class Create:
    """Add a resource. `Conflict` when the name is taken. `at`: when it is made; None: now, by the store's clock."""

    kind: str
    workspace: str
    name: str
    spec: BaseModel
    status: BaseModel | None = None
    uid: str = field(default_factory=new_uid)
    at: float | None = None


@dataclass(frozen=True, slots=True)
class UpdateSpec:
    """Replace the spec of `resource` as it was read; an equal spec changes nothing. `Conflict`, `NotFound`."""

    resource: Resource[Any, Any]
    spec: BaseModel


@dataclass(frozen=True, slots=True)
class UpdateStatus:
    """Replace the status of `resource` as it was read; an equal status changes nothing. `Conflict`, `NotFound`."""

    resource: Resource[Any, Any]
    status: BaseModel


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete `resource` as it was read. `Conflict`, `NotFound`."""

    resource: Resource[Any, Any] | Unreadable


@dataclass(frozen=True, slots=True)
class RecordEvents:
    """Keep events."""

    events: Sequence[Event]


@dataclass(frozen=True, slots=True)
class KeepTraffic:
    """Keep sums of traffic over a minute."""

    minutes: Sequence[Sample]


@dataclass(frozen=True, slots=True)
class KeepJournal:
    """Keep decisions."""

    entries: Sequence[JournalEntry]


@dataclass(frozen=True, slots=True)
class RecordAudit:
    """Keep audit records."""

    records: Sequence[AuditRecord]


Write = Create | UpdateSpec | UpdateStatus | Delete | RecordEvents | KeepTraffic | KeepJournal | RecordAudit
