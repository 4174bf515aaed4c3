"""The kind dataset-version: the files of a dataset at one time."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from kaon.types.dataset import DatasetVersionSpec, DatasetVersionStatus
from kaon.types.key import Right
from kaon.types.kind import READ, Column, Filter, Form, Kind, Verb
from kaon.types.resource import Resource

VersionName = Annotated[str, StringConstraints(pattern=r"^[a-z]([a-z0-9-]{0,38}[a-z0-9])?@[1-9][0-9]{0,8}$")]
"""Like 'purchases@3'."""


class DatasetVersionView(Resource[DatasetVersionSpec, DatasetVersionStatus]):
    """The files of a dataset at one time."""

    labels: list[str] = Field(description="Its labels; `latest` is one.")
    used_by: list[str] = Field(description="What needs it, like 'deployment shop' or 'revision shop-3'.")
    made: list[str] = Field(default_factory=list, description="Versions that were made from it, like 'model@2'.")


def _origin(version: DatasetVersionView) -> str:
    origin = version.spec.origin
    return f"job {origin.job}" if origin.job else f"key {version.spec.created_by}"


KIND = Kind(
    name="dataset-version",
    plural="dataset-versions",
    short=("dsv",),
    summary="The files of a dataset at one time; it never changes.",
    spec=DatasetVersionSpec,
    status=DatasetVersionStatus,
    rights={**READ, Verb.DELETE: Right.WRITE},
    answer=DatasetVersionView,
    columns=(
        Column("version", lambda v: v.name),
        Column("files", lambda v: v.spec.files),
        Column("size", lambda v: v.spec.size_bytes, Form.SIZE),
        Column("labels", lambda v: ", ".join(v.labels) or "-"),
        Column("made by", _origin),
        Column("age", lambda v: v.created_at, Form.AGE),
        Column("used by", lambda v: ", ".join(v.used_by) or "-", Form.LINE),
        Column("inputs", lambda v: ", ".join(v.spec.origin.inputs) or "-", Form.LINE, wide=True),
    ),
    filters=(Filter("dataset", lambda v: v.spec.dataset, "Only of this dataset."),),
    order=lambda v: (v.spec.dataset, v.spec.number),
    named=VersionName,
    made_of=frozenset({"dataset", "dataset-version", "deployment", "revision"}),
)
