"""The kind replica: a running copy of a revision, as the agents of all clouds last reported it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from kaon.types.kind import READ, Column, Filter, Form, Kind
from kaon.types.replica import ReplicaStatus


class ReplicaView(ReplicaStatus):
    """A replica, and where it runs."""

    cloud: str = Field(default="", description="The cloud that reported it.")


KIND = Kind(
    name="replica",
    plural="replicas",
    summary="A running copy of a revision, as its cloud's agent last reported it.",
    rights=READ,
    owner="deployment",
    answer=ReplicaView,
    columns=(
        Column("replica", lambda r: r.name),
        Column("phase", lambda r: r.phase),
        Column("since", lambda r: r.since, Form.AGE),
        Column("restarts", lambda r: r.restarts),
        Column("cloud", lambda r: r.cloud or "-", wide=True),
        Column("id", lambda r: r.id, wide=True),
        Column("pid", lambda r: r.pid or "-", wide=True),
        Column("reason", lambda r: r.reason, Form.LINE),
    ),
    filters=(
        Filter("deployment", lambda r: r.deployment, "Only of this deployment."),
        Filter("phase", lambda r: r.phase, "Only in this phase, like Ready."),
        Filter("revision", lambda r: r.revision, "Only of this revision."),
        Filter("cloud", lambda r: r.cloud, "Only in this cloud."),
    ),
    order=lambda r: (r.deployment, r.revision, r.name, r.id, r.cloud),
    named=Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]{1,80}$")],
    made_of=frozenset({"cloud", "deployment", "workspace"}),
    stored=False,
)
