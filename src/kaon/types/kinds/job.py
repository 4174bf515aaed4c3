"""The kind job: work that runs to completion."""

from __future__ import annotations

from kaon.types.job import JobSpec, JobStatus
from kaon.types.key import Right
from kaon.types.kind import Column, Filter, Form, Kind, Verb
from kaon.types.resource import JobResource


def _progress(job: JobResource) -> str:
    progress = job.status.progress
    fraction = "" if progress.fraction is None else f"{progress.fraction:.0%}"
    return " ".join(part for part in (fraction, progress.text) if part) or "-"


KIND = Kind(
    name="job",
    plural="jobs",
    summary="Work that runs to completion: a function or a program of an artifact, its parameters, its attempts.",
    spec=JobSpec,
    status=JobStatus,
    rights={Verb.LIST: Right.JOBS, Verb.GET: Right.JOBS, Verb.DELETE: Right.SUBMIT},
    hidden=frozenset({"status.result", "status.points"}),
    columns=(
        Column("name", lambda j: j.name),
        Column("state", lambda j: j.status.state),
        Column("progress", _progress, Form.LINE),
        Column("attempts", lambda j: len(j.status.attempts)),
        Column("age", lambda j: j.created_at, Form.AGE),
        Column("function", lambda j: j.spec.function or " ".join(j.spec.command), Form.LINE, wide=True),
        Column("priority", lambda j: j.spec.priority, wide=True),
        Column("artifact", lambda j: j.spec.artifact[7:19], wide=True),
        Column("reason", lambda j: j.status.reason or "-", Form.LINE),
    ),
    filters=(
        Filter("state", lambda j: j.status.state, "Only in this state, like Running."),
        Filter("function", lambda j: j.spec.function or "", "Only of this function."),
        Filter("array", lambda j: j.spec.array, "Only jobs of this array."),
        Filter("pipeline", lambda j: j.spec.pipeline, "Only steps of this pipeline."),
    ),
    order=lambda j: (int(j.created_at * 1000), j.name),
    most=100_000,
)
