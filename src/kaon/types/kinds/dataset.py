"""The kind dataset: named files with numbered versions."""

from __future__ import annotations

from pydantic import Field

from kaon.types.dataset import DatasetSpec, DatasetStatus
from kaon.types.key import Right
from kaon.types.kind import READ, Column, Form, Kind, Verb
from kaon.types.model import Name
from kaon.types.resource import Resource


class DatasetView(Resource[DatasetSpec, DatasetStatus]):
    """Named files with numbered versions."""

    versions: int = Field(description="How many versions exist.")
    latest: int | None = Field(description="The highest number; null: it has no version.")
    size_bytes: int = Field(description="Of the latest version.")
    labels: dict[Name, int] = Field(description="Label -> number of its version; `latest` moves by itself.")


def _labels(dataset: DatasetView) -> str:
    return ", ".join(f"{label}={number}" for label, number in sorted(dataset.labels.items())) or "-"


KIND = Kind(
    name="dataset",
    plural="datasets",
    short=("ds",),
    summary="Named files with numbered, immutable versions and movable labels.",
    spec=DatasetSpec,
    status=DatasetStatus,
    rights={**READ, Verb.PUT: Right.WRITE, Verb.DELETE: Right.WRITE},
    answer=DatasetView,
    columns=(
        Column("name", lambda d: d.name),
        Column("latest", lambda d: d.latest or "-"),
        Column("versions", lambda d: d.versions),
        Column("size", lambda d: d.size_bytes, Form.SIZE),
        Column("labels", _labels),
        Column("age", lambda d: d.created_at, Form.AGE),
        Column("keep", lambda d: d.spec.keep, wide=True),
        Column("description", lambda d: d.spec.description, Form.LINE, wide=True),
    ),
    made_of=frozenset({"dataset-version", "deployment", "revision"}),
)
