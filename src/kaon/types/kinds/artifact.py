"""The kind artifact: an immutable build of a service."""

from __future__ import annotations

from kaon.types.artifact import ArtifactSpec, ArtifactStatus
from kaon.types.key import Right
from kaon.types.kind import READ, Column, Filter, Form, Kind, Verb
from kaon.types.model import Digest
from kaon.types.resource import Resource


class ArtifactView(Resource[ArtifactSpec, ArtifactStatus]):
    """An immutable build of a service."""


KIND = Kind(
    name="artifact",
    plural="artifacts",
    summary="An immutable build of a service, named by the hash of its bytes.",
    spec=ArtifactSpec,
    status=ArtifactStatus,
    rights={**READ, Verb.DELETE: Right.WRITE},
    answer=ArtifactView,
    columns=(
        Column("artifact", lambda a: a.name[7:19]),
        Column("service", lambda a: a.spec.manifest.service.name),
        Column("size", lambda a: a.spec.size_bytes, Form.SIZE),
        Column("python", lambda a: a.spec.manifest.python, wide=True),
        Column("entry", lambda a: a.spec.manifest.service.entry, wide=True),
        Column("age", lambda a: a.created_at, Form.AGE),
    ),
    filters=(Filter("service", lambda a: a.spec.manifest.service.name, "Only builds of this service."),),
    named=Digest,
    made_of=frozenset({"deployment", "revision"}),
)
